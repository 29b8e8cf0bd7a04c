//! `pgherald tail`: what passes, beside the bridge or without one, and nothing is consumed.

use std::{process::Stdio, time::Instant};

use pgherald_testkit::{
    Bridge, FaultProxy, JetStreamReader, Nats, Notifier, Postgres, Scratch, bridge_binary,
    eventually,
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

use crate::{
    command_line::{Said, file, pgherald, said},
    outbox_stage::{connect, outbox},
    stage::{Config, SOON, nats, postgres},
};

/// A `pgherald tail` that goes on.
struct Tail {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    _config: Scratch,
}

impl Tail {
    /// Started, and reading by now.
    async fn start(config: &str, arguments: &[&str]) -> Self {
        let (scratch, path) = file(config);
        let config = ["--config", path.to_str().unwrap(), "tail"];
        let mut child = pgherald(&[&config, arguments].concat()).await.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut tail = Self { child, out, err, _config: scratch };
        let said = tail.says("").await;
        assert!(said.contains("listening to") || said.contains("following"), "{said}");
        tail
    }

    async fn line(&mut self) -> String {
        let line = timeout(SOON, self.out.next_line()).await.expect("a line comes soon");
        line.unwrap().expect("standard output goes on")
    }

    async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    async fn payload(&mut self) -> String {
        let json = self.json().await;
        json["payload"].as_str().unwrap_or_else(|| panic!("{json}")).to_owned()
    }

    async fn payloads(&mut self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.len() < count {
            payloads.push(self.payload().await);
        }
        payloads
    }

    /// The next line of standard error that holds a text.
    async fn says(&mut self, text: &str) -> String {
        loop {
            let line = timeout(SOON, self.err.next_line()).await.expect("it says something");
            let line = line.unwrap().expect("standard error goes on");
            if line.contains(text) {
                return line;
            }
        }
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    async fn ends(mut self) -> Option<i32> {
        timeout(SOON, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

async fn once(config: &str, arguments: &[&str]) -> Said {
    let (_scratch, path) = file(config);
    let config = ["--config", path.to_str().unwrap(), "tail"];
    said(&mut pgherald(&[&config, arguments].concat()).await).await
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// A server that is not there: what is read needs none.
fn with_sink(config: Config, sink: &str, lines: &str) -> Config {
    config.with(&format!(
        "[pipelines.p.sinks.{sink}]\n{lines}\n[pipelines.p.sinks.{sink}.nats]\n\
         servers = \"nats://127.0.0.1:1\"\nsubject = \"{sink}.{{channel}}\"\nstream = \"S\""
    ))
}

fn notify_config(url: &str) -> Config {
    let config = Config::new(url, &["orders", "payments"]);
    let config = with_sink(config, "bus", "channels = [\"orders\"]");
    with_sink(config, "live", "")
}

fn outbox_config(postgres: &Postgres, source: &str) -> Config {
    with_sink(Config::outbox(&postgres.url(), source), "live", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_printed_as_they_pass() {
    let postgres = postgres().await;
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let config = notify_config(&postgres.url());
    let mut all = Tail::start(config.text(), &["--pipeline", "p"]).await;
    let mut bus = Tail::start(config.text(), &["--sink", "bus", "--follow"]).await;
    let mut text = Tail::start(config.text(), &["--channel", "payments", "--format", "text"]).await;
    run(
        &mut connection,
        "NOTIFY orders, '{\"id\": 7}'; NOTIFY payments, E'\x1b[2J'; NOTIFY orders, 'two'",
    )
    .await;
    let first = all.json().await;
    assert_eq!(
        (&first["pipeline"], &first["channel"], &first["content_type"], &first["payload"]),
        (&"p".into(), &"orders".into(), &"application/json".into(), &r#"{"id": 7}"#.into())
    );
    let id = first["id"].as_str().unwrap();
    assert!(id.len() == 18 && id.ends_with("-0"), "{id}");
    assert!(first["time"].as_str().unwrap().ends_with('Z') && first["key"].is_null(), "{first}");
    assert_eq!(all.payloads(2).await, ["\u{1b}[2J", "two"]);
    assert_eq!(bus.payloads(2).await, [r#"{"id": 7}"#, "two"], "only what the sink takes");
    let line = text.line().await;
    assert!(line.ends_with("  p/payments  \\u001b[2J"), "{line}");
    for (tail, signal) in [(all, "-INT"), (bus, "-TERM"), (text, "-INT")] {
        tail.signal(signal).await;
        assert_eq!(tail.ends().await, Some(0), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_told_at_once_and_becomes_a_gap() {
    let postgres = postgres().await;
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let config = notify_config(&postgres.url_at(proxy.port()));
    let mut tail = Tail::start(config.text(), &[]).await;
    run(&mut connection, "NOTIFY orders, 'before'").await;
    assert_eq!(tail.payload().await, "before");
    proxy.refuse();
    proxy.reset();
    let lost = tail.says("not listening").await;
    assert!(lost.contains("messages may be missed meanwhile"), "{lost}");
    run(&mut connection, "NOTIFY orders, 'meanwhile'").await;
    proxy.heal();
    tail.says("listening again").await;
    let gap = tail.json().await;
    assert_eq!(gap["gap"]["reason"], "disconnect", "{gap}");
    assert_eq!(gap["gap"]["channels"], serde_json::json!(["orders", "payments"]));
    run(&mut connection, "NOTIFY orders, 'after'").await;
    assert_eq!(tail.payload().await, "after");
    tail.signal("-INT").await;
    assert_eq!(tail.ends().await, Some(0));
}

/// Nobody reads standard output: the LISTEN session is read all the same, and what was dropped is
/// counted in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_a_gap_and_the_server_waits_for_nobody() {
    let postgres = postgres().await;
    let mut tail = Tail::start(notify_config(&postgres.url()).text(), &[]).await;
    let sent = Notifier::new(&postgres.url()).messages(30_000).sizes(&[1_000]).padding(500);
    let sent = sent.run().await.unwrap().count();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut drained = async || {
        let usage = sqlx::query_scalar("SELECT pg_notification_queue_usage()::float8");
        let usage: f64 = usage.fetch_one(&mut connection).await.unwrap();
        usage < 0.000_001
    };
    let until = Instant::now() + SOON;
    while !drained().await {
        assert!(Instant::now() < until, "the notification queue is held");
    }
    run(&mut connection, "NOTIFY payments, 'last'").await;
    let (mut shown, mut counted) = (0, 0);
    loop {
        let json = tail.json().await;
        if json["payload"] == "last" {
            break;
        }
        match json.get("gap") {
            Some(gap) => {
                assert_eq!(gap["reason"], "overflow", "{gap}");
                counted += gap["count"].as_u64().unwrap();
            }
            None => shown += 1,
        }
        if shown + counted >= sent as u64 {
            // The last one may be among what did not fit.
            run(&mut connection, "NOTIFY payments, 'last'").await;
        }
    }
    assert!(counted > 0 && shown > 0, "{shown} shown, {counted} counted");
    assert!(shown + counted >= sent as u64, "{shown} shown, {counted} counted, of {sent}");
    tail.signal("-INT").await;
    assert_eq!(tail.ends().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_read_as_it_is_and_followed() {
    let postgres = outbox().await;
    let mut connection = connect(&postgres).await;
    let config = outbox_config(&postgres, "channels = [\"*\"]");
    run(
        &mut connection,
        "SELECT pgherald.send('orders', '{\"id\": 1}'::jsonb, 'k', '{\"h\": \"v\"}'); \
         SELECT pgherald.send('bytes', '\\xff'::bytea); SELECT pgherald.send('orders', NULL::text)",
    )
    .await;
    let all = once(config.text(), &["--pipeline", "p"]).await;
    assert_eq!(all.code, Some(0), "{}", all.all());
    let lines: Vec<Value> =
        all.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{}", all.out);
    assert_eq!((&lines[0]["key"], &lines[0]["headers"]["h"]), (&"k".into(), &"v".into()));
    assert!(lines[0]["id"].as_str().unwrap().ends_with("-1"), "{}", lines[0]);
    assert_eq!(lines[1]["payload_base64"], "/w==");
    assert_eq!(lines[2].get("payload"), Some(&Value::Null), "a tombstone");
    let newest = once(config.text(), &["--channel", "orders", "--last", "1"]).await;
    assert_eq!(newest.out.lines().collect::<Vec<_>>(), [all.out.lines().last().unwrap()]);
    let headers = once(config.text(), &["--format", "headers", "--channel", "orders"]).await;
    assert!(headers.out.contains("\nheader         h: v\n"), "{}", headers.out);
    assert!(!headers.out.contains("id\": 1"), "{}", headers.out);

    let newest = ["--pipeline", "p", "--last", "1", "--follow"];
    let mut tail = Tail::start(config.text(), &newest).await;
    assert_eq!(tail.json().await.get("payload"), Some(&Value::Null));
    let mut late = connect(&postgres).await;
    run(&mut late, "BEGIN; SELECT pgherald.send('orders', 'late'::text)").await;
    run(&mut connection, "SELECT pgherald.send('orders', 'first'::text)").await;
    assert_eq!(tail.payload().await, "first");
    run(&mut late, "COMMIT").await;
    assert_eq!(tail.payload().await, "late", "a lower id that came later");
    run(
        &mut connection,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
         WHERE application_name LIKE 'pgherald%'",
    )
    .await;
    tail.says("cannot read pgherald.outbox, trying again: ").await;
    tail.says("reading pgherald.outbox again").await;
    run(&mut connection, "SELECT pgherald.send('orders', 'after'::text)").await;
    assert_eq!(tail.payload().await, "after");
    tail.signal("-TERM").await;
    assert_eq!(tail.ends().await, Some(0));
}

/// Beside a bridge nothing is consumed, and nothing is delayed: both see everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_bridge_delivers_what_is_watched() {
    let (postgres, nats) = (outbox().await, nats().await);
    let source = "channels = [\"*\"]\nretain = \"keep\"";
    let config = watched(&postgres, &nats, source);
    let bridge = Bridge::start(&config).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut rows = Tail::start(&config, &["--source", "outbox", "--follow"]).await;
    let mut heard = Tail::start(&config, &["--source", "notify"]).await;
    let mut connection = connect(&postgres).await;
    run(
        &mut connection,
        "SELECT pgherald.send('orders', n::text) FROM generate_series(1, 500) AS n; \
         SELECT pg_notify('news', n::text) FROM generate_series(1, 500) AS n",
    )
    .await;
    let expected: Vec<String> = (1..=500).map(|n| n.to_string()).collect();
    assert_eq!(rows.payloads(500).await, expected);
    assert_eq!(heard.payloads(500).await, expected);
    for (stream, count) in [("ROWS", 500), ("NEWS", 501)] {
        let mut reader = JetStreamReader::open(&nats.url(), stream).await.unwrap();
        let stored = reader.collect(count, SOON).await.unwrap();
        let stored = stored.iter().filter(|message| !message.is_gap());
        let stored: Vec<_> = stored.map(|it| String::from_utf8_lossy(&it.payload)).collect();
        assert_eq!(stored, expected, "{stream}");
    }
    let ready = || async { bridge.readyz().await.is_ok_and(|reply| reply.status == 200) };
    eventually("the bridge is ready", SOON, ready).await.unwrap();
    let metrics = bridge.metrics().await.unwrap();
    assert_eq!(metrics.value("pgherald_gaps_total", &[("sink", "b")]), Some(1.0), "its start");
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0));
}

fn watched(postgres: &Postgres, nats: &Nats, source: &str) -> String {
    let sink = |stream: &str| {
        format!(
            "servers = \"{}\"\nsubject = \"{stream}.{{channel}}\"\nstream = \"{stream}\"\n\
             create_stream = true",
            nats.url()
        )
    };
    Config::outbox(&postgres.url(), source)
        .with(&format!("[pipelines.p.sinks.a.nats]\n{}", sink("ROWS")))
        .with("[pipelines.q.source.notify]\nchannels = [\"news\"]")
        .with(&format!("[pipelines.q.sinks.b.nats]\n{}", sink("NEWS")))
        .text()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_it() {
    let postgres = outbox().await;
    let mut connection = connect(&postgres).await;
    run(&mut connection, "SELECT pgherald.send('a', n::text) FROM generate_series(1, 20000) AS n")
        .await;
    let (_scratch, path) = file(outbox_config(&postgres, "").text());
    let (binary, path) = (bridge_binary().await.unwrap(), path.display().to_string());
    // Nothing more comes after the first line that `--last 1` prints.
    for arguments in ["", "--follow", "--follow --last 1"] {
        let piped = format!(
            "{{ \"{}\" --config {path} tail {arguments}; echo $? >&2; }} | head -n 1",
            binary.display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &piped]).stdin(Stdio::null()).kill_on_drop(true);
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = said(&mut shell).await;
        assert_eq!(said.out.lines().count(), 1, "{}", said.all());
        assert_eq!(said.err.lines().last(), Some("0"), "{arguments}: {}", said.all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_text_in_colour_without_control_characters() {
    let postgres = outbox().await;
    let mut connection = connect(&postgres).await;
    run(&mut connection, "SELECT pgherald.send(E'a\x1bb', E'\x1b[2J\x07'::text, E'k\x1bk')").await;
    let (_scratch, path) = file(outbox_config(&postgres, "").text());
    let on_a_terminal = async |environment: &str| {
        let binary = bridge_binary().await.unwrap();
        let typed = format!("{environment} {} --config {} tail", binary.display(), path.display());
        let mut script = Command::new("script");
        script.args(["-qec", &typed, "/dev/null"]).stdin(Stdio::null());
        script.env("TERM", "xterm").env_remove("NO_COLOR");
        script.stdout(Stdio::piped()).stderr(Stdio::piped());
        said(&mut script).await.all()
    };
    let coloured = on_a_terminal("env").await;
    assert!(coloured.contains("\u{1b}[36mp/a\\u001bb\u{1b}[0m"), "{coloured:?}");
    let rest: String = ["2", "36", "33", "0"]
        .iter()
        .fold(coloured, |rest, colour| rest.replace(&format!("\u{1b}[{colour}m"), ""));
    let plain = on_a_terminal("env NO_COLOR=1").await;
    for line in [rest, plain] {
        assert!(
            line.trim_end().ends_with("  p/a\\u001bb  [k\\u001bk]  \\u001b[2J\\u0007"),
            "{line:?}"
        );
        assert!(!line.contains(['\u{1b}', '\u{7}']), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_is_refused_with_the_reason() {
    let config = notify_config("postgres://nobody@127.0.0.1:1/nothing");
    for (arguments, words) in [
        (&["--pipeline", "pp"][..], "did you mean \"p\"?"),
        (&["--sink", "life"], "did you mean \"live\"?"),
        (&["--channel", "order"], "did you mean \"orders\"?"),
        (&["--channel", "payments", "--sink", "bus"], "there is no channel \"payments\" here"),
        (&["--last", "3"], "--last is for an outbox"),
        (&["--source", "wal"], "this version has no wal source"),
        (&["--source", "outbox"], "use --source notify"),
        (&["--last", "few"], "--last <N>"),
        (&["--format", "xml"], "headers"),
    ] {
        let said = once(config.text(), arguments).await;
        assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.all());
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
    }
    let unreachable = once(config.text(), &[]).await;
    assert_eq!(unreachable.code, Some(1), "{}", unreachable.all());
    assert!(unreachable.err.contains("cannot connect to"), "{}", unreachable.err);
    let postgres = postgres().await;
    let missing = once(outbox_config(&postgres, "").text(), &["--follow"]).await;
    assert_eq!(missing.code, Some(1), "{}", missing.all());
    assert!(missing.err.contains("run `pgherald setup`"), "{}", missing.err);
    let help = said(&mut pgherald(&["tail", "--help"]).await).await;
    assert!(help.code == Some(0) && help.out.contains("Examples:"), "{}", help.all());
}
