//! Consumers that read along and keep only numbers: an hour has millions of messages.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{self, consumer::DeliverPolicy, consumer::pull::OrderedConfig};
use futures_util::StreamExt;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::task::JoinSet;

use super::{
    producer::Truth,
    verdict::{Arrival, Order, Verdict, judge},
};

const AGAIN: Duration = Duration::from_millis(200);

/// What one sink got so far.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Arrival>>>);

impl Log {
    fn entries(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.0.lock().expect("no reader panics under this lock")
    }

    /// Takes in a message or a gap by its body.
    pub(super) fn note(&self, body: &[u8]) {
        let json: Value = serde_json::from_slice(body).expect("every body is JSON");
        let arrival = match json["n"].as_u64() {
            Some(number) => Arrival::Message(u32::try_from(number).expect("a small number")),
            None => Arrival::Gap {
                from: json["from"].as_str().map(instant),
                to: instant(json["to"].as_str().expect("a gap has an end")),
            },
        };
        self.entries().push(arrival);
    }

    fn has(&self, number: usize) -> bool {
        let is =
            |arrival: &Arrival| matches!(arrival, Arrival::Message(n) if *n as usize == number);
        self.entries().iter().rev().take(200_000).any(is)
    }
}

fn instant(text: &str) -> SystemTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|_| panic!("no time: {text}")).into()
}

/// The readers of a scene; they end with this value.
#[derive(Default)]
pub(super) struct Arrivals {
    sinks: HashMap<&'static str, (Order, Log)>,
    tasks: JoinSet<()>,
}

impl Arrivals {
    /// A sink that is read by somebody else into the log that comes back.
    pub(super) fn sink(&mut self, name: &'static str, order: Order) -> Log {
        let log = Log::default();
        self.sinks.insert(name, (order, log.clone()));
        log
    }

    pub(super) fn kafka(&mut self, name: &'static str, bootstrap: String, topic: &'static str) {
        let log = self.sink(name, Order::Total);
        self.tasks.spawn(read_kafka(bootstrap, topic, log));
    }

    pub(super) fn jetstream(&mut self, name: &'static str, url: String, stream: &'static str) {
        let log = self.sink(name, Order::Total);
        self.tasks.spawn(read_jetstream(url, stream, log));
    }

    /// The sinks that have not got this number yet.
    pub(super) fn without(&self, number: usize) -> Vec<&'static str> {
        let missing = self.sinks.iter().filter(|(_, (_, log))| !log.has(number));
        missing.map(|(name, _)| *name).collect()
    }

    pub(super) fn held_against(&self, truth: &Truth) -> Vec<Verdict> {
        let judged = self.sinks.iter().map(|(name, (order, log))| {
            let entries = log.entries();
            judge(name, *order, &entries, truth)
        });
        judged.collect()
    }
}

/// librdkafka connects again by itself.
async fn read_kafka(bootstrap: String, topic: &'static str, log: Log) {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "soak")
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&list).expect("an assignment");
    loop {
        match consumer.recv().await {
            Ok(record) => log.note(record.payload().expect("no tombstones")),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn read_jetstream(url: String, stream: &'static str, log: Log) {
    let client = async_nats::ConnectOptions::new().retry_on_initial_connect().connect(url).await;
    let context = jetstream::new(client.expect("it tries until it is connected"));
    let mut next = 1;
    loop {
        next = read_some(&context, stream, next, &log).await;
        tokio::time::sleep(AGAIN).await;
    }
}

/// Reads from a sequence on until the consumer fails; the next sequence.
async fn read_some(context: &jetstream::Context, stream: &str, mut next: u64, log: &Log) -> u64 {
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ..Default::default()
    };
    let Ok(stream) = context.get_stream(stream).await else { return next };
    let Ok(consumer) = stream.create_consumer(config).await else { return next };
    let Ok(mut messages) = consumer.messages().await else { return next };
    while let Some(Ok(message)) = messages.next().await {
        log.note(&message.payload);
        next = message.info().expect("a stored message").stream_sequence + 1;
    }
    next
}
