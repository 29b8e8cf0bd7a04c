//! The one thing that travels back: the newest settled checkpoint.

use tokio::sync::watch;

use crate::Checkpoint;

/// The newest checkpoint through which everything is settled. A session reads it while it waits,
/// and writes it cumulatively; older ones are of no interest.
#[derive(Debug)]
pub struct Settled {
    newest: watch::Sender<Option<Checkpoint>>,
}

impl Default for Settled {
    fn default() -> Self {
        Self { newest: watch::Sender::new(None) }
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
}
