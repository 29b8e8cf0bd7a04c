//! Questions to the cluster: is a topic there, and may it be created.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode as Code},
    metadata::{Metadata, MetadataTopic},
    producer::Producer as _,
};
use tokio::{
    runtime::Handle,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    error::{Fault, creation_text},
    link,
    producer::{Client, Producer},
    settings::{KafkaSettings, NewTopics},
};

/// How long one question may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How often a topic that was just created is asked for.
const CREATED_POLL: Duration = Duration::from_millis(100);

/// Asks whether a topic is there, without blocking the runtime, and how many partitions it has.
///
/// # Errors
/// The topic is missing or denied, no broker answers, or the brokers refuse us.
pub(crate) async fn look_up(producer: &Producer, topic: &Arc<str>) -> Result<usize, Fault> {
    let metadata = metadata_of(producer, topic).await?;
    match topic_error(&metadata, topic) {
        Some(code) => Err(Fault::of_topic(code, topic.clone())),
        None => Ok(described(&metadata, topic).map_or(0, |found| found.partitions().len())),
    }
}

/// The metadata of one topic, which says whether it is there.
///
/// # Errors
/// No broker answers, or the brokers refuse us.
pub(crate) async fn metadata_of(producer: &Producer, topic: &Arc<str>) -> Result<Metadata, Fault> {
    tokio::select! {
        metadata = ask(producer.client().clone(), Some(topic.clone()), ANSWER_WAIT) => {
            metadata.map_err(|reason| producer.link().unreachable(&reason))
        }
        fault = refused(producer) => Err(fault),
    }
}

/// Whether any broker answers, where no topic is known to ask for.
pub(crate) async fn reach(producer: &Producer) -> Result<(), Fault> {
    tokio::select! {
        metadata = ask(producer.client().clone(), None, ANSWER_WAIT) => {
            metadata.map(drop).map_err(|reason| producer.link().unreachable(&reason))
        }
        fault = refused(producer) => Err(fault),
    }
}

/// Resolves when the brokers refuse us: then no answer will come.
async fn refused(producer: &Producer) -> Fault {
    loop {
        if producer.link().is_refused() {
            return producer.link().unreachable("refused");
        }
        producer.link().changed().await;
    }
}

/// The metadata of one topic, or of all.
async fn ask(
    client: Arc<Client>,
    topic: Option<Arc<str>>,
    wait: Duration,
) -> Result<Metadata, String> {
    let asked = spawn_blocking(move || ask_blocking(&client, topic.as_deref(), wait));
    asked.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// The same on the calling thread, which it blocks.
pub(crate) fn ask_blocking(
    client: &Client,
    topic: Option<&str>,
    wait: Duration,
) -> Result<Metadata, String> {
    client.client().fetch_metadata(topic, wait).map_err(|error| match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    })
}

/// What is wrong with a topic, if anything is.
pub(crate) fn topic_error(metadata: &Metadata, topic: &str) -> Option<Code> {
    let Some(found) = described(metadata, topic) else { return Some(Code::UnknownTopic) };
    let error = found.error().map(Code::from);
    // A partition whose leader is being elected takes messages soon.
    error.filter(|code| *code != Code::LeaderNotAvailable || found.partitions().is_empty())
}

fn described<'a>(metadata: &'a Metadata, topic: &str) -> Option<&'a MetadataTopic> {
    metadata.topics().iter().find(|found| found.name() == topic)
}

/// Creates a topic and waits until it can be used; says how many partitions it has.
pub(crate) async fn create(
    producer: &Producer,
    settings: &KafkaSettings,
    shape: NewTopics,
    topic: &Arc<str>,
) -> Result<usize, Fault> {
    let (config, name, handle) = (settings.client(), topic.clone(), Handle::current());
    let created = spawn_blocking(move || handle.block_on(request(&config, shape, &name)));
    let created = created.await.unwrap_or_else(|error| Err(error.to_string()));
    created.map_err(|reason| Fault::NotCreated(topic.clone(), reason.into()))?;
    let deadline = Instant::now() + ANSWER_WAIT;
    loop {
        match look_up(producer, topic).await {
            Err(_) if Instant::now() < deadline => sleep(CREATED_POLL).await,
            result => return result,
        }
    }
}

async fn request(config: &ClientConfig, shape: NewTopics, topic: &str) -> Result<(), String> {
    let admin = admin(config).map_err(|error| creation_text(&error))?;
    let replication = TopicReplication::Fixed(shape.replication_factor);
    let new = NewTopic::new(topic, shape.partitions, replication);
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT));
    let answer = timeout(ANSWER_WAIT, admin.create_topics([&new], &options)).await;
    let results = answer.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
    match results.into_iter().next() {
        Some(Err((_, code))) if code != Code::TopicAlreadyExists => Err(code.to_string()),
        _ => Ok(()),
    }
}

/// A client for administration. Creating and dropping it blocks.
pub(crate) fn admin(config: &ClientConfig) -> Result<AdminClient<Admin>, KafkaError> {
    config.create_with_context(Admin)
}

/// librdkafka's callbacks of an administration client.
pub(crate) struct Admin;

impl ClientContext for Admin {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        link::log(level, facility, text);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{reason}");
    }

    fn stats_raw(&self, _: &[u8]) {}
}
