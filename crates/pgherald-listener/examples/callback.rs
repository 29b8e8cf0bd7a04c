//! Forwards what is announced to an HTTP callback, in order, each message until it is accepted.
//!
//! ```sh
//! DATABASE_URL=postgres://postgres@localhost/postgres \
//! cargo run --example callback -- http://localhost:8080/events orders payments
//! ```
//!
//! The connection is read while the callback is slow or down. What does not fit into the queue is
//! counted and said. (The program `pgherald` does this with several sinks, retries that know what
//! an answer means, metrics, and a standby.)

use std::time::Duration;

use http_body_util::Full;
use hyper::{Request, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use pgherald_listener::{Heard, Listener, ListenerOptions, PostgresSettings};
use tokio::sync::mpsc;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut words = std::env::args().skip(1);
    let url = words.next().ok_or("usage: callback URL CHANNEL...")?;
    let settings = PostgresSettings::parse(&std::env::var("DATABASE_URL")?);
    let settings = settings.map_err(|problems| problems.join("; "))?;
    let mut listener = Listener::connect(settings, ListenerOptions::default()).await?;
    for channel in words {
        listener.listen(&channel).await?;
    }
    println!("listening");
    let (queue, waiting) = mpsc::channel(10_000);
    tokio::select! {
        () = listen(listener, queue) => Ok(()),
        ended = forward(&url, waiting) => ended,
    }
}

async fn listen(mut listener: Listener, queue: mpsc::Sender<Heard>) {
    let mut dropped = 0;
    loop {
        for heard in listener.batch(1_000, Duration::from_millis(5)).await {
            if queue.try_send(heard).is_err() {
                dropped += 1;
                eprintln!("the callback is too slow: {dropped} dropped so far");
            }
        }
    }
}

async fn forward(url: &str, mut waiting: mpsc::Receiver<Heard>) -> Result<(), BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    while let Some(heard) = waiting.recv().await {
        let (kind, body) = match heard {
            Heard::Notification(notification) => ("message", notification.payload.into()),
            Heard::Gap(gap) => ("gap", Bytes::from(gap.to_json())),
        };
        loop {
            let request = Request::post(url).header("ce-type", format!("pgherald.{kind}"));
            match client.request(request.body(Full::new(body.clone()))?).await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => eprintln!("answered {}; again in a second", answer.status()),
                Err(error) => eprintln!("{error}; again in a second"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}
