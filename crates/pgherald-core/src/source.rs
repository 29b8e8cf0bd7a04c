//! Where messages come from.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{Batch, BoxError, Checkpoint, Room, Settled};

/// A factory of attachments: one server session each, that holds the flow's lock, reads and acks.
///
/// Core owns all waiting: no method retries, sleeps out a backoff, or waits for a lock.
pub trait Source: Send + Sync {
    /// Whether the source can be read again from a checkpoint.
    ///
    /// `true`: when a session ends, core forgets everything that it read and starts from what the
    /// database remembers. `false` (`notify`): what was read stays in the window across sessions
    /// and is published first.
    fn has_positions(&self) -> bool;

    /// Tries to attach: returns when this process holds the flow's lock, with
    /// [`SourceError::Standby`] when another one does. The lock is tried, never awaited.
    ///
    /// While the process is stopping, a source that still holds messages in memory attaches
    /// without a server, so that a session can hand them out; otherwise the answer is
    /// [`SourceError::Stopped`].
    ///
    /// # Cancellation
    /// Dropping the future gives up the attempt.
    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>>;

    /// Messages that the source holds in memory and that no session has handed out: what a process
    /// that ends now would drop.
    fn unread(&self) -> usize {
        0
    }

    /// What keeps a running source from handing over what is there, in words for an operator: a
    /// writer that holds everything behind it back. It shows as the reason of a running flow.
    fn waits_for(&self) -> Option<Arc<str>> {
        None
    }
}

/// Holds the flow's lock; the sink opens (and fences older writers) before reading begins.
pub trait Attached: Send {
    /// Begins to read after `resume`; `None`: after what the database itself remembers.
    ///
    /// # Cancellation
    /// Dropping the future ends the attachment.
    fn read_from(
        self: Box<Self>,
        resume: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>>;

    /// Keeps the attachment while the sink is being opened: sends heartbeats, and resolves when it
    /// is over. A source without positions has nothing to do here.
    ///
    /// # Cancellation
    /// Core drops it when the sink is open; the attachment goes on.
    fn tend(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(std::future::pending())
    }
}

/// One server session: lock, read, ack. When it ends, its checkpoints are void.
pub trait Session: Send {
    /// Waits for messages and returns those that fit into `room`, in source order. While it waits
    /// it writes the newest checkpoint of `settled` between its own statements.
    ///
    /// The batch has its end. One without messages moves the checkpoint. One that does not even do
    /// that says that the next message does not fit (see [`Room::admits`]): core reads again when
    /// there is more room.
    ///
    /// Through `settled` it says that a read has succeeded ([`Settled::read_succeeded`]: the flow
    /// counts as running from then on) and until when its server certainly holds the flow's lock
    /// ([`Settled::hold_until`]: nothing is published later). A session whose server does not answer
    /// until then has to end.
    ///
    /// Once the process is stopping (the source was given the process's stop token when it was
    /// made) it hands out what it already holds in memory and then answers
    /// [`SourceError::Stopped`].
    ///
    /// When another process is to carry the flow, a source with positions answers
    /// [`SourceError::HandOver`], once: core settles what was read, acks it through this session,
    /// and drops the session.
    ///
    /// # Cancellation
    /// Core drops a running read only to end the session.
    fn read<'a>(
        &'a mut self,
        room: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>>;

    /// Keeps the session while core has no room to read into: writes the newest checkpoint of
    /// `settled`, sends heartbeats, and resolves when the session is over, or once with
    /// [`SourceError::HandOver`]. A source without positions has nothing to do here.
    ///
    /// # Cancellation
    /// Core drops it whenever there is room again; the session goes on.
    fn tend<'a>(&'a mut self, settled: &'a Settled) -> BoxFuture<'a, SourceError> {
        let _ = settled;
        Box::pin(std::future::pending())
    }

    /// Writes the last checkpoint, at the end. Cumulative.
    fn ack<'a>(&'a mut self, through: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>>;
}

/// Why a source cannot go on now.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Another process carries the flow; the text names it.
    #[error("standby: {0}")]
    Standby(BoxError),
    /// It may work the next time: unreachable, restarted, refused.
    #[error("the source failed")]
    Transient(#[source] BoxError),
    /// It works when an operator has done something; the text says what.
    #[error("the source is blocked")]
    Blocked(#[source] BoxError),
    /// It must not go on: what the database says contradicts what was delivered.
    #[error("the source is halted")]
    Halted(#[source] BoxError),
    /// The process is stopping and everything that was heard has been handed out.
    #[error("the source has stopped")]
    Stopped,
    /// Another process is to carry the flow: what was read is delivered and acknowledged first. Until
    /// the flow comes back to this process, [`Source::attach`] answers `Standby`.
    #[error("the flow is handed over to another process")]
    HandOver,
}
