//! Deletes what every sink has settled, and measures what is left.
//!
//! One session a process and outbox, apart from the readers', so that neither waits for the other.
//! Of several processes the one that holds the keeper's lock deletes; all of them must carry a flow.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pgherald_core::Backoff;
use pgherald_postgres::{PostgresError, PostgresSettings, Purpose, bounded, literal, open, query};
use sqlx::{PgConnection, Row};
use tokio::time::{Instant, sleep};

use crate::{
    Retain, TableName,
    attach::session_settings,
    flow::{FlowFacts, STATEMENT_WITHIN},
    measure::{Schedule, Seen},
    position::Position,
    ranges::Ranges,
    retention::{Channels, Cursor, Group, Progress, groups},
    server::{KEEPER, TableFacts},
};

/// Rows in one DELETE: a few milliseconds.
const PIECE_ROWS: i64 = 5_000;
/// How long a round may delete before it looks at the cursors again.
const ROUND: Duration = Duration::from_millis(500);
/// Behind a round that deleted something.
const PAUSE_BUSY: Duration = Duration::from_millis(100);
const PAUSE_IDLE: Duration = Duration::from_secs(2);

pub(crate) struct Keeper {
    postgres: PostgresSettings,
    table: TableName,
    flows: Vec<Arc<FlowFacts>>,
}

struct Session<'a> {
    keeper: &'a Keeper,
    connection: PgConnection,
    facts: TableFacts,
    holds_lock: bool,
    progress: BTreeMap<Channels, Progress>,
    measured: Schedule,
}

impl Keeper {
    pub(crate) fn new(
        postgres: PostgresSettings,
        table: TableName,
        flows: Vec<Arc<FlowFacts>>,
    ) -> Self {
        Self { postgres, table, flows }
    }

    /// Faults are retried: rows stay a little longer.
    pub(crate) async fn run(self) {
        let mut said = None;
        loop {
            while !self.carries() {
                sleep(PAUSE_IDLE / 4).await;
            }
            let Err(fault) = self.keep().await else {
                said = None;
                continue;
            };
            if said.as_ref() != Some(&fault) {
                self.log(&fault);
            }
            said = Some(fault);
            sleep(Backoff::default().cap).await;
        }
    }

    fn log(&self, fault: &PostgresError) {
        tracing::warn!(
            table = %self.table,
            error = %fault,
            "settled rows of the outbox cannot be deleted now"
        );
    }

    /// Whether a flow of this process is attached.
    fn carries(&self) -> bool {
        self.flows.iter().any(|flow| flow.is_carried())
    }

    /// One `keep` among the flows of this process keeps the rows of all.
    fn deletes(&self) -> bool {
        self.flows.iter().all(|flow| flow.settings.retain == Retain::Delete)
    }

    /// Works until this process carries nothing any more.
    async fn keep(&self) -> Result<(), PostgresError> {
        let mut session = Session::begin(self).await?;
        while self.carries() {
            let busy = session.round().await?;
            sleep(if busy { PAUSE_BUSY } else { PAUSE_IDLE }).await;
        }
        Ok(())
    }
}

impl<'a> Session<'a> {
    async fn begin(keeper: &'a Keeper) -> Result<Self, PostgresError> {
        let (mut connection, _) = open(&keeper.postgres, Purpose::Outbox, None).await?;
        let facts = TableFacts::require(&mut connection, &keeper.table).await?;
        let settings = session_settings() + "; SET synchronous_commit = off";
        let setting = query(&mut connection, &settings);
        bounded("begin the outbox keeper's session", STATEMENT_WITHIN, setting).await?;
        Ok(Self {
            keeper,
            connection,
            facts,
            holds_lock: false,
            progress: BTreeMap::new(),
            measured: Schedule::default(),
        })
    }

    /// Looks at the cursors, deletes and measures; true if there is more to delete.
    async fn round(&mut self) -> Result<bool, PostgresError> {
        let reading = read_cursors(&mut self.connection, &self.keeper.table);
        let cursors = bounded("read the cursors", STATEMENT_WITHIN, reading).await?;
        let looking = self.facts.newest(&mut self.connection);
        let newest = bounded("read the outbox's sequence", STATEMENT_WITHIN, looking).await?;
        self.tell_who_is_behind(&cursors, newest);
        let groups = groups(&cursors);
        let busy = self.may_delete(&cursors, newest).await? && self.delete(&groups).await?;
        let Self { keeper, connection, measured, .. } = self;
        let seen = Seen { table: &keeper.table, cursors: &cursors, groups: &groups, newest };
        let measuring = measured.measure(connection, &keeper.flows, &seen);
        bounded("measure the outbox", STATEMENT_WITHIN, measuring).await?;
        Ok(busy)
    }

    /// A sequence that is set back while flows run issues ids behind them.
    fn tell_who_is_behind(&self, cursors: &[Cursor], newest: i64) {
        for flow in &self.keeper.flows {
            let behind = |it: &Cursor| it.is_of(flow) && it.position.high > newest;
            if cursors.iter().any(behind) {
                flow.was_set_back(newest);
            }
        }
    }

