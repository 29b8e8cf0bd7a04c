//! What travels: one message, and the headers it brings along.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;

use crate::{Gap, MessageId, json};

/// One message on its way from PostgreSQL to a sink.
#[derive(Clone, Debug)]
pub struct Message {
    /// The same in every redelivery.
    pub id: MessageId,
    /// Where it was announced. For a gap with several channels this is empty: a gap names its own.
    pub channel: Arc<str>,
    /// Equal keys keep their order; messages without a key share one order.
    pub key: Option<Bytes>,
    /// The message's own headers, in the order in which the application gave them.
    pub headers: Headers,
    /// Whether the payload is text or bytes, and its media type.
    pub content_type: ContentType,
    /// The payload, or what stands in its place.
    pub body: Body,
    /// When it was committed, inserted or heard: the start of its delivery latency and the
    /// envelope's `time`.
    pub since: SystemTime,
}

impl Message {
    /// What this message costs of a budget, in bytes: payload, key and headers, as far as they are
    /// in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let payload = match &self.body {
            Body::Oversize(_) => 0,
            _ => self.payload_size(),
        };
        payload + self.key.as_ref().map_or(0, Bytes::len) + headers
    }

    /// The bytes of the payload alone; what `message_bytes_max` limits.
    #[must_use]
    pub fn payload_size(&self) -> usize {
        match &self.body {
            Body::Payload(payload) => payload.len(),
            Body::Oversize(bytes) => *bytes,
            Body::Tombstone | Body::Gap(_) | Body::Unreadable(_) => 0,
        }
    }

    /// The gap that this message carries, if it is one.
    #[must_use]
    pub fn gap(&self) -> Option<&Gap> {
        match &self.body {
            Body::Gap(gap) => Some(gap),
            Body::Payload(_) | Body::Tombstone | Body::Oversize(_) | Body::Unreadable(_) => None,
        }
    }
}

/// A message's payload, or what stands in its place. Gaps and unreadable rows travel in order with
/// the messages around them.
#[derive(Clone, Debug)]
pub enum Body {
    /// What the application announced.
    Payload(Bytes),
    /// Deliberately nothing: Kafka's null value.
    Tombstone,
    /// A window in which messages may have been missed.
    Gap(Gap),
    /// A payload of so many bytes, above `message_bytes_max`: the source did not fetch it. Core
    /// treats it as rejected.
    Oversize(usize),
    /// A message that the source could not read, and why. Core treats it as rejected.
    Unreadable(Box<str>),
}

/// What a payload is, text or bytes, and its media type: the one that somebody set, or a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// A text, by default `text/plain; charset=utf-8`.
    Text,
    /// A text that is a JSON object or array, by default `application/json`.
    Json,
    /// Bytes, by default `application/octet-stream`.
    Bytes,
    /// A text, with the media type that its row or the configuration sets.
    TextAs(Arc<str>),
    /// Bytes, with the media type that their row sets.
    BytesAs(Arc<str>),
}

impl ContentType {
    /// Of a text for which nobody sets a media type.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        if json::is_document(text) { Self::Json } else { Self::Text }
    }

    /// The same kind of payload, with the media type that somebody sets.
    #[must_use]
    pub fn with(&self, media_type: Arc<str>) -> Self {
        if self.is_text() { Self::TextAs(media_type) } else { Self::BytesAs(media_type) }
    }

    /// The media type as it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Bytes => "application/octet-stream",
            Self::TextAs(set) | Self::BytesAs(set) => set,
        }
    }

    /// Whether the payload is a text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Json | Self::TextAs(_))
    }

    /// Whether somebody set the media type; otherwise it is a default.
    #[must_use]
    pub fn is_set(&self) -> bool {
        matches!(self, Self::TextAs(_) | Self::BytesAs(_))
    }
}

/// A message's own headers. Empty headers cost nothing; clones share.
#[derive(Clone, Debug, Default)]
pub struct Headers(Option<Arc<[Header]>>);

/// A name and its value.
type Header = (Box<str>, Box<str>);

impl Headers {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Every header as (name, value), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let list = self.0.as_deref().unwrap_or_default();
        list.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of the first header of that name; names are compared without case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        let list: Arc<[_]> = headers.into_iter().collect();
        Self((!list.is_empty()).then_some(list))
    }
}
