//! Why a message cannot be wrapped.

/// How much of a header's name or of a media type an error shows: they are data of any length.
const NAME_CHARS_MAX: usize = 64;

/// Why a message cannot be wrapped, and will never be: it is to be rejected.
///
/// Shows names of headers, never their values, but for a media type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The source could not read the message.
    #[error("the source could not read the message: {0}")]
    Unreadable(Box<str>),
    /// The payload is above `message_bytes_max`, and the source did not fetch it.
    #[error("its payload of {0} bytes was not fetched: it is above message_bytes_max")]
    Oversize(usize),
    /// The bridge itself or the protocol sets that header.
    #[error("the header {0:?} is reserved: send it under another name")]
    Reserved(Box<str>),
    /// A header without a name.
    #[error("a header has no name: give it one")]
    Nameless,
    /// NATS and HTTP take a token (RFC 9110) as a header's name.
    #[error("{0:?} cannot name a header here: use letters, digits, dashes, dots and underscores")]
    IllegalName(Box<str>),
    /// A header that begins with `ce-` and names no attribute.
    #[error(
        "the header {0:?} names no CloudEvents attribute: use 1 to 20 letters and digits behind ce-"
    )]
    IllegalAttribute(Box<str>),
    /// A header whose value no CloudEvents attribute may have.
    #[error("the value of the header {name:?} holds {what}: mend it where the row is written")]
    IllegalValue {
        /// The header's name.
        name: Box<str>,
        /// What it holds.
        what: &'static str,
    },
    /// The media type says that the payload is a CloudEvents document, and it is none.
    #[error(
        "its media type is application/cloudevents+json, but it is no CloudEvents 1.0 document: {0}"
    )]
    NoEvent(Box<str>),
    /// An attribute stands beside a payload that is a CloudEvents document already.
    #[error(
        "its media type is application/cloudevents+json, and the header {0:?} stands beside it: \
         put the attribute into the document"
    )]
    BesideEvent(Box<str>),
    /// Each event is a message of its own.
    #[error(
        "its media type is application/cloudevents-batch+json, which no message may have: send \
         each event by itself, as application/cloudevents+json"
    )]
    EventBatch,
    /// A CloudEvents document passes through as JSON alone.
    #[error(
        "its media type is {0:?}, which no message may have: send the event as \
         application/cloudevents+json"
    )]
    EventFormat(Box<str>),
}

impl WrapError {
    pub(super) fn reserved(name: &str) -> Self {
        Self::Reserved(shown(name))
    }

    pub(super) fn illegal_attribute(name: &str) -> Self {
        Self::IllegalAttribute(shown(name))
    }

    pub(super) fn illegal_value(name: &str, what: &'static str) -> Self {
        Self::IllegalValue { name: shown(name), what }
    }

    pub(super) fn beside_event(name: &str) -> Self {
        Self::BesideEvent(shown(name))
    }

    pub(super) fn event_format(media_type: &str) -> Self {
        Self::EventFormat(shown(media_type))
    }

    pub(super) fn illegal_name(name: &str) -> Self {
        Self::IllegalName(shown(name))
    }
}

fn shown(name: &str) -> Box<str> {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]).into(),
        None => name.into(),
    }
}
