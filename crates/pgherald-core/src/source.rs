//! Where messages come from.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{Batch, BoxError, Checkpoint, Room, Settled};

/// Where one flow reads from: a factory of attachments. An attachment is one server session, which holds
/// the flow's lock, reads, and acknowledges.
///
/// Core waits and retries; no method of a source retries, sleeps for a backoff, or waits for a lock.
///
/// # Who calls what, and when
/// 1. [`attach`](Source::attach) takes the flow's lock. While another process holds it, core calls it again
///    and again, with a backoff.
/// 2. Core opens the sink. Meanwhile it polls [`Attached::tend`], so that the session stays alive.
/// 3. [`Attached::read_from`] turns the attachment into a [`Session`].
/// 4. [`Session::read`] while there is room, [`Session::tend`] while there is none. They never run at the
///    same time.
/// 5. [`Session::ack`] once, at the end of an orderly stop. Then core drops the session, and with it the
///    lock. After an error of any method core drops the session without an `ack`, and starts at 1.
///
/// At most one attachment or session of a flow exists at a time. [`unread`](Source::unread) and
/// [`waits_for`](Source::waits_for) are called at any time, also while others run, and answer from memory.
///
/// # What a wrong answer costs
/// - `Ok` of `attach` without the lock: two processes send the same messages, and their orders mix.
/// - A checkpoint that lies before a message of its batch: that message is sent again after a restart. One
///   that lies after a message which was not handed out: that message is lost.
/// - `true` of [`has_positions`](Source::has_positions) for a source that cannot read again: everything in
///   memory is lost at each fault.
///
/// # Example
/// A source of three numbers. It has positions, and no lock because only one process reads it:
///
/// ```
/// use std::time::SystemTime;
///
/// use bytes::Bytes;
/// use futures_util::{FutureExt, future::BoxFuture};
/// use pgherald_core::{
///     Attached, Batch, Body, Checkpoint, ContentType, Headers, Message, MessageId, Room, Session,
///     Settled, Source, SourceError,
/// };
/// use tokio_util::sync::CancellationToken;
///
/// /// `next` is the number to read next. A real source reads its position from the database.
/// #[derive(Clone)]
/// struct Numbers {
///     next: u8,
///     stop: CancellationToken,
/// }
///
/// impl Source for Numbers {
///     fn has_positions(&self) -> bool {
///         true
///     }
///     fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
///         let attached: Box<dyn Attached> = Box::new(self.clone());
///         async { Ok(attached) }.boxed()
///     }
/// }
///
/// impl Attached for Numbers {
///     fn read_from(
///         mut self: Box<Self>,
///         resume: Option<Checkpoint>,
///     ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
///         self.next = resume.map_or(self.next, |Checkpoint(bytes)| bytes[0]);
///         async { Ok(self as Box<dyn Session>) }.boxed()
///     }
/// }
///
/// impl Session for Numbers {
///     fn read<'a>(
///         &'a mut self,
///         room: Room,
///         settled: &'a Settled,
///     ) -> BoxFuture<'a, Result<Batch, SourceError>> {
///         async move {
///             settled.read_succeeded();
///             if self.next == 3 {
///                 // No more messages: a real source waits for one here, and writes its position.
///                 self.stop.cancelled().await;
///                 return Err(SourceError::Stopped);
///             }
///             let message = Message {
///                 id: MessageId::new(format_args!("numbers-{}", self.next)),
///                 channel: "numbers".into(),
///                 key: None,
///                 headers: Headers::default(),
///                 content_type: ContentType::Text,
///                 body: Body::Payload(Bytes::from(self.next.to_string())),
///                 since: SystemTime::now(),
///             };
///             let fits = room.admits(0, 0, message.size());
///             self.next += u8::from(fits);
///             let messages = if fits { vec![message] } else { vec![] };
///             let end = Some(Checkpoint(Bytes::copy_from_slice(&[self.next])));
///             Ok(Batch { messages, end })
///         }
///         .boxed()
///     }
///
///     fn ack<'a>(
///         &'a mut self,
///         through: &'a Checkpoint,
///     ) -> BoxFuture<'a, Result<(), SourceError>> {
///         // A real source writes it to the database.
///         println!("settled up to {}", through.0[0]);
///         async { Ok(()) }.boxed()
///     }
/// }
/// # let _: Box<dyn Source> = Box::new(Numbers { next: 0, stop: CancellationToken::new() });
/// ```
pub trait Source: Send + Sync {
    /// Whether the source can be read again from a checkpoint.
    ///
    /// `true`: when a session ends, core forgets everything that it read and starts from what the
    /// database remembers. `false` (`notify`): what was read stays in the window across sessions
    /// and is published first.
    fn has_positions(&self) -> bool;

