//! `/tail` of a running bridge: what passes its flows, to whom it is shown, and that nobody who watches
//! holds anything up.

use std::net::SocketAddr;

use pgherald_testkit::{Bridge, JetStreamReader, Notifier, Postgres, Scratch};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::stage::{Config, SOON, nats, postgres};

const TOKEN: &str = "a-token-of-an-operator";

struct Scene {
    postgres: Postgres,
    bridge: Bridge,
    nats: pgherald_testkit::Nats,
    _token: Scratch,
}

impl Scene {
    async fn start(stream: &str, show_payloads: bool) -> Self {
        let (postgres, nats, token) = (postgres().await, nats().await, Scratch::new("t").unwrap());
        let file = token.path().join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let port = pgherald_testkit::free_port();
        let config = Config::new(&postgres.url(), &["orders", ".lead"])
            .nats("live", &nats, stream, "tap")
            .with(&format!(
                "[admin]\nlisten = \"127.0.0.1:{port}\"\ntoken_file = {file:?}\n\
                 show_payloads = {show_payloads}"
            ));
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { postgres, bridge, nats, _token: token }
    }

    async fn run(&self, sql: &'static str) {
        let mut connection = PgConnection::connect(&self.postgres.url()).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    async fn watch(&self, query: &str, token: Option<&str>) -> Watch {
        let mut watch = self.ask(query, token, "localhost").await;
        assert!(watch.status.contains(" 200 "), "{}", watch.status);
        assert!(watch.json().await["alive"].is_string(), "it says that it watches");
        watch
    }

    async fn refused(&self, query: &str, token: Option<&str>, host: &str) -> String {
        let mut watch = self.ask(query, token, host).await;
        let text = watch.line().await;
        format!("{} {text}", watch.status)
    }

    /// As HTTP/1.0, which has no chunks. Its window is small, so that the bridge soon waits for it.
    async fn ask(&self, query: &str, token: Option<&str>, host: &str) -> Watch {
        let address = SocketAddr::from(([127, 0, 0, 1], self.bridge.admin_port()));
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        let request = format!("GET /tail{query} HTTP/1.0\r\nHost: {host}\r\n{token}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut watch = Watch { lines: BufReader::new(stream).lines(), status: String::new() };
        watch.status = watch.line().await;
        while !watch.line().await.is_empty() {}
        watch
    }
}

struct Watch {
    lines: Lines<BufReader<TcpStream>>,
    status: String,
}

impl Watch {
    async fn line(&mut self) -> String {
        let line = timeout(SOON, self.lines.next_line()).await.expect("a line comes soon");
        line.unwrap().expect("the answer goes on")
    }

    async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_shown_and_its_content_only_to_an_operator() {
    let scene = Scene::start("TAP", true).await;
    let mut stranger = scene.watch("", None).await;
    let mut operator = scene.watch("?pipeline=p&sink=live", Some(TOKEN)).await;
    scene
        .run("NOTIFY orders, 'a secret'; NOTIFY \".lead\", 'no subject'; NOTIFY orders, 'b'")
        .await;
    let seen = operator.json().await;
    assert_eq!((&seen["payload"], &seen["sink"]), (&"a secret".into(), &"live".into()));
    let named = stranger.json().await;
    assert_eq!((&named["id"], &named["payload_bytes"]), (&seen["id"], &8.into()));
    for hidden in ["payload", "key", "headers"] {
        assert!(named.get(hidden).is_none() && seen.get(hidden).is_some(), "{hidden}: {named}");
    }
    // The rejection comes when the sink finds it, and the gap takes the place of the message.
    let mut rest = Vec::new();
    for _ in 0..4 {
        rest.push(operator.json().await);
    }
    let rejected = rest.iter().position(|json| json.get("rejected").is_some()).unwrap();
    let gap = rest.iter().position(|json| json.get("gap").is_some()).unwrap();
    let poison = rest.iter().position(|json| json["payload"] == "no subject").unwrap();
    assert!(poison < rejected && rejected < gap, "{rest:#?}");
    assert_eq!(rest[rejected]["rejected"]["id"], rest[poison]["id"]);
    assert!(rest[rejected]["rejected"]["reason"].as_str().unwrap().len() > 10, "{rest:#?}");
    assert_eq!(rest[gap]["gap"]["reason"], "rejected");

    let wrong = scene.refused("", Some("another-token-of-that-length"), "localhost").await;
    assert!(wrong.contains(" 401 "), "{wrong}");
    let stranger = scene.refused("", None, "rebound.example").await;
    assert!(stranger.contains(" 421 "), "{stranger}");
    let unknown = scene.refused("?sink=life", None, "localhost").await;
    assert!(unknown.contains(" 404 ") && unknown.contains("did you mean live?"), "{unknown}");
    assert!(!scene.bridge.log().contains(TOKEN));
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_stays_hidden_where_it_is_not_allowed_and_watchers_are_few() {
    let scene = Scene::start("TAP", false).await;
    let mut watchers = Vec::new();
    for _ in 0..8 {
        watchers.push(scene.watch("", Some(TOKEN)).await);
    }
    let ninth = scene.refused("", Some(TOKEN), "localhost").await;
    assert!(ninth.contains(" 503 ") && ninth.contains("8 others are watching"), "{ninth}");
    assert_eq!(scene.bridge.livez().await.unwrap().status, 200);
    scene.run("NOTIFY orders, 'a secret'").await;
    for watcher in &mut watchers {
        let named = watcher.json().await;
        assert!(named["id"].is_string() && named.get("payload").is_none(), "{named}");
    }
    watchers.pop();
    let has_room = async || scene.ask("", None, "localhost").await.status.contains(" 200 ");
    pgherald_testkit::eventually("there is room again", SOON, has_room).await.unwrap();
}

/// It reads nothing while messages pass: the flow delivers all of them meanwhile, and what the watcher
/// did not see is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_holds_nothing_up_and_is_told_what_it_missed() {
    let scene = Scene::start("TAP", true).await;
    let mut watcher = scene.watch("", Some(TOKEN)).await;
    let sent = Notifier::new(&scene.postgres.url()).messages(10_000).sizes(&[500]).padding(1_500);
    let sent = sent.run().await.unwrap().count();
    let mut reader = JetStreamReader::open(&scene.nats.url(), "TAP").await.unwrap();
    let stored = reader.collect(sent + 1, SOON).await.unwrap();
    assert_eq!(stored.len(), sent + 1, "with the gap of the start");
    let (mut shown, mut left_out) = (0, 0);
    while shown + left_out < sent as u64 {
        let json = watcher.json().await;
        match json.get("sampled") {
            Some(sampled) => left_out += sampled["left_out"].as_u64().unwrap(),
            None if json.get("id").is_some() => shown += 1,
            None => assert!(json.get("alive").is_some(), "{json}"),
        }
    }
    assert!(left_out > 0 && shown > 0, "{shown} shown, {left_out} left out");
    assert_eq!(shown + left_out, sent as u64);
    scene.run("NOTIFY orders, 'after'").await;
    assert_eq!(watcher.json().await["payload"], "after");
}
