//! The doorbell: a reader that sleeps holds an advisory lock, and only then do producers ring.
//!
//! Each INSERT's trigger tries that lock in shared mode and announces only if it cannot get it.
//! One session a process and outbox, the waker's, holds the lock for every flow that sleeps, and
//! listens. A flow that found nothing asks for the bell to be armed, polls once more, and sleeps.
//! Whatever goes wrong here costs time and never a row: a flow that sleeps polls each second.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// The channel that the trigger of `pgherald setup` rings on.
pub(crate) const DOORBELL_CHANNEL: &str = "pgherald_doorbell";

/// How long a flow waits for the waker's answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The bell of one outbox, as the flows of this process share it.
pub(crate) struct Bell {
    state: watch::Sender<BellState>,
    /// A flow wants to sleep.
    pub(crate) wanted: Notify,
    /// Nothing rings here: no trigger, or a server with two-phase commit, where it must not.
    absent: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BellState {
    /// Every commit of an INSERT rings, until the next ring.
    armed: bool,
    rings: u64,
    /// Attempts to arm it that have been answered.
    answers: u64,
}

/// Says that the bell is armed, until it rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Default for Bell {
    fn default() -> Self {
        Self {
            state: watch::Sender::default(),
            wanted: Notify::new(),
            absent: AtomicBool::new(false),
        }
    }
}

impl Bell {
    /// Asks for the bell to be armed. `None`: not now, because a writer that has inserted is still
    /// open (it tried the lock already and rings no more), or because there is no bell.
    pub(crate) async fn arm(&self) -> Option<Ticket> {
        let mut news = self.state.subscribe();
        let asked = *news.borrow_and_update();
        if self.is_absent() {
            return None;
        }
        if asked.armed {
            return Some(Ticket(asked.rings));
        }
        self.wanted.notify_one();
        let answered = |state: &BellState| state.armed || state.answers != asked.answers;
        match timeout(ANSWER_WITHIN, news.wait_for(answered)).await {
            Ok(Ok(state)) if state.armed => Some(Ticket(state.rings)),
            _ => None,
        }
    }

    /// Whether it has been armed since that ticket was given.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        let state = *self.state.borrow();
        state.armed && state.rings == ticket.0
    }

    /// Resolves when it rings, or is not armed any more.
    pub(crate) async fn rung(&self, ticket: Ticket) {
        let mut news = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = news.wait_for(|state| !state.armed || state.rings != ticket.0).await;
    }

    /// The waker's answer to whoever wants to sleep.
    pub(crate) fn answer(&self, armed: bool) {
        self.state.send_modify(|state| {
            state.armed = armed;
            state.answers += 1;
        });
    }

    /// Wakes every flow that sleeps; from now on nobody rings.
    pub(crate) fn ring(&self) {
        self.state.send_modify(|state| {
            state.armed = false;
            state.rings += 1;
        });
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    pub(crate) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::Relaxed);
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.state.borrow().armed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_is_woken_once_for_each_ring() {
        let bell = Arc::new(Bell::default());
        let mut waker = JoinSet::new();
        let theirs = Arc::clone(&bell);
        waker.spawn(async move {
            theirs.wanted.notified().await;
            theirs.answer(false);
            theirs.wanted.notified().await;
            theirs.answer(true);
        });
        assert_eq!(bell.arm().await, None, "a writer is open");
        let ticket = bell.arm().await.unwrap();
        assert_eq!(bell.arm().await, Some(ticket), "one lock for all who sleep");
        assert!(bell.holds(ticket));
        assert!(timeout(Duration::from_secs(60), bell.rung(ticket)).await.is_err());
        bell.ring();
        bell.rung(ticket).await;
        assert!(!bell.holds(ticket) && !bell.is_armed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_porter_nobody_sleeps() {
        assert_eq!(Bell::default().arm().await, None);
    }
}
