//! The statement that deletes: it decides by the cursors as its own snapshot shows them, and takes
//! nothing from memory but where to look.
//!
//! A row goes if some cursor takes its channel, and every cursor that does has settled it: its id is
//! at or below `high`, neither `missing` nor `late`, and the row was there when the cursor said so: its
//! transaction had committed, and its partition was attached.
//! Nothing goes while the table, its file or its sequence is not the one that the cursors rest on.
//! In one snapshot: a cursor that is put back meanwhile is older, but every row that it gives up was
//! settled by the one before.

use pgherald_postgres::{literal, query};
use sqlx::{PgConnection, Row};

use crate::{
    TableName,
    flow::Written,
    inheritors::{attachments, shows_since},
    ranges::Ranges,
    retention::Channels,
    server::TableFacts,
    xid::{NEXT, full, made},
};

/// Rows that one statement looks at: a few milliseconds.
const PIECE_ROWS: i64 = 5_000;

/// Beyond so many ranges the token alone says whose write it is.
const COMPARED_RANGES_MAX: usize = 200;

/// What one statement is to look at.
pub(crate) struct Piece<'a> {
    pub(crate) table: &'a TableName,
    pub(crate) facts: &'a TableFacts,
    pub(crate) channels: &'a Channels,
    /// Cursors, by name, that must be there.
    pub(crate) takers: &'a [String],
    pub(crate) window: &'a Ranges,
    /// By name, what carriers in this process wrote last: a cursor that says anything else is not
    /// theirs.
    pub(crate) own: &'a [(String, Written)],
    pub(crate) locked: Locked,
}

/// What becomes of rows that somebody has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Locked {
    /// They are waited for, a moment.
    Wait,
    /// They are passed over.
    Skip,
    /// So is whatever was ever locked: several lockers at once cannot be asked whether they have ended.
    SkipTouched,
}

impl Locked {
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Wait => Self::Skip,
            Self::Skip | Self::SkipTouched => Self::SkipTouched,
        }
    }

    fn sql(self) -> String {
        match self {
            Self::Wait => String::new(),
            Self::Skip => format!(
                " AND (o.xmax = 0 OR coalesce(pg_xact_status({}::text::xid8) <> 'in progress', true))",
                full("o.xmax", "m.next")
            ),
            Self::SkipTouched => " AND o.xmax = 0".to_owned(),
        }
    }
}

/// What it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) rows: i64,
    /// The cursors, the table and the sequence are as they must be; otherwise nothing was looked at.
    pub(crate) valid: bool,
    /// How far it looked; `None`: through the window.
    pub(crate) last: Option<i64>,
}

