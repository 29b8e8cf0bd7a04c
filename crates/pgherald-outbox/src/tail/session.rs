//! A session that only reads: no lock, no transaction, nothing that outlives a statement.

use std::{sync::Arc, time::Duration};

use pgherald_core::{Budget, Room};
use pgherald_postgres::{PostgresError, PostgresSettings, Purpose, bounded, literal, open, query};
use sqlx::{PgConnection, Row as _};

use super::{TAIL_PAYLOAD_BYTES_MAX, TailOptions};
use crate::{
    TableName,
    attach::{BEGIN_WITHIN, READING, statement_timeout},
    cursor::{decode_position, latest},
    flow::STATEMENT_WITHIN,
    incarnation::Incarnation,
    page::PageSql,
    position::Position,
    reader::{Page, Reader},
    server::TableFacts,
    visibility::Scan,
    writers::Writers,
};

const PAGE: Budget = Budget { messages: 1_000, bytes: 4 << 20 };

pub(super) struct TailSession {
    connection: PgConnection,
    table: TableName,
    facts: TableFacts,
    reader: Reader,
    /// The condition on a row of these channels.
    takes: String,
    pub(super) incarnation: Incarnation,
}

impl TailSession {
    pub(super) async fn open(
        postgres: &PostgresSettings,
        options: &TailOptions,
    ) -> Result<Self, PostgresError> {
        let table = options.table.clone();
        let (mut connection, _) = open(postgres, Purpose::Outbox, None).await?;
        let settings = format!("{READING}; {}", statement_timeout(STATEMENT_WITHIN));
        let setting = query(&mut connection, &settings);
        bounded("begin the outbox's session", STATEMENT_WITHIN, setting).await?;
        let facts = TableFacts::require(&mut connection, &table).await?;
        let looking = Incarnation::read(&mut connection, &table, &facts);
        let incarnation = bounded("look the outbox up", STATEMENT_WITHIN, looking).await?;
        let incarnation = incarnation.ok_or_else(|| gone(&table))?;
        let channels = options.channels.as_deref();
        let sql = PageSql::new(&table, channels, TAIL_PAYLOAD_BYTES_MAX);
        let (reader, takes) = (Reader::new(sql), takes(channels));
        Ok(Self { connection, table, facts, reader, takes, incarnation })
    }

    /// One snapshot of a scan, in id order.
    pub(super) async fn page(&mut self, scan: &Scan) -> Result<Page, PostgresError> {
        let Budget { messages, bytes } = PAGE;
        let room = Room { messages, bytes, first_bytes: usize::MAX, budget: PAGE };
        let Self { reader, connection, facts, .. } = self;
        let reading = reader.page(connection, facts.sequence, scan, room);
        bounded("read the outbox", STATEMENT_WITHIN, reading).await
    }

    /// One look at the writers; `None`: it is void, because the table's name stands for something
    /// else than before.
    pub(super) async fn writers(&mut self) -> Result<Option<Writers>, PostgresError> {
        let looking = self.facts.writers(&mut self.connection, &self.table);
        let looked = bounded("look at the outbox's writers", STATEMENT_WITHIN, looking).await;
        let (incarnation, writers) = looked?;
        Ok((incarnation.as_ref() == Some(&self.incarnation)).then_some(writers))
    }

    /// The newest id that was handed out.
    pub(super) async fn newest(&mut self) -> Result<i64, PostgresError> {
        let looking = self.facts.newest(&mut self.connection);
        bounded("read the outbox's sequence", STATEMENT_WITHIN, looking).await
    }

    /// The lowest and the highest id of the newest rows at or below an id; `None`: there is none.
    pub(super) async fn newest_rows(
        &mut self,
        rows: u64,
        through: i64,
    ) -> Result<Option<(i64, i64)>, PostgresError> {
        let sql = format!(
            "SELECT min(id), max(id) FROM (SELECT id FROM {} WHERE id <= {through} AND {} \
             ORDER BY id DESC LIMIT {}) AS r",
            self.table.sql(),
            self.takes,
            i64::try_from(rows).unwrap_or(i64::MAX)
        );
        let rows = self.slow("look for the newest rows", &sql).await?;
        let of = |error| PostgresError::of("look for the newest rows", &error);
        let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(of)?;
        let (first, last): (Option<i64>, Option<i64>) =
            (row.try_get(0).map_err(of)?, row.try_get(1).map_err(of)?);
        Ok(first.zip(last))
    }

    /// Behind every row that can be read now.
    pub(super) async fn latest(&mut self) -> Result<Position, PostgresError> {
        const DOING: &str = "look for the newest row";
        let writers = self.writers().await?.ok_or_else(|| gone(&self.table))?;
        // As a flow with start = "latest" begins.
        let floor = if writers.open.is_empty() { writers.last } else { 0 };
        let sql =
            format!("SELECT high, missing::text FROM ({}) AS p", latest(&self.table.sql(), floor));
        let rows = self.slow(DOING, &sql).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(decode_position).map_err(|error| PostgresError::of(DOING, &error))
    }

    /// A statement that may read the whole table.
    async fn slow(
        &mut self,
        doing: &str,
        sql: &str,
    ) -> Result<Vec<sqlx::postgres::PgRow>, PostgresError> {
        self.set(doing, BEGIN_WITHIN).await?;
        let rows = bounded(doing, BEGIN_WITHIN, query(&mut self.connection, sql)).await?;
        self.set(doing, STATEMENT_WITHIN).await?;
        Ok(rows)
    }

    async fn set(&mut self, doing: &str, limit: Duration) -> Result<(), PostgresError> {
        let sql = statement_timeout(limit);
        bounded(doing, STATEMENT_WITHIN, query(&mut self.connection, &sql)).await.map(drop)
    }
}

/// The table was there, and is not, or it is another one.
pub(super) fn gone(table: &TableName) -> PostgresError {
    PostgresError::transient(format!("{table} was replaced or dropped a moment ago"))
}

fn takes(channels: Option<&[Arc<str>]>) -> String {
    let Some(channels) = channels else { return "true".to_owned() };
    let names: Vec<_> = channels.iter().map(|name| literal(name)).collect();
    format!("channel = ANY (ARRAY[{}]::text[])", names.join(", "))
}
