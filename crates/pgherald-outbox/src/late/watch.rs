//! The keeper's look for late rows of one flow, a page now and a page then.

use std::time::{Duration, SystemTime};

use pgherald_postgres::{from_micros, literal, query};
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use super::LateSearch;
use crate::{
    TableName,
    attempt::{Refusal, attempt},
    cursors::Look,
    flow::FlowFacts,
    ranges::Ranges,
    report::Late,
    retention::Cursor,
};

/// Between two looks at a small table.
const EVERY: Duration = Duration::from_millis(500);
/// At most this share of the time, and an hour at most.
const SHARE: u32 = 20;
const EVERY_AT_MOST: Duration = Duration::from_secs(3600);
/// Pages are read for so long before the keeper does something else.
const TURN: Duration = Duration::from_millis(50);
/// So many rows are counted.
const COUNTED_MAX: i64 = 100_000;

#[derive(Default)]
pub(crate) struct LateWatch {
    search: Option<LateSearch>,
    next: Option<Instant>,
    /// The late rows were counted then.
    counted: Option<Instant>,
    /// The look that the latest run began with.
    looked: Option<String>,
}

impl LateWatch {
    /// Whether all that this look shows was looked through, and no late row waits.
    pub(crate) fn is_done(&self, look: &Look, flow: &FlowFacts) -> bool {
        let cursor = look.cursors.iter().find(|cursor| cursor.is_of(flow));
        self.looked.as_ref() == Some(&look.snapshot)
            && cursor.is_some_and(|cursor| cursor.baseline.late.is_empty())
    }

    /// Does a little of the work. The outer error ends the session.
    pub(crate) async fn turn(
        &mut self,
        connection: &mut PgConnection,
        look: &Look,
        flow: &FlowFacts,
    ) -> Result<Result<(), Refusal>, pgherald_postgres::PostgresError> {
        let Some(cursor) = look.cursors.iter().find(|cursor| cursor.is_of(flow)) else {
            *self = Self::default();
            return Ok(Ok(()));
        };
        let work = self.work(connection, look, cursor, flow);
        let done = attempt("look for rows below the cursor", work).await?;
        if done.is_err() {
            self.search = None;
            self.next = Some(Instant::now() + EVERY * SHARE);
        }
        Ok(done)
    }

    async fn work(
        &mut self,
        connection: &mut PgConnection,
        look: &Look,
        cursor: &Cursor,
        flow: &FlowFacts,
    ) -> Result<(), sqlx::Error> {
        if self.search.is_none() && self.next.is_none_or(|next| Instant::now() >= next) {
            self.search = LateSearch::below(look, cursor, Some(flow.settings.retain));
            if self.search.is_some() && !cursor.baseline.is_past {
                tracing::warn!(
                    pipeline = flow.pipeline(),
                    sink = flow.sink(),
                    "the cursor comes from another server: rows that came in below it earlier \
                     cannot be told apart"
                );
            }
        }
        self.read_on(connection, flow).await?;
        self.count(connection, cursor, flow).await
    }

    async fn read_on(
        &mut self,
        connection: &mut PgConnection,
        flow: &FlowFacts,
    ) -> Result<(), sqlx::Error> {
        let Some(search) = &mut self.search else { return Ok(()) };
        let until = Instant::now() + TURN;
        while search.page(connection, &flow.settings.table).await? {
            if Instant::now() >= until {
                return Ok(());
            }
        }
        let written = search.finish(connection, &flow.settings.table).await?;
        if written && search.untold > 0 {
            tracing::warn!(
                pipeline = flow.pipeline(),
                sink = flow.sink(),
                rows = search.untold,
                "the outbox was rewritten or put back: of {} rows below the cursor it cannot be told \
                 whether they came in late; they count as delivered",
                search.untold
            );
        }
        if written && !search.found().is_empty() {
            self.counted = None;
        }
        self.looked = written.then(|| search.snapshot().to_owned());
        self.next = Some(Instant::now() + EVERY.max(search.spent() * SHARE).min(EVERY_AT_MOST));
        self.search = None;
        Ok(())
    }

    /// Tells how many wait; when none of them is there any more, they are forgotten.
    async fn count(
        &mut self,
        connection: &mut PgConnection,
        cursor: &Cursor,
        flow: &FlowFacts,
    ) -> Result<(), sqlx::Error> {
        if cursor.baseline.late.is_empty() {
            flow.tell_late(None);
            return Ok(());
        }
        if self.counted.is_some_and(|counted| counted.elapsed() < EVERY * 10) {
            return Ok(());
        }
        let (late, takes) = (&cursor.baseline.late, cursor.takes_sql());
        let messages = count(connection, &flow.settings.table, late, &takes).await?;
        self.counted = Some(Instant::now());
        match messages {
            0 => forget(connection, cursor).await,
            messages => {
                let since = cursor.baseline.late_since.map_or_else(SystemTime::now, from_micros);
                flow.tell_late(Some(Late { messages, since }));
                Ok(())
            }
        }
    }
}

/// Rows among these ids that meet `takes`; the first 100,000 are counted.
pub(crate) async fn count(
    connection: &mut PgConnection,
    table: &TableName,
    ids: &Ranges,
    takes: &str,
) -> Result<u64, sqlx::Error> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT FROM unnest('{}'::int8multirange) AS r CROSS JOIN LATERAL \
         (SELECT FROM {} WHERE id >= lower(r) AND id < upper(r) AND {takes}) AS o \
         LIMIT {COUNTED_MAX}) AS o",
        ids.to_multirange(),
        table.sql(),
    );
    let rows = query(connection, &sql).await?;
    let count: i64 = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

async fn forget(connection: &mut PgConnection, cursor: &Cursor) -> Result<(), sqlx::Error> {
    let sql = format!(
        "UPDATE pgherald.cursor SET late = '{{}}', late_since = NULL \
         WHERE pipeline = {} AND sink = {} AND late = '{}'::int8multirange",
        literal(&cursor.pipeline),
        literal(&cursor.sink),
        cursor.baseline.late.to_multirange()
    );
    query(connection, &sql).await.map(drop)
}
