//! The servers of a run, and the bridge's configuration between them.

use std::time::Duration;

use pgherald_testkit::{Bridge, Kafka, Nats, Postgres, Result, bridge_binary};

/// PostgreSQL, nats-server and Kafka, each as a package ships it.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) nats: Nats,
    pub(crate) kafka: Kafka,
}

/// The destination of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Kafka,
    JetStream,
}

impl Target {
    pub(crate) const ALL: [Self; 2] = [Self::Kafka, Self::JetStream];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::JetStream => "JetStream",
        }
    }
}

impl Servers {
    pub(crate) async fn start() -> Result<Self> {
        println!("starting PostgreSQL 18.6, nats-server 2.15.1 and Apache Kafka 4.4.0 ...");
        let (postgres, nats, kafka) =
            tokio::try_join!(Postgres::start(), Nats::start(), Kafka::start())?;
        Ok(Self { postgres, nats, kafka })
    }

    /// A ready bridge from `channel` into one target; `name` is the topic, or the stream and its
    /// subject. `budget` messages are held at most.
    pub(crate) async fn bridge(&self, target: Target, name: &str, budget: usize) -> Result<Bridge> {
        let bridge = self.launch(target, name, budget).await?;
        bridge.wait_ready(Duration::from_secs(30)).await?;
        Ok(bridge)
    }

    /// The same, without waiting until it is ready.
    pub(crate) async fn launch(&self, target: Target, name: &str, budget: usize) -> Result<Bridge> {
        let config = format!(
            "[postgres]\nurl = \"{}\"\n\n\
             [pipelines.bench.source.notify]\nchannels = [\"{name}\"]\n\n\
             [pipelines.bench.sinks.s]\nbudget_messages_max = {budget}\n\
             budget_bytes_max = 4294967296\n\n{}",
            self.postgres.url(),
            self.sink(target, name)
        );
        Bridge::builder(&config).binary(&bridge_binary().await?).start().await
    }

    fn sink(&self, target: Target, name: &str) -> String {
        match target {
            Target::Kafka => format!(
                "[pipelines.bench.sinks.s.kafka]\nbrokers = \"{}\"\ntopic = \"{name}\"\n\
                 create_topics = true\npartitions = 1\nreplication_factor = 1\n",
                self.kafka.bootstrap()
            ),
            Target::JetStream => format!(
                "[pipelines.bench.sinks.s.nats]\nservers = \"{}\"\nsubject = \"{name}.x\"\n\
                 stream = \"{name}\"\ncreate_stream = true\n",
                self.nats.url()
            ),
        }
    }
}
