//! Questions to the cluster: is a topic there, and may it be created.

use std::{collections::HashSet, sync::Arc, time::Duration};

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
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    error::Fault,
    producer::{Client, Producer},
    producer_events::{self, ProducerEvents},
    settings::{KafkaSettings, NewTopics},
};

/// How long one question may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long a broker that leads partitions may take to answer.
const LEADER_WAIT: Duration = Duration::from_secs(3);

/// How often a topic that was just created is asked for.
const CREATED_POLL: Duration = Duration::from_millis(100);

/// After that a topic that data names and that is missing is looked up once more: one that somebody
/// has just created is not shown by every broker at once.
const MISSING_AGAIN: Duration = Duration::from_millis(500);

/// A topic that is there.
pub(crate) struct Found {
    pub(crate) partitions: usize,
    pub(crate) leaders: Vec<Leader>,
}

/// A broker that leads partitions of a topic, where it says that it is.
pub(crate) struct Leader {
    pub(crate) address: Arc<str>,
    /// One that it leads.
    partition: i32,
}

/// Makes sure that a topic is there, and creates it if the sink may. `configured`: the configuration names it.
///
/// # Errors
/// The topic is missing, denied or cannot be created, no broker answers, or the brokers refuse us.
pub(crate) async fn find(
    producer: &Producer,
    settings: &KafkaSettings,
    topic: &Arc<str>,
    configured: bool,
) -> Result<Found, Fault> {
    match (look_up(producer, topic).await, settings.create) {
        (Err(Fault::MissingTopic(_)), Some(shape)) => {
            create(producer, settings, shape, topic).await
        }
        (Err(Fault::MissingTopic(_)), None) if !configured => {
            sleep(MISSING_AGAIN).await;
            look_up(producer, topic).await
        }
        (found, _) => found,
    }
}

/// Asks whether a topic is there, without blocking the runtime.
///
/// # Errors
/// The topic is missing or denied, no broker answers, or the brokers refuse us.
async fn look_up(producer: &Producer, topic: &Arc<str>) -> Result<Found, Fault> {
    let metadata = metadata_of(producer, topic).await?;
    match topic_error(&metadata, topic) {
        Some(code) => Err(Fault::of_topic(code, topic.clone())),
        None => Ok(Found {
            partitions: described(&metadata, topic).map_or(0, |found| found.partitions().len()),
            leaders: leaders(&metadata, topic),
        }),
    }
}

/// The metadata of one topic, which says whether it is there.
///
/// # Errors
/// No broker answers, or the brokers refuse us.
pub(crate) async fn metadata_of(producer: &Producer, topic: &Arc<str>) -> Result<Metadata, Fault> {
    tokio::select! {
        metadata = ask(producer.client().clone(), topic.clone(), ANSWER_WAIT) => {
            metadata.map_err(|silence| producer.events().unreachable(silence.code, &silence.text))
        }
        fault = refused(producer) => Err(fault),
    }
}

/// Waits until the brokers have given this producer its id, without which it cannot publish.
///
/// # Errors
/// They let this client write nowhere, or do not answer.
pub(crate) async fn identified(producer: &Producer) -> Result<(), Fault> {
    let (events, deadline) = (producer.events(), Instant::now() + ANSWER_WAIT);
    loop {
        match events.ended() {
            Some(fault) => return Err(fault),
            None if events.is_identified() => return Ok(()),
            None if events.is_refused() => return Err(events.unreachable(None, "refused")),
            None => {}
        }
        if timeout_at(deadline, events.changed()).await.is_err() {
            let none = format!("no answer within {} s", ANSWER_WAIT.as_secs());
            return Err(Fault::NoId(events.last_reason().unwrap_or_else(|| none.into())));
        }
    }
}

/// Asks each of these brokers something, since they may say that they are where nobody finds them.
///
/// # Errors
/// The first one that does not answer.
pub(crate) async fn reach(
    producer: &Producer,
    topic: &Arc<str>,
    leaders: Vec<Leader>,
) -> Result<(), Fault> {
    let (client, name, events) =
        (producer.client().clone(), topic.clone(), producer.events().clone());
    let asked =
        spawn_blocking(move || reach_blocking(&client, &events, &name, leaders, LEADER_WAIT));
    asked.await.unwrap_or_else(|error| Err(Fault::Unreachable(error.to_string().into())))
}

