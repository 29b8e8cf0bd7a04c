//! What a sink rejects is kept before anything behind it is sent, and comes again when it is asked
//! for.

use std::{collections::HashSet, process::Stdio, time::Duration};

use pgherald_postgres::{PostgresSettings, SetupOptions, setup};
use pgherald_testkit::{
    Bridge, KafkaConsumer, KafkaRecord, Postgres, Scratch, bridge_binary, eventually,
};
use sqlx::{Connection, PgConnection, Row};
use tokio::process::Command;

use crate::{
    command_line::{Said, file, pgherald, said},
    stage::{Config, SOON, postgres, shared_kafka},
};

/// One notify pipeline into a topic that takes small messages only.
struct Scene {
    postgres: Postgres,
    topic: &'static str,
    bridge: Bridge,
    config: (Scratch, std::path::PathBuf),
    connection: PgConnection,
}

impl Scene {
    async fn start(topic: &'static str, with_schema: bool) -> Self {
        let postgres = postgres().await;
        if with_schema {
            install(&postgres).await;
        }
        let kafka = shared_kafka().await;
        kafka.create_topic(topic, 1, &[("max.message.bytes", "2000")]).await.unwrap();
        let config = Config::new(&postgres.url(), &["orders"])
            .kafka("bus", kafka, topic, 1)
            .with("[pipelines.p.sinks.bus]\non_rejected = \"dead_letter\"");
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        let connection = PgConnection::connect(&postgres.url()).await.unwrap();
        Self { postgres, topic, bridge, config: file(config.text()), connection }
    }

    async fn run(&mut self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.unwrap();
    }

    async fn text(&mut self, sql: &'static str) -> String {
        let row = sqlx::query(sql).fetch_one(&mut self.connection).await.unwrap();
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }

    async fn command(&self, arguments: &[&str]) -> Said {
        let config = ["--config", self.config.1.to_str().unwrap(), "dead-letters"];
        said(&mut pgherald(&[&config, arguments].concat()).await).await
    }

    /// The same on a terminal.
    async fn on_a_terminal(&self, arguments: &str) -> String {
        let binary = bridge_binary().await.unwrap();
        let (binary, config) = (binary.display(), self.config.1.display());
        let typed = format!("{binary} --config {config} dead-letters {arguments}");
        let mut script = Command::new("script");
        script.args(["-qec", &typed, "/dev/null"]).stdin(Stdio::null());
        script.stdout(Stdio::piped()).stderr(Stdio::piped());
        said(&mut script).await.all()
    }

    /// The payloads that arrived, without gaps, once there are so many; the large one is `POISON`.
    /// First arrivals only: a rejection may end the producer, and what it had not confirmed is
    /// repeated.
    async fn arrived(&self, count: usize) -> Vec<String> {
        first_arrivals(&self.records(count).await)
    }

    async fn records(&self, count: usize) -> Vec<KafkaRecord> {
        let bootstrap = shared_kafka().await.bootstrap();
        let mut consumer = KafkaConsumer::open(&bootstrap, &[self.topic]).await.unwrap();
        let enough = |records: &[KafkaRecord]| first_arrivals(records).len() >= count;
        match consumer.collect_until(SOON, enough).await {
            Ok(records) => records.to_vec(),
            Err(late) => panic!("{late}\n{}", self.bridge.log()),
        }
    }

    async fn metric(&self, name: &str) -> f64 {
        self.bridge.metrics().await.unwrap().value(name, &[("sink", "bus")]).unwrap()
    }
}

fn first_arrivals(records: &[KafkaRecord]) -> Vec<String> {
    let mut known = HashSet::new();
    let messages = records.iter().filter(|record| !record.is_gap());
    let first = messages.filter(|record| known.insert(record.header("ce_id").map(str::to_owned)));
    first.map(|record| shortened(&record.text())).collect()
}

fn shortened(payload: &str) -> String {
    if payload.len() > 2_000 { "POISON".to_owned() } else { payload.to_owned() }
}

async fn install(postgres: &Postgres) {
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    setup(&settings, &SetupOptions::default(), &mut |_| ()).await.unwrap();
}

/// Small ones around one that no compression makes small.
const ANNOUNCE: &str = "SELECT pg_notify('orders', 'a'), pg_notify('orders', 'b'); \
     SELECT pg_notify('orders', string_agg(md5(i::text), '')) FROM generate_series(1, 200) i; \
     SELECT pg_notify('orders', 'c'), pg_notify('orders', 'd')";

