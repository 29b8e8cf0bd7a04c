//! Three Kafka brokers.

use std::time::Duration;

use futures_util::future::try_join_all;
use rdkafka::admin::{NewTopic, TopicReplication};

use crate::kafka_admin::{options, outcome};
use crate::kafka_member::{Member, Ports};
use crate::{Error, Kafka, Result, eventually_some};

const ANSWER: Duration = Duration::from_secs(5);
const ELECTED: Duration = Duration::from_secs(60);

/// Three brokers on 127.0.0.1, each also a controller. They end with this value.
#[derive(Debug)]
pub struct KafkaCluster {
    brokers: Vec<Kafka>,
}

impl KafkaCluster {
    /// A cluster whose topics have three replicas and need two.
    pub async fn start() -> Result<Self> {
        let ports: Vec<Ports> = (0..3).map(|_| Ports::free(None)).collect();
        let controllers: Vec<u16> = ports.iter().map(|ports| ports.controller).collect();
        let broker = |(id, ports)| {
            let member = Member { id, ports, controllers: controllers.clone() };
            Kafka::builder().properties("min.insync.replicas=2").member(member).start()
        };
        let brokers = try_join_all((1..).zip(ports).map(broker)).await?;
        Ok(Self { brokers })
    }

    /// Where clients begin: all of them.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(Kafka::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// Creates a topic with three replicas.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(3));
        let created = self.any().admin()?.create_topics([&topic], &options()).await;
        outcome(&format!("cannot create topic {name}"), created)
    }

    /// The broker that leads the topic's first partition.
    pub async fn leader(&self, topic: &str) -> Result<&Kafka> {
        let what = format!("topic {topic} has a leader");
        let place = eventually_some(&what, ELECTED, || self.leading(topic)).await?;
        self.brokers.get(place).ok_or_else(|| Error::new(format!("no broker {place}")))
    }

    async fn leading(&self, topic: &str) -> Option<usize> {
        let (admin, topic) = (self.any().admin().ok()?, topic.to_owned());
        let asking = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(Some(&topic), ANSWER).ok()?;
            let leader = metadata.topics().first()?.partitions().first()?.leader();
            usize::try_from(leader).ok()?.checked_sub(1)
        });
        let place = asking.await.ok()??;
        self.brokers.get(place).filter(|broker| broker.is_running())?;
        Some(place)
    }

    /// A broker that runs.
    fn any(&self) -> &Kafka {
        self.brokers.iter().find(|broker| broker.is_running()).unwrap_or(&self.brokers[0])
    }
}
