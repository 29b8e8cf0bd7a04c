//! What the tests share: settings, messages, and a flow that delivers them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pgherald_core::{
    Batch, BatchLimits, Body, Budget, Checkpoint, ContentType, Envelope, EventNames, FlowContext,
    Headers, Message, MessageId, Only, Open, Outcome, Problems, Sink, Writer,
};
use pgherald_sink_nats::{NatsConfig, NatsSettings, NatsSink};
use pgherald_testkit::sink_suite::deliver;
use serde_json::{Value, json};

pub(crate) fn context() -> FlowContext {
    FlowContext {
        pipeline: "orders".into(),
        source: "notify",
        sink: "live".into(),
        channels: Some(["a", "b"].map(Arc::from).into()),
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 10_000, bytes: 64 << 20 },
        batch: BatchLimits { messages: 1_000, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1 << 20,
    }
}

/// For any channel, as an outbox has them.
pub(crate) fn any_channel() -> FlowContext {
    FlowContext { channels: None, ..context() }
}

pub(crate) fn resolve(config: &Value, context: &FlowContext) -> Result<NatsSettings, Vec<String>> {
    let config: NatsConfig = serde_json::from_value(config.clone()).expect("it is a nats table");
    let mut problems = Problems::default();
    let settings = config.resolve("nats", context, &mut problems);
    let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(settings.is_none(), !listed.is_empty(), "a problem for each refusal: {listed:?}");
    settings.ok_or(listed)
}

pub(crate) fn settings(url: &str, more: Value) -> NatsSettings {
    let mut config = json!({ "servers": url, "subject": "app.{channel}", "stream": "APP" });
    let table = config.as_object_mut().unwrap();
    table.extend(more.as_object().unwrap().clone());
    table.retain(|_, value| !value.is_null());
    resolve(&config, &context()).expect("the configuration is right")
}

pub(crate) fn sink(url: &str, more: Value) -> NatsSink {
    NatsSink::new(settings(url, more), context())
}

pub(crate) fn message(n: usize, channel: &str) -> Message {
    Message {
        id: MessageId::new(format_args!("5e55-{n}")),
        channel: channel.into(),
        key: None,
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(Bytes::from(format!("payload {n}"))),
        since: std::time::SystemTime::now(),
    }
}

pub(crate) fn batch(messages: Vec<Message>) -> Batch {
    Batch { messages, end: Some(Checkpoint(Bytes::new())) }
}

pub(crate) async fn open(sink: &NatsSink) -> Box<dyn Writer> {
    sink.open().await.expect("the sink opens").writer
}

/// Publishes one batch and waits for its outcome.
pub(crate) async fn publish(writer: &mut dyn Writer, messages: Vec<Message>) -> Outcome {
    let published = writer.publish(&batch(messages), &Only::All).await.expect("the writer is well");
    published.confirmation.await
}

/// The places and fates of an outcome, as text.
pub(crate) fn fates(outcome: &Outcome) -> Vec<String> {
    let fate = |(place, open): &(u32, Open)| match open {
        Open::Unknown => format!("{place} unknown"),
        Open::Unsent => format!("{place} unsent"),
        Open::Rejected(_) => format!("{place} rejected"),
    };
    outcome.open.iter().map(fate).collect()
}

/// What a flow brings to a sink.
pub(crate) struct Load<'a> {
    pub(crate) count: usize,
    /// How many messages come at once, in turn.
    pub(crate) chunks: &'a [usize],
    /// How long to rest after each of those.
    pub(crate) rest: Duration,
    /// The messages of one batch.
    pub(crate) batch: usize,
}

impl Load<'_> {
    /// Delivers it through a real flow, and says how often the sink was opened.
    pub(crate) async fn deliver(&self, sink: NatsSink) -> usize {
        let channel = |n: usize| if n.is_multiple_of(3) { "b" } else { "a" };
        let mut messages = (0..self.count).map(|n| message(n, channel(n)));
        let mut sizes = self.chunks.iter().cycle();
        let chunks = std::iter::from_fn(|| {
            let chunk: Vec<_> = messages.by_ref().take(*sizes.next()?).collect();
            (!chunk.is_empty()).then_some(chunk)
        });
        let mut context = context();
        context.batch.messages = self.batch;
        let delivery = deliver(Arc::new(sink), context, chunks, self.rest).await;
        assert!(delivery.rejected.is_empty(), "nothing here is rejected: {delivery:?}");
        delivery.opened
    }
}
