//! The sequence behind the ids: it must never stand below an id or a cursor.
//!
//! After a restore of data alone, or a cut-over by logical replication, it does: producers see
//! "duplicate key", and new rows would come in below the cursors.

use sqlx::{PgConnection, Row};

use super::{Installer, Progress, STEP_TIMEOUT, is_in_the_way};
use crate::{CONNECT_TIMEOUT, PostgresError, bounded, literal, once};

/// How far past everything that was seen the sequence is set: writers may be under way.
const MARGIN: i64 = 10_000;

/// An outbox, its sequence, and what that must not stand below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) table: String,
    /// The sequence, as SQL.
    sequence: String,
    /// The newest id that was handed out; 0: none.
    pub(crate) last: i64,
    /// The largest id in the table.
    pub(crate) max_id: i64,
    /// The furthest cursor.
    pub(crate) high: i64,
}

impl Sequence {
    pub(crate) fn is_behind(&self) -> bool {
        self.last < self.max_id.max(self.high)
    }

    /// What is wrong, and what producers see.
    pub(crate) fn text(&self) -> String {
        let Self { table, last, max_id, high, .. } = self;
        format!(
            "the sequence of {table} stands at {last}, below the largest id {max_id} or the \
             furthest cursor {high}: producers may see `duplicate key`, and new rows would come in \
             below the cursors"
        )
    }
}

/// Every outbox that a cursor or the schema names, with its sequence. A table that somebody works on
/// is not waited for.
pub(crate) async fn sequences(connection: &mut PgConnection) -> Result<Vec<Sequence>, sqlx::Error> {
    const TABLES: &str = "SELECT o.name, o.high, d.objid::regclass::text FROM (SELECT name, max(high) AS high FROM \
         (SELECT outbox AS name, high FROM pgherald.cursor \
         UNION ALL SELECT 'pgherald.outbox', 0) AS c GROUP BY name) AS o \
         JOIN pg_attribute a ON a.attrelid = to_regclass(o.name) AND a.attname = 'id' \
         JOIN pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum \
         AND d.classid = 'pg_class'::regclass AND d.deptype IN ('i', 'a') \
         JOIN pg_sequence s ON s.seqrelid = d.objid ORDER BY 1";
    let mut sequences = Vec::new();
    for row in once(connection, TABLES).await? {
        let table: String = row.try_get(0)?;
        let (high, sequence): (i64, String) = (row.try_get(1)?, row.try_get(2)?);
        let max_id = max_id(connection, &table).await?;
        // Read last: an id that is seen was drawn before.
        let last = last_value(connection, &sequence).await?;
        sequences.push(Sequence { table, sequence, last, max_id, high });
    }
    Ok(sequences)
}

async fn last_value(connection: &mut PgConnection, sequence: &str) -> Result<i64, sqlx::Error> {
    let sequence = literal(sequence);
    let sql = format!("SELECT coalesce(pg_sequence_last_value({sequence}::regclass), 0)");
    once(connection, &sql).await?.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}

/// 0 for an empty table, and for one that is locked.
async fn max_id(connection: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    let sql = format!(
        "SET LOCAL lock_timeout = 200;\n\
         SELECT coalesce(max(id), 0) FROM {table}"
    );
    match once(connection, &sql).await {
        Ok(rows) => rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0),
        Err(error) if is_in_the_way(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Sets it past everything, only if it is behind: whoever draws meanwhile moves it on.
async fn move_on(connection: &mut PgConnection, table: &Sequence) -> Result<(), sqlx::Error> {
    let target = table.max_id.max(table.high) + MARGIN;
    let sequence = format!("{}::regclass", literal(&table.sequence));
    let sql = format!(
        "SELECT setval({sequence}, {target}) \
         WHERE coalesce(pg_sequence_last_value({sequence}), 0) < {target}"
    );
    once(connection, &sql).await.map(drop)
}

/// Rows at or below a cursor that it never had: those that its snapshot does not show. A cursor
/// without a snapshot cannot tell them from rows that it has settled.
async fn below_a_cursor(
    connection: &mut PgConnection,
    table: &str,
) -> Result<(i64, bool), sqlx::Error> {
    let sql = format!(
        "WITH now AS MATERIALIZED (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric \
         AS x) SELECT count(DISTINCT o.id), coalesce(bool_or(c.seen IS NULL), false) \
         FROM now, {table} AS o JOIN pgherald.cursor c ON c.outbox = {} \
         AND o.id <= c.high AND NOT c.missing @> o.id \
         AND (c.channels IS NULL OR o.channel = ANY (c.channels)) \
         WHERE c.seen IS NULL OR NOT pg_visible_in_snapshot((now.x - mod(now.x - \
         o.xmin::text::numeric + 4294967296::numeric * 2, 4294967296))::text::xid8, c.seen)",
        literal(table)
    );
    let rows = once(connection, &sql).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

impl Installer<'_> {
    pub(super) async fn repair_sequences(&mut self) -> Result<(), PostgresError> {
        let mut moved = 0;
        for sequence in self.read_sequences().await?.iter().filter(|one| one.is_behind()) {
            let moving = move_on(&mut self.connection, sequence);
            bounded("move the sequence", CONNECT_TIMEOUT, moving).await?;
            self.report(sequence).await?;
            moved += 1;
        }
        if moved == 0 {
            self.done("every sequence stands above every id and cursor: nothing changed".into());
        }
        Ok(())
    }

    async fn report(&mut self, before: &Sequence) -> Result<(), PostgresError> {
        let now = self.read_sequences().await?;
        let last = now.iter().find(|one| one.table == before.table).map_or(0, |one| one.last);
        self.done(format!(
            "the sequence of {} was moved from {} to {last}",
            before.table, before.last
        ));
        let looking = below_a_cursor(&mut self.connection, &before.table);
        let (rows, unsure) = bounded("look for rows below a cursor", STEP_TIMEOUT, looking).await?;
        let which = match unsure {
            true => "may have been drawn below a cursor, or were settled and not deleted yet",
            false => "were drawn below a cursor",
        };
        let text = format!(
            "{rows} rows of {} {which}; `pgherald outbox late list` names those that were passed \
             over",
            before.table
        );
        match rows {
            0 => self.done(format!("no row of {} was drawn below a cursor", before.table)),
            _ => (self.say)(Progress::Warning(text)),
        }
        Ok(())
    }

    /// Whether every sequence is where it must be; says where not.
    pub(super) async fn sequences_are_ahead(&mut self) -> Result<bool, PostgresError> {
        let sequences = self.read_sequences().await?;
        let behind: Vec<_> = sequences.iter().filter(|one| one.is_behind()).collect();
        for sequence in &behind {
            let text = format!("{}; run `pgherald setup --repair`", sequence.text());
            (self.say)(Progress::Left(text));
        }
        Ok(behind.is_empty())
    }

    async fn read_sequences(&mut self) -> Result<Vec<Sequence>, PostgresError> {
        let reading = sequences(&mut self.connection);
        bounded("compare the sequences", STEP_TIMEOUT, reading).await
    }
}
