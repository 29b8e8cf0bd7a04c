//! Where messages go.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{Batch, BoxError, Checkpoint, MessageId};

/// A factory of writers for one destination system.
///
/// Core owns all waiting and all replay: a sink has no retry loop of its own.
pub trait Sink: Send + Sync {
    /// The unit in which this sink keeps order, which decides what is published again after a
    /// fault.
    fn ordering(&self) -> Ordering {
        Ordering::Flow
    }

    /// How long the outcome of a publish may take. Behind a rejected message, and after a fault, core
    /// waits that long for the outcomes that are open before it gives the writer up.
    fn outcomes_within(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// What the destination said last of a message that it has not taken yet, for an operator: a sink
    /// that keeps more than one order may know more than why its last writer ended.
    fn last_answer(&self, id: &MessageId) -> Option<Arc<str>> {
        let _ = id;
        None
    }

    /// Connects, checks every configured destination, and fences older writers of the same flow.
    /// A configured destination that is missing or denied is [`SinkError::Blocked`].
    ///
    /// # Cancellation
    /// Dropping the future gives up the attempt.
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>>;
}

/// The unit in which a sink keeps order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Everything of the flow (Kafka partitions and JetStream streams are runs of it): a replay
    /// begins at the first open message.
    Flow,
    /// Equal keys, messages without a key sharing one order: a replay begins at the first open
    /// message of each key.
    Key,
}

/// A writer that is ready, and what its destination remembers.
pub struct Opened {
    /// Publishes until its first fault.
    pub writer: Box<dyn Writer>,
    /// The checkpoint that the destination committed together with its messages (exactly once).
    pub resume: Option<Checkpoint>,
}

/// Publishes batches of one flow in order.
///
/// Dropping a writer ends its session at once: what it has not confirmed has the outcome
/// [`Open::Unknown`] and may still arrive before the next writer is open, never after.
pub trait Writer: Send {
    /// Takes the messages of `batch` that `only` names. On return they stand behind all earlier
    /// ones; the broker's word comes later, through the confirmation. A writer that must not
    /// overlap awaits its previous batch in here. It never needs more input to confirm what it has.
    ///
    /// At the first message that the sink itself finds to be rejected it names that one
    /// [`Open::Rejected`], the rest [`Open::Unsent`], and answers [`Published::stopped`]. Core then
    /// publishes nothing before every outstanding confirmation has resolved.
    ///
    /// # Errors
    /// The session is over and none of the batch was taken: core drops the writer.
    ///
    /// # Cancellation
    /// Core drops a running publish only together with the writer.
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        only: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>>;

    /// Waits for news of the connection while nothing is being published. A writer without any
    /// stays pending for ever.
    ///
    /// # Cancellation
    /// Safe: an event that was not returned comes back at the next call.
    fn event(&mut self) -> BoxFuture<'_, Event>;

    /// How the connection stands while a publish waits, where the writer can tell: events are not
    /// asked for then. The channel begins with what the last event said.
    fn standing(&self) -> Option<watch::Receiver<Standing>> {
        None
    }
}

/// How a connection stands: `None`: well; otherwise why there is none.
pub type Standing = Option<Arc<str>>;

/// News of a writer's connection.
#[derive(Debug)]
pub enum Event {
    /// Disconnected, and heals by itself: what was published stays published. The text says why.
    Disconnected(BoxError),
    /// Connected again.
    Connected,
    /// The session is over: core drops the writer and opens another one.
    Ended(SinkError),
}

/// What [`Writer::publish`] took.
pub struct Published {
    /// The broker's word, later.
    pub confirmation: Confirmation,
    /// The writer found a message to be rejected: nothing behind it was sent.
    pub stopped: bool,
}

impl Published {
    /// Everything was taken.
    #[must_use]
    pub fn all(confirmation: Confirmation) -> Self {
        Self { confirmation, stopped: false }
    }

    /// A message was found to be rejected; it and the rest are named in the outcome.
    #[must_use]
    pub fn stopped(confirmation: Confirmation) -> Self {
        Self { confirmation, stopped: true }
    }
}

/// Resolves to the fate of one published batch. Must be polled to make progress; core polls all of
/// them concurrently.
pub type Confirmation = BoxFuture<'static, Outcome>;

/// The fate of one published batch. Messages that are not named are confirmed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The messages (by their place in the batch) that are not confirmed, in order.
    pub open: Vec<(u32, Open)>,
    /// The session is over, and why.
    pub session: Option<SinkError>,
}

/// Why a message is not confirmed.
#[derive(Debug)]
pub enum Open {
    /// Sent, and the answer is not known: it may have arrived.
    Unknown,
    /// Certainly not sent.
    Unsent,
    /// The destination will never take this message; the text says why.
    Rejected(BoxError),
}

/// Why a sink cannot go on now.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It may work the next time.
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
    /// The configured destination takes nothing now; the text names the remedy.
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
    /// Whether the message at that place is to be published.
    #[must_use]
    pub fn includes(&self, place: usize) -> bool {
        match self {
            Self::All => true,
            Self::Marked(marks) => marks.get(place).copied().unwrap_or(false),
        }
    }

    /// The places to publish, in order, of a batch of `len` messages.
    pub fn places(&self, len: usize) -> impl Iterator<Item = usize> + '_ {
        (0..len).filter(|place| self.includes(*place))
    }
}
