//! Transaction ids in SQL, as 64-bit numbers that do not wrap around.

/// The transaction behind a system column such as `o.xmin`, as `bigint`. `next` is an expression
/// for the next transaction of the same snapshot ([`NEXT`]). Right for the last four billion
/// transactions.
pub(crate) fn full(column: &str, next: &str) -> String {
    format!("({next} - (({next} - {column}::text::bigint) & 4294967295))")
}

/// The first transaction that the statement's snapshot does not know, as `bigint`.
pub(crate) const NEXT: &str = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

/// The partitions and inheritors of a table, as `jsonb`: their oids, and the transaction that attached
/// them to it, directly or with one of their parents. NULL: it has none. `table` and `next` are
/// expressions, as for [`full`].
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

/// The transaction that made the table, as `bigint`.
pub(crate) fn made(table: &str, next: &str) -> String {
    format!(
        "(SELECT {} FROM pg_attribute AS a WHERE a.attrelid = {table} AND a.attname = 'tableoid')",
        full("a.xmin", next)
    )
}
