//! One pipeline into a Kafka and a NATS of its own, which a test may hurt.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, JetStreamReader, Kafka, KafkaConsumer, Nats, Postgres, eventually};
use tokio::time::sleep;

use crate::{
    stage::{Config, SOON, nats},
    truth::{Arrival, from_jetstream, from_kafka},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    Kafka,
    Nats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and started again at once.
    Killed,
    /// Connections stay open and nobody answers.
    Paused(Duration),
    /// Ended cleanly, and started again after this time.
    Stopped(Duration),
}

impl Broker {
    pub(crate) fn sink(self) -> &'static str {
        match self {
            Self::Kafka => "bus",
            Self::Nats => "live",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Kafka => Self::Nats,
            Self::Nats => Self::Kafka,
        }
    }
}

/// One pipeline into a Kafka and a NATS that a test may hurt.
pub(crate) struct Scene {
    pub(crate) postgres: Postgres,
    kafka: Kafka,
    nats: Nats,
    pub(crate) bridge: Bridge,
}

impl Scene {
    pub(crate) async fn start(postgres: Postgres) -> Self {
        let nats = nats().await;
        let kafka = Kafka::start().await.unwrap();
        let config = Config::new(&postgres.url(), &["orders"])
            .kafka("bus", &kafka, "faults", 1)
            .nats("live", &nats, "FAULTS", "faults");
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { postgres, kafka, nats, bridge }
    }

    /// Begins and ends a fault; returns when the broker was there again.
    pub(crate) async fn hurt(&self, broker: Broker, fault: Fault) -> Instant {
        match fault {
            Fault::Killed => {
                self.kill(broker).await;
                self.start_again(broker).await;
            }
            Fault::Paused(length) => {
                self.pause(broker);
                sleep(length).await;
                self.resume(broker);
            }
            Fault::Stopped(length) => {
                self.stop(broker).await;
                sleep(length).await;
                self.start_again(broker).await;
            }
        }
        Instant::now()
    }

    pub(crate) async fn kill(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.kill().await,
            Broker::Nats => self.nats.kill().await,
        }
        .unwrap();
    }

    async fn stop(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.stop().await,
            Broker::Nats => self.nats.stop().await,
        }
        .unwrap();
    }

    pub(crate) async fn start_again(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.start_again().await,
            Broker::Nats => self.nats.start_again().await,
        }
        .unwrap();
    }

    fn pause(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.pause(),
            Broker::Nats => self.nats.pause(),
        }
    }

    fn resume(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.resume(),
            Broker::Nats => self.nats.resume(),
        }
    }

    /// Waits until a sink has caught up with what the other one had received, and is ready.
    pub(crate) async fn back(&self, broker: Broker) -> Instant {
        let metrics = self.bridge.metrics().await.unwrap();
        let other = [("sink", broker.other().sink())];
        let received = metrics.value("pgherald_messages_received_total", &other).unwrap();
        self.confirmed(broker, received as usize).await;
        self.bridge.wait_ready(SOON).await.unwrap();
        Instant::now()
    }

    /// Waits until a sink has confirmed this many.
    pub(crate) async fn confirmed(&self, broker: Broker, count: usize) {
        let labels = [("sink", broker.sink())];
        let all = || async {
            let Ok(metrics) = self.bridge.metrics().await else { return false };
            metrics.value("pgherald_messages_published_total", &labels) >= Some(count as f64)
        };
        let waited = eventually("everything is confirmed", SOON, all).await;
        if let Err(error) = waited {
            panic!("{error}: {broker:?}: {}", self.bridge.explain().await);
        }
    }

    pub(crate) async fn reader(&self, broker: Broker) -> Reader {
        match broker {
            Broker::Kafka => Reader::Kafka(
                KafkaConsumer::open(&self.kafka.bootstrap(), &["faults"]).await.unwrap(),
            ),
            Broker::Nats => {
                let opened = JetStreamReader::open(&self.nats.url(), "FAULTS").await;
                Reader::Nats(Box::new(opened.unwrap()))
            }
        }
    }
}

/// Reads what lies at one sink.
pub(crate) enum Reader {
    Kafka(KafkaConsumer),
    Nats(Box<JetStreamReader>),
}

impl Reader {
    /// Reads until it is dropped; what it has read stays.
    pub(crate) async fn read_on(&mut self) {
        const FOREVER: Duration = Duration::from_secs(3600);
        match self {
            Self::Kafka(kafka) => drop(kafka.collect_until(FOREVER, |_| false).await),
            Self::Nats(nats) => drop(nats.collect_until(FOREVER, |_| false).await),
        }
    }

    /// Everything that lies there now.
    pub(crate) async fn arrivals(&mut self) -> Vec<Arrival> {
        match self {
            Self::Kafka(kafka) => from_kafka(kafka.read_all(SOON).await.unwrap()),
            Self::Nats(nats) => from_jetstream(nats.read_all(SOON).await.unwrap()),
        }
    }
}
