//! What reading without loss rests on. Verified at every attach, and again when a page shows that
//! something was altered; `check` reports the same.

use pgherald_core::Finding;
use pgherald_postgres::{PostgresError, query};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{OutboxSettings, Retain, server::TableFacts};

/// The outbox, its sequence, and what this role may do, as the catalogue has them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct Traits {
    cache: i64,
    increment: i64,
    cycles: bool,
    generated_always: bool,
    is_table: bool,
    unlogged: bool,
    has_inheritors: bool,
    /// Row security keeps rows of the outbox, or of `pgherald.cursor`, from this role.
    hides_rows: bool,
    hides_cursors: bool,
    /// The enabled subscription that writes the outbox.
    subscription: Option<String>,
    /// Producers ring the doorbell.
    pub(crate) rings: bool,
    may_delete: bool,
    may_write_cursor: bool,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Rows could be lost: the flow is blocked. Otherwise it costs something.
    pub(crate) blocks: bool,
    /// An error of `check` that does not keep the flow from reading.
    fails_check: bool,
    pub(crate) text: String,
    pub(crate) fix: String,
}

impl Flaw {
    fn blocks(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { blocks: true, fails_check: true, text: text.into(), fix: fix.into() }
    }

    fn fails(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { blocks: false, fails_check: true, text: text.into(), fix: fix.into() }
    }

    fn warns(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { blocks: false, fails_check: false, text: text.into(), fix: fix.into() }
    }

    pub(crate) fn finding(self, subject: &str) -> Finding {
        match self.fails_check {
            true => Finding::error(subject, self.text, self.fix),
            false => Finding::warning(subject, self.text, self.fix),
        }
    }
}

impl Traits {
    pub(crate) async fn read(
        connection: &mut PgConnection,
        facts: &TableFacts,
    ) -> Result<Self, sqlx::Error> {
        let rows = query(connection, &reading(facts)).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Self::decode(row, facts)
    }

    fn decode(row: &PgRow, facts: &TableFacts) -> Result<Self, sqlx::Error> {
        Ok(Self {
            cache: row.try_get(0)?,
            increment: row.try_get(1)?,
            cycles: row.try_get(2)?,
            generated_always: row.try_get(3)?,
            is_table: row.try_get(4)?,
            unlogged: row.try_get(5)?,
            has_inheritors: facts.has_inheritors(),
            hides_rows: row.try_get(6)?,
            hides_cursors: row.try_get(7)?,
            subscription: row.try_get(8)?,
            rings: row.try_get(9)?,
            may_delete: row.try_get(10)?,
            may_write_cursor: row.try_get(11)?,
        })
    }

    /// Whether rows can be read without loss.
    ///
    /// # Errors
    /// Blocked: the first thing that keeps it from that, and the remedy.
    pub(crate) fn require(&self, settings: &OutboxSettings) -> Result<(), PostgresError> {
        match self.flaws(settings).into_iter().find(|flaw| flaw.blocks) {
            Some(flaw) => Err(PostgresError::blocked(flaw.text, flaw.fix)),
            None => Ok(()),
        }
    }

    /// Everything that is not as it should be.
    pub(crate) fn flaws(&self, settings: &OutboxSettings) -> Vec<Flaw> {
        let mut flaws = self.of_table(settings);
        flaws.extend(self.of_sequence(settings));
        flaws.extend(self.of_role(settings));
        flaws
    }

