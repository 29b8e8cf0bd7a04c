//! The raw Kafka client: librdkafka, idempotent, `acks=all`, with the headers that the bridge sends, or
//! without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgherald_testkit::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::payload::{self, Headers};
use crate::servers::Envelope;

/// Confirmed messages a second, one topic with one partition.
pub(crate) async fn rate(
    bootstrap: &str,
    topic: &str,
    messages: usize,
    envelope: Envelope,
) -> Result<f64> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let producing = move || produce(&bootstrap, &topic, messages, envelope);
    let measured = tokio::task::spawn_blocking(producing);
    measured.await.map_err(|error| Error::because("the raw Kafka client", error))?
}

fn produce(bootstrap: &str, topic: &str, messages: usize, envelope: Envelope) -> Result<f64> {
    let confirmed = Arc::new(AtomicUsize::new(0));
    let producer = producer(bootstrap, Counting(Arc::clone(&confirmed)))?;
    let mut all = Headers::kafka();
    let (value, started) = (payload::payload(), Instant::now());
    for n in 0..messages {
        let mut record = BaseRecord::<(), [u8]>::to(topic).payload(&value);
        if envelope == Envelope::Binary {
            record = record.headers(headers(&mut all, n));
        }
        while let Err((error, back)) = producer.send(record) {
            if !is_full(&error) {
                return Err(Error::because("the raw Kafka client", error));
            }
            producer.poll(Duration::from_millis(1));
            record = back;
        }
        if n % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    let flushed = producer.flush(Duration::from_secs(60));
    flushed.map_err(|error| Error::because("the raw Kafka client", error))?;
    let seconds = started.elapsed().as_secs_f64();
    match confirmed.load(Ordering::Relaxed) {
        count if count == messages => Ok(messages as f64 / seconds),
        count => Err(Error::new(format!("the raw Kafka client confirmed {count} of {messages}"))),
    }
}

fn producer(bootstrap: &str, context: Counting) -> Result<BaseProducer<Counting>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("queue.buffering.max.messages", "100000");
    let created = config.create_with_context(context);
    created.map_err(|error| Error::because("the raw Kafka client", error))
}

fn headers(all: &mut Headers, n: usize) -> OwnedHeaders {
    let (all, _) = all.of(n);
    let empty = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(empty, |list, (key, value)| list.insert(Header { key, value: Some(value) }))
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Counts what the broker confirmed.
struct Counting(Arc<AtomicUsize>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
