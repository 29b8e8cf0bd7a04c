//! A pooler in transaction mode accepts LISTEN and delivers nothing. This one is a proxy that
//! leaves the notifications out.

use pgherald_listener::{Listener, ListenerOptions, check};
use pgherald_testkit::Postgres;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::rig::*;

/// What the server sends as an asynchronous notification.
const NOTIFICATION: u8 = b'A';

async fn pooler(server: u16) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut sessions = JoinSet::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            sessions.spawn(async move {
                let _ = pass(client, server).await;
            });
        }
    });
    (port, tasks)
}

async fn pass(client: TcpStream, server: u16) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let up = async { copy(&mut client_in, &mut server_out).await.map(drop) };
    let down = async {
        // The answer to the request for TLS is one byte; everything after it is framed.
        let answer = server_in.read_u8().await?;
        client_out.write_u8(answer).await?;
        loop {
            let kind = server_in.read_u8().await?;
            let length = server_in.read_u32().await?;
            let mut body = vec![0; length as usize - 4];
            server_in.read_exact(&mut body).await?;
            if kind != NOTIFICATION {
                client_out.write_u8(kind).await?;
                client_out.write_u32(length).await?;
                client_out.write_all(&body).await?;
            }
        }
    };
    tokio::select! { done = up => done, done = down => done }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_found_and_named() {
    let postgres = Postgres::start().await.unwrap();
    let (port, _pooler) = pooler(postgres.port()).await;
    let url = postgres.url_at(port);
    let process = Process::start(&url, &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    let named = |heard: &Heard| {
        let errors = heard.errors.lock().unwrap();
        errors.iter().any(|text| text.contains("blocked") && text.contains("a pooler"))
    };
    heard.until(named).await;
    let options = ListenerOptions { heartbeat: HEARTBEAT, ..ListenerOptions::default() };
    let refused = Listener::connect(settings(&url), options).await.err().unwrap();
    assert!(refused.to_string().contains("a pooler"), "{refused}");
    let findings = check(&settings(&url), "postgres").await;
    assert!(findings[0].fix.contains("connect to the server directly"), "{findings:?}");
}
