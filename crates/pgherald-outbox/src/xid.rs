//! Transaction ids in SQL, as 64-bit numbers that do not wrap around.

/// The transaction behind a system column such as `o.xmin`, as `bigint`. `next` is an expression
/// for the next transaction of the same snapshot ([`NEXT`]). Right for the last four billion
/// transactions.
pub(crate) fn full(column: &str, next: &str) -> String {
    format!("({next} - (({next} - {column}::text::bigint) & 4294967295))")
}

/// The first transaction that the statement's snapshot does not know, as `bigint`.
pub(crate) const NEXT: &str = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

/// The transaction that made the table, as `bigint`.
pub(crate) fn made(table: &str, next: &str) -> String {
    format!(
        "(SELECT {} FROM pg_attribute AS a WHERE a.attrelid = {table} AND a.attname = 'tableoid')",
        full("a.xmin", next)
    )
}
