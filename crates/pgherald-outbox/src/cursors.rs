//! One look at every cursor of an outbox, and at the table and the sequence that they rest on: one
//! statement, one snapshot.

use pgherald_postgres::{literal, query};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    TableName,
    position::Position,
    ranges::Ranges,
    retention::Cursor,
    xid::{NEXT, full, made},
};

/// What one snapshot showed.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) cursors: Vec<Cursor>,
    /// The table; `None`: there is none of that name.
    pub(crate) table: Option<u32>,
    /// Its file node, as text; `None`: a partitioned table has none.
    pub(crate) node: Option<String>,
    /// The newest id that its sequence handed out; `None`: none since it was made or restarted, or
    /// nobody asked.
    pub(crate) newest: Option<i64>,
    /// The snapshot itself.
    pub(crate) snapshot: String,
    /// The transaction that last changed the table's definition: VACUUM FULL, TRUNCATE and ALTER TABLE
    /// do, and write a new file.
    pub(crate) changed_at: i64,
    /// It, and those that last changed the columns, as `xmin` shows them.
    pub(crate) changed_by: Vec<String>,
}

/// What tells of one cursor which rows came in below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Baseline {
    /// A row up to `high`, outside `missing`, that this snapshot does not show came in late; `None`:
    /// there is no baseline yet.
    pub(crate) seen: Option<String>,
    pub(crate) high: i64,
    pub(crate) missing: Ranges,
    /// The snapshot is of this server's past.
    pub(crate) is_past: bool,
    /// The table has the file node of then.
    pub(crate) same_node: bool,
    /// The table was made later.
    pub(crate) older_than_table: bool,
    /// Ids that came in late and wait for a decision.
    pub(crate) late: Ranges,
    /// Since when, in microseconds since 1970.
    pub(crate) late_since: Option<i64>,
    /// The position belongs to the table as it is now, as far as anybody has looked.
    pub(crate) current: bool,
    /// The table and the file node that the position belongs to, as text; empty: unknown.
    pub(crate) outbox: [String; 2],
    /// The transaction that wrote the cursor.
    pub(crate) written: i64,
    /// `delete` or `keep`, when the baseline was taken.
    pub(crate) retain: Option<String>,
}

/// Looks at the outbox and every cursor that reads it.
pub(crate) async fn look(
    connection: &mut PgConnection,
    table: &TableName,
) -> Result<Look, sqlx::Error> {
    look_with_sequence(connection, table, None).await
}

/// The same, and at the sequence.
pub(crate) async fn look_with_sequence(
    connection: &mut PgConnection,
    table: &TableName,
    sequence: Option<u32>,
) -> Result<Look, sqlx::Error> {
    let rows = query(connection, &look_sql(table, sequence)).await?;
    let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let oid: Option<i64> = head.try_get(0)?;
    let changed_by: Option<String> = head.try_get(4)?;
    let cursors = rows.iter().filter_map(|row| cursor(row).transpose());
    Ok(Look {
        cursors: cursors.collect::<Result<_, _>>()?,
        table: oid.and_then(|oid| u32::try_from(oid).ok()),
        node: head.try_get(1)?,
        newest: head.try_get(24)?,
        snapshot: head.try_get(2)?,
        changed_at: head.try_get::<Option<i64>, _>(3)?.unwrap_or(0),
        changed_by: changed_by.unwrap_or_default().split(' ').map(str::to_owned).collect(),
    })
}

fn look_sql(table: &TableName, sequence: Option<u32>) -> String {
    let sequence = sequence.map_or_else(|| "NULL".to_owned(), |oid| oid.to_string());
    let (name, sql) = (literal(&table.to_string()), literal(&table.sql()));
    let (changed_at, made) = (full("c.xmin", "n.next"), made("n.oid", "n.next"));
    let written = full("k.xmin", "n.next");
    format!(
        "WITH n AS MATERIALIZED (SELECT to_regclass({sql})::oid AS oid, {NEXT} AS next), \
         t AS MATERIALIZED (SELECT n.*, pg_relation_filenode(n.oid) AS node, {changed_at} AS changed_at, \
         (SELECT string_agg(DISTINCT x, ' ') FROM (SELECT c.xmin::text AS x UNION ALL \
         SELECT xmin::text FROM pg_attribute WHERE attrelid = n.oid) AS d) AS changed, \
         {made} AS made FROM n LEFT JOIN pg_class AS c ON c.oid = n.oid) \
         SELECT n.oid::bigint, n.node::text, pg_current_snapshot()::text, n.changed_at, n.changed, \
         k.pipeline, k.sink, k.high, k.missing::text, array_to_json(k.channels)::text, \
         k.seen::text, coalesce(k.seen_high, 0), k.seen_missing::text, \
         coalesce(pg_snapshot_xmax(k.seen)::text::bigint <= n.next, true), \
         k.seen_node IS NOT DISTINCT FROM n.node, \
         coalesce(NOT pg_visible_in_snapshot(n.made::text::xid8, k.seen), false), \
         k.late::text, (extract(epoch FROM k.late_since)::numeric * 1000000)::bigint, \
         coalesce(k.outbox_oid = n.oid, true) AND coalesce(k.outbox_node = n.node, true), \
         coalesce(k.outbox_oid::text, ''), coalesce(k.outbox_node::text, ''), {written}, k.retain, \
         coalesce(k.token::text, ''), \
         (SELECT pg_sequence_last_value(oid::regclass) FROM pg_class WHERE oid = {sequence}::oid) \
         FROM t AS n LEFT JOIN pgherald.cursor AS k ON k.outbox = {name} \
         ORDER BY k.pipeline, k.sink"
    )
}

/// `None`: the outbox has no cursor.
fn cursor(row: &PgRow) -> Result<Option<Cursor>, sqlx::Error> {
    let Some(pipeline) = row.try_get(5)? else { return Ok(None) };
    let channels: Option<&str> = row.try_get(9)?;
    Ok(Some(Cursor {
        pipeline,
        sink: row.try_get(6)?,
        position: Position { high: row.try_get(7)?, missing: ranges(row, 8)? },
        channels: channels.map(|json| serde_json::from_str(json).unwrap_or_default()),
        baseline: Baseline {
            seen: row.try_get(10)?,
            high: row.try_get(11)?,
            missing: ranges(row, 12)?,
            is_past: row.try_get(13)?,
            same_node: row.try_get(14)?,
            older_than_table: row.try_get(15)?,
            late: ranges(row, 16)?,
            late_since: row.try_get(17)?,
            current: row.try_get(18)?,
            outbox: [row.try_get(19)?, row.try_get(20)?],
            written: row.try_get(21)?,
            retain: row.try_get(22)?,
        },
        token: row.try_get(23)?,
    }))
}

pub(crate) fn ranges(row: &PgRow, at: usize) -> Result<Ranges, sqlx::Error> {
    Ranges::from_multirange(row.try_get(at)?).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: at.to_string(),
        source: "not a multirange as PostgreSQL writes it".into(),
    })
}
