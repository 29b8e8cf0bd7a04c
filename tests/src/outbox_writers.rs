//! A writer that stays open for long: `causal` carries everybody else's rows as ever, `strict` waits
//! for it and says for whom, and either has everything in the end.

use std::time::{Duration, Instant, SystemTime};

use pgherald_testkit::{Bridge, JetStreamReader, Nats, Postgres, StoredMessage};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    outbox_stage::{connect, outbox, source},
    stage::{SOON, length, nats},
    truth::{Arrival, first_arrivals, from_jetstream},
};

const RATE: f64 = 100.0;
/// Polling beside an open writer may be slower than being woken up; waiting for it is seconds.
const NO_WAIT: Duration = Duration::from_millis(250);
const GID: &str = "left-behind";

/// Who keeps the outbox open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A session in its transaction.
    Open,
    /// A prepared transaction that nobody finishes.
    Prepared,
}

/// A pipeline and a stream for each order.
struct Scene {
    postgres: Postgres,
    bridge: Bridge,
    nats: Nats,
}

/// When what happened.
struct Course {
    opened: SystemTime,
    closed: SystemTime,
    sent: usize,
}

impl Scene {
    async fn start() -> Self {
        let (postgres, nats) = (outbox().await, nats().await);
        let mut config = format!("[postgres]\nurl = \"{}\"\n", postgres.url());
        for order in ["causal", "strict"] {
            let stream = order.to_uppercase();
            config += &source(order, "");
            config += &format!(
                "[pipelines.{order}.sinks.live.nats]\nservers = \"{}\"\n\
                 subject = \"{order}.{{channel}}\"\nstream = \"{stream}\"\ncreate_stream = true\n",
                nats.url()
            );
        }
        let bridge = Bridge::start(&config).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { postgres, bridge, nats }
    }

    /// Others send before, while and after one writer stays open.
    async fn course(&self, kind: Kind) -> Course {
        let mut sender = Sender { connection: connect(&self.postgres).await, sent: 0 };
        sender.send_for(Duration::from_secs(3)).await;
        let writer = Writer::open(&self.postgres, kind).await;
        let opened = SystemTime::now();
        let began = Instant::now();
        while began.elapsed() < length(8, 600) {
            sender.send_for(Duration::from_secs(1)).await;
        }
        self.assert_strict_names(&writer, began.elapsed()).await;
        let closed = SystemTime::now();
        writer.close().await;
        sender.send_for(Duration::from_secs(1)).await;
        Course { opened, closed, sent: sender.sent }
    }

    /// Log, metric and `/status` of the strict flow tell who is open, as whom, and for how long.
    async fn assert_strict_names(&self, writer: &Writer, open_for: Duration) {
        let (half, twice) = (open_for.as_secs_f64() / 2.0, open_for.as_secs_f64() * 2.0);
        let metrics = self.bridge.metrics().await.unwrap();
        let held =
            metrics.value("pgherald_outbox_held_seconds", &[("pipeline", "strict")]).unwrap();
        assert!(held > half && held < twice, "held for {held} s, and the writer for {open_for:?}");
        let reason = self.reason("strict").await;
        let log = self.bridge.log_lines("strict").join("\n");
        for text in [&reason, &log] {
            assert!(text.contains(&writer.name), "{} in {text}", writer.name);
            assert!(text.contains("postgres"), "the role in {text}");
            assert!(says_an_age(text), "the age in {text}");
        }
    }

    async fn reason(&self, order: &str) -> String {
        let status = self.bridge.status().await.unwrap();
        let flows = status["flows"].as_array().cloned().unwrap_or_default();
        let flow = flows.into_iter().find(|flow| flow["pipeline"] == order);
        flow.as_ref().map(Value::to_string).unwrap_or_default()
    }

    async fn reader(&self, order: &str) -> JetStreamReader {
        JetStreamReader::open(&self.nats.url(), &order.to_uppercase()).await.unwrap()
    }
}

/// Something like `12 s`, `7.5s`, `12s` or `seconds=12`.
fn says_an_age(text: &str) -> bool {
    let words: Vec<&str> = text.split([' ', ',', ';', ')', '(', '"', ':', '=']).collect();
    let number = |word: &str| !word.is_empty() && word.parse::<f64>().is_ok();
    let alone = |pair: &[&str]| match pair {
        [before, "s" | "seconds"] => number(before),
        ["seconds", after] => number(after),
        _ => false,
    };
    let joined = |word: &&str| word.strip_suffix('s').is_some_and(number);
    words.windows(2).any(alone) || words.iter().any(joined)
}

/// The one that stays open; its row is `1-0`, those of the others are `0-n`.
struct Writer {
    connection: PgConnection,
    kind: Kind,
    /// What an operator needs to find it.
    name: String,
}

