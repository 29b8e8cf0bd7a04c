//! Why a message cannot be wrapped.

/// How much of a header's name an error shows: names are data of any length.
const NAME_CHARS_MAX: usize = 64;

/// Why a message cannot be wrapped, and will never be: it is to be rejected.
///
/// Shows names of headers, never their values.
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
}

impl WrapError {
    pub(super) fn reserved(name: &str) -> Self {
        Self::Reserved(shown(name))
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
