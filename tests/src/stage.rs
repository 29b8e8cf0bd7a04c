//! Servers and configurations that tests share.

use std::time::Duration;

pub(crate) use pgherald_testkit::full_length;
use pgherald_testkit::{Kafka, Nats, Postgres};
use tokio::sync::OnceCell;

/// Long enough for anything that is supposed to happen soon, on a noisy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A short length in `cargo xtask test`, the full one in `cargo xtask prove`.
pub(crate) fn length(short: u64, full: u64) -> Duration {
    Duration::from_secs(if full_length() { full } else { short })
}

/// One Kafka for every test that does not hurt it; tests use topics of their own.
pub(crate) async fn shared_kafka() -> &'static Kafka {
    static KAFKA: OnceCell<Kafka> = OnceCell::const_new();
    KAFKA.get_or_init(|| async { Kafka::start().await.expect("Kafka starts") }).await
}

/// A configuration with one notify pipeline `p`; sinks are added.
pub(crate) struct Config {
    text: String,
}

impl Config {
    pub(crate) fn new(postgres_url: &str, channels: &[&str]) -> Self {
        let channels = serde_json::to_string(channels).expect("texts");
        let text = format!(
            "[postgres]\nurl = \"{postgres_url}\"\n\n[pipelines.p.source.notify]\nchannels = {channels}\n"
        );
        Self { text }
    }

    /// A configuration with one outbox pipeline `p`; `source` are lines of its table.
    pub(crate) fn outbox(postgres_url: &str, source: &str) -> Self {
        let text = format!(
            "[postgres]\nurl = \"{postgres_url}\"\n\n[pipelines.p.source.outbox]\n{source}\n"
        );
        Self { text }
    }

    /// Adds lines as they are.
    pub(crate) fn with(mut self, lines: &str) -> Self {
        self.text.push('\n');
        self.text.push_str(lines);
        self.text.push('\n');
        self
    }

    /// A JetStream sink that makes its own stream, subject `<prefix>.{channel}`.
    pub(crate) fn nats(self, sink: &str, nats: &Nats, stream: &str, prefix: &str) -> Self {
        let url = nats.url();
        self.with(&format!(
            "[pipelines.p.sinks.{sink}.nats]\nservers = \"{url}\"\nsubject = \"{prefix}.{{channel}}\"\n\
             stream = \"{stream}\"\ncreate_stream = true"
        ))
    }

    /// A Kafka sink into `topic`, made with so many partitions.
    pub(crate) fn kafka(self, sink: &str, kafka: &Kafka, topic: &str, partitions: u32) -> Self {
        let brokers = kafka.bootstrap();
        self.with(&format!(
            "[pipelines.p.sinks.{sink}.kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\n\
             create_topics = true\npartitions = {partitions}\nreplication_factor = 1"
        ))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

pub(crate) async fn postgres() -> Postgres {
    Postgres::start().await.expect("PostgreSQL starts")
}

pub(crate) async fn nats() -> Nats {
    Nats::start().await.expect("nats-server starts")
}
