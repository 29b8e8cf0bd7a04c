//! Dead letters that somebody asked for again, on their way through the window.
//!
//! One batch at a time: it enters behind everything else, without a checkpoint, and the next one is
//! asked for when the dead letters know what became of it.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::shared::{AttachPhase, FlowShared, chain};
use crate::{Batch, DeadLetters, FlowState, Message, MessageId};

/// How often a running flow asks for dead letters that are to be sent again.
const ASKS_EVERY: Duration = Duration::from_secs(2);

/// How soon a batch that does not fit into the window is offered again.
const OFFERS_EVERY: Duration = Duration::from_millis(50);

/// What became of the batch that was sent again.
#[derive(Default)]
pub(super) struct Replayed {
    state: Mutex<ReplayState>,
    changed: Notify,
    told: Notify,
}

#[derive(Default)]
struct ReplayState {
    in_window: bool,
    /// Put anew: what is left of the batch when it leaves the window was confirmed.
    rejected: Vec<MessageId>,
    confirmed: Vec<MessageId>,
}

impl ReplayState {
    /// Nothing is under way that a process which runs the flow next would send once more.
    fn is_told(&self) -> bool {
        !self.in_window && self.confirmed.is_empty()
    }
}

impl Replayed {
    fn state(&self) -> MutexGuard<'_, ReplayState> {
        self.state.lock().expect("no panic happens under this lock")
    }

    /// One of them was rejected again, and is kept.
    pub(super) fn rejected(&self, id: MessageId) {
        self.state().rejected.push(id);
    }

    /// The batch left the window: every message of it is settled.
    pub(super) fn left(&self, ids: Vec<MessageId>) {
        let mut state = self.state();
        let rejected = std::mem::take(&mut state.rejected);
        state.confirmed.extend(ids.into_iter().filter(|id| !rejected.contains(id)));
        state.in_window = false;
        drop(state);
        self.changed.notify_one();
    }

    /// Returns when the dead letters know everything that was confirmed.
    pub(super) async fn told(&self) {
        while !self.state().is_told() {
            self.told.notified().await;
        }
    }

    /// The window was emptied: they will be asked for again.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.rejected.clear();
        state.in_window = false;
    }
}

pub(super) struct Replays<'a> {
    shared: &'a FlowShared,
    letters: Option<&'a dyn DeadLetters>,
}

impl<'a> Replays<'a> {
    pub(super) fn new(shared: &'a FlowShared, letters: Option<&'a dyn DeadLetters>) -> Self {
        Self { shared, letters }
    }

    /// Sends again what is asked for. Never ends.
    pub(super) async fn run(&self) {
        let Some(letters) = self.letters else { return std::future::pending().await };
        loop {
            // Woken at once when a batch is done with, so that the next one follows it.
            let _ = timeout(ASKS_EVERY, self.shared.replayed.changed.notified()).await;
            if self.tell(letters).await {
                self.ask(letters).await;
            }
        }
    }

    /// At the end: what was confirmed since.
    pub(super) async fn finish(&self) {
        if let Some(letters) = self.letters {
            self.tell(letters).await;
        }
    }

    /// Says what was confirmed; true if nothing is left to say.
    async fn tell(&self, letters: &dyn DeadLetters) -> bool {
        let confirmed = self.shared.replayed.state().confirmed.clone();
        if confirmed.is_empty() {
            return true;
        }
        match letters.done(&confirmed).await {
            Ok(()) => {
                self.shared.replayed.state().confirmed.retain(|id| !confirmed.contains(id));
                self.shared.replayed.told.notify_one();
            }
            Err(error) => self.log(&error, "what was sent again cannot be noted"),
        }
        self.shared.replayed.state().confirmed.is_empty()
    }

    async fn ask(&self, letters: &dyn DeadLetters) {
        let Some(attachment) = self.carries() else { return };
        if self.shared.replayed.state().in_window {
            return;
        }
        let Some(room) = self.shared.window().room() else { return };
        match letters.next(room).await {
            Ok(messages) if messages.is_empty() => {}
            Ok(messages) => self.enter(attachment, messages).await,
            Err(error) => self.log(&error, "dead letters cannot be looked for"),
        }
    }

    /// Puts a batch into the window when there is room, unless the attachment ends before that.
    async fn enter(&self, attachment: AttachPhase, messages: Vec<Message>) {
        let mut batch = Some(Batch { messages, end: None });
        while self.carries() == Some(attachment) {
            batch = batch.and_then(|batch| self.shared.push_replay(batch).err());
            if batch.is_none() {
                return;
            }
            sleep(OFFERS_EVERY).await;
        }
        self.shared.window().reserve(None);
    }

    /// The attachment in which the flow runs; `None`: it does not, or is about to stop.
    fn carries(&self) -> Option<AttachPhase> {
        let attachment = *self.shared.attachment.borrow();
        let held = matches!(attachment, AttachPhase::Held(_));
        let flows = matches!(self.shared.state(), FlowState::Running | FlowState::Stalled);
        (held && flows && !self.shared.stop.is_cancelled()).then_some(attachment)
    }

    fn log(&self, error: &dyn std::error::Error, text: &str) {
        tracing::debug!(
            pipeline = &*self.shared.context.pipeline,
            sink = &*self.shared.context.sink,
            error = &*chain(error),
            "{text}"
        );
    }
}

impl FlowShared {
    /// Takes a batch of dead letters in; gives it back when there is no room yet, and keeps the
    /// source from taking that.
    fn push_replay(&self, batch: Batch) -> Result<(), Batch> {
        {
            let mut window = self.window();
            if !window.fits(&batch) {
                window.reserve(Some(&batch));
                return Err(batch);
            }
            window.reserve(None);
            self.replayed.state().in_window = true;
            self.tap.passed(&batch.messages);
            window.push(batch, tokio::time::Instant::now());
        }
        self.pushed.notify_one();
        Ok(())
    }
}