    fn of_table(&self, settings: &OutboxSettings) -> Vec<Flaw> {
        let table = &settings.table;
        let mut flaws = Vec::new();
        if !self.is_table {
            let text = format!("{table} is not a table");
            flaws.push(Flaw::blocks(text, "name the table itself, or run `pgherald setup`"));
        }
        if self.unlogged {
            let text = format!(
                "{table} or a partition of it is UNLOGGED: a crash of the server empties it"
            );
            let fix = format!("ALTER TABLE {table} SET LOGGED, or the same for the partition");
            flaws.push(Flaw::blocks(text, fix));
        }
        if let Some(subscription) = &self.subscription {
            let text = format!(
                "the logical replication subscription {subscription:?} writes {table}: its rows carry \
                 ids of the publisher, which this sequence and these locks say nothing about"
            );
            let fix = format!(
                "read the publisher's outbox; to switch over: ALTER SUBSCRIPTION {subscription} \
                 DISABLE, then `pgherald setup --repair`, then start"
            );
            flaws.push(Flaw::blocks(text, fix));
        }
        if self.has_inheritors {
            let text = format!(
                "{table} has partitions: rows that an attached partition brings with ids below the \
                 cursor wait for `pgherald outbox late`, and a row that is inserted straight into a \
                 partition may wait a second"
            );
            flaws.push(Flaw::warns(
                text,
                format!("insert into {table} itself, and attach empty partitions"),
            ));
        }
        if !self.rings {
            flaws.push(Flaw::warns(
                "producers do not wake a bridge that sleeps: the trigger of `pgherald setup` is \
                 missing or disabled, or max_prepared_transactions is not 0; a row may wait a quarter \
                 of a second",
                "run `pgherald setup`; set max_prepared_transactions = 0 if nobody uses PREPARE \
                 TRANSACTION",
            ));
        }
        flaws
    }

    fn of_sequence(&self, settings: &OutboxSettings) -> Vec<Flaw> {
        let table = &settings.table;
        let mut flaws = Vec::new();
        if self.cache != 1 {
            let text = format!(
                "the sequence of {table} has CACHE {}: sessions draw ids in advance, and their rows \
                 appear behind the reader",
                self.cache
            );
            let fix = format!(
                "ALTER TABLE {table} ALTER COLUMN id SET CACHE 1, and let producers that are connected \
                 connect again: they hold ids already"
            );
            flaws.push(Flaw::blocks(text, fix));
        }
        if self.increment < 1 || self.cycles {
            let text = format!(
                "the sequence of {table} has INCREMENT {}{}: ids do not go up",
                self.increment,
                if self.cycles { " CYCLE" } else { "" }
            );
            let fix = format!("ALTER TABLE {table} ALTER COLUMN id SET INCREMENT 1 SET NO CYCLE");
            flaws.push(Flaw::blocks(text, fix));
        } else if self.increment > 1 {
            let text = format!(
                "the sequence of {table} has INCREMENT {}: every row leaves ids to look for behind it",
                self.increment
            );
            flaws.push(Flaw::warns(
                text,
                format!("ALTER TABLE {table} ALTER COLUMN id SET INCREMENT 1"),
            ));
        }
        if !self.generated_always {
            let text = format!(
                "the id of {table} is not GENERATED ALWAYS: a row that brings an id below the cursor is \
                 passed over, and one above the sequence halts the flow"
            );
            flaws.push(Flaw::warns(
                text,
                format!("ALTER TABLE {table} ALTER COLUMN id SET GENERATED ALWAYS"),
            ));
        }
        flaws
    }

    fn of_role(&self, settings: &OutboxSettings) -> Vec<Flaw> {
        const GRANT: &str = "run `pgherald setup --bridge-role NAME`";
        let table = &settings.table;
        let mut flaws = Vec::new();
        let hidden =
            [(self.hides_rows, table.to_string()), (self.hides_cursors, CURSOR.to_owned())];
        for (_, table) in hidden.into_iter().filter(|(hides, _)| *hides) {
            let text = format!(
                "row security (row level security) of {table} hides rows from the role of postgres.url"
            );
            let fix = format!(
                "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS for that role"
            );
            flaws.push(Flaw::blocks(text, fix));
        }
        if settings.retain == Retain::Delete && !self.may_delete {
            let text = format!("the role of postgres.url may not delete settled rows of {table}");
            flaws.push(Flaw::fails(text, format!("{GRANT}, or set retain = \"keep\"")));
        }
        if !self.may_write_cursor {
            let text = format!("the role of postgres.url may not read and write {CURSOR}");
            flaws.push(Flaw::blocks(text, GRANT));
        }
        flaws
    }
}

