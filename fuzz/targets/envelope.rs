//! Envelopes: header lines that cannot be broken out of, documents that give the payload back.

#![no_main]

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pgherald_core::{
    BatchLimits, Binding, Body, Budget, ContentType, Envelope, EventNames, FlowContext, Message,
    MessageId, Wrapper,
};
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, payload) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 2..]));
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (channel, key, content_type) = (line(), line(), line());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let message = Message {
        id: MessageId::new(format_args!("s-1")),
        channel: channel.into(),
        key: Some(Bytes::copy_from_slice(key.as_bytes())).filter(|key| !key.is_empty()),
        headers: headers.map(|(name, value)| (name.into(), value.into())).collect(),
        content_type: ContentType::BytesAs(content_type.into()),
        body: Body::Payload(Bytes::copy_from_slice(payload)),
        since: SystemTime::UNIX_EPOCH,
    };
    for binding in [Binding::Kafka, Binding::Nats, Binding::Http] {
        for envelope in [Envelope::Binary, Envelope::Structured, Envelope::None] {
            let wrapper = Wrapper::new(binding, &context(envelope));
            check_headers(&wrapper, binding, envelope, &message);
            check_body(&wrapper, envelope, &message, payload);
        }
    }
});

fn context(envelope: Envelope) -> FlowContext {
    FlowContext {
        pipeline: "p".into(),
        source: "outbox",
        sink: "s".into(),
        channels: None,
        envelope,
        events: EventNames::default(),
        budget: Budget { messages: 1, bytes: 1 },
        batch: BatchLimits { messages: 1, bytes: 1, linger: Duration::ZERO },
        message_bytes_max: 1,
    }
}

fn check_headers(wrapper: &Wrapper, binding: Binding, envelope: Envelope, message: &Message) {
    let mut all = Vec::new();
    let wrapped =
        wrapper.headers(message, &mut |name, value| all.push((name.to_owned(), value.to_owned())));
    if wrapped.is_err() {
        return;
    }
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    for (name, value) in all.iter().filter(|_| binding != Binding::Kafka) {
        assert!(!name.is_empty() && name.bytes().all(is_token), "{name:?}");
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name:?}: {value:?}");
    }
    let named = |name: &str| {
        let mut values = all.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let first = values.next().map(|(_, value)| value.clone());
        assert!(values.next().is_none(), "{name} stands there twice");
        first
    };
    if envelope != Envelope::Binary || claims_to_be_event(message) {
        return;
    }
    let (id, subject) = match binding {
        Binding::Kafka => (named("ce_id"), named("ce_subject")),
        Binding::Nats | Binding::Http => (named("ce-id"), named("ce-subject").map(decoded)),
    };
    assert_eq!(id.as_deref(), Some("s-1"));
    let own = message.headers.get("ce-subject").filter(|subject| !subject.is_empty());
    assert_eq!(subject.unwrap_or_default(), own.unwrap_or(&message.channel));
}

fn claims_to_be_event(message: &Message) -> bool {
    let claims = |text: &str| text.to_ascii_lowercase().contains("application/cloudevents");
    let header = message.headers.get("content-type").unwrap_or_default();
    claims(header) || claims(message.content_type.as_str())
}

fn check_body(wrapper: &Wrapper, envelope: Envelope, message: &Message, payload: &[u8]) {
    if claims_to_be_event(message) {
        // It passes as it is, or is refused.
        return drop(wrapper.body(message));
    }
    let body = wrapper.body(message).expect("a payload can be wrapped").expect("it has a body");
    if envelope != Envelope::Structured {
        return assert_eq!(&*body, payload);
    }
    // Numbers that serde_json's values cannot hold are legal JSON: the raw document must be.
    let _: &serde_json::value::RawValue = serde_json::from_slice(&body).expect("it is JSON");
    let Ok(document) = serde_json::from_slice::<Value>(&body) else { return };
    let given = match (&document["data"], &document["data_base64"]) {
        (Value::Null, Value::String(text)) => BASE64.decode(text).expect("it is base64"),
        (Value::String(text), Value::Null) if text.as_bytes() == payload => return,
        // Embedded JSON: the same value.
        (data, Value::Null) => {
            let value: Value = serde_json::from_slice(payload).expect("embedded as JSON");
            return assert_eq!(*data, value);
        }
        both => panic!("two kinds of data: {both:?}"),
    };
    assert_eq!(given, payload);
}

fn decoded(text: String) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape =
            (*first == b'%').then(|| std::str::from_utf8(&after[..2]).expect("two digits"));
        bytes.push(escape.map_or(*first, |hex| u8::from_str_radix(hex, 16).expect("hex digits")));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).expect("it was a text")
}