impl Writer {
    async fn open(postgres: &Postgres, kind: Kind) -> Self {
        let mut connection = connect(postgres).await;
        let pid: i32 =
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
        run(&mut connection, "BEGIN").await;
        send(&mut connection, 1, 0).await;
        let name = match kind {
            Kind::Open => format!("pid {pid}"),
            Kind::Prepared => {
                run(&mut connection, &format!("PREPARE TRANSACTION '{GID}'")).await;
                connection = connect(postgres).await;
                GID.to_owned()
            }
        };
        Self { connection, kind, name }
    }

    async fn close(mut self) {
        match self.kind {
            Kind::Open => run(&mut self.connection, "COMMIT").await,
            Kind::Prepared => run(&mut self.connection, &format!("COMMIT PREPARED '{GID}'")).await,
        }
        self.connection.close().await.unwrap();
    }
}

/// Everybody else: one row a transaction, at a steady rate, of writer 0.
struct Sender {
    connection: PgConnection,
    sent: usize,
}

impl Sender {
    async fn send_for(&mut self, time: Duration) {
        let (began, first) = (Instant::now(), self.sent);
        while began.elapsed() < time {
            let due = Duration::from_secs_f64((self.sent - first) as f64 / RATE);
            tokio::time::sleep_until((began + due).into()).await;
            send(&mut self.connection, 0, self.sent).await;
            self.sent += 1;
        }
    }
}

async fn send(connection: &mut PgConnection, writer: usize, n: usize) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let payload = format!("{{\"writer\":{writer},\"n\":{n},\"sent_us\":{}}}", since.as_micros());
    let sql = "SELECT pgherald.send('orders', $1::text)";
    sqlx::query(sql).bind(payload).execute(connection).await.unwrap();
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn stays_open(kind: Kind) {
    let scene = Scene::start().await;
    let (mut causal, mut strict) = (scene.reader("causal").await, scene.reader("strict").await);
    let course = tokio::select! {
        course = scene.course(kind) => course,
        _ = causal.collect_until(Duration::MAX, |_| false) => unreachable!("it reads on"),
        _ = strict.collect_until(Duration::MAX, |_| false) => unreachable!("it reads on"),
    };
    let everything = |messages: &[StoredMessage]| messages.len() > course.sent;
    for reader in [&mut causal, &mut strict] {
        let read = reader.collect_until(SOON, everything).await.map(drop);
        assert!(read.is_ok(), "{read:?}\n{}", scene.bridge.explain().await);
    }
    let causal = from_jetstream(causal.read_all(SOON).await.unwrap());
    let strict = from_jetstream(strict.read_all(SOON).await.unwrap());
    for arrivals in [&causal, &strict] {
        assert_eq!(arrivals.len(), course.sent + 1, "everything once");
        assert_eq!(first_arrivals(arrivals).len(), course.sent + 1);
    }
    assert_causal_did_not_notice(&causal, &course);
    assert_strict_waited(&strict, &course);
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}

fn assert_causal_did_not_notice(arrivals: &[Arrival], course: &Course) {
    let median = |wanted: &dyn Fn(SystemTime) -> bool| {
        let others = arrivals.iter().filter(|it| !is_held(it) && it.sent.is_some_and(wanted));
        let mut latencies: Vec<Duration> = others.filter_map(Arrival::latency).collect();
        latencies.sort_unstable();
        latencies[latencies.len() / 2]
    };
    let before = median(&|sent| sent < course.opened);
    let beside = median(&|sent| sent > course.opened && sent < course.closed);
    println!("causal: median {before:.1?} before, {beside:.1?} beside an open writer");
    assert!(beside < before + NO_WAIT, "{before:?} before, {beside:?} beside an open writer");
    let late = arrivals.iter().filter(|it| !is_held(it) && it.sent < Some(course.closed));
    let late = late.filter(|it| it.at > course.closed + NO_WAIT).count();
    assert_eq!(late, 0, "nobody waited for the end of the writer");
}

/// Nothing behind the writer's row came before it, and the writer's came once it was there.
fn assert_strict_waited(arrivals: &[Arrival], course: &Course) {
    let held = arrivals.iter().position(is_held).expect("the writer's row is there");
    assert!(arrivals[held].at > course.closed, "it came after its commit");
    let order: Vec<String> = first_arrivals(arrivals);
    let others = order.iter().filter(|id| id.starts_with("0-"));
    let expected: Vec<String> = (0..course.sent).map(|n| format!("0-{n}")).collect();
    assert_eq!(others.cloned().collect::<Vec<_>>(), expected, "in the order of the ids");
    let early = arrivals[..held].iter().filter(|it| it.sent > Some(course.opened)).count();
    assert_eq!(early, 0, "nothing overtook the writer");
}

fn is_held(arrival: &Arrival) -> bool {
    arrival.announced.as_deref() == Some("1-0")
}

#[tokio::test(flavor = "multi_thread")]
async fn outbox_writer_that_stays_open_holds_strict_alone() {
    stays_open(Kind::Open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outbox_prepared_transaction_left_behind_holds_strict_alone() {
    stays_open(Kind::Prepared).await;
}
