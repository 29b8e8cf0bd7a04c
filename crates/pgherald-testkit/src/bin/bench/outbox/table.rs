//! The outbox table of the run.

use std::process::Command;

use pgherald_testkit::{Error, Result, bridge_binary};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::payload::BYTES;
use crate::servers::Servers;

/// The channel of every row.
pub(crate) const CHANNEL: &str = "bench";
/// Rows in one transaction while a backlog is made.
const FILL: usize = 20_000;

/// `pgherald.outbox`, as `pgherald setup` made it.
pub(crate) struct Table {
    url: String,
}

impl Table {
    pub(crate) async fn install(servers: &Servers) -> Result<Self> {
        let url = servers.postgres.url();
        let mut setup = Command::new(bridge_binary().await?);
        setup.arg("setup").env("PGHERALD__POSTGRES__URL", &url);
        let ended = tokio::task::spawn_blocking(move || setup.output()).await;
        let output = ended.map_err(because)?.map_err(because)?;
        match output.status.success() {
            true => Ok(Self { url }),
            false => Err(because(String::from_utf8_lossy(&output.stderr))),
        }
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url).await.map_err(because)
    }

    /// Adds rows without a key, in large transactions.
    pub(crate) async fn fill(&self, rows: usize) -> Result<()> {
        self.fill_with("NULL", rows).await
    }

    /// Adds rows with so many keys in turn.
    pub(crate) async fn fill_keyed(&self, keys: usize, rows: usize) -> Result<()> {
        self.fill_with(&format!("'key-' || n % {keys}"), rows).await
    }

    async fn fill_with(&self, key: &str, rows: usize) -> Result<()> {
        let mut connection = self.connect().await?;
        let sql = format!(
            "INSERT INTO pgherald.outbox (channel, key, payload) \
             SELECT '{CHANNEL}', {key}, repeat('x', {BYTES}) FROM generate_series(1, $1) AS n"
        );
        let mut left = rows;
        while left > 0 {
            let piece = left.min(FILL);
            let filling = sqlx::query(AssertSqlSafe(sql.as_str())).bind(count(piece));
            filling.execute(&mut connection).await.map_err(because)?;
            left -= piece;
        }
        connection.close().await.map_err(because)
    }

    /// Forgets every row: of another measurement, or because nothing reads them.
    pub(crate) async fn clear(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        // One by one: VACUUM runs in no transaction, and several statements at once are one.
        for sql in ["TRUNCATE pgherald.outbox", "VACUUM pgherald.outbox", "CHECKPOINT"] {
            sqlx::raw_sql(sql).execute(&mut connection).await.map_err(because)?;
        }
        connection.close().await.map_err(because)
    }

    /// Whether a row is left.
    pub(crate) async fn has_rows(&self, connection: &mut PgConnection) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM pgherald.outbox)";
        sqlx::query_scalar(sql).fetch_one(connection).await.map_err(because)
    }

    /// The table's size in MB, its indexes included.
    pub(crate) async fn megabytes(&self, connection: &mut PgConnection) -> Result<f64> {
        let sql = "SELECT pg_total_relation_size('pgherald.outbox')";
        let row = sqlx::query(sql).fetch_one(connection).await.map_err(because)?;
        let bytes: i64 = row.try_get(0).map_err(because)?;
        Ok(bytes as f64 / 1e6)
    }
}

/// A number as PostgreSQL takes it.
pub(crate) fn count(rows: usize) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX)
}

pub(crate) fn because(error: impl std::fmt::Display) -> Error {
    Error::because("the outbox table", error)
}
