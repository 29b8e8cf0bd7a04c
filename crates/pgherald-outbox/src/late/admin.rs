//! `pgherald outbox late`: what an operator does with rows that came in below a cursor.

use std::time::SystemTime;

use pgherald_postgres::{
    PostgresError, PostgresSettings, Purpose, bounded, from_micros, literal, open, query,
    schema_state,
};
use sqlx::{PgConnection, Row};

use super::{LateSearch, watch::count};
use crate::{
    TableName,
    attach::session_settings,
    cursors::{Look, look},
    deletion::{Locked, Piece},
    flow::STATEMENT_WITHIN,
    ranges::Ranges,
    retention::{Cursor, Progress, groups},
    server::TableFacts,
};

/// Rows of one page of a list.
const PAGE_ROWS: i64 = 1_000;
/// A look at every row below a cursor takes as long as it takes.
const LOOK_WITHIN: std::time::Duration = std::time::Duration::from_secs(3600);

/// Which flows are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateFilter {
    /// Only this pipeline.
    pub pipeline: Option<String>,
    /// Only this sink.
    pub sink: Option<String>,
}

/// A flow that rows came in below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateFlow {
    /// Its pipeline.
    pub pipeline: String,
    /// Its sink.
    pub sink: String,
    /// How many rows; 100,000 are counted.
    pub rows: u64,
    /// When the first of them was found.
    pub since: SystemTime,
}

/// One of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateRow {
    /// Its id.
    pub id: i64,
    /// Its channel.
    pub channel: String,
    /// When it says that it was inserted, in UTC.
    pub created_at: String,
}

/// What a flow's late rows came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateDone {
    /// Its pipeline.
    pub pipeline: String,
    /// Its sink.
    pub sink: String,
    /// How many rows it had.
    pub rows: u64,
}

/// What a drop came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateDropped {
    /// By flow, what it no longer has.
    pub flows: Vec<LateDone>,
    /// Rows that are deleted.
    pub deleted: u64,
}

/// Tells each flow that has late rows, and then each of its rows.
///
/// # Errors
/// The database could not be reached, or refused.
pub async fn late_list(
    postgres: &PostgresSettings,
    filter: &LateFilter,
    flow: &mut impl FnMut(&LateFlow),
    row: &mut impl FnMut(&LateFlow, LateRow),
) -> Result<(), PostgresError> {
    let mut admin = LateAdmin::open(postgres).await?;
    for (table, cursor) in admin.late(filter).await? {
        let told = admin.flow(&table, &cursor).await?;
        flow(&told);
        admin.rows(&table, &cursor, &mut |late| row(&told, late)).await?;
    }
    Ok(())
}

/// Has the flows send their late rows: a bridge that runs reads them at once.
///
/// # Errors
/// The database could not be reached, or refused.
pub async fn late_send(
    postgres: &PostgresSettings,
    filter: &LateFilter,
) -> Result<Vec<LateDone>, PostgresError> {
    let mut admin = LateAdmin::open(postgres).await?;
    let mut done = Vec::new();
    for (table, cursor) in admin.late(filter).await? {
        let LateFlow { rows, .. } = admin.flow(&table, &cursor).await?;
        admin.decide(
            &cursor,
            "missing = missing + late, seen_missing = seen_missing + late, token = gen_random_uuid()",
        )
        .await?;
        done.push(LateDone { pipeline: cursor.pipeline, sink: cursor.sink, rows });
    }
    Ok(done)
}

/// Gives the late rows up: deletes those that no other cursor still needs.
///
/// # Errors
/// The database could not be reached, or refused.
pub async fn late_drop(
    postgres: &PostgresSettings,
    filter: &LateFilter,
) -> Result<LateDropped, PostgresError> {
    let mut admin = LateAdmin::open(postgres).await?;
    let mut dropped = LateDropped { flows: Vec::new(), deleted: 0 };
    let late = admin.late(filter).await?;
    for (table, cursor) in &late {
        let LateFlow { rows, .. } = admin.flow(table, cursor).await?;
        admin.decide(cursor, "seen_missing = seen_missing + late").await?;
        let (pipeline, sink) = (cursor.pipeline.clone(), cursor.sink.clone());
        dropped.flows.push(LateDone { pipeline, sink, rows });
    }
    for (table, cursor) in &late {
        dropped.deleted += admin.delete(table, cursor).await?;
    }
    Ok(dropped)
}

struct LateAdmin {
    connection: PgConnection,
}

impl LateAdmin {
    async fn open(postgres: &PostgresSettings) -> Result<Self, PostgresError> {
        let (mut connection, _) = open(postgres, Purpose::Outbox, None).await?;
        let settings = session_settings() + "; SET statement_timeout = 0";
        let setting = query(&mut connection, &settings);
        bounded("begin a session", STATEMENT_WITHIN, setting).await?;
        let looking = schema_state(&mut connection);
        bounded("look at schema pgherald", STATEMENT_WITHIN, looking).await?.require_usable()?;
        Ok(Self { connection })
    }

    /// Every cursor that is meant and has late rows; they are looked for once more.
    async fn late(
        &mut self,
        filter: &LateFilter,
    ) -> Result<Vec<(TableName, Cursor)>, PostgresError> {
        const DOING: &str = "look for rows below the cursor";
        let mut late = Vec::new();
        for table in bounded(DOING, STATEMENT_WITHIN, tables(&mut self.connection)).await? {
            let finding = find(&mut self.connection, &table);
            let Look { cursors, .. } = bounded(DOING, LOOK_WITHIN, finding).await?;
            let meant = |cursor: &Cursor| {
                filter.pipeline.as_ref().is_none_or(|pipeline| *pipeline == cursor.pipeline)
                    && filter.sink.as_ref().is_none_or(|sink| *sink == cursor.sink)
                    && !cursor.baseline.late.is_empty()
            };
            late.extend(cursors.into_iter().filter(meant).map(|cursor| (table.clone(), cursor)));
        }
        Ok(late)
    }

