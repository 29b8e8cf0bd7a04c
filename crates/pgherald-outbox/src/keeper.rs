//! Deletes what every sink has settled, and measures what is left.
//!
//! One session a process and outbox, apart from the readers', so that neither waits for the other.
//! Of several processes the one that holds the keeper's lock deletes; all of them must run a flow.

mod duty;
mod roll;
mod sweeps;

use std::{sync::Arc, time::Duration};

use pgherald_core::{Backoff, Reconnect};
use pgherald_postgres::{PostgresError, PostgresSettings, Purpose, bounded, open, query};
use sqlx::{PgConnection, Row};
use tokio::time::sleep;

pub(crate) use self::duty::PATIENCE;
use self::{
    duty::Duty,
    roll::Roll,
    sweeps::{Sweeping, Sweeps},
};
use crate::{
    Retain, TableName,
    attach::session_settings,
    attempt::{self, Refusal},
    cursors::{Look, look_with_sequence},
    flow::{FlowFacts, STATEMENT_WITHIN},
    late::LateWatch,
    measure::{Schedule, Seen},
    retention::{Cursor, groups},
    server::{KEEPER, TableFacts},
};

/// Behind a round that left something to delete.
const PAUSE_BUSY: Duration = Duration::from_millis(100);
/// Behind a round that found a cursor moved.
const PAUSE_MOVING: Duration = Duration::from_millis(500);
const PAUSE_IDLE: Duration = Duration::from_secs(2);

pub(crate) struct Keeper {
    postgres: PostgresSettings,
    table: TableName,
    flows: Vec<Arc<FlowFacts>>,
    patience: Duration,
}

struct Session<'a> {
    keeper: &'a Keeper,
    connection: PgConnection,
    facts: TableFacts,
    holds_lock: bool,
    sweeps: Sweeps,
    measured: Schedule,
    late: Vec<LateWatch>,
    /// The positions of the round before.
    positions: Vec<(i64, usize)>,
    /// A look that shows this snapshot again finds nothing to do, if rows may be deleted or not as
    /// then: nobody committed anything since.
    at_rest: Option<(String, bool)>,
}

/// What a round came to.
#[derive(Default)]
struct Outcome {
    /// There is more to delete.
    busy: bool,
    moving: bool,
    /// Something was deleted or measured.
    worked: bool,
    /// Rows could not be deleted, or not be told apart.
    refused: Option<Refusal>,
    /// Nothing could be measured.
    unmeasured: Option<Refusal>,
}

impl Outcome {
    fn take(&mut self, done: Result<(), Refusal>) {
        match done {
            Ok(()) => self.worked = true,
            Err(refused) => self.refused = Some(refused),
        }
    }

    fn left_nothing(&self) -> bool {
        !self.busy && !self.moving && self.refused.is_none()
    }

    /// What kept the keeper from its work. What cannot be measured is no matter while rows go.
    fn fault(&self) -> Option<&Refusal> {
        self.refused.as_ref().or(self.unmeasured.as_ref().filter(|_| !self.worked))
    }

    fn pause(&self) -> Duration {
        match (self.busy, self.moving) {
            (true, _) => PAUSE_BUSY,
            (false, true) => PAUSE_MOVING,
            (false, false) => PAUSE_IDLE,
        }
    }
}

impl Keeper {
    pub(crate) fn new(
        postgres: PostgresSettings,
        table: TableName,
        flows: Vec<Arc<FlowFacts>>,
        patience: Duration,
    ) -> Self {
        Self { postgres, table, flows, patience }
    }

    /// Faults are retried: rows stay a little longer.
    pub(crate) async fn run(self) {
        let (mut duty, mut roll) = (Duty::new(self.patience), Roll::default());
        let mut reconnect = Reconnect::new(Backoff::default());
        loop {
            while !self.carries() {
                duty.rests();
                sleep(PAUSE_IDLE / 4).await;
            }
            if let Err(fault) = self.keep(&mut duty, &mut roll, &mut reconnect).await {
                self.tell(&mut duty, &fault);
                reconnect.wait().await;
            }
        }
    }

    fn tell(&self, duty: &mut Duty, fault: &PostgresError) {
        if duty.failed(&fault.to_string()) {
            tracing::warn!(
                table = %self.table,
                error = %fault,
                "settled rows of the outbox cannot be deleted now"
            );
        }
        duty.tell(&self.table, &self.flows);
    }

