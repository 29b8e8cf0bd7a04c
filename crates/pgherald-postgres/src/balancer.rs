//! Divides pipelines among the processes that could run them. A pipeline moves as a whole, after a drain.
//!
//! Each process has one session, its *membership*, that holds an advisory lock for everything that
//! others have to know: a shared one for each pipeline that it could run, an exclusive one for
//! each that it runs. Everybody looks at these locks every two seconds and makes the same plan from
//! them ([`plan`]); locks are tried, never awaited. A process that has too many stops to offer one,
//! lets its flows drain, and lets go; the one that is to have it takes it when it is free.
//!
//! This only says who *should* run it. What makes a second runner impossible is the lock of each
//! flow, in the session that reads: when the membership is lost, flows that run go on.

mod assignment;
mod locks;
mod member;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pgherald_core::{Backoff, Reconnect};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::assignment::{Assignment, AssignmentGuard, NotHere};
use self::{locks::unit_of, member::Membership, plan::PipelineId};
use crate::{Backend, PostgresError, PostgresSettings};

/// How long the session may take to end in good order.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The pipelines of this process that may be run by any process that knows them.
pub struct Balancer {
    postgres: PostgresSettings,
    stop: CancellationToken,
    /// By what the locks call them. Two pipelines of one name's digest are run together.
    assignments: BTreeMap<PipelineId, Arc<assignment::Shared>>,
    /// A pass was given back, and nobody has one any more.
    freed: Arc<Notify>,
}

impl Balancer {
    /// Nothing happens before [`Balancer::run`].
    #[must_use]
    pub fn new(postgres: PostgresSettings, stop: CancellationToken) -> Self {
        Self { postgres, stop, assignments: BTreeMap::new(), freed: Arc::default() }
    }

    /// What one flow of a pipeline with these sinks asks before it attaches. The pipeline takes part
    /// from then on. A process that has other sinks for it does not share it: each carries what the
    /// locks of the flows leave to it, and no sink stands by for a process that does not know it.
    pub fn assignment(&mut self, pipeline: &str, sinks: &BTreeSet<&str>) -> Assignment {
        let new = || Arc::new(assignment::Shared::new(pipeline, Arc::clone(&self.freed)));
        Assignment::new(Arc::clone(
            self.assignments.entry(unit_of(pipeline, sinks)).or_insert_with(new),
        ))
    }

    /// Takes part until the process stops and its flows have let go of everything. Faults are
    /// retried; flows that run go on meanwhile.
    pub async fn run(self) {
        let mut reconnect = Reconnect::new(Backoff::default());
        let mut former: Option<Backend> = None;
        while !self.stop.is_cancelled() {
            let fault = match self.join(&mut former).await {
                Ok(membership) => {
                    reconnect.succeeded();
                    match self.take_part(membership).await {
                        Ok(()) => return,
                        Err(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            tell(&fault, reconnect.failures());
            self.assignments.values().for_each(|assignment| assignment.lost(&fault));
            tokio::select! {
                () = reconnect.wait() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// A process that stops before it took part has nothing to let go of.
    async fn join(&self, former: &mut Option<Backend>) -> Result<Membership<'_>, PostgresError> {
        let joining = Membership::join(&self.postgres, &self.assignments, former);
        tokio::select! {
            membership = joining => membership,
            () = self.stop.cancelled() => Err(PostgresError::transient("the process is stopping")),
        }
    }

    /// `Ok`: the process has stopped.
    async fn take_part(&self, mut membership: Membership<'_>) -> Result<(), PostgresError> {
        loop {
            let pause = membership.turn(self.stop.is_cancelled()).await?;
            if self.stop.is_cancelled()
                && self.assignments.values().all(|assignment| assignment.is_free())
            {
                let _ = timeout(CLOSE_WITHIN, membership.leave()).await;
                return Ok(());
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.freed.notified() => {}
                () = self.stop.cancelled(), if !membership.leaves() => {}
            }
        }
    }
}

/// A fault is told once; the flows that wait for the membership say it, too.
fn tell(fault: &PostgresError, failures: u32) {
    let text = "lost the session that assigns pipelines to processes; flows that run continue";
    match failures {
        0 => tracing::warn!(error = %fault, "{text}"),
        _ => tracing::debug!(error = %fault, "{text}"),
    }
}
