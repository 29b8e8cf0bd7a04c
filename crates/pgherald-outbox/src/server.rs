//! What a session knows about its outbox, and its look at the writers.

use std::{collections::BTreeMap, sync::Arc};

use pgherald_postgres::{PostgresError, bounded, literal, query};
use sqlx::{PgConnection, Row};

use crate::{
    TableName,
    flow::STATEMENT_WITHIN,
    incarnation::{Incarnation, facts_sql},
    inheritors,
    writers::{OpenWriter, Writers},
};

/// The advisory lock (two-key form, with the table's oid) of the reader that sleeps, `pghd`: what
/// the trigger of `pgherald setup` tries.
pub(crate) const DOORBELL: i32 = 0x7067_6864;
/// The same of the one session that deletes rows of the table, `pghk`.
pub(crate) const KEEPER: i32 = 0x7067_686b;

/// The table's place in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableFacts {
    pub(crate) table: u32,
    pub(crate) sequence: u32,
    /// Its partitions and whatever else inherits from it: a row that is inserted straight into one
    /// shows in the table, and its writer holds a lock on that one alone.
    inheritors: Arc<[u32]>,
}

impl TableFacts {
    /// Looks the table up and requires what reading needs.
    pub(crate) async fn require(
        connection: &mut PgConnection,
        table: &TableName,
    ) -> Result<Self, PostgresError> {
        const DOING: &str = "look the outbox up";
        let of = |error| PostgresError::of(DOING, &error);
        let sql = lookup(table);
        let rows = bounded(DOING, STATEMENT_WITHIN, query(connection, &sql)).await?;
        let row = rows.first().ok_or_else(|| missing(table))?;
        let found: Option<i64> = row.try_get(0).map_err(of)?;
        let Some(found) = found else { return Err(missing(table)) };
        let readable: bool = row.try_get(1).map_err(of)?;
        let sequence: Option<i64> = row.try_get(2).map_err(of)?;
        let Some(sequence) = sequence else {
            return Err(PostgresError::blocked(
                format!("the column id of {table} has no sequence of its own"),
                "make it bigint GENERATED ALWAYS AS IDENTITY, or use the table of `pgherald setup`",
            ));
        };
        let sees_sequence: bool = row.try_get(3).map_err(of)?;
        if !readable || !sees_sequence {
            let what = if readable { "the sequence of" } else { "the outbox" };
            return Err(PostgresError::blocked(
                format!("the role of postgres.url may not read {what} {table}"),
                "run `pgherald setup --bridge-role NAME`, or grant SELECT on the table and USAGE \
                 on its sequence",
            ));
        }
        let inheritors: Option<&str> = row.try_get(4).map_err(of)?;
        let inheritors = inheritors.unwrap_or_default().split_terminator(',');
        let inheritors = inheritors.filter_map(|oid| oid.parse().ok()).collect();
        Ok(Self { table: oid(found), sequence: oid(sequence), inheritors })
    }

    /// Whether the table has partitions, or other tables inherit from it.
    pub(crate) fn has_inheritors(&self) -> bool {
        !self.inheritors.is_empty()
    }

    /// Every relation that a writer of the outbox may hold a lock on, as an array of oids.
    pub(crate) fn relations_sql(&self) -> String {
        let oids: Vec<_> =
            self.inheritors.iter().chain([&self.table]).map(u32::to_string).collect();
        format!("'{{{}}}'::oid[]", oids.join(","))
    }

    /// The newest id, read first, and then everybody who holds a writer's lock: in one statement
    /// whose second part depends on the first. Sessions that delete are left out: they insert
    /// nothing.
    fn writers_sql(&self, name: &TableName) -> String {
        let Self { table, sequence, .. } = self;
        let relations = self.relations_sql();
        let facts = facts_sql(name, &format!("{sequence}::oid"));
        format!(
            "SELECT s.last, l.virtualtransaction, l.pid, l.locktype = 'advisory', s.incarnation \
             FROM ({facts} OFFSET 0) AS s LEFT JOIN LATERAL (SELECT virtualtransaction, pid, locktype \
             FROM pg_locks WHERE granted AND s.last >= 0 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND (locktype = 'relation' AND relation = ANY ({relations}) AND mode = 'RowExclusiveLock' \
             OR locktype = 'advisory' AND objsubid = 2 AND classid = {KEEPER}::oid \
             AND objid = {table}::oid)) AS l ON true"
        )
    }

