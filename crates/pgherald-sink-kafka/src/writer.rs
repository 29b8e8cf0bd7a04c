//! Publishes batches.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use pgherald_core::{
    Batch, ConnectionState, Event, FlowContext, Message, Only, Published, SinkError, Writer,
};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::watch;

use crate::{
    connection_monitor::{self, ConnectionMonitor},
    delivery::Failure,
    dispatch::{Dispatch, Item},
    error::{Class, Fault, Refusal},
    outcome::{Asked, Rest, Stop, confirmation, settle},
    producer::Producer,
    settings::KafkaSettings,
    sink_state::SinkState,
};

/// How many messages in a row must be taken, one at a time, before batches are sent again.
const ISOLATED_MESSAGES: usize = 1000;

/// librdkafka's own `batch.size`.
const BATCH_BYTES: usize = 1_000_000;

/// Publishes batches in order. What is sent stands in one producer's queue; a batch that a broker
/// refused as a whole is published again one message at a time.
pub(crate) struct KafkaWriter {
    settings: Arc<KafkaSettings>,
    sink_state: Arc<SinkState>,
    producer: Producer,
    dispatch: Dispatch,
    monitor: ConnectionMonitor,
    connection_state: watch::Sender<ConnectionState>,
    isolation: Option<Isolation>,
}

/// A search for the messages that made a broker refuse a batch.
#[derive(Default)]
struct Isolation {
    /// Messages that were taken since the last one that was not.
    taken: usize,
    /// A message was at fault.
    found: bool,
}

impl KafkaWriter {
    pub(crate) fn new(
        settings: Arc<KafkaSettings>,
        context: &FlowContext,
        sink_state: Arc<SinkState>,
        producer: Producer,
    ) -> Self {
        let dispatch = Dispatch::new(settings.clone(), context);
        let monitor = ConnectionMonitor::new(&settings.configured_topics());
        let isolation = sink_state.isolates().then(Isolation::default);
        let connection_state = watch::Sender::new(None);
        Self { settings, sink_state, producer, dispatch, monitor, connection_state, isolation }
    }

    async fn publish_all(&mut self, batch: &Batch, only: &Only) -> Published {
        let events = self.producer.events().clone();
        self.dispatch.begin_batch();
        let (number, reports) = events.begin();
        let (mut sent, mut rest) = (0, None);
        for from in only.places(batch.messages.len()) {
            let item = item(batch, from, number);
            if let Err(stop) = self.send(item, &mut sent).await {
                rest = Some(Rest { from, stop });
                break;
            }
        }
        events.seal(number, sent);
        self.note(rest.as_ref());
        let stopped = rest.is_some();
        let confirmation = confirmation(events, reports, asked(batch, only), rest);
        Published { confirmation, stopped }
    }

    /// Puts a message into the queue; while that has no room, tells how the connection stands.
    async fn send(&mut self, item: Item<'_>, sent: &mut u32) -> Result<(), Stop> {
        let topic = self.dispatch.a_topic().clone();
        let sending = self.dispatch.send(&self.producer, item, sent);
        self.monitor.while_waiting(&self.producer, &topic, &self.connection_state, sending).await
    }

    /// Publishes one message at a time and awaits each, so that a refusal is its own.
    async fn publish_singly(&mut self, batch: &Batch, only: &Only) -> Published {
        let mut rest = None;
        for from in only.places(batch.messages.len()) {
            if let Err(stop) = self.publish_one(batch, from).await {
                rest = Some(Rest { from, stop });
                break;
            }
        }
        self.note(rest.as_ref());
        let stopped = rest.is_some();
        let outcome = settle(&[], None, &asked(batch, only), rest);
        Published { confirmation: std::future::ready(outcome).boxed(), stopped }
    }

    async fn publish_one(&mut self, batch: &Batch, from: usize) -> Result<(), Stop> {
        let events = self.producer.events().clone();
        let (number, reports) = events.begin();
        let mut sent = 0;
        let taken = self.send(item(batch, from, number), &mut sent).await;
        events.seal(number, sent);
        let (topic, connection_state) = (self.dispatch.a_topic(), &self.connection_state);
        let reports =
            self.monitor.while_waiting(&self.producer, topic, connection_state, reports).await;
        let failures = reports.map_err(|_| Stop::Fault(Fault::Dropped))?;
        taken?;
        let isolation = self.isolation.get_or_insert_default();
        let Some(Failure { code, .. }) = failures.first() else {
            isolation.taken += 1;
            return Ok(());
        };
        let stop = self.stop_of(*code, &batch.messages[from]);
        if let (Stop::Rejected(_), Some(isolation)) = (&stop, &mut self.isolation) {
            *isolation = Isolation { taken: 0, found: true };
        }
        Err(stop)
    }

    fn stop_of(&mut self, code: Code, message: &Message) -> Stop {
        let dynamic = self.settings.topic.is_dynamic();
        match Class::of(code) {
            Class::Rejected => Stop::Rejected(Refusal::Broker(code).into()),
            Class::Topic if dynamic && code == Code::TopicAuthorizationFailed => {
                Stop::Rejected(Refusal::Broker(code).into())
            }
            _ => {
                let ended = self.producer.events().ended();
                let topic = self.dispatch.topic_of(message);
                let topic = topic.as_ref().unwrap_or(self.dispatch.a_topic());
                Stop::Fault(ended.unwrap_or_else(|| Fault::of_delivery(code, topic, dynamic)))
            }
        }
    }

    /// A fault that publishing found ends the session.
    fn note(&self, rest: Option<&Rest>) {
        if let Some(Rest { stop: Stop::Fault(fault), .. }) = rest {
            self.producer.events().end(fault.clone());
        }
    }

    /// Goes back to batches once enough messages were taken. Nothing is on its way then.
    async fn end_isolation(&mut self) -> Result<(), SinkError> {
        let Some(Isolation { taken, found }) = self.isolation else { return Ok(()) };
        if taken < ISOLATED_MESSAGES {
            return Ok(());
        }
        let configured = self.settings.property("batch.size").and_then(|text| text.parse().ok());
        self.sink_state.isolated(found, configured.unwrap_or(BATCH_BYTES));
        self.producer = Producer::start(&self.settings, &self.sink_state, false).await?;
        self.dispatch.begin_anew();
        self.isolation = None;
        Ok(())
    }
}

impl Writer for KafkaWriter {
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        only: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        async move {
            if let Some(fault) = self.producer.events().ended() {
                return Err(fault.into());
            }
            self.end_isolation().await?;
            Ok(match self.isolation {
                None => self.publish_all(batch, only).await,
                Some(_) => self.publish_singly(batch, only).await,
            })
        }
        .boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        async {
            let event = self.monitor.event(&self.producer, self.dispatch.a_topic()).await;
            connection_monitor::tell(&self.connection_state, &event);
            event
        }
        .boxed()
    }

    fn connection_state(&self) -> Option<watch::Receiver<ConnectionState>> {
        Some(self.connection_state.subscribe())
    }
}

fn item(batch: &Batch, from: usize, number: u32) -> Item<'_> {
    let place = u32::try_from(from).expect("a batch has fewer than 2^32 messages");
    Item { message: &batch.messages[from], number, place }
}

fn asked(batch: &Batch, only: &Only) -> Asked {
    Asked { only: only.clone(), len: batch.messages.len() }
}
