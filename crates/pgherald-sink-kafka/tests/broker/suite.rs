//! The suite that every sink passes. A place is a topic with three partitions.

use std::{sync::Arc, time::Duration};

use pgherald_core::{FlowContext, Message, Sink};
use pgherald_sink_kafka::KafkaSink;
use pgherald_testkit::{
    FaultProxy, Kafka, KafkaConsumer, KafkaRecord, eventually_some, free_port,
    sink_suite::{self, Arrival, CHANNEL, Destination},
};
use serde_json::{Value, json};

use crate::{access::guarded_behind, flow::settings};

const WAIT: Duration = Duration::from_secs(30);

struct Broker {
    kafka: Kafka,
    sasl: Value,
    proxy: FaultProxy,
}

impl Broker {
    async fn start() -> Self {
        let port = free_port();
        let (kafka, sasl) = guarded_behind(Some(port)).await;
        let broker = ([127, 0, 0, 1], kafka.proxied_port()).into();
        let proxy = FaultProxy::start_on(port, broker).await.unwrap();
        Self { kafka, sasl, proxy }
    }
}

fn topic(place: &str) -> String {
    format!("{place}.{CHANNEL}")
}

fn arrival(record: &KafkaRecord) -> Arrival {
    Arrival {
        unit: format!("partition {}", record.partition),
        id: record.header("ce_id").expect("an id").to_owned(),
        key: record.key.clone(),
        is_gap: record.is_gap(),
        payload: record.value.clone(),
    }
}

impl Destination for Broker {
    const CAN_BE_FULL: bool = false;
    const READS_IN_ORDER: bool = false;
    const ALWAYS_HEALS_A_HALT: bool = true;

    fn sink(&self, place: &str, context: FlowContext) -> Arc<dyn Sink> {
        let table = json!({ "topic": format!("{place}.{{channel}}"), "sasl": self.sasl });
        let settings = settings(&self.proxy.address(), &table, &context);
        Arc::new(KafkaSink::new(settings, context))
    }

    async fn make(&self, place: &str) {
        let limit = [("max.message.bytes", "20000")];
        self.kafka.create_topic(&topic(place), 3, &limit).await.unwrap();
        self.grant(place).await;
    }

    async fn read(&self, place: &str) -> Vec<Arrival> {
        // A broker that has just started does not know its partitions yet.
        let read = || async {
            let bootstrap = self.kafka.bootstrap();
            let mut consumer = KafkaConsumer::open(&bootstrap, &[&topic(place)]).await.ok()?;
            let records = consumer.read_all(WAIT).await.ok()?;
            Some(records.iter().map(arrival).collect())
        };
        eventually_some("the topic is read", WAIT * 2, read).await.unwrap()
    }

    fn too_large(&self) -> usize {
        30_000
    }

    async fn widen(&self, place: &str) {
        let limit = [("max.message.bytes", "1000000")];
        self.kafka.alter_topic(&topic(place), &limit).await.unwrap();
    }

    fn spoil(&self, message: &mut Message) -> bool {
        message.channel = "no topic".into();
        true
    }

    async fn deny(&self, place: &str) {
        self.kafka.revoke_write("app", &topic(place)).await.unwrap();
    }

    async fn grant(&self, place: &str) {
        self.kafka.allow_write("app", &topic(place)).await.unwrap();
    }

    async fn fill(&self, _: &str) {
        unreachable!("a topic is never full");
    }

    async fn empty(&self, _: &str) {
        unreachable!("a topic is never full");
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    async fn kill(&self) {
        self.kafka.kill().await.unwrap();
    }

    async fn start_again(&self) {
        self.kafka.start_again().await.unwrap();
    }

    fn pause(&self) {
        self.kafka.pause();
    }

    fn resume(&self) {
        self.kafka.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_calm() {
    sink_suite::calm(Broker::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_suite_with_faults() {
    sink_suite::with_faults(Broker::start().await).await;
}
