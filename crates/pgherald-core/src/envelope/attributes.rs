//! The CloudEvents attributes of one message, the same for every envelope and protocol.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use crate::{Body, GAP_TYPE, Message, Rfc3339, rfc3339};

/// The CloudEvents version.
pub(super) const SPECVERSION: &str = "1.0";
/// The CloudEvents type of a message that names none.
const MESSAGE_TYPE: &str = "pgherald.message";
/// The media type of a gap.
const GAP_MEDIA_TYPE: &str = "application/json";
/// The header of a message's own that names its CloudEvents type.
pub(super) const TYPE_HEADER: &str = "ce-type";
/// The header of a message's own that names the media type of its payload.
pub(super) const CONTENT_TYPE_HEADER: &str = "content-type";

/// What differs from message to message. An optional attribute is present only if it is not
/// empty, as CloudEvents demands.
pub(super) struct Attributes<'m> {
    pub(super) id: &'m str,
    pub(super) type_: &'m str,
    pub(super) time: Rfc3339,
    pub(super) subject: Option<&'m str>,
    pub(super) partitionkey: Option<Cow<'m, str>>,
    pub(super) content_type: Option<&'m str>,
}

impl<'m> Attributes<'m> {
    pub(super) fn of(message: &'m Message) -> Self {
        Self {
            id: message.id.as_str(),
            type_: event_type(message),
            time: rfc3339(message.since),
            subject: subject(message).filter(|subject| !subject.is_empty()),
            partitionkey: partition_key(message),
            content_type: content_type(message),
        }
    }
}

fn event_type(message: &Message) -> &str {
    match message.gap() {
        Some(_) => GAP_TYPE,
        None => own(message, TYPE_HEADER).unwrap_or(MESSAGE_TYPE),
    }
}

/// The channel; of a gap only if it has exactly one.
fn subject(message: &Message) -> Option<&str> {
    match message.gap().map(|gap| &*gap.channels) {
        None => Some(&message.channel),
        Some([channel]) => Some(channel),
        Some(_) => None,
    }
}

/// The attribute is a text that is not empty: a key that is not UTF-8 stands in base64.
fn partition_key(message: &Message) -> Option<Cow<'_, str>> {
    let key = message.key.as_deref().filter(|key| !key.is_empty() && message.gap().is_none())?;
    Some(match std::str::from_utf8(key) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(BASE64.encode(key)),
    })
}

/// A tombstone has no payload, so no media type but the one that it was given as a header.
fn content_type(message: &Message) -> Option<&str> {
    match &message.body {
        Body::Gap(_) => Some(GAP_MEDIA_TYPE),
        Body::Tombstone => own(message, CONTENT_TYPE_HEADER),
        Body::Payload(_) | Body::Oversize(_) | Body::Unreadable(_) => {
            own(message, CONTENT_TYPE_HEADER)
                .or_else(|| Some(message.content_type.as_str()).filter(|known| !known.is_empty()))
        }
    }
}

/// An empty header says nothing.
fn own<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    message.headers.get(name).filter(|value| !value.is_empty())
}