    /// Whether a flow of this process is attached.
    fn carries(&self) -> bool {
        self.flows.iter().any(|flow| flow.is_carried())
    }

    /// One `keep` among the flows of this process keeps the rows of all.
    fn deletes(&self) -> bool {
        self.flows.iter().all(|flow| flow.settings.retain == Retain::Delete)
    }

    /// Works until this process runs nothing any more.
    async fn keep(
        &self,
        duty: &mut Duty,
        roll: &mut Roll,
        reconnect: &mut Reconnect,
    ) -> Result<(), PostgresError> {
        let mut session = Session::begin(self).await?;
        while self.carries() {
            let outcome = session.round(roll).await?;
            reconnect.succeeded();
            match outcome.fault() {
                Some(refused) => {
                    let fault = session.explain(refused).await?;
                    self.tell(duty, &fault);
                }
                None if outcome.worked => duty.done(),
                None => {}
            }
            duty.tell(&self.table, &self.flows);
            sleep(outcome.pause()).await;
        }
        Ok(())
    }
}

impl<'a> Session<'a> {
    async fn begin(keeper: &'a Keeper) -> Result<Self, PostgresError> {
        let (mut connection, _) = open(&keeper.postgres, Purpose::Outbox, None).await?;
        let facts = TableFacts::require(&mut connection, &keeper.table).await?;
        let settings = format!(
            "{}; {}; SET synchronous_commit = off",
            session_settings(),
            attempt::settings()
        );
        let setting = query(&mut connection, &settings);
        bounded("begin the outbox keeper's session", STATEMENT_WITHIN, setting).await?;
        Ok(Self {
            keeper,
            connection,
            facts,
            holds_lock: false,
            sweeps: Sweeps::default(),
            measured: Schedule::default(),
            late: keeper.flows.iter().map(|_| LateWatch::default()).collect(),
            positions: Vec::new(),
            at_rest: None,
        })
    }

    /// Looks at the cursors, deletes, looks for late rows and measures.
    async fn round(&mut self, roll: &mut Roll) -> Result<Outcome, PostgresError> {
        let sequence = Some(self.facts.sequence);
        let looking = look_with_sequence(&mut self.connection, &self.keeper.table, sequence);
        let look = bounded("read the cursors", STATEMENT_WITHIN, looking).await?;
        self.require_same_table(&look)?;
        let newest = self.newest(&look).await?;
        self.tell_who_is_behind(&look, newest);
        let groups = groups(&look.cursors);
        let mut outcome = Outcome { moving: self.have_moved(&look), ..Outcome::default() };
        let deletes = self.may_delete(&look, roll).await?;
        let now = (look.snapshot.clone(), deletes);
        if self.at_rest.as_ref() != Some(&now) {
            if deletes {
                let Self { keeper, connection, facts, sweeps, .. } = self;
                let sweeping = Sweeping { keeper, connection, facts, snapshot: &look.snapshot };
                sweeps.delete(sweeping, &groups, &mut outcome).await?;
            }
            self.look_for_late(&look, &mut outcome).await?;
            let swept = !deletes || self.sweeps.are_done(&groups, &look.snapshot);
            let at_rest = outcome.left_nothing() && swept && self.have_looked(&look);
            self.at_rest = at_rest.then_some(now);
        }
        let Self { keeper, connection, measured, .. } = self;
        let seen = Seen { table: &keeper.table, cursors: &look.cursors, groups: &groups, newest };
        if let Some(done) = measured.measure(connection, &keeper.flows, &seen).await? {
            match done {
                Ok(()) => outcome.worked = true,
                Err(refused) => outcome.unmeasured = Some(refused),
            }
        }
        Ok(outcome)
    }

    /// Whether late rows of every flow were looked for in all that this look shows.
    fn have_looked(&self, look: &Look) -> bool {
        let mut watches = self.keeper.flows.iter().zip(&self.late);
        watches.all(|(flow, watch)| !flow.is_carried() || watch.is_done(look, flow))
    }

