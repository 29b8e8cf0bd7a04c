//! One flow between the hub, which fills its queue, and its source, which empties it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use pgherald_core::{
    Batch, Budget, Checkpoint, FlowContext, Gap, Message, MessageId, Room, SourceError,
};
use pgherald_postgres::{LockKey, PostgresError};
use tokio::sync::{Notify, futures::Notified};

use crate::{KeyRule, NotifySettings, error::source_error, queue::FlowQueue};

/// Who runs the flow, as far as this process knows.
#[derive(Clone, Debug)]
pub(crate) enum FlowOwner {
    /// A connection, a lock or an echo is under way.
    Unknown,
    /// The connection is down.
    Down(PostgresError),
    /// Another session holds the lock; the text names it.
    Other(Arc<str>),
    /// This process, by that LISTEN session.
    Session(u64),
    /// Nobody here: the process is stopping.
    Stopped,
}

/// One flow: a pipeline's channels into one of its sinks.
pub(crate) struct Slot {
    /// `<pipeline>/<sink>`
    pub(crate) name: Arc<str>,
    pub(crate) lock: LockKey,
    pub(crate) channels: Arc<[Arc<str>]>,
    pub(crate) key: KeyRule,
    /// The media type of every payload; `None`: by the payload.
    pub(crate) content_type: Option<Arc<str>>,
    state: Mutex<SlotState>,
    changed: Notify,
}

struct SlotState {
    queue: FlowQueue,
    owner: FlowOwner,
    /// Why the latest session ended.
    ended: Option<PostgresError>,
    /// The fault of the connection that an attempt to attach was told last.
    told: Option<PostgresError>,
}

/// What a read found.
pub(crate) enum Reading {
    /// Messages.
    Batch(Batch),
    /// Nothing is unread: wait for more.
    Nothing,
    /// Something is unread and does not fit: wait until something is settled.
    NoRoom,
    /// Nothing is unread and nothing will come.
    Over(SourceError),
}

impl Slot {
    pub(crate) fn new(context: &FlowContext, notify: &NotifySettings) -> Self {
        let channels = context.channels.as_ref().unwrap_or(&notify.channels);
        let budget = Budget { messages: context.budget.messages.max(1), ..context.budget };
        let state = SlotState {
            queue: FlowQueue::new(budget, Arc::clone(channels)),
            owner: FlowOwner::Unknown,
            ended: None,
            told: None,
        };
        Self {
            name: format!("{}/{}", context.pipeline, context.sink).into(),
            lock: LockKey::of_flow(&context.pipeline, &context.sink),
            channels: Arc::clone(channels),
            key: notify.key.clone(),
            content_type: notify.content_type.clone(),
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, SlotState> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What the hub does.

    /// Messages were heard; leaves `burst` empty.
    pub(crate) fn push(&self, burst: &mut Vec<Message>) {
        let mut state = self.state();
        burst.drain(..).for_each(|message| state.queue.push(message));
        drop(state);
        self.changed.notify_waiters();
    }

    /// The flow begins in that session: `gap`, then what is heard from now on. The nonce was sent
    /// at `echoed`.
    pub(crate) fn open(&self, session: u64, id: MessageId, gap: Gap, echoed: SystemTime) {
        let mut state = self.state();
        state.queue.push_gap(id, gap);
        state.queue.echo(echoed);
        state.owner = FlowOwner::Session(session);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A nonce that was sent at `at` came back.
    pub(crate) fn echo(&self, at: SystemTime) {
        self.state().queue.echo(at);
    }

    /// Says who runs the flow now; `true`: that is news.
    pub(crate) fn set_owner(&self, owner: FlowOwner) -> bool {
        let mut state = self.state();
        let news = !same(&state.owner, &owner);
        if let FlowOwner::Down(fault) = &owner {
            state.ended = Some(fault.clone());
        }
        state.owner = owner;
        drop(state);
        self.changed.notify_waiters();
        news
    }

    /// Whether another process is known to run the flow.
    pub(crate) fn is_standby(&self) -> bool {
        matches!(self.state().owner, FlowOwner::Other(_))
    }

    /// The process is stopping: nothing is heard from now on.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.queue.end_overflow();
        state.owner = FlowOwner::Stopped;
        drop(state);
        self.changed.notify_waiters();
    }

    /// The time up to which everything of this flow has been delivered (its watermark).
    pub(crate) fn settled_until(&self) -> Option<SystemTime> {
        self.state().queue.settled_until()
    }

    // What the source does.

    /// Resolves at the next change; make it before looking at the state.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether a session can be had: `None`: there is no news, wait for a change. A flow with unread
    /// messages can always be read, whoever runs it now.
    pub(crate) fn attach(&self) -> Option<Result<Option<u64>, SourceError>> {
        let mut state = self.state();
        let told = state.told.take();
        match &state.owner {
            FlowOwner::Session(session) => Some(Ok(Some(*session))),
            _ if !state.queue.is_empty() => Some(Ok(None)),
            // A fault is told once. Who has heard it waits here, not in a backoff, and so is back
            // as soon as the flow opens.
            FlowOwner::Unknown => {
                state.told = told;
                None
            }
            FlowOwner::Down(fault) => {
                let fault = fault.clone();
                let news = told.as_ref() != Some(&fault);
                state.told = Some(fault.clone());
                news.then(|| Err(source_error(fault)))
            }
            FlowOwner::Other(holder) => Some(Err(SourceError::Standby(holder.as_ref().into()))),
            FlowOwner::Stopped => Some(Err(SourceError::Stopped)),
        }
    }

    /// Frees what is settled and hands out what fits.
    pub(crate) fn read(
        &self,
        session: Option<u64>,
        room: Room,
        settled: Option<&Checkpoint>,
    ) -> Reading {
        let mut state = self.state();
        if let Some(settled) = settled {
            state.queue.settle(settled);
        }
        if let Some(batch) = state.queue.take(room) {
            return Reading::Batch(batch);
        }
        if !state.queue.is_empty() {
            return Reading::NoRoom;
        }
        match &state.owner {
            FlowOwner::Session(current) if session == Some(*current) => Reading::Nothing,
            FlowOwner::Stopped => Reading::Over(SourceError::Stopped),
            _ => Reading::Over(source_error(
                state
                    .ended
                    .clone()
                    .unwrap_or_else(|| PostgresError::transient("the LISTEN session ended")),
            )),
        }
    }

    pub(crate) fn settle(&self, through: &Checkpoint) {
        self.state().queue.settle(through);
    }

    /// A batch without messages.
    pub(crate) fn empty_batch(&self) -> Batch {
        Batch { messages: Vec::new(), end: Some(self.state().queue.end()) }
    }

    pub(crate) fn unread_messages(&self) -> usize {
        self.state().queue.unread_messages()
    }
}

fn same(one: &FlowOwner, other: &FlowOwner) -> bool {
    match (one, other) {
        (FlowOwner::Other(a), FlowOwner::Other(b)) => a == b,
        (FlowOwner::Session(a), FlowOwner::Session(b)) => a == b,
        (FlowOwner::Down(a), FlowOwner::Down(b)) => a == b,
        (FlowOwner::Unknown, FlowOwner::Unknown) | (FlowOwner::Stopped, FlowOwner::Stopped) => true,
        _ => false,
    }
}
