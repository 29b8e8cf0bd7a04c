//! The CloudEvents attributes of one message, the same for every envelope and protocol.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::own::{self, CONTENT_TYPE_HEADER};
use crate::{Body, GAP_TYPE, Message, Rfc3339, event_names::Rendered, rfc3339};

/// The CloudEvents version.
pub(super) const SPECVERSION: &str = "1.0";
/// The media type of a gap.
const GAP_MEDIA_TYPE: &str = "application/json";

/// What differs from message to message. An optional attribute is present only if it is not
/// empty, as CloudEvents demands.
pub(super) struct Attributes<'m> {
    pub(super) id: &'m str,
    pub(super) source: &'m str,
    pub(super) type_: Cow<'m, str>,
    pub(super) time: Rfc3339,
    pub(super) subject: Option<&'m str>,
    pub(super) partitionkey: Option<Cow<'m, str>>,
    pub(super) content_type: Option<&'m str>,
    /// Where headers of its own set attributes.
    more: Option<&'m Message>,
}

impl<'m> Attributes<'m> {
    pub(super) fn of(message: &'m Message, names: &'m Rendered) -> Self {
        let is_gap = message.gap().is_some();
        let has_own = !is_gap && own::has_attributes(message);
        let own = |name| if has_own { own::attribute(message, name) } else { None };
        Self {
            id: message.id.as_str(),
            source: own("source").unwrap_or(&names.source),
            type_: match own("type") {
                Some(own) => Cow::Borrowed(own),
                None if is_gap => Cow::Borrowed(GAP_TYPE),
                None => names.kind(&message.channel),
            },
            time: rfc3339(message.since),
            subject: own("subject").or_else(|| subject(message)).filter(|text| !text.is_empty()),
            partitionkey: partition_key(message),
            content_type: content_type(message),
            more: has_own.then_some(message),
        }
    }

    /// `dataschema` and the extensions that the message names, each once.
    pub(super) fn more(&self) -> impl Iterator<Item = (Cow<'m, str>, &'m str)> {
        self.more.into_iter().flat_map(own::more_attributes)
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
pub(super) fn content_type(message: &Message) -> Option<&str> {
    let own = || message.headers.get(CONTENT_TYPE_HEADER).filter(|value| !value.is_empty());
    match &message.body {
        Body::Gap(_) => Some(GAP_MEDIA_TYPE),
        Body::Tombstone => own(),
        Body::Payload(_) | Body::Oversize(_) | Body::Unreadable(_) => {
            own().or_else(|| Some(message.content_type.as_str()).filter(|known| !known.is_empty()))
        }
    }
}

/// The media type, if the row or the configuration sets it.
pub(super) fn set_content_type(message: &Message) -> Option<&str> {
    let is_set = message.content_type.is_set()
        || message.headers.get(CONTENT_TYPE_HEADER).is_some_and(|value| !value.is_empty());
    content_type(message).filter(|_| is_set)
}