    async fn flow(
        &mut self,
        table: &TableName,
        cursor: &Cursor,
    ) -> Result<LateFlow, PostgresError> {
        let takes = cursor.takes_sql();
        let counting = count(&mut self.connection, table, &cursor.baseline.late, &takes);
        let rows = bounded("count the rows", LOOK_WITHIN, counting).await?;
        let since = cursor.baseline.late_since.map_or_else(SystemTime::now, from_micros);
        Ok(LateFlow { pipeline: cursor.pipeline.clone(), sink: cursor.sink.clone(), rows, since })
    }

    async fn rows(
        &mut self,
        table: &TableName,
        cursor: &Cursor,
        each: &mut impl FnMut(LateRow),
    ) -> Result<(), PostgresError> {
        let mut left = cursor.baseline.late.clone();
        while !left.is_empty() {
            let reading = rows(&mut self.connection, table, cursor, &left);
            let rows = bounded("read the rows", LOOK_WITHIN, reading).await?;
            let last = rows.last().map(|row| row.id).filter(|_| rows.len() as i64 == PAGE_ROWS);
            left.remove(i64::MIN, last.unwrap_or(i64::MAX));
            rows.into_iter().for_each(&mut *each);
        }
        Ok(())
    }

    /// Takes the cursor's late rows away, and sets more.
    async fn decide(&mut self, cursor: &Cursor, set: &str) -> Result<(), PostgresError> {
        let sql = format!(
            "UPDATE pgherald.cursor SET {set}, late = late - '{late}'::int8multirange, \
             late_since = CASE WHEN late - '{late}'::int8multirange <> '{{}}' THEN late_since END \
             WHERE pipeline = {} AND sink = {}",
            literal(&cursor.pipeline),
            literal(&cursor.sink),
            late = cursor.baseline.late.to_multirange(),
        );
        let set = query(&mut self.connection, &sql);
        bounded("write the cursor", STATEMENT_WITHIN, set).await.map(drop)
    }

    /// Deletes what was late and nobody needs, by the rule that holds for every row.
    async fn delete(&mut self, table: &TableName, cursor: &Cursor) -> Result<u64, PostgresError> {
        let facts = TableFacts::require(&mut self.connection, table).await?;
        let looking = look(&mut self.connection, table);
        let Look { cursors, .. } = bounded("read the cursors", STATEMENT_WITHIN, looking).await?;
        let mut deleted = 0;
        for group in groups(&cursors).iter().filter(|group| group.takers.contains(&cursor.name())) {
            let mut progress = Progress::default();
            loop {
                let window = progress.window_in(&cursor.baseline.late);
                if window.is_empty() {
                    break;
                }
                let piece = Piece {
                    table,
                    facts: &facts,
                    channels: &group.channels,
                    takers: &group.takers,
                    window: &window,
                    own: &[],
                    locked: Locked::Wait,
                };
                let deleting = piece.delete(&mut self.connection);
                let done = bounded("delete the rows", LOOK_WITHIN, deleting).await?;
                deleted += u64::try_from(done.rows).unwrap_or(0);
                progress.advance(&window, done.last);
            }
        }
        Ok(deleted)
    }
}

async fn tables(connection: &mut PgConnection) -> Result<Vec<TableName>, sqlx::Error> {
    let rows = query(connection, "SELECT DISTINCT outbox FROM pgherald.cursor ORDER BY 1").await?;
    let names: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(names?.iter().filter_map(|name| TableName::parse(name).ok()).collect())
}

/// Looks for late rows that no bridge has found yet, and keeps them.
async fn find(connection: &mut PgConnection, table: &TableName) -> Result<Look, sqlx::Error> {
    let first = look(connection, table).await?;
    if first.table.is_none() {
        return Ok(first);
    }
    let told = |cursor: &&Cursor| cursor.baseline.seen.is_some() && cursor.baseline.same_node;
    for cursor in first.cursors.iter().filter(told) {
        if let Some(mut search) = LateSearch::below(&first, cursor, None) {
            while search.page(connection, table).await? {}
            search.keep_found(connection, table).await?;
        }
    }
    look(connection, table).await
}

async fn rows(
    connection: &mut PgConnection,
    table: &TableName,
    cursor: &Cursor,
    ids: &Ranges,
) -> Result<Vec<LateRow>, sqlx::Error> {
    let sql = format!(
        "SELECT o.id, o.channel, to_char(o.created_at AT TIME ZONE 'UTC', \
         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM unnest('{}'::int8multirange) AS r \
         CROSS JOIN LATERAL (SELECT id, channel, created_at FROM {} WHERE id >= lower(r) \
         AND id < upper(r) AND {} ORDER BY id) AS o LIMIT {PAGE_ROWS}",
        ids.to_multirange(),
        table.sql(),
        cursor.takes_sql()
    );
    let row = |row: &sqlx::postgres::PgRow| {
        let created_at: Option<String> = row.try_get(2)?;
        let created_at = created_at.unwrap_or_default();
        Ok(LateRow { id: row.try_get(0)?, channel: row.try_get(1)?, created_at })
    };
    query(connection, &sql).await?.iter().map(row).collect()
}
