//! A consumer by the letter of the CloudEvents specification and its bindings.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::dump::Dumped;

const EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// One event as a consumer sees it: `data` is `{"json": …}`, `{"text": …}`, `{"base64": …}` or null.
pub(super) struct Read {
    pub(super) attributes: Map<String, Value>,
    pub(super) data: Value,
}

/// The events in one message.
pub(super) fn events(seen: &Dumped) -> Vec<Read> {
    match seen.header("content-type") {
        Some(EVENT) => vec![structured(json_of(seen))],
        Some(BATCH) => match json_of(seen) {
            Value::Array(events) => events.into_iter().map(structured).collect(),
            other => panic!("a batch is a list: {other}"),
        },
        _ => vec![binary(seen)],
    }
}

fn json_of(seen: &Dumped) -> Value {
    let names: Vec<&str> = seen.headers.iter().map(|(name, _)| &**name).collect();
    assert!(
        !names.iter().any(|name| name.starts_with("ce-") || name.starts_with("ce_")),
        "{names:?}"
    );
    serde_json::from_slice(seen.body.as_deref().unwrap_or_default()).expect("it is JSON")
}

fn structured(event: Value) -> Read {
    let Value::Object(mut attributes) = event else { panic!("an event is an object: {event}") };
    let media_type = attributes.get("datacontenttype").and_then(Value::as_str).unwrap_or_default();
    let is_json = is_json(media_type);
    let (data, bytes) = (attributes.remove("data"), attributes.remove("data_base64"));
    let data = match (data, bytes) {
        (None, None) => Value::Null,
        (Some(json), None) if is_json => json!({ "json": json }),
        (Some(text), None) => json!({ "text": text }),
        (None, Some(base64)) => json!({ "base64": base64 }),
        both => panic!("two kinds of data: {both:?}"),
    };
    Read { attributes, data }
}

fn binary(seen: &Dumped) -> Read {
    let (prefix, is_encoded) = if seen.sink == "kafka" { ("ce_", false) } else { ("ce-", true) };
    let mut attributes = Map::new();
    for (name, value) in &seen.headers {
        let Some(name) = name.strip_prefix(prefix) else { continue };
        let value = if is_encoded { decoded(value) } else { value.clone() };
        assert!(attributes.insert(name.to_owned(), value.into()).is_none(), "{name} twice");
    }
    if let ("kafka" | "http", Some(media_type)) = (seen.sink, seen.header("content-type")) {
        attributes.insert("datacontenttype".to_owned(), media_type.into());
    }
    let media_type = attributes.get("datacontenttype").and_then(Value::as_str);
    let data = match (&seen.body, media_type) {
        (None, _) | (Some(_), None) => Value::Null,
        (Some(body), Some(media_type)) => data(body, media_type),
    };
    Read { attributes, data }
}

/// What an application makes of bytes with that media type.
fn data(body: &[u8], media_type: &str) -> Value {
    let bytes = || json!({ "base64": STANDARD.encode(body) });
    let is_text = media_type.starts_with("text/") || media_type == "application/xml";
    match std::str::from_utf8(body) {
        _ if is_json(media_type) => serde_json::from_slice(body)
            .map_or_else(|_| bytes(), |json: Value| json!({ "json": json })),
        Ok(text) if is_text => json!({ "text": text }),
        _ => bytes(),
    }
}

fn is_json(media_type: &str) -> bool {
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| std::str::from_utf8(&after[..2]).unwrap());
        bytes.push(escape.map_or(*first, |hex| u8::from_str_radix(hex, 16).unwrap()));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap()
}