    /// Tries to attach. Returns `Ok` when this process holds the flow's lock, and
    /// [`SourceError::Standby`] when another process does. The lock is tried, never awaited.
    ///
    /// It ends within bounded time: core sets no limit of its own.
    ///
    /// While the process is stopping, a source that still holds messages in memory attaches
    /// without a server, so that a session can hand them out; otherwise the answer is
    /// [`SourceError::Stopped`].
    ///
    /// # Cancellation
    /// Dropping the future gives up the attempt, and releases the lock.
    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>>;

    /// How many messages are buffered in the source and not yet read by core. They are lost if the process
    /// ends now.
    fn unread(&self) -> usize {
        0
    }

    /// Why messages that exist are held back, in words for an operator: for example an open transaction.
    /// It is shown as the reason of a running flow.
    fn waits_for(&self) -> Option<Arc<str>> {
        None
    }
}

/// Holds the flow's lock. Core opens the sink, which fences older writers, before it begins to read.
///
/// Dropping it releases the lock.
pub trait Attached: Send {
    /// Begins to read after `resume`, a checkpoint that the destination has stored; `None`: after the
    /// position that the database has stored.
    ///
    /// # Cancellation
    /// Dropping the future ends the attachment.
    fn read_from(
        self: Box<Self>,
        resume: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>>;

    /// Keeps the attachment alive while the sink is being opened: sends heartbeats. Resolves when the
    /// attachment is over, with the reason. A source without positions has nothing to do here.
    ///
    /// # Cancellation
    /// Core drops the future when the sink is open; the attachment continues.
    fn tend(&mut self) -> BoxFuture<'_, SourceError> {
        Box::pin(std::future::pending())
    }
}

/// One server session, which holds the lock, reads and acknowledges.
///
/// When it ends, its checkpoints are void: core gives none of them to a later session, and clears its
/// window if the source has positions. Dropping it releases the lock, without waiting.
pub trait Session: Send {
    /// Waits for messages and returns those that fit into `room`, in source order. While it waits
    /// it writes the newest checkpoint of `settled` between its own statements.
    ///
    /// Every batch has an `end`. A batch without messages may move the checkpoint. An empty batch whose
    /// `end` did not move means: the next message does not fit into `room` (see [`Room::admits`]). Core
    /// then reads again when there is more room.
    ///
    /// Through `settled` it reports two things: that a read has succeeded ([`Settled::read_succeeded`]; the
    /// flow counts as running from then on), and until when its server is sure to hold the flow's lock
    /// ([`Settled::hold_until`]; core publishes nothing later than that). If the server does not answer
    /// until then, the session must end.
    ///
    /// A source gets the process's stop token when it is made. After the stop, `read` returns what the
    /// source already holds in memory, and then [`SourceError::Stopped`].
    ///
    /// When another process is to run the flow, a source with positions answers
    /// [`SourceError::HandOver`], once. Core then settles what was read, acks it through this session, and
    /// drops the session.
    ///
    /// # Cancellation
    /// Core drops a running read only to end the session, so it need not be cancel-safe.
    fn read<'a>(
        &'a mut self,
        room: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>>;

    /// Keeps the session alive while core has no room to read into: writes the newest checkpoint of
    /// `settled` and sends heartbeats. Resolves when the session is over, or once with
    /// [`SourceError::HandOver`]. A source without positions has nothing to do here.
    ///
    /// # Cancellation
    /// Core drops the future whenever there is room again, and the session continues. So it must be
    /// cancel-safe: a statement whose answer was not awaited must not confuse the next `read`.
    fn tend<'a>(&'a mut self, settled: &'a Settled) -> BoxFuture<'a, SourceError> {
        let _ = settled;
        Box::pin(std::future::pending())
    }

    /// Stores the last checkpoint, at the end of an orderly stop or hand-over. It is cumulative: everything
    /// up to it is settled.
    fn ack<'a>(&'a mut self, through: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>>;
}

/// Why a source cannot go on now.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Another process runs the flow; the text names it.
    #[error("standby: {0}")]
    Standby(BoxError),
    /// It may work the next time: unreachable, restarted, refused.
    #[error("the source failed")]
    Transient(#[source] BoxError),
    /// An operator has to act; the text says how.
    #[error("the source is blocked")]
    Blocked(#[source] BoxError),
    /// It must not go on: what the database says contradicts what was delivered.
    #[error("the source is halted")]
    Halted(#[source] BoxError),
    /// The process is stopping, and everything that was received has been handed out.
    #[error("the source has stopped")]
    Stopped,
    /// Another process is to run the flow: what was read is delivered and acknowledged first. Until the
    /// flow comes back to this process, [`Source::attach`] answers `Standby`.
    #[error("the flow is handed over to another process")]
    HandOver,
}
