//! From a row of `pgherald.dead_letter` back to a message.

use pgherald_core::{Body, ContentType, Headers, Message, MessageId};
use serde_json::{Map, Value};
use sqlx::{Row, postgres::PgRow};

use crate::from_micros;

/// The message of a row as [`super::statements::Flow::next`] reads it.
pub(super) fn message(row: &PgRow) -> Result<Message, sqlx::Error> {
    let (id, channel): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (key, headers): (Option<String>, String) = (row.try_get(2)?, row.try_get(3)?);
    let content_type: Option<String> = row.try_get(4)?;
    let (bytes, payload): (Option<i64>, Option<Vec<u8>>) = (row.try_get(6)?, row.try_get(7)?);
    let (is_text, is_set): (Option<bool>, Option<bool>) = (row.try_get(8)?, row.try_get(9)?);
    let content_type = match (is_text, is_set) {
        (Some(is_text), Some(is_set)) => {
            remembered(content_type.filter(|_| is_set), is_text, payload.as_deref())
        }
        _ => guessed(content_type),
    };
    Ok(Message {
        id: MessageId::new(format_args!("{id}")),
        channel: channel.into(),
        key: key.map(|key| key.into_bytes().into()),
        headers: parse(&headers),
        content_type,
        body: match (bytes, payload) {
            (_, Some(payload)) => Body::Payload(payload.into()),
            (Some(bytes), None) => Body::Oversize(usize::try_from(bytes).unwrap_or(usize::MAX)),
            (None, None) => Body::Tombstone,
        },
        since: from_micros(row.try_get(5)?),
    })
}

fn parse(headers: &str) -> Headers {
    let object: Map<String, Value> = serde_json::from_str(headers).unwrap_or_default();
    let header = |(name, value): (String, Value)| match value {
        Value::String(value) => (name.into_boxed_str(), value.into_boxed_str()),
        other => (name.into_boxed_str(), other.to_string().into_boxed_str()),
    };
    object.into_iter().map(header).collect()
}

/// Text or bytes, and the media type that was set, if one was: as it was when it was kept.
fn remembered(set: Option<String>, is_text: bool, payload: Option<&[u8]>) -> ContentType {
    let text = payload.and_then(|payload| std::str::from_utf8(payload).ok());
    let by_payload = match is_text {
        true => ContentType::of_text(text.unwrap_or_default()),
        false => ContentType::Bytes,
    };
    match set {
        Some(media_type) => by_payload.with(media_type.into()),
        None => by_payload,
    }
}

/// Of a row that pgherald 0.1.0 kept, which remembered the media type alone.
fn guessed(content_type: Option<String>) -> ContentType {
    let Some(text) = content_type else { return ContentType::Text };
    let known = [ContentType::Text, ContentType::Json, ContentType::Bytes];
    let known = known.into_iter().find(|kind| kind.as_str() == text);
    known.unwrap_or_else(|| match text.starts_with("text/") {
        true => ContentType::TextAs(text.into()),
        false => ContentType::BytesAs(text.into()),
    })
}
