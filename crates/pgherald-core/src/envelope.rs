//! How a message is wrapped: CloudEvents 1.0 in binary or structured mode, or not at all.

mod attributes;
mod binary;
mod error;
mod event;
mod own;
mod structured;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::{attributes::Attributes, own::CONTENT_TYPE_HEADER};
pub use self::{error::WrapError, own::is_attribute_header};
use crate::{Body, BoxError, EVENT_MEDIA_TYPE, FlowContext, Message, event_names::Rendered};

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
/// | `source` | the message's own header `ce-source`, else the flow's |
/// | `type` | the message's own header `ce-type`, else the flow's; of a gap `pgherald.gap` |
/// | `time` | [`Message::since`] |
/// | `subject` | the message's own header `ce-subject`, else the channel; of a gap only if it has exactly one |
/// | `partitionkey` | the key; one that is not UTF-8 in base64, for CloudEvents wants a text |
/// | `datacontenttype` | the message's own header `content-type`, else [`Message::content_type`] |
/// | `dataschema`, extensions | the message's own headers `ce-dataschema`, `ce-<extension>` |
///
/// The media type of a gap is `application/json`, and a tombstone has none but its own header. An
/// empty attribute is left out, an empty header counts as missing, and of several the first counts.
/// A gap has neither a key nor headers of its own.
///
/// A message whose media type is `application/cloudevents+json` is an event already: under every
/// envelope it travels as it is, in structured mode, if it is valid, and nothing of ours is in it.
#[derive(Clone, Debug)]
pub struct Wrapper {
    envelope: Envelope,
    binding: Binding,
    names: Rendered,
}

impl Wrapper {
    /// For one flow.
    #[must_use]
    pub fn new(binding: Binding, context: &FlowContext) -> Self {
        let names = context.events.of_pipeline(&context.pipeline);
        Self { envelope: context.envelope, binding, names }
    }

    /// Gives every header of the wrapped message to `each` as (name, value).
    ///
    /// - Binary: the attributes as `ce_*` (Kafka) or `ce-*`, with the media type as `content-type`
    ///   on Kafka and HTTP and as `ce-datacontenttype` on NATS.
    /// - Structured: `content-type`, always the same, and no attribute beside it: receivers take a
    ///   message with both for binary.
    /// - None: the media type as `content-type`, on HTTP always, on Kafka and NATS where the row or
    ///   the configuration sets one; but a gap is sent as in binary mode.
    ///
    /// Behind them the message's own headers, under their own names, but for those that
    /// [`is_attribute_header`] names: they are consumed under every envelope.
    ///
    /// On NATS and HTTP every value is printable ASCII: attributes are percent-encoded as the
    /// CloudEvents HTTP binding says, and so, whole, is any own value (and a `content-type`) that
    /// is not printable ASCII. On Kafka values are UTF-8 as they are.
    ///
    /// # Errors
    /// A header of the message's own is reserved or illegal, the message is an event already and
    /// not a valid one, or the source could not read it ([`WrapError`]): it is to be rejected, and
    /// what was given to `each` is void.
    pub fn headers(
        &self,
        message: &Message,
        each: &mut dyn FnMut(&str, &str),
    ) -> Result<(), BoxError> {
        require_readable(message)?;
        let is_event = event::is_event(message)?;
        if is_event {
            event::check(message)?;
        }
        match self.envelope {
            _ if is_event => each(CONTENT_TYPE_HEADER, EVENT_MEDIA_TYPE),
            Envelope::Structured => each(CONTENT_TYPE_HEADER, EVENT_MEDIA_TYPE),
            Envelope::None if message.gap().is_none() => self.bare(message, each),
            Envelope::Binary | Envelope::None => {
                let attributes = Attributes::of(message, &self.names);
                binary::attributes(self.binding, &attributes, each);
                binary::content_type(self.binding, &attributes, each);
            }
        }
        if message.gap().is_none() {
            own::headers(self.binding, message, is_event, each)?;
        }
        Ok(())
    }

    /// The media type of a message that is not wrapped.
    fn bare(&self, message: &Message, each: &mut dyn FnMut(&str, &str)) {
        let media_type = match self.binding {
            Binding::Http => attributes::content_type(message),
            Binding::Kafka | Binding::Nats => attributes::set_content_type(message),
        };
        if let Some(media_type) = media_type {
            binary::media_type(self.binding, CONTENT_TYPE_HEADER, media_type, each);
        }
    }

    /// The wrapped message's body; `None`: Kafka's null value, for a tombstone that is not
    /// wrapped in a document. On NATS and HTTP its body is empty.
    ///
    /// Binary and none share the payload, without a copy; so does a message that is an event
    /// already. In a document the payload is embedded as it was written if its media type is JSON
    /// and it is JSON, a string if it is a text of any other media type, and `data_base64`
    /// otherwise: for bytes, and where it is not the JSON that its media type says, so that a
    /// consumer always gets the payload back. A tombstone's document has no data.
    ///
    /// # Errors
    /// The source could not read the message ([`WrapError::Unreadable`]): it is to be rejected.
    pub fn body(&self, message: &Message) -> Result<Option<Bytes>, BoxError> {
        require_readable(message)?;
        if self.envelope == Envelope::Structured && !event::is_event(message)? {
            return Ok(Some(structured::document(&self.names, message)));
        }
        Ok(match &message.body {
            Body::Payload(payload) => Some(payload.clone()),
            Body::Gap(gap) => Some(gap.to_json().into()),
            _ if self.binding == Binding::Kafka => None,
            _ => Some(Bytes::new()),
        })
    }
}

/// Whether a message that says it is an event already (media type `application/cloudevents+json`)
/// is one that can pass.
///
/// # Errors
/// Why every sink will reject it.
pub fn check_event(message: &Message) -> Result<(), WrapError> {
    if event::is_event(message)? {
        event::check(message)?;
        own::headers(Binding::Kafka, message, true, &mut |_, _| {})?;
    }
    Ok(())
}

/// Whether a message can be wrapped at all, whatever the destination.
///
/// # Errors
/// Why it will be rejected.
fn require_readable(message: &Message) -> Result<(), WrapError> {
    match &message.body {
        Body::Unreadable(why) => Err(WrapError::Unreadable(why.clone())),
        Body::Oversize(bytes) => Err(WrapError::Oversize(*bytes)),
        Body::Payload(_) | Body::Tombstone | Body::Gap(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
