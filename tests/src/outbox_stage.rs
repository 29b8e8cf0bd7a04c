//! An outbox, two pipelines that read it in either order, and three sinks for each.

use std::time::Duration;

use pgherald_postgres::{PostgresSettings, SetupOptions, setup};
use pgherald_testkit::{
    JetStreamReader, KafkaConsumer, OutboxArrival, OutboxTruth, OutboxVerdict, Postgres, RollCall,
    eventually,
};
use sqlx::{Connection, PgConnection};

use crate::stage::full_length;

/// Both orders, each a pipeline of this name.
pub(crate) const ORDERS: [&str; 2] = ["causal", "strict"];
/// Kafka with one partition, with six, and a stream.
pub(crate) const SINKS: [&str; 3] = ["one", "six", "live"];

/// Every row at every sink, on a machine that does other things too.
pub(crate) fn arrive_within() -> Duration {
    Duration::from_secs(if full_length() { 600 } else { 120 })
}

/// A server with an outbox, which takes prepared transactions.
pub(crate) async fn outbox() -> Postgres {
    let builder = Postgres::builder().setting("max_prepared_transactions", "200");
    let postgres = builder.start().await.expect("PostgreSQL starts");
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    setup(&settings, &SetupOptions::default(), &mut |_| ()).await.unwrap();
    postgres
}

pub(crate) async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url()).await.unwrap()
}

/// Waits until every row has left the outbox, because all sinks have it.
pub(crate) async fn assert_is_emptied(postgres: &Postgres) {
    let emptied = || async { rows_left(postgres).await == 0 };
    let emptied = eventually("the outbox is emptied", arrive_within(), emptied).await;
    let left = rows_left(postgres).await;
    assert!(emptied.is_ok(), "{emptied:?}: {left} rows are left");
}

async fn rows_left(postgres: &Postgres) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM pgherald.outbox");
    count.fetch_one(&mut connect(postgres).await).await.unwrap()
}

/// Where the brokers are, for consumers: not through a fault.
pub(crate) struct Sinks {
    /// Of the topics, and, in capitals, of the streams.
    pub(crate) name: &'static str,
    pub(crate) kafka: String,
    pub(crate) nats: String,
}

impl Sinks {
    /// The sinks of one pipeline, as the bridge reaches them.
    pub(crate) fn config(&self, order: &str, kafka: &str, nats: &str) -> String {
        let topic = |sink: &str, partitions: u32| {
            format!(
                "[pipelines.{order}.sinks.{sink}.kafka]\nbrokers = \"{kafka}\"\n\
                 topic = \"{}\"\ncreate_topics = true\npartitions = {partitions}\n\
                 replication_factor = 1\n",
                self.topic(order, sink)
            )
        };
        let stream = self.stream(order);
        format!(
            "{}{}[pipelines.{order}.sinks.live.nats]\nservers = \"{nats}\"\n\
             subject = \"{stream}.{{channel}}\"\nstream = \"{stream}\"\ncreate_stream = true\n",
            topic("one", 1),
            topic("six", 6)
        )
    }

    fn topic(&self, order: &str, sink: &str) -> String {
        format!("{}-{order}-{sink}", self.name)
    }

    fn stream(&self, order: &str) -> String {
        format!("{}-{order}", self.name).to_uppercase()
    }

    /// What lies at a sink once nothing is missing there, or once it takes too long.
    pub(crate) async fn verdict(
        &self,
        order: &str,
        sink: &str,
        truth: &OutboxTruth,
    ) -> OutboxVerdict {
        truth.judge(&self.arrivals(order, sink, truth).await)
    }

    pub(crate) async fn arrivals(
        &self,
        order: &str,
        sink: &str,
        truth: &OutboxTruth,
    ) -> Vec<OutboxArrival> {
        match sink {
            "live" => self.stored(&self.stream(order), truth).await,
            _ => self.records(&self.topic(order, sink), truth).await,
        }
    }

    async fn records(&self, topic: &str, truth: &OutboxTruth) -> Vec<OutboxArrival> {
        let mut consumer = KafkaConsumer::open(&self.kafka, &[topic]).await.unwrap();
        let mut roll = RollCall::new(truth);
        // Whoever is missing is named by the verdict.
        let _ = consumer.collect_until(arrive_within(), |records| roll.kafka(records)).await;
        OutboxArrival::from_kafka(consumer.read_all(arrive_within()).await.unwrap()).unwrap()
    }

    async fn stored(&self, stream: &str, truth: &OutboxTruth) -> Vec<OutboxArrival> {
        let mut reader = JetStreamReader::open(&self.nats, stream).await.unwrap();
        let mut roll = RollCall::new(truth);
        let _ = reader.collect_until(arrive_within(), |messages| roll.jetstream(messages)).await;
        OutboxArrival::from_jetstream(reader.read_all(arrive_within()).await.unwrap()).unwrap()
    }
}

/// A pipeline named after its order; lines are added to its source.
pub(crate) fn source(order: &str, lines: &str) -> String {
    format!("[pipelines.{order}.source.outbox]\nchannels = [\"*\"]\norder = \"{order}\"\n{lines}\n")
}
