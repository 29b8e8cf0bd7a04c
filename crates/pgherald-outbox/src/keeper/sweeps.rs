//! Deletes what is settled, group by group and piece by piece; what was passed over is looked at again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pgherald_postgres::PostgresError;
use sqlx::PgConnection;
use tokio::time::Instant;

use super::{Keeper, Outcome};
use crate::{
    attempt::{Refusal, attempt},
    deletion::{Deleted, Locked, Piece},
    flow::FlowFacts,
    ranges::Ranges,
    retention::{Channels, Group, Progress},
    server::TableFacts,
};

/// How long one group may be deleted from before the next one has its turn.
const TURN: Duration = Duration::from_millis(250);
/// How long a round may delete before it looks at the cursors again.
const ROUND: Duration = Duration::from_millis(500);
/// After a lock was in the way, locked rows are passed over for so long.
const AROUND_LOCKS: Duration = Duration::from_secs(10);
/// What was passed over is looked at again so often, and for at most one part in [`SWEEP_SHARE`] of
/// the time.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const SWEEP_SHARE: u32 = 20;

/// How far the groups of one outbox are deleted.
#[derive(Default)]
pub(super) struct Sweeps {
    sweeps: BTreeMap<Channels, Sweep>,
    /// The group that has its turn first.
    turn: usize,
    /// What becomes of locked rows, until then.
    locked: Option<(Instant, Locked)>,
}

/// One run over everything that a group has settled.
struct Sweep {
    /// What the cursors were looked at in when it began.
    snapshot: String,
    progress: Progress,
    began: Instant,
    spent: Duration,
}

/// What deleting needs in one round.
pub(super) struct Sweeping<'a> {
    pub(super) keeper: &'a Keeper,
    pub(super) connection: &'a mut PgConnection,
    pub(super) facts: &'a TableFacts,
    /// What the cursors were looked at in.
    pub(super) snapshot: &'a str,
}

impl Sweeps {
    /// Groups take turns, each for a little while.
    pub(super) async fn delete(
        &mut self,
        mut sweeping: Sweeping<'_>,
        groups: &[Group],
        outcome: &mut Outcome,
    ) -> Result<(), PostgresError> {
        self.sweeps.retain(|channels, _| groups.iter().any(|group| group.channels == *channels));
        let until = Instant::now() + ROUND;
        let first = self.turn;
        for place in 0..groups.len() {
            self.turn = first + place;
            if Instant::now() >= until {
                outcome.busy = true;
                return Ok(());
            }
            let group = &groups[self.turn % groups.len()];
            self.delete_group(&mut sweeping, group, outcome).await?;
        }
        self.turn = first + 1;
        Ok(())
    }

    /// Whether all that is settled was looked at since this snapshot, and nothing was passed over that
    /// another sweep could find.
    pub(super) fn are_done(&self, groups: &[Group], snapshot: &str) -> bool {
        groups.iter().all(|group| {
            let Some(settled) = &group.settled else { return true };
            self.sweeps.get(&group.channels).is_some_and(|sweep| {
                sweep.snapshot == snapshot && sweep.progress.window(settled).is_empty()
            })
        })
    }

    async fn delete_group(
        &mut self,
        sweeping: &mut Sweeping<'_>,
        group: &Group,
        outcome: &mut Outcome,
    ) -> Result<(), PostgresError> {
        let Some(settled) = &group.settled else { return Ok(()) };
        let until = Instant::now() + TURN;
        let mut again = true;
        loop {
            let sweep = self.sweeps.remove(&group.channels);
            let mut sweep = sweep.unwrap_or_else(|| Sweep::since(sweeping.snapshot));
            let window = sweep.progress.window(settled);
            if window.is_empty() {
                if !sweep.is_over() {
                    self.sweeps.insert(group.channels.clone(), sweep);
                }
                return Ok(());
            }
            if Instant::now() >= until {
                self.sweeps.insert(group.channels.clone(), sweep);
                outcome.busy = true;
                return Ok(());
            }
            let began = Instant::now();
            let done = self.piece(sweeping, group, &window).await?;
            sweep.spent += began.elapsed();
            // A cursor that its carrier has just written is another one; the next try knows it.
            let goes_on = match &done {
                Ok(deleted) if deleted.valid => {
                    sweep.progress.advance(&window, deleted.last);
                    true
                }
                Ok(_) => std::mem::take(&mut again),
                Err(_) => false,
            };
            self.sweeps.insert(group.channels.clone(), sweep);
            outcome.take(done.map(drop));
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Deletes a piece. Where a lock is in the way, locked rows are passed over for a while.
    async fn piece(
        &mut self,
        sweeping: &mut Sweeping<'_>,
        group: &Group,
        window: &Ranges,
    ) -> Result<Result<Deleted, Refusal>, PostgresError> {
        let known = self.locked.filter(|(until, _)| Instant::now() < *until);
        let mut locked = known.map_or(Locked::Wait, |(_, locked)| locked);
        loop {
            let done = sweeping.try_piece(group, window, locked).await?;
            let in_the_way = matches!(&done, Err(refused) if refused.locked);
            if !in_the_way || locked == Locked::SkipTouched {
                return Ok(done);
            }
            locked = locked.next();
            self.locked = Some((Instant::now() + AROUND_LOCKS, locked));
        }
    }
}

impl Sweeping<'_> {
    async fn try_piece(
        &mut self,
        group: &Group,
        window: &Ranges,
        locked: Locked,
    ) -> Result<Result<Deleted, Refusal>, PostgresError> {
        let own = |flow: &Arc<FlowFacts>| {
            let name = format!("{}/{}", flow.pipeline(), flow.sink());
            flow.written().map(|written| (name, written))
        };
        let own: Vec<_> = self.keeper.flows.iter().filter_map(own).collect();
        let piece = Piece {
            table: &self.keeper.table,
            facts: self.facts,
            channels: &group.channels,
            takers: &group.takers,
            window,
            own: &own,
            locked,
        };
        attempt("delete settled rows", piece.delete(self.connection)).await
    }
}

impl Sweep {
    fn since(snapshot: &str) -> Self {
        Self {
            snapshot: snapshot.to_owned(),
            progress: Progress::default(),
            began: Instant::now(),
            spent: Duration::ZERO,
        }
    }

    /// Whether it is time to look again at what was passed over.
    fn is_over(&self) -> bool {
        self.began.elapsed() >= SWEEP_EVERY.max(self.spent * SWEEP_SHARE)
    }
}
