//! A contiguous run of one flow, and the source's word for where it ends.

use bytes::Bytes;

use crate::Message;

/// The source's own resume point at the end of a batch.
///
/// Opaque: anybody may store it, and compare it for equality only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint(pub Bytes);

/// A contiguous run of one flow's messages.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In source order. May be empty: the batch still moves the checkpoint.
    pub messages: Vec<Message>,
    /// Where the source stands after these messages: every batch that a source reads has it.
    /// `None`: dead letters that are sent again, which move no position.
    pub end: Option<Checkpoint>,
}

impl Batch {
    /// What the batch costs of a budget, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.messages.iter().map(Message::size).sum()
    }
}

/// How much a flow may hold in memory, from the read until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Message::size`] counts them.
    pub bytes: usize,
}

/// How large one batch may be, and how long one that is not full waits for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Messages in a batch.
    pub messages: usize,
    /// Bytes in a batch, as [`Message::size`] counts them; one larger message travels alone.
    pub bytes: usize,
    /// How long a batch that is not full waits for more.
    pub linger: std::time::Duration,
}

/// What a source may hand over in one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// At most this many messages; at least 1.
    pub messages: usize,
    /// At most this many bytes, as [`Message::size`] counts them, unless the first message alone
    /// is larger.
    pub bytes: usize,
    /// The first message may be as large as this, and then travels alone. `usize::MAX` when the
    /// flow holds nothing.
    pub first_bytes: usize,
    /// What is left of the flow's budget. A source may read ahead as much from its server; it hands
    /// over what the fields above allow.
    pub budget: Budget,
}

impl Room {
    /// Whether a message of that size may join a read that has taken `taken_messages` messages of
    /// `taken_bytes` bytes so far.
    #[must_use]
    pub fn admits(&self, taken_messages: usize, taken_bytes: usize, size: usize) -> bool {
        if taken_messages == 0 {
            return size <= self.first_bytes;
        }
        taken_messages < self.messages && taken_bytes.saturating_add(size) <= self.bytes
    }
}
