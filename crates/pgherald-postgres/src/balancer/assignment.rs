//! Where a pipeline is run, as the flows of this process see it.

use std::{
    fmt,
    sync::{Arc, Mutex as Lock, MutexGuard},
};

use tokio::sync::{Mutex, Notify, watch};

use crate::PostgresError;

/// Where a pipeline is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// Nobody has looked yet.
    Unknown,
    /// Nobody could look.
    Failed(PostgresError),
    /// This process runs it, as far as it knows.
    Here,
    /// Another one is to have it; the flows of this process drain.
    Leaving,
    /// Another process runs it, or will; who, in words.
    Elsewhere(Arc<str>),
}

/// What the membership and the flows of one pipeline share.
pub(super) struct Shared {
    pub(super) pipeline: Arc<str>,
    /// Passes that were given out. Places change only under this lock.
    passes: Lock<usize>,
    place: watch::Sender<Location>,
    freed: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(pipeline: &str, freed: Arc<Notify>) -> Self {
        let place = watch::Sender::new(Location::Unknown);
        Self { pipeline: pipeline.into(), passes: Lock::new(0), place, freed }
    }

    pub(super) fn place(&self) -> Location {
        self.place.borrow().clone()
    }

    /// Tells the flows, if that is news.
    pub(super) fn put(&self, place: Location) {
        let _passes = self.passes();
        self.place.send_if_modified(|now| {
            let changed = *now != place;
            *now = place;
            changed
        });
    }

    /// The membership is lost: who runs goes on, who stands by knows nothing any more.
    pub(super) fn lost(&self, fault: &PostgresError) {
        let _passes = self.passes();
        self.place.send_if_modified(|now| {
            let stays = matches!(now, Location::Here | Location::Leaving);
            if !stays {
                *now = Location::Failed(fault.clone());
            }
            !stays
        });
    }

    /// Whether no flow of this process is attached or attaches.
    pub(super) fn is_free(&self) -> bool {
        *self.passes() == 0
    }

    fn passes(&self) -> MutexGuard<'_, usize> {
        self.passes.lock().expect("no panic happens under this lock")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.pipeline, self.place())
    }
}

/// One flow's view of where its pipeline is run.
#[derive(Debug)]
pub struct Assignment {
    shared: Arc<Shared>,
    /// What the flow was told last counts as seen.
    news: Mutex<watch::Receiver<Location>>,
}

/// The pipeline is not carried here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHere {
    /// Another process runs it, or will; who, in words.
    Elsewhere(Arc<str>),
    /// Nobody knows: the session that would tell could not be opened, or was lost.
    Unknown(PostgresError),
}

impl Assignment {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let news = Mutex::new(shared.place.subscribe());
        Self { shared, news }
    }

    /// The assignment of a pipeline that only this process knows: it always runs here.
    #[must_use]
    pub fn alone(pipeline: &str) -> Self {
        let shared = Shared::new(pipeline, Arc::default());
        shared.put(Location::Here);
        Self::new(Arc::new(shared))
    }

    /// Resolves with a guard when this process is to run the pipeline, and with an answer that the
    /// flow did not get yet when it is not.
    ///
    /// # Cancellation
    /// Nothing is lost; an answer that was not given comes the next time.
    pub async fn enter(&self) -> Result<AssignmentGuard, NotHere> {
        let mut news = self.news.lock().await;
        loop {
            if let Some(pass) = self.try_enter() {
                return Ok(pass);
            }
            // The sender lives in `shared`.
            let _ = news.changed().await;
            let place = news.borrow_and_update().clone();
            match place {
                Location::Unknown | Location::Here => {}
                Location::Failed(fault) => return Err(NotHere::Unknown(fault)),
                Location::Leaving => {
                    let text = format!("pipeline {} is handed over", self.shared.pipeline);
                    return Err(NotHere::Elsewhere(text.into()));
                }
                Location::Elsewhere(holder) => return Err(NotHere::Elsewhere(holder)),
            }
        }
    }

    fn try_enter(&self) -> Option<AssignmentGuard> {
        let mut passes = self.shared.passes();
        (*self.shared.place.borrow() == Location::Here).then(|| {
            *passes += 1;
            AssignmentGuard(Arc::clone(&self.shared))
        })
    }
}

/// Lets one flow attach, and be attached. The pipeline is let go when the last one is dropped.
#[derive(Debug)]
pub struct AssignmentGuard(Arc<Shared>);

impl AssignmentGuard {
    /// Whether the flow is to hand over.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        *self.0.place.borrow() == Location::Leaving
    }

    /// Resolves when the flow is to hand over.
    pub async fn revoked(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.place.subscribe().wait_for(|place| *place == Location::Leaving).await;
    }
}

impl Drop for AssignmentGuard {
    fn drop(&mut self) {
        let mut passes = self.0.passes();
        *passes -= 1;
        if *passes == 0 {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_once_and_a_pass_as_soon_as_there_is_one() {
        let shared = Arc::new(Shared::new("orders", Arc::default()));
        let assignment = Assignment::new(Arc::clone(&shared));
        assert!(timeout(LONG, assignment.enter()).await.is_err(), "nobody has looked yet");
        shared.put(Location::Elsewhere("by 7".into()));
        assert_eq!(assignment.enter().await.unwrap_err(), NotHere::Elsewhere("by 7".into()));
        shared.put(Location::Elsewhere("by 7".into()));
        assert!(timeout(LONG, assignment.enter()).await.is_err(), "that is no news");
        let fault = PostgresError::transient("gone");
        shared.lost(&fault);
        assert_eq!(assignment.enter().await.unwrap_err(), NotHere::Unknown(fault));
        shared.put(Location::Here);
        let pass = assignment.enter().await.unwrap();
        assert!(!shared.is_free() && !pass.is_revoked());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipeline_is_free_when_its_last_flow_has_let_go() {
        let freed = Arc::new(Notify::new());
        let shared = Arc::new(Shared::new("orders", Arc::clone(&freed)));
        let (one, other) =
            (Assignment::new(Arc::clone(&shared)), Assignment::new(Arc::clone(&shared)));
        shared.put(Location::Here);
        let (first, second) = (one.enter().await.unwrap(), other.enter().await.unwrap());
        shared.lost(&PostgresError::transient("gone"));
        assert!(timeout(LONG, first.revoked()).await.is_err(), "who runs goes on");
        shared.put(Location::Leaving);
        first.revoked().await;
        drop(first);
        assert!(!shared.is_free() && second.is_revoked());
        assert!(matches!(one.enter().await, Err(NotHere::Elsewhere(_))));
        drop(second);
        freed.notified().await;
        assert!(shared.is_free());
    }
}
