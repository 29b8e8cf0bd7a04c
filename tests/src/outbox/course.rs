//! What the outbox tests share: a server with the schema, a sender, and the sinks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pgherald_postgres::{PostgresSettings, SetupOptions, setup};
use pgherald_testkit::{Bridge, JetStreamReader, KafkaConsumer, Postgres, eventually};
use sqlx::{Connection, PgConnection, Row};
use tokio::{sync::Mutex, task::JoinSet};

use crate::{
    stage::{SOON, postgres, shared_kafka},
    truth::{Arrival, first_arrivals, from_jetstream, from_kafka},
};

/// A server with the schema.
pub(crate) async fn prepared() -> Postgres {
    let postgres = postgres().await;
    install(&postgres).await;
    postgres
}

pub(crate) async fn install(postgres: &Postgres) {
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    setup(&settings, &SetupOptions::default(), &mut |_| ()).await.unwrap();
}

/// The beginning of a configuration with one outbox pipeline `p`; `source` are lines of its table.
pub(crate) fn outbox(postgres: &Postgres, source: &str) -> crate::stage::Config {
    crate::stage::Config::outbox(&postgres.url(), source)
}

pub(crate) async fn connection(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url()).await.unwrap()
}

pub(crate) async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

/// The payload of the n-th message of a sender, as [`pgherald_testkit::Announcement`] reads it.
fn payload(n: usize) -> String {
    let sent_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    format!("{{\"writer\":0,\"n\":{n},\"sent_us\":{sent_us}}}")
}

/// One connection that sends one row a transaction, at its own speed, until it is told to stop. A
/// commit whose answer is lost is looked up.
pub(crate) struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    task: Mutex<JoinSet<usize>>,
}

impl Sender {
    pub(crate) fn start(url: &str, pause: Duration) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut task = JoinSet::new();
        task.spawn(send(url.to_owned(), pause, Arc::clone(&stop), Arc::clone(&sent)));
        Self { stop, sent, task: Mutex::new(task) }
    }

    /// Waits until so many more are committed.
    pub(crate) async fn more(&self, count: usize) {
        let wanted = self.sent.load(Ordering::SeqCst) + count;
        let reached = || async { self.sent.load(Ordering::SeqCst) >= wanted };
        eventually("rows", SOON, reached).await.unwrap();
    }

    /// Every payload's id, in commit order.
    pub(crate) async fn stop(&self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.task.lock().await.join_next().await;
        let count = ended.expect("one task").expect("the sender does not panic");
        (0..count).map(|n| format!("0-{n}")).collect()
    }
}

async fn send(
    url: String,
    pause: Duration,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
) -> usize {
    let mut connection = None;
    let mut unsure = false;
    let mut n = 0;
    while !stop.load(Ordering::SeqCst) || unsure {
        let Some(open) = &mut connection else {
            connection = PgConnection::connect(&url).await.ok();
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let committed = match unsure {
            true => was_committed(open, n).await,
            false => insert(open, n).await,
        };
        match committed {
            Ok(committed) => {
                unsure = false;
                n += usize::from(committed);
                sent.store(n, Ordering::SeqCst);
            }
            Err(_) => (unsure, connection) = (true, None),
        }
        tokio::time::sleep(pause).await;
    }
    n
}

async fn insert(connection: &mut PgConnection, n: usize) -> Result<bool, sqlx::Error> {
    let sending = sqlx::query("SELECT pgherald.send('orders', $1::text, $2::text)");
    sending.bind(payload(n)).bind(format!("k{}", n % 7)).execute(connection).await?;
    Ok(true)
}

/// Rows are kept in these tests, so that this can be told.
async fn was_committed(connection: &mut PgConnection, n: usize) -> Result<bool, sqlx::Error> {
    let sql = "SELECT count(*) FROM pgherald.outbox WHERE (payload::json->>'n')::bigint = $1";
    let found: i64 = sqlx::query(sql).bind(n as i64).fetch_one(connection).await?.get(0);
    Ok(found > 0)
}

/// Everything in a topic of the shared Kafka, once `count` different messages are there.
pub(crate) async fn in_kafka(topic: &str, count: usize) -> Vec<Arrival> {
    let bootstrap = shared_kafka().await.bootstrap();
    let mut consumer = KafkaConsumer::open(&bootstrap, &[topic]).await.unwrap();
    let enough = |records: &[pgherald_testkit::KafkaRecord]| {
        records.len() >= count && first_arrivals(&from_kafka(records)).len() >= count
    };
    from_kafka(consumer.collect_until(SOON, enough).await.unwrap())
}

/// Everything in a stream, once `count` different messages are there.
pub(crate) async fn in_jetstream(url: &str, stream: &str, count: usize) -> Vec<Arrival> {
    let mut reader = JetStreamReader::open(url, stream).await.unwrap();
    let enough = |messages: &[pgherald_testkit::StoredMessage]| {
        messages.len() >= count && first_arrivals(&from_jetstream(messages)).len() >= count
    };
    from_jetstream(reader.collect_until(SOON, enough).await.unwrap())
}

/// Waits until a flow is in that state.
pub(crate) async fn until_state(bridge: &Bridge, sink: &str, wanted: &str) -> serde_json::Value {
    let there = || async { flow(bridge, sink).await["state"] == wanted };
    if let Err(late) = eventually(&format!("{sink} is {wanted}"), SOON, there).await {
        panic!("{late:?}: {:#} {}", flow(bridge, sink).await, bridge.log());
    }
    flow(bridge, sink).await
}

/// What `/status` says of a flow.
pub(crate) async fn flow(bridge: &Bridge, sink: &str) -> serde_json::Value {
    let Ok(reply) = bridge.status().await else { return serde_json::Value::Null };
    let flows = reply["flows"].as_array().cloned().unwrap_or_default();
    flows.into_iter().find(|flow| flow["sink"] == sink).unwrap_or_default()
}
