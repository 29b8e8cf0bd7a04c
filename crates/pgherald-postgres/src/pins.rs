//! What every session depends on, whatever the role, the database or the server set.
//!
//! A setting of a role or a database must not change what a statement means. A session that is
//! proven to be ours ([`crate::open`]) sets the whole table once, in one round trip. Behind a pooler
//! in transaction mode a session's settings stay with a server process that other clients use next,
//! so a connection that nobody has proven sets nothing: each of its statements carries the same
//! table for itself alone ([`once`]). Neither sends a startup parameter: poolers refuse those that
//! they do not know.

use std::fmt::Write;

use sqlx::{PgConnection, postgres::PgRow};

use crate::query;

/// One setting that statements rely on.
struct Pin {
    name: &'static str,
    value: &'static str,
    /// The first server version that has it; 0: all that are supported.
    since: u32,
}

/// The reason, what goes wrong with another value, is for whoever reads the tables below.
const fn pin(name: &'static str, value: &'static str, _reason: &'static str) -> Pin {
    Pin { name, value, since: 0 }
}

const fn since(since: u32, pin: Pin) -> Pin {
    Pin { since, ..pin }
}

/// How a transaction begins. One that has begun is told without `default_`, and first of all.
const TRANSACTION: [Pin; 3] = [
    pin(
        "default_transaction_isolation",
        "'read committed'",
        "in a serializable transaction statements fail for what others do",
    ),
    pin("default_transaction_read_only", "off", "cursors and dead letters are written"),
    pin("default_transaction_deferrable", "off", "a deferrable transaction waits for all others"),
];

/// The rest.
const SESSION: [Pin; 17] = [
    pin(
        "search_path",
        "pg_catalog, pg_temp",
        "anybody's function, operator or type of the same name would run instead of the built-in \
         one; pgherald.pg_notify would keep our heartbeats as rows",
    ),
    pin("row_security", "off", "rows that a policy hides would be passed over without an error"),
    pin("statement_timeout", "0", "each session sets its own, or has a deadline at this end"),
    pin("lock_timeout", "0", "the same; who needs one sets it"),
    pin("idle_in_transaction_session_timeout", "0", "no transaction stays open here"),
    since(
        140_000,
        pin(
            "idle_session_timeout",
            "0",
            "a session that holds a lock sets its own, the others rest",
        ),
    ),
    since(170_000, pin("transaction_timeout", "0", "deleting and scanning have their own limits")),
    pin("client_encoding", "'UTF8'", "texts would come in another encoding"),
    pin("DateStyle", "'ISO, MDY'", "times are read as text"),
    pin("IntervalStyle", "'postgres'", "intervals are written as text"),
    pin("TimeZone", "'UTC'", "times are written without a zone of their own"),
    pin("bytea_output", "'hex'", "payloads come as text over the simple protocol"),
    pin("extra_float_digits", "1", "numbers would be rounded"),
    pin("standard_conforming_strings", "on", "a backslash in a literal would be an escape"),
    pin("transform_null_equals", "off", "`= NULL` would mean something else"),
    pin("quote_all_identifiers", "off", "names that the server writes are compared"),
    pin("client_min_messages", "warning", "notices are nothing that the log needs"),
];

/// Somebody may have switched it off for the role, as the page for applications advises. What is
/// confirmed must be on disk; a stricter value stays.
const SYNCHRONOUS: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'local', false) \
     WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'";

/// Sets everything for as long as the session lasts. Only for a session that is proven to be ours.
pub async fn pin_session(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = session_text(version(connection));
    query(connection, &sql).await.map(drop)
}

/// Runs statements with everything set for them alone, in one round trip: nothing stays behind.
/// They are one transaction. A standby refuses them; see [`look`].
pub async fn once(connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
    let sql = for_once(connection) + sql;
    query(connection, &sql).await
}

/// The same for statements that only read, also on a standby.
pub async fn look(connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
    let sql = local_text(version(connection), false) + sql;
    query(connection, &sql).await
}

/// What [`once`] puts before its statements.
pub(crate) fn for_once(connection: &PgConnection) -> String {
    local_text(version(connection), true)
}

/// A server that does not say its version is taken for an old one.
fn version(connection: &PgConnection) -> u32 {
    connection.server_version_num().unwrap_or(0)
}

fn session_text(version: u32) -> String {
    let mut sql = String::new();
    for Pin { name, value, .. } in known(version) {
        let _ = write!(sql, "SET {name} = {value}; ");
    }
    sql + SYNCHRONOUS
}

fn local_text(version: u32, writes: bool) -> String {
    // A standby has no transaction that may write, and says so with an error.
    let fits = |pin: &&Pin| writes || pin.name != "default_transaction_read_only";
    let mut sql = String::new();
    for Pin { name, value, .. } in known(version).filter(fits) {
        let name = name.strip_prefix("default_").unwrap_or(name);
        let _ = write!(sql, "SET LOCAL {name} = {value}; ");
    }
    sql
}

fn known(version: u32) -> impl Iterator<Item = &'static Pin> {
    TRANSACTION.iter().chain(&SESSION).filter(move |pin| pin.since <= version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_only_what_it_knows() {
        assert!(!session_text(130_000).contains("idle_session_timeout"));
        assert!(!session_text(160_000).contains("transaction_timeout"));
        assert!(session_text(170_000).contains("SET transaction_timeout = 0;"));
        assert!(local_text(0, true).starts_with(
            "SET LOCAL transaction_isolation = 'read committed'; SET LOCAL transaction_read_only = off;"
        ));
        assert!(!local_text(0, false).contains("read_only"));
    }
}
