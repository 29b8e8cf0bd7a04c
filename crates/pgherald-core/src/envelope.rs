//! How a message is wrapped: CloudEvents 1.0 in binary or structured mode, or not at all.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{BoxError, Message};

/// How a message is wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Envelope {
    /// Payload untouched, CloudEvents attributes as headers.
    #[default]
    Binary,
    /// One CloudEvents JSON document.
    Structured,
    /// Payload and the message's own headers only.
    None,
}

/// How CloudEvents bind to a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `ce_*` and `content-type`, values as UTF-8.
    Kafka,
    /// `ce-*` with `ce-datacontenttype`, values percent-encoded.
    Nats,
    /// `ce-*` and `content-type`, values percent-encoded.
    Http,
}

/// Wraps the messages of one flow.
#[derive(Clone, Debug)]
pub struct Wrapper {
    envelope: Envelope,
    binding: Binding,
    event_source: Box<str>,
}

impl Wrapper {
    /// For one flow.
    #[must_use]
    pub fn new(envelope: Envelope, binding: Binding, event_source: &str) -> Self {
        Self { envelope, binding, event_source: event_source.into() }
    }
    /// Gives every header of the wrapped message to `each` as (name, value).
    ///
    /// # Errors
    /// A header of the message's own is reserved or illegal: the message is to be rejected.
    pub fn headers(
        &self,
        _message: &Message,
        _each: &mut dyn FnMut(&str, &str),
    ) -> Result<(), BoxError> {
        let _ = (self.envelope, self.binding, &self.event_source);
        unreachable!()
    }
    /// The wrapped message's body; `None`: Kafka's null value (a tombstone).
    pub fn body(&self, _message: &Message) -> Result<Option<Bytes>, BoxError> {
        unreachable!()
    }
}
