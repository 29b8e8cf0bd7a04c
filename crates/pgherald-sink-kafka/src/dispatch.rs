//! From a message to records in librdkafka's queue.

use std::{sync::Arc, time::Duration};

use pgherald_core::{Binding, Body, BoxError, FlowContext, Gap, Message, Wrapper};
use rdkafka::{
    message::{Header, OwnedHeaders},
    types::RDKafkaErrorCode as Code,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    cluster,
    delivery::opaque,
    error::{Fault, Refusal},
    first_produce::FirstProduce,
    outcome::Stop,
    producer::{NotSent, Producer, Record},
    producer_events::ProducerEvents,
    settings::KafkaSettings,
    topic::Topics,
};

/// How long a full queue is left alone: it holds less than the flow's budget in bytes.
const FULL_WAIT: Duration = Duration::from_millis(10);

/// How often whoever waits for a first record looks whether the session is over.
const ENDED_WAIT: Duration = Duration::from_millis(100);

/// Headers of the default envelope, so that they are allocated once.
const HEADERS: usize = 9;

/// Makes records of messages and puts them into a producer's queue.
pub(crate) struct Dispatch {
    settings: Arc<KafkaSettings>,
    topics: Topics,
    wrapper: Wrapper,
    /// A topic to ask for.
    last: Arc<str>,
    first_produce: FirstProduce,
}

/// One message of a batch, on its way.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) message: &'a Message,
    /// The number of its batch.
    pub(crate) number: u32,
    /// Its place there.
    pub(crate) place: u32,
}

impl Dispatch {
    pub(crate) fn new(settings: Arc<KafkaSettings>, context: &FlowContext) -> Self {
        let wrapper = Wrapper::new(Binding::Kafka, context);
        let topics = Topics::new(settings.topic.clone());
        let last = settings.probe();
        let first_produce = FirstProduce::new(settings.refresh(), Instant::now());
        Self { settings, topics, wrapper, last, first_produce }
    }

    /// What follows goes through another producer.
    pub(crate) fn begin_anew(&mut self) {
        self.first_produce.begin_anew(Instant::now());
    }

    /// A batch begins.
    pub(crate) fn begin_batch(&mut self) {
        self.first_produce.expire(Instant::now());
    }

    /// The topic of a message; `None`: it has none, or more than one.
    pub(crate) fn topic_of(&mut self, message: &Message) -> Option<Arc<str>> {
        message.gap().is_none().then(|| self.topics.of(message).ok()).flatten()
    }

    /// A topic to ask for: one that is known to be there, as far as one was met.
    pub(crate) fn a_topic(&self) -> &Arc<str> {
        &self.last
    }

    /// Puts a message behind all earlier ones; counts its records in `sent`.
    pub(crate) async fn send(
        &mut self,
        producer: &Producer,
        item: Item<'_>,
        sent: &mut u32,
    ) -> Result<(), Stop> {
        if let Body::Gap(gap) = &item.message.body {
            return self.send_gap(producer, item, gap, sent).await;
        }
        let topic = self.topics.of(item.message).map_err(Stop::Rejected)?;
        self.put(producer, item, &topic, sent).await
    }

    /// Every topic that is there gets the gap; one that is missing rejects it.
    async fn send_gap(
        &mut self,
        producer: &Producer,
        item: Item<'_>,
        gap: &Gap,
        sent: &mut u32,
    ) -> Result<(), Stop> {
        let mut rejected = None;
        for topic in self.gap_topics(gap) {
            match self.put(producer, item, &topic, sent).await {
                Ok(()) => {}
                Err(Stop::Rejected(reason)) => rejected = Some(reason),
                Err(stop @ Stop::Fault(_)) => return Err(stop),
            }
        }
        rejected.map_or(Ok(()), |reason| Err(Stop::Rejected(reason)))
    }

    fn gap_topics(&self, gap: &Gap) -> Vec<Arc<str>> {
        match &self.settings.gap_topic {
            Some(topic) => vec![topic.as_str().into()],
            None => self.settings.topic.of_gap(gap).into_iter().map(Arc::from).collect(),
        }
    }

