//! The servers, and the bridge that connects them.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, Error, FaultProxy, Kafka, Nats, Postgres, Result, bridge_binary};

use crate::Options;

/// The channels that the bridge carries.
pub(crate) const CHANNELS: [&str; 2] = ["orders", "payments"];
/// Their topics in Kafka.
pub(crate) const TOPICS: [&str; 2] = ["demo.orders", "demo.payments"];
/// The stream in NATS.
pub(crate) const STREAM: &str = "DEMO";

const HOW: &str = "or leave Kafka out: add `--without kafka`";

/// Everything that runs. Fields end in this order: the bridge first.
pub(crate) struct Stage {
    pub(crate) bridge: Bridge,
    pub(crate) proxy: FaultProxy,
    pub(crate) postgres: Postgres,
    pub(crate) nats: Nats,
    pub(crate) kafka: Option<Kafka>,
}

impl Stage {
    /// Starts the servers side by side, then the bridge, and waits until it is ready.
    pub(crate) async fn set(options: Options) -> Result<Self> {
        let started = Instant::now();
        println!("starting {} on 127.0.0.1 ...", cast(options));
        let (postgres, nats, kafka) =
            tokio::try_join!(Postgres::start(), Nats::start(), kafka(options))?;
        let proxy = FaultProxy::start(postgres.port()).await?;
        let config = config(&postgres.url_at(proxy.port()), &nats, kafka.as_ref());
        let bridge = Bridge::builder(&config).binary(&bridge_binary().await?).start().await?;
        bridge.wait_ready(Duration::from_secs(30)).await?;
        println!("everything is ready after {:.1} s", started.elapsed().as_secs_f64());
        if kafka.is_none() {
            println!("left out: Kafka and its sink `bus`, because of --without kafka");
        }
        Ok(Self { bridge, proxy, postgres, nats, kafka })
    }
}

fn cast(options: Options) -> &'static str {
    if options.kafka {
        "PostgreSQL 18.6, nats-server 2.15.1, Apache Kafka 4.4.0 and pgherald"
    } else {
        "PostgreSQL 18.6, nats-server 2.15.1 and pgherald"
    }
}

async fn kafka(options: Options) -> Result<Option<Kafka>> {
    if !options.kafka {
        return Ok(None);
    }
    Kafka::start().await.map(Some).map_err(|error| Error::new(format!("{error}\n{HOW}")))
}

fn config(postgres: &str, nats: &Nats, kafka: Option<&Kafka>) -> String {
    let [orders, payments] = CHANNELS;
    let mut config = format!(
        "[postgres]\n\
         url = \"{postgres}\"\n\n\
         [pipelines.demo.source.notify]\n\
         channels = [\"{orders}\", \"{payments}\"]\n\n\
         [pipelines.demo.sinks.live.nats]\n\
         servers = \"{}\"\n\
         subject = \"demo.{{channel}}\"\n\
         stream = \"{STREAM}\"\n\
         create_stream = true\n",
        nats.url()
    );
    if let Some(kafka) = kafka {
        config += &format!(
            "\n[pipelines.demo.sinks.bus.kafka]\n\
             brokers = \"{}\"\n\
             topic = \"demo.{{channel}}\"\n\
             create_topics = true\n\
             partitions = 1\n\
             replication_factor = 1\n",
            kafka.bootstrap()
        );
    }
    config
}
