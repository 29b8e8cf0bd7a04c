//! The partitions of an outbox at every level, and other tables that inherit from it, in SQL: their rows
//! show in the table from when they were attached, and their writers hold a lock on them alone.

use crate::xid::full;

/// A query for them: `inhrelid`, and `xmin` of the catalogue row that attaches it. `table` is an
/// expression for an oid.
pub(crate) fn all(table: &str) -> String {
    format!(
        "WITH RECURSIVE below AS (SELECT inhrelid, xmin FROM pg_inherits WHERE inhparent = {table} \
         UNION ALL SELECT i.inhrelid, i.xmin FROM below JOIN pg_inherits AS i \
         ON i.inhparent = below.inhrelid) SELECT inhrelid, xmin FROM below"
    )
}

/// Since when each of them belongs to the table, as `jsonb`: its oid, and the transaction that attached
/// it, directly or with one of its parents. NULL: the table has none. `table` and `next` are expressions,
/// as for [`full`].
pub(crate) fn attachments(table: &str, next: &str) -> String {
    let attached = full("i.xmin", next);
    format!(
        "(WITH RECURSIVE d AS (SELECT i.inhrelid, {attached} AS attached FROM pg_inherits AS i \
         WHERE i.inhparent = {table} UNION ALL SELECT i.inhrelid, greatest(d.attached, {attached}) \
         FROM d JOIN pg_inherits AS i ON i.inhparent = d.inhrelid) \
         SELECT jsonb_object_agg(inhrelid::text, attached) \
         FROM (SELECT inhrelid, min(attached) AS attached FROM d GROUP BY inhrelid) AS d)"
    )
}

/// The transaction since which the row `o` shows in its table: its own, or the one that attached its
/// partition. `attachments` is an expression for [`attachments`].
pub(crate) fn shows_since(attachments: &str, next: &str) -> String {
    format!(
        "greatest({}, CASE WHEN {attachments} IS NOT NULL \
         THEN ({attachments} ->> o.tableoid::text)::bigint END)",
        full("o.xmin", next)
    )
}
