//! Outcomes on their way from a writer's task to core.

use std::sync::{
    Arc,
    atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Acquire},
    },
};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::{Confirmation, Open, Outcome, SinkError};

/// The outcomes that a writer has promised, for one that settles batches in a task of its own.
#[derive(Debug, Default)]
pub struct Outcomes {
    unheard: Arc<AtomicUsize>,
}

impl Outcomes {
    /// Whether core has heard every outcome that was promised so far, or does not want it any more.
    #[must_use]
    pub fn are_heard(&self) -> bool {
        self.unheard.load(Acquire) == 0
    }

    /// Promises one: where it is sent to, and what core waits for. If nobody sends it, the messages
    /// at these places are unknown (a place that is there several times in a row counts once), and
    /// the session is over as `abandoned` says.
    #[must_use]
    pub fn promise(
        &self,
        mut places: Vec<u32>,
        abandoned: fn() -> SinkError,
    ) -> (oneshot::Sender<Outcome>, Confirmation) {
        let (done, outcome) = oneshot::channel();
        let unheard = Unheard::one_more(&self.unheard);
        let confirmation = async move {
            let _unheard = unheard;
            outcome.await.unwrap_or_else(|_| {
                places.dedup();
                let open = places.into_iter().map(|place| (place, Open::Unknown)).collect();
                Outcome { open, session: Some(abandoned()) }
            })
        };
        (done, confirmation.boxed())
    }
}

/// Counts an outcome until core has it, or has dropped it.
struct Unheard(Arc<AtomicUsize>);

impl Unheard {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> SinkError {
        SinkError::Transient("gone".into())
    }

    #[tokio::test]
    async fn an_outcome_is_heard_when_core_has_it_or_has_dropped_it() {
        let outcomes = Outcomes::default();
        let (done, first) = outcomes.promise(vec![0], gone);
        let (_done, second) = outcomes.promise(vec![0], gone);
        done.send(Outcome::default()).unwrap();
        assert!(!outcomes.are_heard(), "it was sent, and nobody has taken it");
        assert!(first.await.open.is_empty());
        assert!(!outcomes.are_heard());
        drop(second);
        assert!(outcomes.are_heard());
    }

    #[tokio::test]
    async fn what_nobody_settles_is_unknown() {
        let (done, confirmation) = Outcomes::default().promise(vec![1, 1, 3], gone);
        drop(done);
        let Outcome { open, session } = confirmation.await;
        assert!(matches!(open[..], [(1, Open::Unknown), (3, Open::Unknown)]), "{open:?}");
        assert!(matches!(session, Some(SinkError::Transient(_))));
    }
}
