//! The one session by which a process takes part.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection};

use super::{
    assignment::{Location, Shared},
    locks::{self, Changes, Look},
    plan::{Member, PipelineId, Plan},
};
use crate::{
    Backend, PostgresError, PostgresSettings, Purpose, bounded, lock_holder_settings, open, query,
    read_clock,
};

/// How often everybody looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same while a pipeline is on its way to this process.
const EXPECTING_LOOK_EVERY: Duration = Duration::from_millis(200);
/// A session that says nothing for three of these ends, and its locks are free.
const HEARTBEAT: Duration = Duration::from_secs(5);
const STATEMENT_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Membership<'a> {
    connection: PgConnection,
    me: Member,
    assignments: &'a BTreeMap<PipelineId, Arc<Shared>>,
    /// The process stops: it offers nothing any more.
    leaves: bool,
}

impl<'a> Membership<'a> {
    /// Connects, and first ends this process's former session, which may still hold its locks.
    pub(super) async fn join(
        postgres: &PostgresSettings,
        assignments: &'a BTreeMap<PipelineId, Arc<Shared>>,
        former: &mut Option<Backend>,
    ) -> Result<Self, PostgresError> {
        let opening = open(postgres, Purpose::Outbox, former.as_ref());
        let (mut connection, server) = opening.await?;
        let settings = lock_holder_settings(HEARTBEAT, STATEMENT_WITHIN);
        let setting = query(&mut connection, &settings);
        bounded("begin the membership", STATEMENT_WITHIN, setting).await?;
        let me = server.backend.pid;
        *former = Some(server.backend);
        Ok(Self { connection, me, assignments, leaves: false })
    }

    /// Looks once and does what follows from it; returns when to look again.
    pub(super) async fn turn(&mut self, stopping: bool) -> Result<Duration, PostgresError> {
        self.leaves |= stopping;
        let mut now = self.look().await?;
        let due = self.due(&now);
        if !due.is_empty() {
            self.apply(&due).await?;
            now = self.look().await?;
        }
        if self.leaves {
            return Ok(LOOK_EVERY);
        }
        let plan = Plan::of(&now.snapshot);
        self.hand_over(&now, &plan).await?;
        self.take(&now, &plan).await?;
        self.tell(&now, &plan);
        Ok(self.pause(&plan))
    }

    /// Whether the process is known to stop.
    pub(super) fn leaves(&self) -> bool {
        self.leaves
    }

    /// Ends the session, so that its locks are free at once.
    pub(super) async fn leave(self) {
        let _ = self.connection.close().await;
    }

    /// Looks who carries what, and at the server's clock.
    async fn look(&mut self) -> Result<Look, PostgresError> {
        let reading = read_clock(&mut self.connection);
        bounded("read the server's clock", STATEMENT_WITHIN, reading).await?;
        let looking = locks::look(&mut self.connection);
        bounded("look who carries which pipeline", STATEMENT_WITHIN, looking).await
    }

    async fn apply(&mut self, changes: &Changes) -> Result<(), PostgresError> {
        let applying = locks::apply(&mut self.connection, changes);
        bounded("tell who carries which pipeline", STATEMENT_WITHIN, applying).await
    }

    /// The changes of our locks that do not depend on the plan. A new session holds no lock.
    fn due(&self, now: &Look) -> Changes {
        let mut due = Changes::default();
        for (unit, assignment) in self.assignments {
            let runner = now.snapshot.runners.get(unit).copied();
            if runner.is_some_and(|runner| runner != self.me)
                && assignment.place() == Location::Here
            {
                // The membership was lost, and another process has taken it meanwhile.
                assignment.put(Location::Leaving);
            }
            // Step 2 of a hand-over: only when no flow of the pipeline is attached here any more is its lock
            // released. Until then nobody else may take it.
            let left = assignment.place() == Location::Leaving && assignment.is_free();
            if runner == Some(self.me) && (left || self.leaves && assignment.is_free()) {
                due.let_go.push(*unit);
            }
            if left {
                assignment.put(Location::Unknown);
            }
            let offers = !self.leaves && assignment.place() != Location::Leaving;
            match now.snapshot.is_candidate(*unit, self.me) {
                true if !offers => due.withdraw.push(*unit),
                false if offers => due.offer.push(*unit),
                _ => {}
            }
        }
        due
    }

