//! What `pgherald check` says about an outbox.

use pgherald_core::Finding;
use pgherald_postgres::{
    PostgresError, PostgresSettings, ServerFacts, bounded, connect, literal, query, schema_state,
};
use sqlx::{PgConnection, Row};

use crate::{
    OutboxSettings, Retain, attach::session_settings, flow::STATEMENT_WITHIN, keeper::read_cursors,
    measure::unrouted, porter::bell_is_there, retention::groups, server::TableFacts,
};

/// Looks at the outbox as a flow would, takes no lock, and reports under `key` (the source's dotted
/// name) what keeps it from being read without loss, and what costs.
pub async fn check(
    postgres: &PostgresSettings,
    settings: &OutboxSettings,
    key: &str,
) -> Vec<Finding> {
    let subject = format!("{key}.table");
    match inspect(postgres, settings, &subject).await {
        Ok(findings) => findings,
        Err(fault) => {
            let fix = match fault.fix.as_str() {
                "" => "start the server, or mend the host and port".to_owned(),
                fix => fix.to_owned(),
            };
            vec![Finding::error(subject, fault.text, fix)]
        }
    }
}

async fn inspect(
    postgres: &PostgresSettings,
    settings: &OutboxSettings,
    subject: &str,
) -> Result<Vec<Finding>, PostgresError> {
    let mut connection = connect(postgres).await?;
    let work = look(&mut connection, settings, subject);
    // Every statement is bounded by the server, too.
    match tokio::time::timeout(STATEMENT_WITHIN, work).await {
        Ok(found) => found,
        Err(_) => Err(PostgresError::transient("the server does not answer")),
    }
}

async fn look(
    connection: &mut PgConnection,
    settings: &OutboxSettings,
    subject: &str,
) -> Result<Vec<Finding>, PostgresError> {
    let of = |error: sqlx::Error| PostgresError::of("look at the outbox", &error);
    let server = ServerFacts::read(connection).await.map_err(of)?;
    server.require_outbox()?;
    query(connection, &session_settings()).await.map_err(of)?;
    schema_state(connection).await.map_err(of)?.require_usable()?;
    let facts = TableFacts::require(connection, &settings.table).await?;
    let traits = Traits::read(connection, &facts).await.map_err(of)?;
    let mut findings = traits.findings(settings, subject);
    let reading = bell_is_there(connection, &facts);
    if !bounded("look for the doorbell", STATEMENT_WITHIN, reading).await? {
        findings.push(Finding::warning(
            subject,
            "producers do not wake a bridge that sleeps: the trigger of `pgherald setup` is \
             missing, or max_prepared_transactions is not 0; a row may wait a quarter of a second",
            "run `pgherald setup`; set max_prepared_transactions = 0 if nobody uses PREPARE \
             TRANSACTION",
        ));
    }
    findings.extend(without_sink(connection, settings, subject).await.map_err(of)?);
    if findings.is_empty() {
        let text = format!("{} can be read without loss", settings.table);
        findings.push(Finding::ok(subject, text));
    }
    Ok(findings)
}

/// What reading without loss relies on.
struct Traits {
    cache: i64,
    generated_always: bool,
    partitioned: bool,
    may_delete: bool,
    may_write_cursor: bool,
}

impl Traits {
    async fn read(connection: &mut PgConnection, facts: &TableFacts) -> Result<Self, sqlx::Error> {
        let cursor = literal("pgherald.cursor");
        let sql = format!(
            "SELECT s.seqcache, a.attidentity = 'a', c.relkind = 'p' OR EXISTS \
             (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid), \
             has_table_privilege(c.oid, 'DELETE'), \
             has_table_privilege({cursor}, 'SELECT') AND has_table_privilege({cursor}, 'INSERT') \
             AND has_table_privilege({cursor}, 'UPDATE') \
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' \
             CROSS JOIN pg_sequence s WHERE c.oid = {}::oid AND s.seqrelid = {}::oid",
            facts.table, facts.sequence
        );
        let rows = query(connection, &sql).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Self {
            cache: row.try_get(0)?,
            generated_always: row.try_get(1)?,
            partitioned: row.try_get(2)?,
            may_delete: row.try_get(3)?,
            may_write_cursor: row.try_get(4)?,
        })
    }

    fn findings(&self, settings: &OutboxSettings, subject: &str) -> Vec<Finding> {
        let table = &settings.table;
        let mut findings = Vec::new();
        if self.cache != 1 {
            findings.push(Finding::error(
                subject,
                format!(
                    "the sequence of {table} hands out {} ids at a time: rows appear behind the \
                     reader and are lost",
                    self.cache
                ),
                format!("ALTER TABLE {table} ALTER COLUMN id SET CACHE 1"),
            ));
        }
        if !self.generated_always {
            findings.push(Finding::warning(
                subject,
                format!(
                    "the id of {table} is not GENERATED ALWAYS: a row with an id of its own is lost"
                ),
                format!("ALTER TABLE {table} ALTER COLUMN id SET GENERATED ALWAYS"),
            ));
        }
        if self.partitioned {
            findings.push(Finding::warning(
                subject,
                format!(
                    "{table} has partitions: rows that are inserted straight into one may be lost"
                ),
                "insert into the parent only",
            ));
        }
        if settings.retain == Retain::Delete && !self.may_delete {
            findings.push(Finding::error(
                subject,
                format!("the role of postgres.url may not delete settled rows of {table}"),
                "run `pgherald setup --bridge-role NAME`, or set retain = \"keep\"",
            ));
        }
        if !self.may_write_cursor {
            findings.push(Finding::error(
                subject,
                "the role of postgres.url may not read and write pgherald.cursor",
                "run `pgherald setup --bridge-role NAME`",
            ));
        }
        findings
    }
}

/// Channels with rows that no registered sink takes: they stay for ever.
async fn without_sink(
    connection: &mut PgConnection,
    settings: &OutboxSettings,
    subject: &str,
) -> Result<Vec<Finding>, sqlx::Error> {
    let cursors = read_cursors(connection, &settings.table).await?;
    if cursors.is_empty() {
        return Ok(Vec::new());
    }
    let groups = groups(&cursors);
    let Some(group) = groups.iter().find(|group| group.settled.is_none()) else {
        return Ok(Vec::new());
    };
    let channels = unrouted(connection, &settings.table, group).await?;
    let finding = |(channel, rows): (String, u64)| {
        Finding::warning(
            subject,
            format!("no sink takes channel {channel:?}: {rows} rows stay in {}", settings.table),
            "add the channel to a sink, or delete the rows",
        )
    };
    Ok(channels.into_iter().map(finding).collect())
}

#[cfg(test)]
mod tests {
    use pgherald_core::Level;

    use super::*;
    use crate::OutboxConfig;

    #[test]
    fn what_loses_rows_is_said() {
        let settings =
            OutboxConfig::default().resolve("k", &mut pgherald_core::Problems::default()).unwrap();
        let good = Traits {
            cache: 1,
            generated_always: true,
            partitioned: false,
            may_delete: true,
            may_write_cursor: true,
        };
        assert!(good.findings(&settings, "t").is_empty());
        let bad = Traits {
            cache: 32,
            generated_always: false,
            partitioned: true,
            may_delete: false,
            may_write_cursor: false,
        };
        let findings = bad.findings(&settings, "t");
        assert_eq!(findings.len(), 5);
        let errors = findings.iter().filter(|finding| finding.level == Level::Error);
        assert_eq!(errors.count(), 3);
    }
}