    /// One look at the writers, and at what the table's name stands for; `None`: nothing.
    pub(crate) async fn writers(
        &self,
        connection: &mut PgConnection,
        name: &TableName,
    ) -> Result<(Option<Incarnation>, Writers), sqlx::Error> {
        let rows = query(connection, &self.writers_sql(name)).await?;
        let mut writers = Writers::default();
        let mut incarnation = None;
        let mut keepers = Vec::new();
        for row in &rows {
            writers.last = row.try_get(0)?;
            incarnation = Incarnation::parse(row.try_get(4)?);
            let Some(writer) = row.try_get::<Option<&str>, _>(1)? else { continue };
            let pid: Option<i32> = row.try_get(2)?;
            if row.try_get(3)? {
                keepers.extend(pid);
            } else {
                let writer: OpenWriter =
                    writer.parse().map_err(|error| sqlx::Error::ColumnDecode {
                        index: "virtualtransaction".into(),
                        source: Box::new(error),
                    })?;
                writers.open.insert(writer, pid);
            }
        }
        writers.open = without(writers.open, &keepers);
        Ok((incarnation, writers))
    }

    /// The newest id that was handed out; of a sequence that was restarted and not used since, the
    /// one before the next.
    pub(crate) async fn newest(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        let sql = format!(
            "SELECT pg_sequence_last_value(oid::regclass), oid::regclass::text \
             FROM pg_class WHERE oid = {}::oid",
            self.sequence
        );
        let rows = query(connection, &sql).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        if let Some(newest) = row.try_get(0)? {
            return Ok(newest);
        }
        let name: &str = row.try_get(1)?;
        let sql = format!(
            "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {name}"
        );
        let rows = query(connection, &sql).await?;
        rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
    }
}

fn without(
    open: BTreeMap<OpenWriter, Option<i32>>,
    keepers: &[i32],
) -> BTreeMap<OpenWriter, Option<i32>> {
    let stays = |pid: &Option<i32>| pid.is_none_or(|pid| !keepers.contains(&pid));
    open.into_iter().filter(|(_, pid)| stays(pid)).collect()
}

fn missing(table: &TableName) -> PostgresError {
    let text = format!("the outbox {table} does not exist");
    PostgresError::blocked(text, "run `pgherald setup`, or mend `table`")
}

fn oid(number: i64) -> u32 {
    u32::try_from(number).expect("an oid has 32 bits")
}

/// The table, whether it can be read, its sequence, whether that can be read, and its inheritors.
fn lookup(table: &TableName) -> String {
    let (name, inheritors) = (literal(&table.sql()), inheritors::all("c.oid"));
    format!(
        "SELECT c.oid::bigint, has_table_privilege(c.oid, 'SELECT'), s.oid::bigint, \
         coalesce(has_sequence_privilege(s.oid, 'USAGE, SELECT'), false), \
         (SELECT string_agg(inhrelid::text, ',') FROM ({inheritors}) AS i) \
         FROM (SELECT to_regclass({name})::oid AS oid) AS c \
         LEFT JOIN (pg_depend d \
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
         AND a.attname = 'id' \
         JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S') \
         ON d.refobjid = c.oid AND d.classid = 'pg_class'::regclass \
         AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('i', 'a') LIMIT 1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_delete_are_no_writers_and_prepared_ones_are() {
        let open: BTreeMap<_, _> = [
            (OpenWriter::new(1, 1), Some(10)),
            (OpenWriter::new(2, 1), Some(11)),
            (OpenWriter::new(3, 1), None),
        ]
        .into();
        let left: Vec<_> = without(open, &[11]).into_values().collect();
        assert_eq!(left, [Some(10), None]);
    }
}
