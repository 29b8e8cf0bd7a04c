//! The default envelope, word for word: every header that must be there, and no other.

use std::collections::BTreeMap;

use pgherald_testkit::{KafkaRecord, Received, StoredMessage};
use serde_json::Value;

/// Of a notification that is JSON, and of any other.
const MEDIA_TYPES: [&str; 2] = ["application/json", "text/plain; charset=utf-8"];

fn assert_media_type(found: Option<String>, payload: &[u8]) {
    let is_json = matches!(serde_json::from_slice(payload), Ok(Value::Object(_) | Value::Array(_)));
    assert_eq!(found.as_deref(), Some(MEDIA_TYPES[usize::from(!is_json)]));
}

/// What only JetStream's own protocol puts beside the envelope.
const NATS_PROTOCOL: [&str; 5] = [
    "Nats-Expected-Last-Msg-Id",
    "Nats-Expected-Stream",
    "Nats-Batch-Id",
    "Nats-Batch-Sequence",
    "Nats-Batch-Commit",
];

/// A message without a key of pipeline `p` on Kafka.
pub(crate) fn assert_default_on_kafka(record: &KafkaRecord) {
    let text = |value: &Option<Vec<u8>>| {
        String::from_utf8(value.clone().expect("a header has a value")).expect("headers are text")
    };
    let headers = record.headers.iter().map(|(name, value)| (name.clone(), text(value)));
    let mut headers = by_name(headers);
    assert_eq!(record.key, None, "a key out of nowhere: {record:?}");
    assert_media_type(headers.remove("content-type"), record.value.as_deref().unwrap_or_default());
    assert_attributes("ce_", headers);
}

/// A message without a key of pipeline `p` on JetStream.
pub(crate) fn assert_default_on_jetstream(message: &StoredMessage, sink: &str, stream: &str) {
    let mut headers = by_name(message.headers.iter().cloned());
    let id = headers.get("ce-id").cloned().unwrap_or_default();
    assert_eq!(headers.remove("Nats-Msg-Id"), Some(format!("p/{sink}/{id}")));
    assert_eq!(headers.get("Nats-Expected-Stream").map(String::as_str), Some(stream));
    assert_media_type(headers.remove("ce-datacontenttype"), &message.payload);
    headers.retain(|name, _| !NATS_PROTOCOL.contains(&name.as_str()));
    assert_attributes("ce-", headers);
}

/// What only HTTP and the signature put beside the envelope.
const HTTP_PROTOCOL: [&str; 6] = [
    "content-length",
    "host",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// A message of pipeline `p` with a key in a binary request.
pub(crate) fn assert_default_on_http(request: &Received) {
    let mut headers = by_name(request.headers.iter().cloned());
    assert_eq!(headers.get("webhook-id"), headers.get("ce-id"));
    assert_media_type(headers.remove("content-type"), &request.body);
    assert!(headers.remove("ce-partitionkey").is_some_and(|key| !key.is_empty()));
    headers.retain(|name, _| !HTTP_PROTOCOL.contains(&name.as_str()));
    assert_attributes("ce-", headers);
}

fn by_name(headers: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, value) in headers {
        let twice = all.insert(name, value);
        assert_eq!(twice, None, "a header stands there twice");
    }
    all
}

/// The CloudEvents attributes that every message has, and nothing besides.
fn assert_attributes(prefix: &str, mut headers: BTreeMap<String, String>) {
    let mut take = |name: &str| headers.remove(&format!("{prefix}{name}")).unwrap_or_default();
    assert_eq!(take("specversion"), "1.0");
    assert_eq!(take("source"), "/pgherald/p");
    assert_eq!(take("type"), "pgherald.message");
    assert_ne!(take("subject"), "", "the subject is the channel");
    let (id, time) = (take("id"), take("time"));
    assert!(is_notify_id(&id), "{id:?} is not <session>-<n>");
    assert!(is_time(&time), "{time:?} is not RFC 3339 in UTC with microseconds");
    assert!(headers.is_empty(), "more than the default envelope: {headers:?}");
}

/// `<session>-<n>`, the session as 16 hex digits.
fn is_notify_id(id: &str) -> bool {
    let Some((session, number)) = id.split_once('-') else { return false };
    session.len() == 16
        && session.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && number.parse::<u64>().is_ok()
}

/// `2026-01-31T23:59:59.123456Z`
fn is_time(time: &str) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
    let fits = |(byte, shape): (u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        other => byte == *other,
    };
    time.len() == SHAPE.len() && time.bytes().zip(SHAPE).all(fits)
}

#[test]
fn shapes_tell_right_from_wrong() {
    assert!(is_time("2026-01-31T23:59:59.123456Z"));
    for wrong in
        ["2026-01-31T23:59:59Z", "2026-01-31 23:59:59.123456Z", "2026-01-31T23:59:59.123+00"]
    {
        assert!(!is_time(wrong), "{wrong}");
    }
    assert!(is_notify_id("0123456789abcdef-7"));
    for wrong in ["0123456789abcdef", "0123456789ABCDEF-7", "abc-7", "0123456789abcdef-gap-1"] {
        assert!(!is_notify_id(wrong), "{wrong}");
    }
}
