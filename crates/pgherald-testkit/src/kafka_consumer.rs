//! What lies in Kafka, as a consumer sees it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::{Error, Result, event, eventually_some};

const METADATA: Duration = Duration::from_secs(5);

const RETRY: Duration = Duration::from_millis(10);

static GROUP: AtomicU32 = AtomicU32::new(0);

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// When this process got it.
    pub at: SystemTime,
}

impl KafkaRecord {
    /// The first header of this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The value as text; empty for a tombstone.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// True for a message of type `pgherald.gap`.
    pub fn is_gap(&self) -> bool {
        let payload = self.value.as_deref().unwrap_or_default();
        event::is_gap(self.header("ce_type"), self.header("content-type"), payload)
    }
}

/// Reads all partitions of some topics from their beginning, outside any consumer group.
pub struct KafkaConsumer {
    consumer: StreamConsumer,
    topics: Vec<String>,
    next: BTreeMap<(String, i32), i64>,
    records: Vec<KafkaRecord>,
}

impl KafkaConsumer {
    /// Waits up to 15 s until all topics exist.
    pub async fn open(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        Self::open_with(bootstrap, topics, &[]).await
    }

    /// The same without records of aborted transactions.
    pub async fn open_committed(bootstrap: &str, topics: &[&str]) -> Result<Self> {
        Self::open_with(bootstrap, topics, &[("isolation.level", "read_committed")]).await
    }

    /// The same with further librdkafka properties.
    pub async fn open_with(
        bootstrap: &str,
        topics: &[&str],
        options: &[(&str, &str)],
    ) -> Result<Self> {
        let consumer = client(bootstrap, options)?;
        let assign = || async { partitions(&consumer, topics) };
        let found = eventually_some("the topics exist", Duration::from_secs(15), assign).await?;
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &found {
            list.add_partition_offset(topic, *partition, Offset::Beginning)
                .map_err(|error| Error::because(topic, error))?;
        }
        consumer.assign(&list).map_err(|error| Error::because("assign", error))?;
        let next = found.into_iter().map(|partition| (partition, 0)).collect();
        let topics = topics.iter().map(|&topic| topic.into()).collect();
        Ok(Self { consumer, topics, next, records: Vec::new() })
    }

    /// The topics it reads.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Everything read so far.
    pub fn records(&self) -> &[KafkaRecord] {
        &self.records
    }

    /// Reads until there are this many records in all.
    pub async fn collect(&mut self, count: usize, deadline: Duration) -> Result<&[KafkaRecord]> {
        self.collect_until(deadline, |records| records.len() >= count).await
    }

    /// Reads until the condition holds for everything read so far.
    pub async fn collect_until(
        &mut self,
        deadline: Duration,
        mut done: impl FnMut(&[KafkaRecord]) -> bool,
    ) -> Result<&[KafkaRecord]> {
        let reading = async {
            while !done(&self.records) {
                self.read_one().await;
            }
        };
        if tokio::time::timeout(deadline, reading).await.is_err() {
            let (count, unread) = (self.records.len(), self.unread());
            let what = format!("waited {deadline:?} for Kafka records in vain: have {count}");
            return Err(Error::new(format!("{what}, unread: {unread}")));
        }
        Ok(&self.records)
    }

    /// Where a partition's end is not where reading stands, in words.
    fn unread(&self) -> String {
        let ends = match self.ends() {
            Ok(ends) => ends,
            Err(error) => return error.to_string(),
        };
        let unread = ends.iter().filter(|(partition, end)| self.next[partition] < **end);
        let words = unread.map(|((topic, partition), end)| {
            let next = self.next[&(topic.clone(), *partition)];
            format!("{topic}/{partition} from {next} to {end}")
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Hands each further value (none: a tombstone), and when this process got it, to `each` until
    /// that says that it is enough. Keeps nothing.
    pub async fn pass(
        &mut self,
        deadline: Duration,
        mut each: impl FnMut(Option<&[u8]>, SystemTime) -> ControlFlow<()>,
    ) -> Result<()> {
        let passing = async {
            loop {
                match self.consumer.recv().await {
                    Ok(message) => {
                        let at = (message.topic().to_owned(), message.partition());
                        self.next.insert(at, message.offset() + 1);
                        if each(message.payload(), SystemTime::now()).is_break() {
                            return;
                        }
                    }
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
        };
        let ended = tokio::time::timeout(deadline, passing).await;
        ended.map_err(|_| Error::new(format!("waited {deadline:?} for Kafka records in vain")))
    }

    /// Reads up to the end that every partition has now. Not for topics with transactions, whose
    /// markers take offsets.
    pub async fn read_all(&mut self, deadline: Duration) -> Result<&[KafkaRecord]> {
        let ends = self.ends()?;
        let reading = async {
            while ends.iter().any(|(partition, end)| self.next[partition] < *end) {
                self.read_one().await;
            }
        };
        let ended = tokio::time::timeout(deadline, reading).await;
        ended.map_err(|_| Error::new(format!("waited {deadline:?} for the end of Kafka's log")))?;
        Ok(&self.records)
    }

    fn ends(&self) -> Result<BTreeMap<(String, i32), i64>> {
        let end = |(topic, partition): &(String, i32)| {
            let (_, high) = self.consumer.fetch_watermarks(topic, *partition, METADATA)?;
            Ok(((topic.clone(), *partition), high))
        };
        let ends: rdkafka::error::KafkaResult<_> = self.next.keys().map(end).collect();
        ends.map_err(|error| Error::because("Kafka watermarks", error))
    }

    /// Transport errors pass: librdkafka connects again by itself.
    async fn read_one(&mut self) {
        match self.consumer.recv().await {
            Ok(message) => {
                let record = record(&message);
                let at = (record.topic.clone(), record.partition);
                self.next.insert(at, record.offset + 1);
                self.records.push(record);
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

fn client(bootstrap: &str, options: &[(&str, &str)]) -> Result<StreamConsumer> {
    let group = format!("testkit-{}-{}", std::process::id(), GROUP.fetch_add(1, Ordering::SeqCst));
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_uncommitted")
        .set("reconnect.backoff.max.ms", "500")
        .set("fetch.wait.max.ms", "20")
        .set("allow.auto.create.topics", "false");
    for (name, value) in options {
        config.set(*name, *value);
    }
    config.create().map_err(|error| Error::because("Kafka consumer", error))
}

/// All partitions, once every topic exists.
fn partitions(consumer: &StreamConsumer, topics: &[&str]) -> Option<Vec<(String, i32)>> {
    let mut found = Vec::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), METADATA).ok()?;
        let described = metadata.topics().first().filter(|it| it.error().is_none())?;
        if described.partitions().is_empty() {
            return None;
        }
        found.extend(described.partitions().iter().map(|it| ((*topic).to_owned(), it.id())));
    }
    Some(found)
}

fn record(message: &BorrowedMessage<'_>) -> KafkaRecord {
    let header =
        |it: rdkafka::message::Header<'_, &[u8]>| (it.key.to_owned(), it.value.map(<[u8]>::to_vec));
    KafkaRecord {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        headers: message.headers().map(|it| it.iter().map(header).collect()).unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_vec),
        at: SystemTime::now(),
    }
}