const CURSOR: &str = "pgherald.cursor";

fn reading(facts: &TableFacts) -> String {
    let (cursor, relations) = ("'pgherald.cursor'", facts.relations_sql());
    format!(
        "SELECT q.seqcache, q.seqincrement, q.seqcycle, coalesce(a.attidentity = 'a', false), \
         c.relkind IN ('r', 'p'), EXISTS (SELECT FROM pg_class WHERE oid = ANY ({relations}) \
         AND relpersistence <> 'p'), row_security_active(c.oid), \
         row_security_active({cursor}), \
         (SELECT u.subname::text FROM pg_subscription_rel AS r \
         JOIN pg_subscription AS u ON u.oid = r.srsubid AND u.subenabled \
         WHERE r.srrelid = ANY ({relations}) LIMIT 1), \
         current_setting('max_prepared_transactions') = '0' AND EXISTS \
         (SELECT FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid \
         JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE t.tgrelid = c.oid \
         AND t.tgenabled IN ('O', 'A') AND n.nspname = 'pgherald' AND p.proname = 'ring'), \
         has_table_privilege(c.oid, 'DELETE'), \
         has_table_privilege({cursor}, 'SELECT') AND has_table_privilege({cursor}, 'INSERT') \
         AND has_table_privilege({cursor}, 'UPDATE') \
         FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'id' \
         CROSS JOIN pg_sequence AS q WHERE c.oid = {}::oid AND q.seqrelid = {}::oid",
        facts.table, facts.sequence
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutboxConfig;

    #[test]
    fn what_loses_rows_blocks_and_is_said() {
        let settings =
            OutboxConfig::default().resolve("k", &mut pgherald_core::Problems::default()).unwrap();
        let good = Traits {
            cache: 1,
            increment: 1,
            cycles: false,
            generated_always: true,
            is_table: true,
            unlogged: false,
            has_inheritors: false,
            hides_rows: false,
            hides_cursors: false,
            subscription: None,
            rings: true,
            may_delete: true,
            may_write_cursor: true,
        };
        assert!(good.flaws(&settings).is_empty() && good.require(&settings).is_ok());
        let bad = |change: &dyn Fn(&mut Traits)| {
            let mut traits = good.clone();
            change(&mut traits);
            let [flaw] = &traits.flaws(&settings)[..] else { panic!("{traits:?}") };
            assert!(!flaw.fix.is_empty(), "{flaw:?}");
            assert_eq!(traits.require(&settings).is_err(), flaw.blocks);
            (flaw.blocks, flaw.text.clone())
        };
        for (change, word) in [
            (&(|it: &mut Traits| it.cache = 50) as &dyn Fn(&mut Traits), "CACHE 50"),
            (&|it| it.increment = -1, "INCREMENT -1"),
            (&|it| it.cycles = true, "CYCLE"),
            (&|it| it.is_table = false, "not a table"),
            (&|it| it.unlogged = true, "UNLOGGED"),
            (&|it| it.hides_rows = true, "row security"),
            (&|it| it.hides_cursors = true, "pgherald.cursor"),
            (&|it| it.subscription = Some("s".into()), "subscription"),
            (&|it| it.may_write_cursor = false, "pgherald.cursor"),
        ] {
            let (blocks, text) = bad(change);
            assert!(blocks && text.contains(word), "{text}");
        }
        for change in [
            &(|it: &mut Traits| it.increment = 2) as &dyn Fn(&mut Traits),
            &|it| it.generated_always = false,
            &|it| it.has_inheritors = true,
            &|it| it.rings = false,
            &|it| it.may_delete = false,
        ] {
            assert!(!bad(change).0);
        }
    }
}
