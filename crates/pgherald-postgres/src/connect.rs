//! Connections, always with a deadline.

use std::{future::Future, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};
use tokio::time::timeout;

use crate::{PostgresError, PostgresSettings, reach::reach};

/// How long connecting to a host may take, TLS and authentication included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens one connection, to each host within [`CONNECT_TIMEOUT`] or what the URL says. A URL in a file
/// is read now. Sends no startup parameter that a pooler
/// would refuse, and sets nothing: its statements go through [`crate::once`].
///
/// # Errors
/// Classified, and in words that name the server.
///
/// # Cancellation
/// Dropping the future closes the connection.
pub async fn connect(settings: &PostgresSettings) -> Result<PgConnection, PostgresError> {
    reach(&*settings.target()?).await
}

/// Runs `work` within a deadline and says in words what it was `doing` when it failed.
///
/// A connection whose statement ran out of time is stuck and must be dropped.
///
/// # Errors
/// Classified; out of time is transient.
pub async fn bounded<T>(
    doing: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, PostgresError> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(PostgresError::of(doing, &error)),
        Err(_) => Err(PostgresError::transient(format!(
            "cannot {doing}: no answer within {} s",
            limit.as_secs_f32()
        ))),
    }
}

/// Runs a statement over the simple protocol: no prepared statement, so that poolers are fine, and
/// several statements may stand in one text. Values come back as text.
///
/// The caller quotes what it puts into `sql` with [`crate::literal`] and [`crate::identifier`].
pub async fn query(connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
}
