//! What travels back: the newest settled checkpoint; and what a session says of itself meanwhile.

use std::sync::Mutex;

use tokio::{sync::watch, time::Instant};

use crate::Checkpoint;

/// The newest checkpoint through which everything is settled. A session reads it while it waits,
/// and writes it cumulatively; older ones are of no interest.
#[derive(Debug)]
pub struct Settled {
    newest: watch::Sender<Option<Checkpoint>>,
    /// A read of the session has succeeded.
    read: watch::Sender<bool>,
    lease: Mutex<Option<Instant>>,
}

impl Default for Settled {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(None),
            read: watch::Sender::new(false),
            lease: Mutex::default(),
        }
    }
}

impl Settled {
    /// The newest settled checkpoint of this session; `None`: nothing has settled yet.
    #[must_use]
    pub fn newest(&self) -> Option<Checkpoint> {
        self.newest.borrow().clone()
    }

    /// Sees every change from now on; a session makes one of these when its read begins.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Checkpoint>> {
        self.newest.subscribe()
    }

    /// Moves on. For core and for tests of sources.
    pub fn advance(&self, checkpoint: Checkpoint) {
        self.newest.send_replace(Some(checkpoint));
    }

    /// A session says that a read has succeeded, also one that brought nothing: from now on its flow
    /// counts as running. A batch says the same.
    pub fn read_succeeded(&self) {
        self.read.send_if_modified(|read| !std::mem::replace(read, true));
    }

    /// Resolves when a read has succeeded.
    pub(crate) async fn first_read(&self) {
        let mut read = self.read.subscribe();
        // The sender lives as long as `self`.
        let _ = read.wait_for(|read| *read).await;
    }

    /// A session says until when its server certainly holds the flow's lock for it, judging by the
    /// latest answer: later nothing more is published.
    pub fn hold_until(&self, until: Instant) {
        *self.lease() = Some(until);
    }

    /// Whether another process may hold the flow's lock by now.
    pub(crate) fn has_lapsed(&self) -> bool {
        self.lease().is_some_and(|until| Instant::now() >= until)
    }

    fn lease(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.lease.lock().expect("no panic happens under this lock")
    }
}