/// The same on the calling thread, which it blocks.
pub(crate) fn reach_blocking(
    client: &Client,
    events: &ProducerEvents,
    topic: &Arc<str>,
    leaders: Vec<Leader>,
    wait: Duration,
) -> Result<(), Fault> {
    for Leader { address, partition } in leaders {
        let asked = client.client().fetch_watermarks(topic, partition, wait);
        let code = asked.err().and_then(|error| error.rdkafka_error_code());
        // Any other error is an answer.
        if let Some(code) = code.filter(|code| is_silence(*code)) {
            let reason = events.reason_of(&address).unwrap_or_else(|| code.to_string().into());
            return Err(Fault::OutOfReach { address, topic: topic.clone(), reason });
        }
    }
    Ok(())
}

fn is_silence(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::AllBrokersDown
            | Code::Resolve
    )
}

/// The brokers that lead partitions of a topic, each once.
pub(crate) fn leaders(metadata: &Metadata, topic: &str) -> Vec<Leader> {
    let partitions = described(metadata, topic).map_or(&[][..], |found| found.partitions());
    let mut seen = HashSet::new();
    let first = partitions.iter().filter(|partition| seen.insert(partition.leader()));
    let led = first.filter_map(|partition| {
        let broker = metadata.brokers().iter().find(|broker| broker.id() == partition.leader())?;
        let address = format!("{}:{}", broker.host(), broker.port()).into();
        Some(Leader { address, partition: partition.id() })
    });
    led.collect()
}

/// Resolves when the brokers refuse us: then no answer will come.
async fn refused(producer: &Producer) -> Fault {
    loop {
        if producer.events().is_refused() {
            return producer.events().unreachable(None, "refused");
        }
        producer.events().changed().await;
    }
}

/// A question that nobody answered.
pub(crate) struct Silence {
    pub(crate) code: Option<Code>,
    pub(crate) text: String,
}

/// The metadata of one topic.
async fn ask(client: Arc<Client>, topic: Arc<str>, wait: Duration) -> Result<Metadata, Silence> {
    let asked = spawn_blocking(move || ask_blocking(&client, &topic, wait));
    asked.await.unwrap_or_else(|error| Err(Silence { code: None, text: error.to_string() }))
}

/// The same on the calling thread, which it blocks.
pub(crate) fn ask_blocking(
    client: &Client,
    topic: &str,
    wait: Duration,
) -> Result<Metadata, Silence> {
    client.client().fetch_metadata(Some(topic), wait).map_err(|error| {
        let code = error.rdkafka_error_code();
        let text = code.map_or_else(|| error.to_string(), |code| code.to_string());
        Silence { code, text }
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

/// Creates a topic and waits until it can be used.
///
/// # Errors
/// Why it could not be created, or that nobody shows it yet.
async fn create(
    producer: &Producer,
    settings: &KafkaSettings,
    shape: NewTopics,
    topic: &Arc<str>,
) -> Result<Found, Fault> {
    let (config, name, handle) = (settings.client()?, topic.clone(), Handle::current());
    let created = spawn_blocking(move || handle.block_on(request(&config, shape, &name)));
    created.await.map_err(|error| Fault::Create(error.to_string().into()))??;
    let deadline = Instant::now() + ANSWER_WAIT;
    loop {
        match look_up(producer, topic).await {
            Err(_) if Instant::now() < deadline => sleep(CREATED_POLL).await,
            Err(Fault::MissingTopic(topic)) => return Err(Fault::NotVisible(topic)),
            result => return result,
        }
    }
}

async fn request(config: &ClientConfig, shape: NewTopics, topic: &Arc<str>) -> Result<(), Fault> {
    let admin = admin(config).map_err(|error| Fault::of_client(&error))?;
    let replication = TopicReplication::Fixed(shape.replication_factor);
    let new = NewTopic::new(topic, shape.partitions, replication);
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT));
    let failed = |code| Err(Fault::NotCreated(topic.clone(), code));
    let Ok(answer) = timeout(ANSWER_WAIT, admin.create_topics([&new], &options)).await else {
        return failed(Code::OperationTimedOut);
    };
    match answer.map(|results| results.into_iter().next()) {
        Ok(Some(Err((_, code)))) if code != Code::TopicAlreadyExists => failed(code),
        Ok(_) => Ok(()),
        Err(error) => failed(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
    }
}

/// A client for administration. Creating and dropping it blocks.
pub(crate) fn admin(config: &ClientConfig) -> Result<AdminClient<Admin>, KafkaError> {
    config.create_with_context(Admin)
}

/// librdkafka's callbacks of an administration client.
pub(crate) struct Admin;

impl ClientContext for Admin {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        producer_events::log(facility, text);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{reason}");
    }

    fn stats_raw(&self, _: &[u8]) {}
}