    /// Makes sure that a topic is there, and says how many partitions it has. What was sent before
    /// keeps its place: it waits in the producer's queue, in order.
    async fn find(&mut self, producer: &Producer, topic: &Arc<str>) -> Result<usize, Stop> {
        let known = self.first_produce.partitions(topic, Instant::now());
        if let Some((partitions, false)) = known {
            return Ok(partitions);
        }
        let configured = self.settings.configured_topics().contains(&&**topic);
        let partitions =
            match (cluster::find(producer, &self.settings, topic, configured).await, known) {
                (Ok(found), _) => found.partitions,
                // What is under way says more.
                (Err(fault), Some((partitions, _))) if !fault.is_blocked() => partitions,
                (Err(fault), _) if fault.is_of_topic() && !configured => {
                    return Err(Stop::Rejected(fault.into()));
                }
                (Err(fault), _) => return Err(Stop::Fault(fault)),
            };
        self.first_produce.found(topic, partitions, Instant::now());
        if self.settings.topic.is_dynamic() {
            self.last = topic.clone();
        }
        Ok(partitions)
    }

    async fn put(
        &mut self,
        producer: &Producer,
        item: Item<'_>,
        topic: &Arc<str>,
        sent: &mut u32,
    ) -> Result<(), Stop> {
        let message = item.message;
        let mut headers = self.headers(message).map_err(Stop::Rejected)?;
        let payload = self.wrapper.body(message).map_err(Stop::Rejected)?;
        let key = message.key.as_deref().filter(|_| message.gap().is_none());
        let opaque = opaque(item.number, item.place);
        let timestamp = self.settings.timestamp.of(message);
        let partitions = self.find(producer, topic).await?;
        let partition = self.settings.partitioner.partition(key, partitions);
        let payload = payload.as_deref();
        let record = Record { topic, partition, key, payload, timestamp, opaque };
        let is_first = !self.first_produce.has_met(topic, partition);
        let stored = is_first.then(|| producer.events().watch(opaque, topic));
        loop {
            // What is sent behind the end of a session could overtake what failed.
            if let Some(fault) = producer.events().ended() {
                return Err(Stop::Fault(fault));
            }
            match producer.send(&record, headers) {
                Ok(()) => break,
                Err(NotSent { code: Code::QueueFull, headers: back }) => headers = back,
                Err(NotSent { code, .. }) => return Err(self.not_sent(code, topic)),
            }
            tokio::time::sleep(FULL_WAIT).await;
        }
        *sent += 1;
        if let Some(stored) = stored
            && is_stored(producer.events(), stored).await
        {
            self.first_produce.meet(topic, partition);
        }
        Ok(())
    }

    /// `None`: there are none, which spares librdkafka an empty list.
    fn headers(&self, message: &Message) -> Result<Option<OwnedHeaders>, BoxError> {
        let mut headers = None;
        self.wrapper.headers(message, &mut |key, value| {
            // Adding a header takes the list and gives it back.
            let list = headers.take().unwrap_or_else(|| OwnedHeaders::new_with_capacity(HEADERS));
            headers = Some(list.insert(Header { key, value: Some(value) }));
        })?;
        Ok(headers)
    }

    fn not_sent(&mut self, code: Code, topic: &str) -> Stop {
        match code {
            Code::MessageSizeTooLarge => Stop::Rejected(Refusal::TooLarge.into()),
            _ => Stop::Fault(Fault::of_delivery(code, topic, self.settings.topic.is_dynamic())),
        }
    }
}

/// Whether a watched record was stored; if not, its batch knows what became of it.
async fn is_stored(events: &ProducerEvents, mut stored: oneshot::Receiver<()>) -> bool {
    loop {
        match timeout(ENDED_WAIT, &mut stored).await {
            Ok(stored) => return stored.is_ok(),
            Err(_) if events.is_ended() => return false,
            Err(_) => {}
        }
    }
}
