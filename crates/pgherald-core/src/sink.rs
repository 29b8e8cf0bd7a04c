//! Where messages go.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{Batch, BoxError, Checkpoint, MessageId};

/// A factory of writers for one destination system. Each flow has a sink of its own.
///
/// Core waits, retries and replays; a sink tries once and answers with a class of error. After an error
/// core drops the writer, waits with a backoff, calls [`open`](Sink::open) again, and publishes again
/// from the first message whose outcome is open.
///
/// # Who calls what, and when
/// - [`open`](Sink::open) never runs twice at the same time for one flow, and only while no writer of
///   this sink exists: core drops the old writer first. Before the first call the source has attached,
///   so this process holds the flow's lock.
/// - [`ordering`](Sink::ordering) is read once, when the flow starts.
///   [`outcomes_within`](Sink::outcomes_within) is read for each writer.
///   [`last_answer`](Sink::last_answer) is called at any time, about four times a second: it must
///   answer from memory.
///
/// # What a wrong answer costs
/// - [`SinkError::Blocked`] for something temporary: an operator is called for nothing.
/// - [`SinkError::Transient`] for something that needs an operator: the flow retries, but `/readyz` does
///   not say what to repair. In doubt choose this one: it loses nothing.
/// - [`Open::Rejected`] for a message that the destination would accept later: the message is skipped,
///   stored as a dead letter, or stops the flow. Only say it if this message can never be accepted.
/// - A message that is not named in [`Outcome::open`] counts as delivered, and its row may be deleted. To
///   call a message confirmed without an answer of the destination is to lose it.
///
/// # Example
/// A sink that appends to a vector, which accepts everything at once:
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use futures_util::{FutureExt, future::BoxFuture};
/// use pgherald_core::{
///     Batch, Event, Only, Opened, Outcome, Published, Sink, SinkError, Writer,
/// };
///
/// #[derive(Clone, Default)]
/// struct Memory(Arc<Mutex<Vec<String>>>);
///
/// impl Sink for Memory {
///     fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
///         // A real sink connects here, and checks that its destination exists.
///         let writer = Box::new(self.clone());
///         async move { Ok(Opened { writer, resume: None }) }.boxed()
///     }
/// }
///
/// impl Writer for Memory {
///     fn publish<'a>(
///         &'a mut self,
///         batch: &'a Batch,
///         only: &'a Only,
///     ) -> BoxFuture<'a, Result<Published, SinkError>> {
///         let mut stored = self.0.lock().unwrap();
///         for place in only.places(batch.messages.len()) {
///             stored.push(batch.messages[place].id.to_string());
///         }
///         // A real sink answers with a future that waits for the destination's acknowledgements.
///         let confirmed = async { Outcome::default() }.boxed();
///         async { Ok(Published::all(confirmed)) }.boxed()
///     }
///
///     fn event(&mut self) -> BoxFuture<'_, Event> {
///         std::future::pending().boxed()
///     }
/// }
/// # let _: Box<dyn Sink> = Box::new(Memory::default());
/// ```
pub trait Sink: Send + Sync {
    /// The unit in which this sink keeps order. After a fault it decides which messages core publishes
    /// again.
    fn ordering(&self) -> Ordering {
        Ordering::Flow
    }

    /// How long the outcome of a publish may take. After a rejected message, and after a fault, core waits
    /// this long for the outcomes that are still open, and then drops the writer.
    fn outcomes_within(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// The destination's last answer to a message that it has not accepted yet, to show to an operator.
    /// For sinks with [`Ordering::Key`], which may know more about a message than why the last writer
    /// ended.
    fn last_answer(&self, id: &MessageId) -> Option<Arc<str>> {
        let _ = id;
        None
    }

    /// Connects, checks every configured destination, and fences older writers of the same flow: what
    /// they sent must not arrive after the first message of the new writer. A configured destination that
    /// is missing, or that this client may not use, is [`SinkError::Blocked`], with a text that says what
    /// to do.
    ///
    /// It ends within bounded time: core sets no limit of its own.
    ///
    /// # Cancellation
    /// Core drops the future when the flow's session ends meanwhile. The attempt is given up, and nothing
    /// of it may go on.
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>>;
}

/// The unit in which a sink keeps order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// The whole flow: a replay begins at the first open message. Also for Kafka and JetStream, whose
    /// partitions and streams each hold a part of the flow in its order.
    Flow,
    /// The messages with one key; messages without a key share one order. A replay begins at the first
    /// open message of each key.
    Key,
}

/// A writer that is ready, and what its destination remembers.
pub struct Opened {
    /// Publishes until its first fault.
    pub writer: Box<dyn Writer>,
    /// The checkpoint that the destination committed together with its messages (exactly once).
    pub resume: Option<Checkpoint>,
}

