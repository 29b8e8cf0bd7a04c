//! What the tests share: settings, messages, and a writer that is asked for outcomes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use pgherald_core::{
    Batch, BatchLimits, Body, Budget, Checkpoint, Confirmation, ContentType, Envelope, EventNames,
    FlowContext, Gap, GapReason, Headers, Message, MessageId, Only, Open, Outcome, Problems, Sink,
    SinkError, Writer,
};
use pgherald_sink_http::{HttpConfig, HttpSettings, HttpSink};
use pgherald_testkit::{HttpReceiver, Received};
use serde_json::{Value, json};

/// Long enough for anything that is supposed to happen soon, on a noisy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn context(envelope: Envelope, batch: usize) -> FlowContext {
    FlowContext {
        pipeline: "orders".into(),
        source: "notify",
        sink: "hook".into(),
        channels: None,
        envelope,
        events: EventNames::default(),
        budget: Budget { messages: 10_000, bytes: 64 << 20 },
        batch: BatchLimits { messages: batch, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1 << 20,
    }
}

/// The settings that a table makes, or everything that is wrong with it.
pub(crate) fn resolve(config: &Value, context: &FlowContext) -> Result<HttpSettings, Vec<String>> {
    let config: HttpConfig = serde_json::from_value(config.clone()).expect("it is an http table");
    let mut problems = Problems::default();
    let settings = config.resolve("http", context, &mut problems);
    let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(settings.is_none(), !listed.is_empty(), "a problem for each refusal: {listed:?}");
    settings.ok_or(listed)
}

/// Binary, one request a message.
pub(crate) fn sink(hook: &HttpReceiver, more: Value) -> HttpSink {
    sink_of(hook, more, context(Envelope::Binary, 1))
}

pub(crate) fn sink_of(hook: &HttpReceiver, more: Value, context: FlowContext) -> HttpSink {
    let mut config = json!({ "url": hook.url("/events") });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    HttpSink::new(resolve(&config, &context).expect("the configuration is right"), context)
}

pub(crate) fn message(n: usize, key: Option<&str>) -> Message {
    Message {
        id: MessageId::new(format_args!("5e55-{n}")),
        channel: "orders".into(),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(Bytes::from(format!("payload {n}"))),
        since: SystemTime::now(),
    }
}

pub(crate) fn gap(n: usize) -> Message {
    let gap = Gap {
        channels: ["orders".into()].into(),
        from: None,
        to: SystemTime::now(),
        reason: GapReason::Disconnect,
        count: None,
        rejected: None,
    };
    let id = MessageId::new(format_args!("5e55-gap-{n}"));
    Message { id, body: Body::Gap(gap), content_type: ContentType::Json, ..message(n, None) }
}

pub(crate) async fn open(sink: &HttpSink) -> Box<dyn Writer> {
    sink.open().await.expect("the sink opens").writer
}

/// Publishes messages as one batch each, without waiting for their outcomes.
pub(crate) async fn publish_each(
    writer: &mut dyn Writer,
    messages: Vec<Message>,
) -> Vec<Confirmation> {
    let mut confirmations = Vec::new();
    for message in messages {
        confirmations.push(publish(writer, vec![message]).await);
    }
    confirmations
}

pub(crate) async fn publish(writer: &mut dyn Writer, messages: Vec<Message>) -> Confirmation {
    let batch = Batch { messages, end: Some(Checkpoint(Bytes::new())) };
    writer.publish(&batch, &Only::All).await.expect("the writer is well").confirmation
}

/// Every outcome, as text: `ok`, or the fates of what is open.
pub(crate) async fn fates(confirmations: Vec<Confirmation>) -> Vec<String> {
    let outcomes = tokio::time::timeout(SOON, join_all(confirmations)).await;
    outcomes.expect("every outcome comes").iter().map(fate).collect()
}

pub(crate) fn fate(outcome: &Outcome) -> String {
    let one = |(place, open): &(u32, Open)| match open {
        Open::Unknown => format!("{place} unknown"),
        Open::Unsent => format!("{place} unsent"),
        Open::Rejected(_) => format!("{place} rejected"),
    };
    match &outcome.open[..] {
        [] => "ok".to_owned(),
        open => open.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// How a session ended: its class and its whole text.
pub(crate) fn ended(error: &SinkError) -> (&'static str, String) {
    let (class, why) = match error {
        SinkError::Transient(why) => ("transient", why),
        SinkError::Later { why, .. } => ("later", why),
        SinkError::Blocked(why) => ("blocked", why),
        SinkError::Fenced(why) => ("fenced", why),
    };
    let (mut text, mut next) = (why.to_string(), why.source());
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    (class, text)
}

/// The ids of requests, in the order of their arrival.
pub(crate) fn ids(received: &[Received]) -> Vec<&str> {
    received.iter().filter_map(|it| it.header("webhook-id")).collect()
}