impl Piece<'_> {
    pub(crate) async fn delete(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Deleted, sqlx::Error> {
        let rows = query(connection, &self.sql()).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Deleted { rows: row.try_get(0)?, valid: row.try_get(1)?, last: row.try_get(2)? })
    }

    pub(crate) fn sql(&self) -> String {
        let table = self.table.sql();
        let channels = self.channels.sql();
        let since = shows_since("m.attachments", "m.next");
        let (cursors, seen) = (self.cursors_sql(), Self::seen_sql(&since));
        let unlocked = self.locked.sql();
        format!(
            "{cursors}, p AS MATERIALIZED (SELECT lower(ids) AS first, upper(ids) AS past, fresh \
             FROM (SELECT unnest(ids - old) AS ids, true AS fresh FROM m \
             UNION ALL SELECT unnest(ids * old), false FROM m) AS u ORDER BY 1), \
             l AS MATERIALIZED (SELECT (SELECT o.id FROM p CROSS JOIN LATERAL (SELECT id \
             FROM {table} WHERE id >= p.first AND id < p.past ORDER BY id) AS o \
             OFFSET {PIECE_ROWS} LIMIT 1) AS id), \
             gone AS (DELETE FROM {table} AS o USING p, l, m \
             WHERE o.id >= p.first AND o.id < p.past AND (l.id IS NULL OR p.first <= l.id) \
             AND o.id <= coalesce(l.id, 9223372036854775807) AND {channels}{unlocked} \
             AND {since} < m.written AND (p.fresh OR {since} < m.horizon OR {seen}) \
             RETURNING 1) \
             SELECT (SELECT count(*) FROM gone), EXISTS (SELECT FROM m), l.id FROM l"
        )
    }

    /// `k`: the cursors that take some of the channels; `m`: what all of them have settled, and what
    /// any of them calls old. A baseline that is older than the table says nothing of when its partitions
    /// were attached: `pg_upgrade` attaches all of them anew. (The union is what not all of them lack: `range_agg` takes multiranges
    /// from PostgreSQL 15 on only.)
    fn cursors_sql(&self) -> String {
        let Self { table, facts, window, .. } = self;
        let (name, sql) = (literal(&table.to_string()), literal(&table.sql()));
        let window = format!("'{}'::int8multirange", window.to_multirange());
        let [some, all] = self.channels.takers_sql();
        let (written, sequence, own) = (full("c.xmin", "n.next"), facts.sequence, self.own_sql());
        let takers: Vec<_> = self.takers.iter().map(|name| literal(name)).collect();
        let takers = takers.join(", ");
        let (made, attachments) = (made("t.oid", "t.next"), attachments("t.oid", "t.next"));
        format!(
            "WITH n AS MATERIALIZED (SELECT t.oid, pg_relation_filenode(t.oid) AS node, t.next, \
             {made} AS made, {attachments} AS attachments, \
             coalesce(pg_sequence_last_value({sequence}::oid::regclass), 0) AS last \
             FROM (SELECT to_regclass({sql})::oid AS oid, {NEXT} AS next OFFSET 0) AS t), \
             k AS MATERIALIZED (SELECT c.pipeline || '/' || c.sink AS name, {all} AS takes_all, \
             c.seen, c.seen_high, \
             coalesce(pg_visible_in_snapshot(n.made::text::xid8, c.seen), true) AS knows_table, \
             pg_snapshot_xmin(c.seen)::text::bigint AS horizon, \
             {written} AS written, ({window} * int8multirange(int8range(NULL, c.high, '[]'))) \
             - c.missing - c.late AS settled, CASE WHEN c.seen IS NULL THEN '{{}}' ELSE \
             ({window} * int8multirange(int8range(NULL, c.seen_high, '[]'))) - c.seen_missing \
             END AS old, c.high <= n.last AND n.oid = {oid}::oid \
             AND coalesce(c.outbox_oid = n.oid, true) AND coalesce(c.outbox_node = n.node, true) \
             AND (c.seen IS NULL OR c.seen_node IS NOT DISTINCT FROM n.node \
             AND pg_snapshot_xmax(c.seen)::text::bigint <= n.next){own} AS valid \
             FROM n CROSS JOIN pgherald.cursor AS c WHERE c.outbox = {name} AND {some}), \
             m AS MATERIALIZED (SELECT range_intersect_agg(k.settled) AS ids, \
             {window} - range_intersect_agg({window} - k.old) AS old, \
             min(k.horizon) AS horizon, min(k.written) AS written, n.next, \
             CASE WHEN bool_and(k.knows_table) THEN n.attachments END AS attachments \
             FROM n CROSS JOIN k GROUP BY n.next, n.attachments HAVING bool_and(k.valid) AND bool_or(k.takes_all) \
             AND array_agg(k.name) @> ARRAY[{takers}]::text[])",
            oid = facts.table,
        )
    }

    /// A cursor of a flow that this process runs is as its session wrote it last.
    fn own_sql(&self) -> String {
        let own = self.own.iter().map(|(name, Written { token, position })| {
            let missing = match position.missing.len() <= COMPARED_RANGES_MAX {
                true => format!(
                    " AND c.missing = '{}'::int8multirange",
                    position.missing.to_multirange()
                ),
                false => String::new(),
            };
            format!(
                " AND (c.pipeline || '/' || c.sink <> {} OR coalesce(c.token::text, '') = {} \
                 AND c.high = {}{missing})",
                literal(name),
                literal(token),
                position.high
            )
        });
        own.collect()
    }

    /// The row was there when each of the cursors was last looked at. One that was `missing` then
    /// for some of them waits for their next look.
    fn seen_sql(since: &str) -> String {
        format!(
            "NOT EXISTS (SELECT FROM k WHERE k.seen IS NOT NULL AND o.id <= k.seen_high \
             AND NOT pg_visible_in_snapshot({since}::text::xid8, k.seen))"
        )
    }
}