    /// Nothing is deleted before every sink of this process is registered, or while the sequence
    /// stands below a cursor: then ids are issued again, and a cursor says nothing about them.
    async fn may_delete(&mut self, cursors: &[Cursor], newest: i64) -> Result<bool, PostgresError> {
        let known = |flow: &Arc<FlowFacts>| cursors.iter().any(|cursor| cursor.is_of(flow));
        if !self.keeper.deletes() || !self.keeper.flows.iter().all(known) {
            return Ok(false);
        }
        if !self.holds_lock {
            self.holds_lock = self.try_lock().await?;
        }
        Ok(self.holds_lock && cursors.iter().all(|cursor| cursor.position.high <= newest))
    }

    async fn try_lock(&mut self) -> Result<bool, PostgresError> {
        let key = self.facts.table.cast_signed();
        let sql = format!("SELECT pg_try_advisory_lock({KEEPER}, {key})");
        let trying = query(&mut self.connection, &sql);
        let rows = bounded("try the outbox keeper's lock", STATEMENT_WITHIN, trying).await?;
        Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false))
    }

    async fn delete(&mut self, groups: &[Group]) -> Result<bool, PostgresError> {
        let until = Instant::now() + ROUND;
        for Group { channels, settled } in groups {
            let Some(settled) = settled else { continue };
            let mut progress = match self.progress.remove(channels) {
                Some(progress) => progress,
                None => self.begin_at_the_oldest(settled).await?,
            };
            self.catch_up(channels, settled, &mut progress).await?;
            while progress.ahead(settled) && Instant::now() < until {
                self.piece(channels, settled, &mut progress).await?;
            }
            let more = progress.ahead(settled);
            self.progress.insert(channels.clone(), progress);
            if more {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins below the oldest row, and below everything that may still come.
    async fn begin_at_the_oldest(&mut self, settled: &Position) -> Result<Progress, PostgresError> {
        let floor = settled.floor();
        let sql =
            format!("SELECT least((SELECT min(id) - 1 FROM {}), {floor})", self.keeper.table.sql());
        let looking = query(&mut self.connection, &sql);
        let rows = bounded("find the outbox's oldest row", STATEMENT_WITHIN, looking).await?;
        let done = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(floor);
        Ok(Progress { done, skipped: Ranges::default() })
    }

    /// A range of the primary key that holds at most so many rows.
    async fn piece(
        &mut self,
        channels: &Channels,
        settled: &Position,
        progress: &mut Progress,
    ) -> Result<(), PostgresError> {
        let (table, from, to) = (self.keeper.table.sql(), progress.done, settled.high);
        let missing = match settled.missing.is_empty() {
            true => String::new(),
            false => {
                format!(" AND NOT id <@ '{}'::int8multirange", settled.missing.to_multirange())
            }
        };
        let sql = format!(
            "WITH piece AS MATERIALIZED (SELECT coalesce((SELECT id FROM {table} \
             WHERE id > {from} AND id <= {to} ORDER BY id OFFSET {PIECE_ROWS} LIMIT 1), {to}) AS last), \
             gone AS (DELETE FROM {table} WHERE id > {from} AND id <= (SELECT last FROM piece) \
             AND {}{missing}) SELECT last FROM piece",
            channels.sql()
        );
        let deleting = query(&mut self.connection, &sql);
        let rows = bounded("delete settled rows", STATEMENT_WITHIN, deleting).await?;
        let last = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(from);
        progress.advance(settled, last);
        Ok(())
    }

    /// Rows that were still to come when their range was deleted.
    async fn catch_up(
        &mut self,
        channels: &Channels,
        settled: &Position,
        progress: &mut Progress,
    ) -> Result<(), PostgresError> {
        let ids = progress.caught_up(settled);
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "DELETE FROM {} AS o USING unnest('{}'::int8multirange) AS m(ids) \
             WHERE o.id >= lower(m.ids) AND o.id < upper(m.ids) AND {}",
            self.keeper.table.sql(),
            ids.to_multirange(),
            channels.sql()
        );
        let deleting = query(&mut self.connection, &sql);
        bounded("delete settled rows", STATEMENT_WITHIN, deleting).await?;
        progress.skipped.remove_all(&ids);
        Ok(())
    }
}

/// Every cursor that reads this table.
pub(crate) async fn read_cursors(
    connection: &mut PgConnection,
    table: &TableName,
) -> Result<Vec<Cursor>, sqlx::Error> {
    let sql = format!(
        "SELECT pipeline, sink, high, missing::text, array_to_json(channels)::text \
         FROM pgherald.cursor WHERE outbox = {} ORDER BY pipeline, sink",
        literal(&table.to_string())
    );
    let cursor = |row: &sqlx::postgres::PgRow| {
        let missing = Ranges::from_multirange(row.try_get(3)?).ok_or(sqlx::Error::RowNotFound)?;
        let channels: Option<&str> = row.try_get(4)?;
        Ok(Cursor {
            pipeline: row.try_get(0)?,
            sink: row.try_get(1)?,
            position: Position { high: row.try_get(2)?, missing },
            channels: channels.map(|json| serde_json::from_str(json).unwrap_or_default()),
        })
    };
    query(connection, &sql).await?.iter().map(cursor).collect()
}