    /// The newest id that was handed out. Of a sequence that was not used since it was made or restarted
    /// that takes more statements, and matters only to a cursor that stands somewhere.
    async fn newest(&mut self, look: &Look) -> Result<i64, PostgresError> {
        let begun = look.cursors.iter().any(|cursor| cursor.position.high > 0);
        if look.newest.is_some() || !begun {
            return Ok(look.newest.unwrap_or(0));
        }
        let asking = self.facts.newest(&mut self.connection);
        bounded("read the outbox's sequence", STATEMENT_WITHIN, asking).await
    }

    fn require_same_table(&self, look: &Look) -> Result<(), PostgresError> {
        if look.table == Some(self.facts.table) {
            return Ok(());
        }
        let text = format!("the outbox {} is gone or another table now", self.keeper.table);
        Err(PostgresError::transient(text))
    }

    fn have_moved(&mut self, look: &Look) -> bool {
        let position = |it: &Cursor| (it.position.high, it.position.missing.len());
        let positions: Vec<_> = look.cursors.iter().map(position).collect();
        let moved = self.positions != positions;
        self.positions = positions;
        moved
    }

    /// A sequence that is set back while flows run issues ids behind them. And a cursor that somebody
    /// else wrote is to be read again.
    fn tell_who_is_behind(&self, look: &Look, newest: i64) {
        for flow in &self.keeper.flows {
            let behind = |it: &Cursor| it.is_of(flow) && it.position.high > newest;
            if look.cursors.iter().any(behind) {
                flow.was_set_back(newest);
            }
            let other = |it: &Cursor| {
                it.is_of(flow) && flow.written().is_some_and(|written| written.token != it.token)
            };
            if look.cursors.iter().any(other) {
                flow.doubt_cursor();
            }
        }
    }

    /// Nothing is deleted before every sink of this process is registered, or while a cursor that was
    /// there is gone.
    async fn may_delete(&mut self, look: &Look, roll: &mut Roll) -> Result<bool, PostgresError> {
        let asking = roll.is_complete(&mut self.connection, &look.cursors);
        let complete = bounded("look for cursors that are gone", STATEMENT_WITHIN, asking).await?;
        let known = |flow: &Arc<FlowFacts>| look.cursors.iter().any(|cursor| cursor.is_of(flow));
        if !complete || !self.keeper.deletes() || !self.keeper.flows.iter().all(known) {
            return Ok(false);
        }
        if !self.holds_lock {
            self.holds_lock = self.try_lock().await?;
        }
        Ok(self.holds_lock)
    }

    async fn try_lock(&mut self) -> Result<bool, PostgresError> {
        let key = self.facts.table.cast_signed();
        let sql = format!("SELECT pg_try_advisory_lock({KEEPER}, {key})");
        let trying = query(&mut self.connection, &sql);
        let rows = bounded("try the outbox keeper's lock", STATEMENT_WITHIN, trying).await?;
        Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false))
    }

    async fn look_for_late(
        &mut self,
        look: &Look,
        outcome: &mut Outcome,
    ) -> Result<(), PostgresError> {
        for (flow, watch) in self.keeper.flows.iter().zip(&mut self.late) {
            if !flow.is_carried() {
                *watch = LateWatch::default();
                continue;
            }
            if let Err(refused) = watch.turn(&mut self.connection, look, flow).await? {
                outcome.refused = Some(refused);
            }
        }
        Ok(())
    }

    /// Names whose lock on the table is in the way.
    async fn explain(&mut self, refused: &Refusal) -> Result<PostgresError, PostgresError> {
        let fault = refused.fault.clone();
        if !refused.locked {
            return Ok(fault);
        }
        let sql = format!(
            "SELECT 'pid ' || l.pid || ' (' || coalesce(a.usename, '') || ') holds ' || l.mode \
             FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid \
             WHERE l.locktype = 'relation' AND l.granted AND l.relation = {}::oid \
             AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
             'AccessExclusiveLock') AND l.database = (SELECT oid FROM pg_database \
             WHERE datname = current_database()) ORDER BY l.mode LIMIT 1",
            self.facts.table
        );
        let looking = query(&mut self.connection, &sql);
        let rows = bounded("find the lock's holder", STATEMENT_WITHIN, looking).await?;
        let holder: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
        let table = &self.keeper.table;
        let fix = match holder {
            Some(holder) => format!("{holder} on {table}: let it end"),
            None => format!("end the transaction that locks rows of {table}"),
        };
        Ok(PostgresError { fix, ..fault })
    }
}
