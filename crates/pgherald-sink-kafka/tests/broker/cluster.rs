//! A broker with topics, and what lies in them.

use std::time::Duration;

use pgherald_testkit::{Kafka, eventually};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};

use tokio::{sync::OnceCell, task::spawn_blocking};

const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) kafka: Kafka,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<String>,
    pub(crate) timestamp: i64,
    pub(crate) headers: Vec<(String, String)>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self { kafka: Kafka::start().await.expect("Kafka starts") }
    }

    /// One for all tests that do it no harm: name the topics apart.
    pub(crate) async fn shared() -> &'static Self {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        CLUSTER.get_or_init(Self::start).await
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        client(&self.kafka.bootstrap()).create().expect("an admin client")
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let results = self.admin().create_topics([&new], &AdminOptions::new()).await;
        results.expect("an answer").remove(0).expect("the topic is created");
        self.shows(topic, partitions).await;
    }

    /// Gives a topic more partitions.
    pub(crate) async fn grow(&self, topic: &str, partitions: i32) {
        let more = NewPartitions::new(topic, usize::try_from(partitions).expect("a number"));
        let results = self.admin().create_partitions([&more], &AdminOptions::new()).await;
        results.expect("an answer").remove(0).expect("the topic grows");
        self.shows(topic, partitions).await;
    }

    /// Waits until the broker shows what was made: it answers a little earlier.
    async fn shows(&self, topic: &str, partitions: i32) {
        let shown = || async {
            let (admin, topic) = (self.admin(), topic.to_owned());
            let asking =
                spawn_blocking(move || admin.inner().fetch_metadata(Some(&topic), WAIT).ok());
            let shown = asking.await.expect("an answer");
            shown.is_some_and(|it| it.topics()[0].partitions().len() as i32 == partitions)
        };
        eventually("the topic is shown", WAIT, shown).await.expect("the topic is shown");
    }

    pub(crate) async fn delete(&self, topic: &str) {
        let results = self.admin().delete_topics(&[topic], &AdminOptions::new()).await;
        results.expect("an answer").remove(0).expect("the topic is deleted");
    }

    /// Everything in a topic, in order of each partition.
    pub(crate) async fn read(&self, topic: &str) -> Vec<Stored> {
        read_from(&self.kafka.bootstrap(), topic).await
    }

    pub(crate) async fn values(&self, topic: &str) -> Vec<String> {
        self.read(topic).await.into_iter().filter_map(|stored| stored.value).collect()
    }
}

/// Everything in a topic of these brokers, in order of each partition.
pub(crate) async fn read_from(bootstrap: &str, topic: &str) -> Vec<Stored> {
    let (config, topic) = (client(bootstrap), topic.to_owned());
    tokio::task::spawn_blocking(move || read(&config, &topic)).await.expect("the reader ends")
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "reader");
    config.set("enable.auto.commit", "false").set("enable.partition.eof", "false");
    config
}

fn read(config: &ClientConfig, topic: &str) -> Vec<Stored> {
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), WAIT).expect("metadata");
    let (mut assigned, mut expected) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        let (low, high) =
            consumer.fetch_watermarks(topic, partition.id(), WAIT).expect("watermarks");
        expected += high - low;
        assigned.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("assigned");
    }
    consumer.assign(&assigned).expect("assigned");
    let mut stored = Vec::new();
    while (stored.len() as i64) < expected {
        let record = consumer.poll(WAIT).expect("a record in time").expect("a record");
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        stored.push(Stored {
            partition: record.partition(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(|value| String::from_utf8_lossy(value).into_owned()),
            timestamp: record.timestamp().to_millis().unwrap_or_default(),
            headers: headers
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                    (header.key.to_owned(), value.into_owned())
                })
                .collect(),
        });
    }
    stored
}