/// Publishes batches of one flow in order, until its first fault.
///
/// # Who calls what, and when
/// Core calls [`publish`](Writer::publish) and [`event`](Writer::event) one after the other, never at the
/// same time (both take `&mut self`), from one task. It publishes the next batch as soon as `publish`
/// returns, so many batches may wait for their confirmations; the flow's budget bounds how many. It polls
/// those confirmations at the same time as `publish` and `event`.
///
/// After any error (of `publish`, of [`Outcome::session`], or [`Event::Ended`]) core calls neither method
/// again. It waits for the open confirmations for at most [`Sink::outcomes_within`], and drops the writer.
///
/// # Dropping
/// Dropping a writer ends its connection at once and does not block. Its confirmations still resolve: what
/// was not confirmed is [`Open::Unknown`]. Such a message may still arrive before the next writer is open,
/// but never after that. A late arrival would stand behind messages of the next writer: out of order.
///
/// A writer with a task of its own ends that task when it is dropped; [`Outcomes`](crate::Outcomes) resolves
/// what the task leaves open.
pub trait Writer: Send {
    /// Accepts the messages of `batch` that `only` names. When it returns, they are queued after all
    /// earlier ones. The destination's answer comes later, through [`Published::confirmation`]. A writer
    /// that may have only one batch in flight waits for the previous one in here. A writer must never need
    /// another batch to confirm what it has: there may be none.
    ///
    /// `batch` is only borrowed: clone what has to live longer (payloads are [`bytes::Bytes`], which share).
    /// An empty batch, or one of which `only` names nothing, is legal and confirmed at once.
    ///
    /// When the sink itself finds a message that its destination can never accept, it sends nothing after
    /// it: it names this message [`Open::Rejected`] and the rest of the batch [`Open::Unsent`], and answers
    /// with [`Published::stopped`]. Core then publishes nothing until every open confirmation has resolved,
    /// applies the policy, and publishes the rest again.
    ///
    /// # Errors
    /// The session is over and the writer accepted nothing of this batch: core drops the writer.
    ///
    /// # Cancellation
    /// Core drops a running publish only together with the writer.
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        only: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>>;

    /// Waits for a change of the connection. Core calls it while it has nothing to publish, so that an idle
    /// flow also notices when its destination is gone. A writer that knows nothing of its connection stays
    /// pending for ever; its flow then notices a fault only when it publishes.
    ///
    /// # Cancellation
    /// Core drops the future often, whenever something else happens. It must be cancel-safe: the next call
    /// returns an event that this one did not.
    fn event(&mut self) -> BoxFuture<'_, Event>;

    /// The state of the connection while [`publish`](Writer::publish) waits: core does not call
    /// [`event`](Writer::event) then. `None`: the writer cannot say. The channel begins with what the last
    /// event said.
    fn connection_state(&self) -> Option<watch::Receiver<ConnectionState>> {
        None
    }
}

/// The state of a connection: `None` = connected; `Some(reason)` = disconnected.
pub type ConnectionState = Option<Arc<str>>;

/// A change of a writer's connection.
#[derive(Debug)]
pub enum Event {
    /// Disconnected, and the writer reconnects by itself: what was published stays queued. The text says
    /// why.
    Disconnected(BoxError),
    /// Connected again.
    Connected,
    /// The session is over: core drops the writer and opens another one.
    Ended(SinkError),
}

/// What [`Writer::publish`] accepted.
pub struct Published {
    /// Resolves when the destination has answered.
    pub confirmation: Confirmation,
    /// The writer rejected a message, and sent nothing after it.
    pub stopped: bool,
}

impl Published {
    /// The whole batch was accepted.
    #[must_use]
    pub fn all(confirmation: Confirmation) -> Self {
        Self { confirmation, stopped: false }
    }

    /// The writer rejected a message; the outcome names it and the rest of the batch.
    #[must_use]
    pub fn stopped(confirmation: Confirmation) -> Self {
        Self { confirmation, stopped: true }
    }
}

/// Resolves to the outcome of one published batch. It may need polling to make progress: core polls all
/// confirmations of a writer concurrently. They may resolve in any order.
pub type Confirmation = BoxFuture<'static, Outcome>;

/// The outcome of one published batch. Messages that are not named in `open` are confirmed: the destination
/// has answered that it has them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The messages that are not confirmed, by their index in the batch, in ascending order.
    pub open: Vec<(u32, Open)>,
    /// The session is over, and why. `None`: the writer can go on.
    pub session: Option<SinkError>,
}

/// Why a message is not confirmed.
#[derive(Debug)]
pub enum Open {
    /// Sent, but the answer is not known: the message may have arrived. Core publishes it again.
    Unknown,
    /// Certainly not sent.
    Unsent,
    /// The destination will never accept this message; the text says why. The rejection policy decides.
    Rejected(BoxError),
}

/// Why a sink cannot go on now.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It may work the next time: core tries again with a backoff.
    #[error("the sink failed")]
    Transient(#[source] BoxError),
    /// It may work later, and the destination itself says when: core waits its own backoff or that
    /// long, whichever is longer, but not more than 5 minutes.
    #[error("the sink is asked to wait")]
    Later {
        /// What the destination said.
        #[source]
        why: BoxError,
        /// How long it wants to be left alone.
        wait: Duration,
    },
    /// The configured destination accepts nothing now, and an operator has to act; the text says how. Core
    /// tries again with a backoff, and the flow is not ready.
    #[error("the sink is blocked")]
    Blocked(#[source] BoxError),
    /// A newer writer of the same flow is at work.
    #[error("another writer of this flow is at work")]
    Fenced(#[source] BoxError),
}

/// Which messages of a batch to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// Every one.
    All,
    /// Those marked `true`; as long as the batch.
    Marked(Box<[bool]>),
}

impl Only {
    /// Whether the message at that index is to be published.
    #[must_use]
    pub fn includes(&self, place: usize) -> bool {
        match self {
            Self::All => true,
            Self::Marked(marks) => marks.get(place).copied().unwrap_or(false),
        }
    }

    /// The indices to publish, in ascending order, of a batch of `len` messages.
    pub fn places(&self, len: usize) -> impl Iterator<Item = usize> + '_ {
        (0..len).filter(|place| self.includes(*place))
    }
}
