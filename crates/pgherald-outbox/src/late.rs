//! Rows that come in below a cursor: put back from a backup, or numbered by a sequence that was set
//! back. Reading passes them over, so they are found here: never deleted, and never passed over in
//! silence.
//!
//! A cursor keeps a *baseline*: a snapshot, and the position of then. A row below that position that
//! the snapshot does not show came in later. Above it, as far as the cursor has come since, a row
//! came in late if its transaction is younger than the one that wrote the cursor. The statement that
//! deletes makes the same tests, so a late row is safe before it is found.

mod admin;
mod scan;
mod search;
mod watch;

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

pub use self::admin::{
    LateDone, LateDropped, LateFilter, LateFlow, LateRow, late_drop, late_list, late_send,
};
pub(crate) use self::{
    search::LateSearch,
    watch::{LateWatch, count},
};
use crate::{
    TableName,
    cursors::{Look, look},
    flow::FlowFacts,
    retention::Cursor,
};

/// Keeps what the cursor's row says about rows that came in while nobody ran the flow: to be
/// called by whoever holds the flow's lock, before it writes the row.
pub(crate) async fn before_attach(
    connection: &mut PgConnection,
    flow: &FlowFacts,
) -> Result<(), sqlx::Error> {
    let table: &TableName = &flow.settings.table;
    let look = look(connection, table).await?;
    let Some(cursor) = look.cursors.iter().find(|cursor| cursor.is_of(flow)) else {
        return Ok(());
    };
    if let Some(mut search) = LateSearch::above_baseline(&look, cursor) {
        while search.page(connection, table).await? {}
        search.keep_found(connection, table).await?;
    }
    Ok(())
}

/// How many rows are late for this cursor, found and not found yet; scans for so long at most.
pub(crate) async fn rows_below(
    connection: &mut PgConnection,
    table: &TableName,
    look: &Look,
    cursor: &Cursor,
    limit: Duration,
) -> Result<u64, sqlx::Error> {
    let mut late = cursor.baseline.late.clone();
    let told = cursor.baseline.seen.is_some() && cursor.baseline.same_node;
    if let Some(mut search) = LateSearch::below(look, cursor, None).filter(|_| told) {
        let until = Instant::now() + limit;
        while search.page(connection, table).await? && Instant::now() < until {}
        late.insert_all(search.found());
    }
    match late.is_empty() {
        true => Ok(0),
        false => count(connection, table, &late, &cursor.takes_sql()).await,
    }
}
