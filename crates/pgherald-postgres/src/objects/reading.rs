//! What reading an outbox rests on: the part that an attach compares, and the only part that is
//! compared on a schema of the next version. What a role may and what the sequence does is looked at by
//! those who read.

use sqlx::PgConnection;

use super::{
    Fact, proof,
    tables::{CURSOR, CURSOR_COLUMNS, OUTBOX_COLUMNS, is_logged},
};
use crate::{CONNECT_TIMEOUT, PostgresError, bounded};

/// What has to be true of an outbox and of the cursors before a row of it is read.
pub(crate) fn reading(table: &str) -> Vec<Fact> {
    let mut facts = vec![is_there(table), is_there(CURSOR)];
    for column in &OUTBOX_COLUMNS {
        facts.extend(column.can_be_read(table));
    }
    facts.push(is_logged(table));
    for column in &CURSOR_COLUMNS {
        facts.extend(column.can_be_read(CURSOR));
    }
    facts.push(is_logged(CURSOR));
    facts
}

/// Compares what reading rests on. `table` is the outbox, as SQL. Takes no lock.
///
/// # Errors
/// Blocked, naming what differs and the statement that repairs it.
pub async fn require_readable(
    connection: &mut PgConnection,
    table: &str,
) -> Result<(), PostgresError> {
    const DOING: &str = "compare the outbox with what reading rests on";
    let facts = reading(table);
    let wrong = bounded(DOING, CONNECT_TIMEOUT, super::wrong_of(connection, &facts)).await?;
    let Some(first) = wrong.first() else { return Ok(()) };
    let texts: Vec<String> = wrong.iter().map(|fact| fact.text()).collect();
    Err(PostgresError::blocked(texts.join("; "), first.fix()))
}

fn is_there(table: &str) -> Fact {
    let there = proof::table_is_there(table);
    Fact::repaired(format!("table {table}"), "is missing", there, String::new())
}
