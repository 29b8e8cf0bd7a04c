//! TLS: what fails, and what the text says of it.

use std::{fs, path::PathBuf};

use pgherald_core::{Sink, SinkError};
use pgherald_sink_nats::check;
use pgherald_testkit::{Certificates, Nats, Scratch};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::bridge::{context, fates, message, open, publish, settings, sink};

/// A server with TLS, and files for its clients.
struct Fixture {
    nats: Nats,
    scratch: Scratch,
    made: Certificates,
}

impl Fixture {
    async fn start(more: &str) -> Self {
        let made = Certificates::new().unwrap();
        let scratch = Scratch::new("nats-tls").unwrap();
        let (cert, key) = (scratch.path().join("cert.pem"), scratch.path().join("key.pem"));
        fs::write(&cert, made.certificate_pem()).unwrap();
        fs::write(&key, made.key_pem()).unwrap();
        let tls = format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, {more} }}");
        let nats = Nats::builder().config(&tls).start().await.unwrap();
        Self { nats, scratch, made }
    }

    fn file(&self, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch.path().join("ca.pem");
        fs::write(&path, content).unwrap();
        path
    }

    fn table(&self, first: bool) -> Value {
        let ca = self.file(self.made.authority_pem());
        json!({ "create_stream": true, "tls": { "ca_file": ca, "first": first } })
    }
}

/// The address of the server under a number that does not stand in its certificate, while `tasks` live.
async fn forwarded(port: u16, tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    format!("nats://{address}")
}

async fn refused(url: &str, more: Value) -> (bool, String) {
    let (is_blocked, why) = match sink(url, more).open().await {
        Err(SinkError::Blocked(why)) => (true, why),
        Err(SinkError::Transient(why)) => (false, why),
        other => panic!("{:?}", other.err()),
    };
    let (mut text, mut next) = (why.to_string(), why.source());
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    (is_blocked, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_handshake_first_is_spoken_to_first() {
    let fixture = Fixture::start("handshake_first: true").await;
    let url = fixture.nats.url();
    let mut writer = open(&sink(&url, fixture.table(true))).await;
    assert_eq!(fates(&publish(&mut *writer, vec![message(0, "a")]).await), [""; 0]);
    let (_, why) = refused(&url, fixture.table(false)).await;
    assert!(why.contains("handshake_first") && why.contains("tls.first = true"), "{why}");
    let found = check(&settings(&url, fixture.table(false)), &context(), "k").await;
    assert!(found.iter().any(|it| it.fix.contains("tls.first = true")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_is_not_spoken_to_first() {
    let fixture = Fixture::start("").await;
    let (_, why) = refused(&fixture.nats.url(), fixture.table(true)).await;
    assert!(why.contains("does not begin with TLS"), "{why}");
    open(&sink(&fixture.nats.url(), fixture.table(false))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cause_of_a_failed_handshake_has_its_own_remedy() {
    let fixture = Fixture::start("").await;
    let by_number = fixture.nats.url();
    let mut tasks = JoinSet::new();
    let by_name = forwarded(fixture.nats.port(), &mut tasks).await;
    let other = Certificates::new().unwrap();
    let ca = fixture.file(fixture.made.authority_pem());
    let names = refused(&by_name, json!({ "tls": { "ca_file": ca } })).await;
    assert!(names.1.contains("for another name"), "{names:?}");
    assert!(!names.1.contains("ca_file"), "{names:?}");
    let ca = fixture.file(other.authority_pem());
    let (is_blocked, why) = refused(&by_number, json!({ "tls": { "ca_file": ca } })).await;
    assert!(is_blocked && why.contains("set tls.ca_file"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_blocks_and_is_named() {
    let fixture = Fixture::start("").await;
    let url = fixture.nats.url();
    let missing = fixture.scratch.path().join("missing.pem");
    let marked = format!("\u{feff}{}", fixture.made.authority_pem());
    for (content, words) in [
        (Vec::new(), "it is empty"),
        (fixture.made.key_pem().as_bytes().to_vec(), "it holds a private key"),
        (marked.into_bytes(), "byte order mark"),
        (b"\x30\x82\x01\x0a".to_vec(), "it is DER"),
    ] {
        let path = fixture.file(&content);
        let (is_blocked, why) = refused(&url, json!({ "tls": { "ca_file": path } })).await;
        let named = format!("no certificate in {}", path.display());
        assert!(is_blocked && why.contains(words) && why.contains(&named), "{why}");
        assert!(why.contains("tls.ca_file: "), "{why}");
    }
    let encrypted = fixture.made.key_pem().replace("PRIVATE", "ENCRYPTED PRIVATE");
    let encrypted = fixture.file(encrypted);
    let cert = fixture.scratch.path().join("cert.pem");
    let tls = json!({ "tls": { "cert_file": cert, "key_file": encrypted } });
    let (is_blocked, why) = refused(&url, tls).await;
    assert!(
        is_blocked && why.contains("tls.key_file: ") && why.contains("it is encrypted"),
        "{why}"
    );
    for (table, key) in [
        (json!({ "tls": { "ca_file": missing } }), "tls.ca_file: "),
        (json!({ "credentials_file": missing, "tls": null }), "credentials_file: "),
        (json!({ "nkey_file": missing }), "nkey_file: "),
    ] {
        let (is_blocked, why) = refused(&url, table).await;
        assert!(is_blocked && why.contains(key) && why.contains("missing.pem"), "{why}");
    }
    let (is_blocked, why) = refused(&url, json!({ "nkey_file": fixture.file("hunter2") })).await;
    assert!(is_blocked && why.contains("no seed") && !why.contains("hunter2"), "{why}");
}
