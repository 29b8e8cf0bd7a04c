//! The servers of a run, and the bridge between them.

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

/// What a message is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// The default: the CloudEvents attributes as headers.
    Binary,
    /// The payload alone.
    None,
}

/// One flow of a bridge: where it reads, and where to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow<'a> {
    /// The lines of its source's table, with its head.
    pub(crate) source: &'a str,
    pub(crate) target: Target,
    pub(crate) envelope: Envelope,
    /// The topic, or the stream and the first token of its subject.
    pub(crate) name: &'a str,
    /// Messages that it may hold, of any size; `None`: the default budget.
    pub(crate) budget: Option<usize>,
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

impl Flow<'_> {
    fn config(&self, servers: &Servers) -> String {
        let budget = self.budget.map_or_else(String::new, |messages| {
            format!("budget_messages_max = {messages}\nbudget_bytes_max = 4294967296\n")
        });
        let envelope = match self.envelope {
            Envelope::Binary => "",
            Envelope::None => "envelope = \"none\"\n",
        };
        format!(
            "[postgres]\nurl = \"{}\"\n\n{}\n[pipelines.bench.sinks.s]\n{budget}{envelope}\n{}",
            servers.postgres.url(),
            self.source,
            self.sink(servers)
        )
    }

    fn sink(&self, servers: &Servers) -> String {
        let name = self.name;
        match self.target {
            Target::Kafka => format!(
                "[pipelines.bench.sinks.s.kafka]\nbrokers = \"{}\"\ntopic = \"{name}\"\n\
                 create_topics = true\npartitions = 1\nreplication_factor = 1\n",
                servers.kafka.bootstrap()
            ),
            Target::JetStream => format!(
                "[pipelines.bench.sinks.s.nats]\nservers = \"{}\"\nsubject = \"{name}.x\"\n\
                 stream = \"{name}\"\ncreate_stream = true\n",
                servers.nats.url()
            ),
        }
    }
}

impl Servers {
    pub(crate) async fn start() -> Result<Self> {
        println!("starting PostgreSQL 18.6, nats-server 2.15.1 and Apache Kafka 4.4.0 ...");
        // The bridge's statements are longer than what `pg_stat_activity` shows by default.
        let postgres = Postgres::builder().setting("track_activity_query_size", "16384");
        let (postgres, nats, kafka) =
            tokio::try_join!(postgres.start(), Nats::start(), Kafka::start())?;
        Ok(Self { postgres, nats, kafka })
    }

    /// A bridge with one flow, ready.
    pub(crate) async fn bridge(&self, flow: Flow<'_>) -> Result<Bridge> {
        let bridge = self.launch(flow).await?;
        bridge.wait_ready(Duration::from_secs(30)).await?;
        Ok(bridge)
    }

    /// The same, without waiting until it is ready.
    pub(crate) async fn launch(&self, flow: Flow<'_>) -> Result<Bridge> {
        let config = flow.config(self);
        Bridge::builder(&config).binary(&bridge_binary().await?).start().await
    }
}
