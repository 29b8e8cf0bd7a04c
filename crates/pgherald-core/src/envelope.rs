//! How a message is wrapped: CloudEvents 1.0 in binary or structured mode, or not at all.

mod attributes;
mod binary;
mod error;
mod own;
mod structured;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::attributes::{Attributes, CONTENT_TYPE_HEADER};
pub use self::error::WrapError;
use crate::{Body, BoxError, Message};

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
///
/// | attribute | value |
/// |---|---|
/// | `specversion` | `1.0` |
/// | `id` | the message's |
/// | `source` | the flow's, `/pgherald/<pipeline>` |
/// | `type` | the message's own header `ce-type`, else `pgherald.message`; of a gap `pgherald.gap` |
/// | `time` | [`Message::since`] |
/// | `subject` | the channel; of a gap only if it has exactly one |
/// | `partitionkey` | the key; one that is not UTF-8 in base64, for CloudEvents wants a text |
/// | `datacontenttype` | the message's own header `content-type`, else [`Message::content_type`] |
///
/// The media type of a gap is `application/json`, and a tombstone has none but its own header. An
/// empty attribute is left out, an empty `ce-type` or `content-type` counts as missing, and of
/// several the first counts. A gap has neither a key nor headers of its own.
#[derive(Clone, Debug)]
pub struct Wrapper {
    envelope: Envelope,
    binding: Binding,
    event_source: Box<str>,
}

impl Wrapper {
    /// For one flow; `event_source` is what [`event_source`](crate::FlowContext::event_source)
    /// says of it.
    #[must_use]
    pub fn new(envelope: Envelope, binding: Binding, event_source: &str) -> Self {
        Self { envelope, binding, event_source: event_source.into() }
    }

    /// Gives every header of the wrapped message to `each` as (name, value).
    ///
    /// - Binary: the attributes as `ce_*` (Kafka) or `ce-*`, with the media type as `content-type`
    ///   on Kafka and HTTP and as `ce-datacontenttype` on NATS.
    /// - Structured: `content-type`, always the same. A gap also has its attributes, as in binary
    ///   mode, so that it can be told from the headers alone.
    /// - None: nothing, but a gap is sent as in binary mode.
    ///
    /// Behind them the message's own headers, under their own names. `ce-type` is consumed under
    /// every envelope, `content-type` under those that say it in their own way.
    ///
    /// On NATS and HTTP every value is printable ASCII: attributes are percent-encoded as the
    /// CloudEvents HTTP binding says, and so, whole, is any own value (and a `content-type` on
    /// HTTP) that is not printable ASCII. On Kafka values are UTF-8 as they are.
    ///
    /// # Errors
    /// A header of the message's own is reserved or has an illegal name, or the source could not
    /// read the message ([`WrapError`]): it is to be rejected, and what was given to `each` is
    /// void.
    pub fn headers(
        &self,
        message: &Message,
        each: &mut dyn FnMut(&str, &str),
    ) -> Result<(), BoxError> {
        match &message.body {
            Body::Unreadable(why) => return Err(WrapError::Unreadable(why.clone()).into()),
            Body::Oversize(bytes) => return Err(WrapError::Oversize(*bytes).into()),
            Body::Payload(_) | Body::Tombstone | Body::Gap(_) => {}
        }
        let is_gap = message.gap().is_some();
        if is_gap || self.envelope == Envelope::Binary {
            let attributes = Attributes::of(message);
            binary::attributes(self.binding, &self.event_source, &attributes, each);
            if self.envelope != Envelope::Structured || self.binding == Binding::Nats {
                binary::content_type(self.binding, &attributes, each);
            }
        }
        if self.envelope == Envelope::Structured {
            each(CONTENT_TYPE_HEADER, structured::CONTENT_TYPE);
        }
        if !is_gap {
            let consumes_content_type = self.envelope != Envelope::None;
            own::headers(self.binding, message, consumes_content_type, each)?;
        }
        Ok(())
    }

    /// The wrapped message's body; `None`: Kafka's null value, for a tombstone that is not
    /// wrapped in a document. On NATS and HTTP its body is empty.
    ///
    /// Binary and none share the payload, without a copy. In a document the payload is embedded as
    /// it was written if its media type is JSON and it is JSON, a string if its media type is
    /// `text/*` in UTF-8 and it is UTF-8, and `data_base64` otherwise: in particular where it is
    /// not what its media type says, so that a consumer always gets the bytes back. A tombstone's
    /// document has no data.
    ///
    /// # Errors
    /// The source could not read the message ([`WrapError::Unreadable`]): it is to be rejected.
    pub fn body(&self, message: &Message) -> Result<Option<Bytes>, BoxError> {
        match &message.body {
            Body::Unreadable(why) => Err(WrapError::Unreadable(why.clone()).into()),
            Body::Oversize(bytes) => Err(WrapError::Oversize(*bytes).into()),
            _ if self.envelope == Envelope::Structured => {
                Ok(Some(structured::document(&self.event_source, message)))
            }
            Body::Payload(payload) => Ok(Some(payload.clone())),
            Body::Gap(gap) => Ok(Some(gap.to_json().into())),
            Body::Tombstone if self.binding == Binding::Kafka => Ok(None),
            Body::Tombstone => Ok(Some(Bytes::new())),
        }
    }
}

#[cfg(test)]
mod tests;
