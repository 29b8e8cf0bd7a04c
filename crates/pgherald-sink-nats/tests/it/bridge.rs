//! What the tests share: settings, messages, and a small core that replays as the real one does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use pgherald_core::{
    Batch, BatchLimits, Body, Budget, Checkpoint, ContentType, Envelope, Event, EventNames,
    FlowContext, Headers, Message, MessageId, Only, Open, Outcome, Problems, Sink, SinkError,
    Writer,
};
use pgherald_sink_nats::{NatsConfig, NatsSettings, NatsSink};
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

/// A small core: carries messages in batches, several under way, and after a fault everything again
/// from the first open one, cut at other places.
pub(crate) struct Carrier<'a> {
    pub(crate) sink: &'a NatsSink,
    pub(crate) messages: Vec<Message>,
    /// How large the batches are, in turn.
    pub(crate) sizes: &'a [usize],
    /// How many batches are under way.
    pub(crate) depth: usize,
    /// How many sessions it took.
    pub(crate) sessions: usize,
    /// How long to rest after each batch.
    pub(crate) rest: Duration,
}

impl<'a> Carrier<'a> {
    pub(crate) fn new(sink: &'a NatsSink, count: usize, sizes: &'a [usize]) -> Self {
        let channel = |n: usize| if n.is_multiple_of(3) { "b" } else { "a" };
        let messages = (0..count).map(|n| message(n, channel(n))).collect();
        Self { sink, messages, sizes, depth: 8, sessions: 0, rest: Duration::ZERO }
    }

    /// Returns when everything is confirmed.
    pub(crate) async fn run(&mut self) {
        let mut first_open = 0;
        while first_open < self.messages.len() {
            match self.sink.open().await {
                Ok(opened) => {
                    self.sessions += 1;
                    first_open = self.session(opened.writer, first_open).await;
                }
                Err(SinkError::Transient(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// One writer's life; returns the first message that is not confirmed.
    async fn session(&self, mut writer: Box<dyn Writer>, from: usize) -> usize {
        let mut confirmed = vec![false; self.messages.len()];
        let (mut next, mut over) = (from, false);
        let mut under_way = FuturesUnordered::new();
        loop {
            if !over && under_way.len() < self.depth && next < self.messages.len() {
                let size = self.sizes[(next + self.sessions) % self.sizes.len()];
                let end = (next + size).min(self.messages.len());
                let published =
                    writer.publish(&batch(self.messages[next..end].to_vec()), &Only::All).await;
                match published {
                    Ok(published) => {
                        let range = next..end;
                        under_way.push(published.confirmation.map(move |outcome| (range, outcome)));
                        next = end;
                    }
                    Err(_) => over = true,
                }
                if !self.rest.is_zero() {
                    tokio::time::sleep(self.rest).await;
                }
                continue;
            }
            if under_way.is_empty() {
                break;
            }
            tokio::select! {
                Some((range, outcome)) = under_way.next() => {
                    over |= outcome.session.is_some();
                    let start = range.start;
                    confirmed[range].fill(true);
                    for (place, open) in outcome.open {
                        assert!(!matches!(open, Open::Rejected(_)), "nothing here is poison");
                        confirmed[start + place as usize] = false;
                    }
                }
                Event::Ended(_) = writer.event(), if !over => over = true,
            }
        }
        confirmed[..from].fill(true);
        confirmed.iter().position(|done| !done).unwrap_or(self.messages.len())
    }
}