    /// Step 1 of a hand-over: withdraws our offer for a pipeline that another process is to run, and lets its
    /// flows drain. The lock stays ours (see `due`).
    async fn hand_over(&mut self, now: &Look, plan: &Plan) -> Result<(), PostgresError> {
        let mut changes = Changes::default();
        for (unit, assignment) in self.assignments {
            let mine = now.snapshot.runners.get(unit) == Some(&self.me);
            let next = plan.runner(*unit).filter(|next| *next != self.me);
            let Some(next) = next.filter(|_| mine && assignment.place() == Location::Here) else {
                continue;
            };
            assignment.put(Location::Leaving);
            changes.withdraw.push(*unit);
            let (pipeline, to) = (&*assignment.pipeline, named(now, next));
            let (here, there) = (plan.load(self.me), plan.load(next));
            tracing::info!(
                pipeline,
                "pipeline {pipeline} is handed over to {to}: {here} pipelines here, {there} there"
            );
        }
        if changes.is_empty() { Ok(()) } else { self.apply(&changes).await }
    }

    /// Step 3 of a hand-over, in the other process: takes the pipelines that are free and that the plan gives
    /// to this process. Also takes again those that it kept running while its membership was lost.
    async fn take(&mut self, now: &Look, plan: &Plan) -> Result<(), PostgresError> {
        let free = |unit: &PipelineId| !now.snapshot.runners.contains_key(unit);
        let wanted = |(unit, assignment): &(&PipelineId, &Arc<Shared>)| {
            free(unit)
                && match assignment.place() {
                    Location::Here => true,
                    Location::Leaving => false,
                    _ => plan.runner(**unit) == Some(self.me),
                }
        };
        let wanted: Vec<PipelineId> =
            self.assignments.iter().filter(wanted).map(|(unit, _)| *unit).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let taking = locks::take(&mut self.connection, &wanted);
        let taken = bounded("take free pipelines", STATEMENT_WITHIN, taking).await?;
        let here = plan.load(self.me);
        for assignment in taken.iter().filter_map(|unit| self.assignments.get(unit)) {
            if assignment.place() != Location::Here {
                let pipeline = &*assignment.pipeline;
                tracing::info!(
                    pipeline,
                    "pipeline {pipeline} is carried here now: {here} of {} pipelines here",
                    self.assignments.len()
                );
            }
            assignment.put(Location::Here);
        }
        Ok(())
    }

    /// Tells the flows of all other pipelines which process runs them.
    fn tell(&self, now: &Look, plan: &Plan) {
        for (unit, assignment) in self.assignments {
            if matches!(assignment.place(), Location::Here | Location::Leaving) {
                continue;
            }
            let pipeline = &*assignment.pipeline;
            let runner = now.snapshot.runners.get(unit).copied();
            let text = match (runner, plan.runner(*unit)) {
                (Some(runner), _) => {
                    format!("pipeline {pipeline} is carried by {}", named(now, runner))
                }
                (None, Some(next)) => format!("pipeline {pipeline} goes to {}", named(now, next)),
                (None, None) => format!("pipeline {pipeline} was let go a moment ago"),
            };
            assignment.put(Location::Elsewhere(text.into()));
        }
    }

    fn pause(&self, plan: &Plan) -> Duration {
        let mut pause = LOOK_EVERY;
        for (unit, assignment) in self.assignments {
            match assignment.place() {
                // No flow was attached: there is nothing to wait for.
                Location::Leaving if assignment.is_free() => return Duration::ZERO,
                Location::Here | Location::Leaving => {}
                _ if plan.runner(*unit) == Some(self.me) => pause = EXPECTING_LOOK_EVERY,
                _ => {}
            }
        }
        pause
    }
}

fn named(now: &Look, member: Member) -> String {
    match now.members.get(&member) {
        Some(holder) => holder.to_string(),
        None => format!("pid {member}"),
    }
}