const KEPT: &str = "SELECT string_agg(id, ',') FROM pgherald.dead_letter";

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_is_kept_and_comes_again_once() {
    let mut scene = Scene::start("dead_letters_kept", true).await;
    scene.run(ANNOUNCE).await;
    assert_eq!(scene.arrived(4).await, ["a", "b", "c", "d"]);
    let row = "SELECT concat_ws('|', pipeline, sink, channel, content_type, \
         octet_length(payload), attempts, reason) FROM pgherald.dead_letter";
    let row = scene.text(row).await;
    assert!(row.starts_with("p|bus|orders|text/plain; charset=utf-8|6400|1|"), "{row}");
    assert!(row.len() > 60, "it says why: {row}");
    assert_eq!(scene.metric("pgherald_messages_dead_lettered_total").await, 1.0);
    assert_eq!(scene.metric("pgherald_gaps_total").await, 1.0, "a dead letter is no gap");
    let id = scene.text(KEPT).await;
    let listed = scene.command(&["list"]).await;
    assert!(listed.out.contains(&id) && listed.out.lines().count() == 1, "{}", listed.all());
    let shown = scene.command(&["show", &id, "--format", "json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown[0]["payload"].as_str().unwrap().len(), 6_400);

    // Sent again while it is still too large: the reason is new, and nobody asks any more.
    let marked = scene.command(&["replay", &id, "no-such-id"]).await;
    assert_eq!(marked.code, Some(1), "{}", marked.all());
    assert!(marked.out.contains(&id) && marked.err.contains("no-such-id"), "{}", marked.all());
    let twice = "SELECT (attempts = 2 AND replay_at IS NULL)::text FROM pgherald.dead_letter";
    until(&mut scene, "it is rejected again", twice, "true").await;

    shared_kafka()
        .await
        .alter_topic(scene.topic, &[("max.message.bytes", "100000")])
        .await
        .unwrap();
    let marked = scene.command(&["replay", "--all", "--sink", "bus"]).await;
    assert_eq!(marked.out, "1 dead letter asked for again\n", "{}", marked.all());
    let done = "SELECT (replayed_at IS NOT NULL)::text FROM pgherald.dead_letter";
    until(&mut scene, "it is sent again", done, "true").await;
    scene.run("SELECT pg_notify('orders', 'e')").await;
    let all = scene.records(6).await;
    assert_eq!(first_arrivals(&all), ["a", "b", "c", "d", "POISON", "e"]);
    assert_eq!(all.iter().filter(|record| record.text().len() > 2_000).count(), 1, "once");
    assert_eq!(scene.command(&["purge", &id]).await.code, Some(0));
    let empty = scene.command(&["list", "--format", "json"]).await;
    assert_eq!((empty.code, empty.out.as_str()), (Some(0), "[]\n"));
    assert_eq!(scene.command(&["show", &id]).await.code, Some(1));
}

async fn until(scene: &mut Scene, what: &str, sql: &'static str, wanted: &str) {
    let url = scene.postgres.url();
    let there = || async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let found = sqlx::query(sql).fetch_optional(&mut connection).await.unwrap();
        found.is_some_and(|row| row.get::<String, _>(0) == wanted)
    };
    if eventually(what, SOON, there).await.is_err() {
        panic!("not {what}: {}", scene.bridge.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_waits_while_nothing_can_be_kept() {
    let mut scene = Scene::start("dead_letters_locked", true).await;
    scene.run("BEGIN; LOCK TABLE pgherald.dead_letter").await;
    let url = scene.postgres.url();
    let mut other = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(ANNOUNCE).execute(&mut other).await.unwrap();
    waits(&scene.bridge, "lock timeout").await;
    assert_eq!(scene.arrived(2).await, ["a", "b"], "nothing behind it is sent");
    scene.run("COMMIT").await;
    scene.bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(scene.arrived(4).await, ["a", "b", "c", "d"]);
    assert!(!scene.text(KEPT).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_schema_the_flow_is_blocked_and_names_setup() {
    let mut scene = Scene::start("dead_letters_missing", false).await;
    let config = scene.config.1.to_str().unwrap().to_owned();
    let check = said(&mut pgherald(&["--config", &config, "check"]).await).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    assert!(check.out.contains("pgherald setup"), "{}", check.all());
    scene.run(ANNOUNCE).await;
    waits(&scene.bridge, "pgherald setup").await;
    let status = scene.bridge.status().await.unwrap();
    assert_eq!(status["flows"][0]["state"], "blocked", "{status:#}");
    let done = said(&mut pgherald(&["--config", &config, "setup"]).await).await;
    assert_eq!(done.code, Some(0), "{}", done.all());
    scene.bridge.wait_ready(SOON).await.unwrap();
    assert_eq!(scene.arrived(4).await, ["a", "b", "c", "d"]);
    assert!(!scene.text(KEPT).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_large_to_fetch_is_copied_and_goes_when_it_is_settled() {
    let postgres = postgres().await;
    install(&postgres).await;
    let kafka = shared_kafka().await;
    let config = Config::outbox(&postgres.url(), "channels = [\"orders\"]")
        .kafka("bus", kafka, "dead_letters_outbox", 1)
        .with("[pipelines.p.sinks.bus]\non_rejected = \"dead_letter\"\nmessage_bytes_max = 1000");
    let bridge = Bridge::start(config.text()).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let send = "SELECT pgherald.send('orders', 'a'); \
         SELECT pgherald.send('orders', repeat('x', 5000)::bytea); \
         SELECT pgherald.send('orders', 'b')";
    sqlx::raw_sql(send).execute(&mut connection).await.unwrap();
    let mut consumer =
        KafkaConsumer::open(&kafka.bootstrap(), &["dead_letters_outbox"]).await.unwrap();
    let records = consumer.collect(2, SOON).await.unwrap();
    let texts: Vec<String> = records.iter().map(|record| record.text()).collect();
    assert_eq!(texts, ["a", "b"], "{}", bridge.log());
    let url = postgres.url();
    let settled = || async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let sql = "SELECT (SELECT count(*) FROM pgherald.outbox), \
             (SELECT count(*) FROM pgherald.dead_letter WHERE octet_length(payload) = 5000 \
             AND content_type = 'application/octet-stream')";
        let row = sqlx::query(sql).fetch_one(&mut connection).await.unwrap();
        (row.get::<i64, _>(0), row.get::<i64, _>(1)) == (0, 1)
    };
    if eventually("the rows go, the dead letter stays", SOON, settled).await.is_err() {
        panic!("{}", bridge.log());
    }
}

/// Waits until the flow is not ready for this reason.
async fn waits(bridge: &Bridge, why: &str) {
    let told = || async {
        bridge.readyz().await.is_ok_and(|reply| reply.status == 503 && reply.body.contains(why))
    };
    if eventually("the flow waits", Duration::from_secs(60), told).await.is_err() {
        panic!("{:?}\n{}", bridge.readyz().await, bridge.log());
    }
}

/// Whoever may NOTIFY writes on the terminal of whoever looks at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_no_control_characters() {
    let mut scene = Scene::start("dead_letters_terminal", true).await;
    scene
        .run(
            "INSERT INTO pgherald.dead_letter (pipeline, sink, id, channel, headers, payload, reason, \
             attempts, message_time, first_attempt_at, last_attempt_at) VALUES ('p', 'bus', '1-1', \
             'orders', jsonb_build_object('h', U&'\\009b31m'), \
             convert_to(U&'\\001b[2J\\001b]0;title\\0007\\009b31m \\202e ok', 'UTF8'), \
             U&'refused \\001b[31m', 1, now(), now(), now())",
        )
        .await;
    for arguments in ["show 1-1", "show 1-1 --format json", "list", "list --format json", "show 2"]
    {
        let shown = scene.on_a_terminal(arguments).await;
        let lines = shown.replace("\r\n", "\n");
        let bad = lines.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None, "{arguments}: {lines:?}");
        assert!(lines.contains("1-1") || lines.contains("no dead letter"), "{lines:?}");
    }
    let shown = scene.on_a_terminal("show 1-1").await;
    assert!(shown.contains("\\u001b[2J") && shown.contains("ok"), "{shown:?}");
    // A pipe gets the payload as it is.
    assert!(scene.command(&["show", "1-1"]).await.out.contains("\u{1b}[2J"));
}
