mod bodies;
mod events;
mod headers;
mod properties;

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::{
    BatchLimits, Budget, ContentType, EventNames, EventNamesConfig, Gap, GapReason, Headers,
    MessageId, Problems,
};

const BINDINGS: [Binding; 3] = [Binding::Kafka, Binding::Nats, Binding::Http];
const ENVELOPES: [Envelope; 3] = [Envelope::Binary, Envelope::Structured, Envelope::None];

/// A message of text, without key and headers.
fn message(payload: &[u8]) -> Message {
    Message {
        id: MessageId::new(format_args!("00000000000000ab-7")),
        channel: "orders".into(),
        key: None,
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(Bytes::copy_from_slice(payload)),
        since: UNIX_EPOCH + Duration::from_millis(1_500),
    }
}

fn with_headers(message: Message, headers: &[(&str, &str)]) -> Message {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Message { headers: Headers::from_iter(headers), ..message }
}

fn tombstone() -> Message {
    Message { body: Body::Tombstone, ..message(b"") }
}

fn gap_of(channels: &[&str]) -> Message {
    let channels: Arc<[Arc<str>]> = channels.iter().map(|name| Arc::from(*name)).collect();
    let (from, to) = (None, UNIX_EPOCH);
    let gap = Gap { channels, from, to, reason: GapReason::Start, count: None, rejected: None };
    let id = MessageId::new(format_args!("00000000000000ab-gap-1"));
    let channel = "".into();
    Message { id, channel, body: Body::Gap(gap), ..message(b"") }
}

fn wrapper(envelope: Envelope, binding: Binding) -> Wrapper {
    named(envelope, binding, EventNames::default())
}

fn named(envelope: Envelope, binding: Binding, events: EventNames) -> Wrapper {
    let context = FlowContext {
        pipeline: "shop".into(),
        source: "outbox",
        sink: "s".into(),
        channels: None,
        envelope,
        events,
        budget: Budget { messages: 1, bytes: 1 },
        batch: BatchLimits { messages: 1, bytes: 1, linger: Duration::ZERO },
        message_bytes_max: 1,
    };
    Wrapper::new(binding, &context)
}

fn headers(envelope: Envelope, binding: Binding, message: &Message) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut each = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    wrapper(envelope, binding).headers(message, &mut each).unwrap();
    all
}

/// The headers as lines, to compare them with.
fn lines(envelope: Envelope, binding: Binding, message: &Message) -> Vec<String> {
    let all = headers(envelope, binding, message);
    all.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

fn refusal(envelope: Envelope, binding: Binding, message: &Message) -> Option<WrapError> {
    let error = wrapper(envelope, binding).headers(message, &mut |_, _| {}).err()?;
    Some(error.downcast_ref::<WrapError>().expect("a typed error").clone())
}

fn document(message: &Message) -> serde_json::Value {
    let body = wrapper(Envelope::Structured, Binding::Http).body(message).unwrap().unwrap();
    serde_json::from_slice(&body).unwrap()
}
