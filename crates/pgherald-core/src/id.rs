//! The identity of a message.

use std::fmt;

/// The longest text a [`MessageId`] holds, in bytes.
pub const ID_BYTES_MAX: usize = 63;

/// A message's identity: the same in every redelivery, never reused by another message.
///
/// Printable ASCII of at most [`ID_BYTES_MAX`] bytes, stored inline, so that copying one
/// allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    len: u8,
    text: [u8; ID_BYTES_MAX],
}

impl MessageId {
    /// Formats an identity in place: `MessageId::new(format_args!("{session:016x}-{n}"))`.
    ///
    /// # Panics
    /// If the text is empty, longer than [`ID_BYTES_MAX`] or not printable ASCII: ids are made by
    /// sources from numbers, never from data.
    #[must_use]
    pub fn new(text: fmt::Arguments<'_>) -> Self {
        let mut id = Self { len: 0, text: [0; ID_BYTES_MAX] };
        fmt::Write::write_fmt(&mut id, text).expect("a message id is short printable ASCII");
        assert!(id.len > 0, "a message id is not empty");
        id
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.len)]).expect("ASCII by construction")
    }

    /// The identity of the gap that takes this message's place: `<prefix>-gap-<n>` for
    /// `<prefix>-<n>`. A gap's own id stays as it is.
    #[must_use]
    pub fn of_gap(&self) -> Self {
        match self.as_str().rsplit_once('-') {
            Some((prefix, _)) if prefix.ends_with("-gap") => *self,
            Some((prefix, n)) => Self::new(format_args!("{prefix}-gap-{n}")),
            None => Self::new(format_args!("gap-{}", self.as_str())),
        }
    }
}

impl fmt::Write for MessageId {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let from = usize::from(self.len);
        let to = from + text.len();
        if to > ID_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fmt::Error);
        }
        self.text[from..to].copy_from_slice(text.as_bytes());
        self.len = u8::try_from(to).expect("below ID_BYTES_MAX");
        Ok(())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_takes_the_number_of_the_message_it_stands_for() {
        let id = MessageId::new(format_args!("{:016x}-{}", 0xabu64, 7));
        assert_eq!(id.as_str(), "00000000000000ab-7");
        assert_eq!(id.of_gap().as_str(), "00000000000000ab-gap-7");
        assert_eq!(id.of_gap().of_gap(), id.of_gap());
    }

    #[test]
    #[should_panic(expected = "short printable ASCII")]
    fn an_id_with_a_space_is_a_fault_of_its_source() {
        let _ = MessageId::new(format_args!("a b"));
    }
}
