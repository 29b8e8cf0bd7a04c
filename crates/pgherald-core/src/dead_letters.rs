//! Where rejected messages are kept, and from where they come again.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{BoxError, Message, MessageId, Room};

/// Keeps the rejected messages of one flow, and knows which of them are to be sent again.
///
/// Core owns all waiting: no method retries, and each ends within bounded time. Calls never overlap
/// with a call of the same method; `put` may run beside `next` and `done`.
pub trait DeadLetters: Send + Sync {
    /// Keeps a message that the flow's destination will never take. On return it is safe, and core
    /// settles the message. A message that is kept already (its answer was lost, or it was sent
    /// again and rejected again) stays one dead letter with the newest reason, and is not to be
    /// sent again until somebody asks for that anew.
    ///
    /// Never called for gaps.
    ///
    /// # Errors
    /// It may not be kept: core tries again for as long as it takes, and sends nothing behind it.
    fn put<'a>(&'a self, letter: DeadLetter<'a>) -> BoxFuture<'a, Result<(), DeadLettersError>>;

    /// The next dead letters that somebody asked for again, oldest request first, as many as `room`
    /// admits. The same ones come until they are [`done`](Self::done) or put anew. Without a place
    /// for dead letters there are none.
    ///
    /// # Errors
    /// Core asks again later.
    fn next(&self, room: Room) -> BoxFuture<'_, Result<Vec<Message>, DeadLettersError>>;

    /// The destination has confirmed these.
    ///
    /// # Errors
    /// Core says it again later, and asks for no others before.
    fn done<'a>(&'a self, ids: &'a [MessageId]) -> BoxFuture<'a, Result<(), DeadLettersError>>;
}

/// A message that is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// The message.
    pub message: &'a Message,
    /// Why its destination does not take it.
    pub reason: &'a str,
    /// How long ago that was.
    pub age: Duration,
}

/// Why dead letters cannot be kept or read now.
#[derive(Debug, thiserror::Error)]
pub enum DeadLettersError {
    /// It may work the next time.
    #[error("the dead letters cannot be reached")]
    Transient(#[source] BoxError),
    /// It works when an operator has done something; the text says what.
    #[error("the dead letters are blocked")]
    Blocked(#[source] BoxError),
}
