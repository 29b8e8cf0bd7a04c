//! What a session needs to know about its server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgherald_core::clock;
use sqlx::{PgConnection, Row};

use crate::{PostgresError, literal, look, once, target::application_name};

/// SQL for the server's clock in microseconds since 1970, exact (no floating point).
pub const NOW_MICROS: &str = "(extract(epoch FROM clock_timestamp())::numeric * 1000000)::bigint";

/// A time from microseconds since 1970; times before that are 1970.
#[must_use]
pub fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Microseconds since 1970.
#[must_use]
pub fn to_micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// One server process, told apart from a later one with the same pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its process id.
    pub pid: i32,
    /// When it started, as the server writes it.
    pub start: String,
}

/// The server behind a session, and the session's own backend.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `server_version_num`: 180006.
    pub version: i32,
    /// `server_version`: `18.6`.
    pub version_text: String,
    /// `server_encoding`: `UTF8`.
    pub encoding: String,
    /// Whether it is a standby, where nothing can be announced or heard.
    pub in_recovery: bool,
    /// This session's own server process.
    pub backend: Backend,
}

impl ServerFacts {
    /// Reads them, in one statement.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let asked = Instant::now();
        let sql = format!(
            "SELECT current_setting('server_version_num')::int, \
             current_setting('server_version'), current_setting('server_encoding'), \
             pg_is_in_recovery(), pg_backend_pid(), coalesce((SELECT backend_start::text \
             FROM pg_stat_activity WHERE pid = pg_backend_pid()), ''), {NOW_MICROS}"
        );
        let rows = look(connection, &sql).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        clock().measured(from_micros(row.try_get(6)?), asked);
        Ok(Self {
            version: row.try_get(0)?,
            version_text: row.try_get(1)?,
            encoding: row.try_get(2)?,
            in_recovery: row.try_get(3)?,
            backend: Backend { pid: row.try_get(4)?, start: row.try_get(5)? },
        })
    }

    /// Whether a LISTEN session may work here.
    ///
    /// # Errors
    /// Blocked: the database is not UTF8, the server is a standby or too old.
    pub fn require_listen(&self) -> Result<(), PostgresError> {
        if self.version < 130_000 {
            let text = format!("PostgreSQL {} is too old", self.version_text);
            return Err(PostgresError::blocked(text, "use PostgreSQL 13 or newer"));
        }
        if self.in_recovery {
            return Err(PostgresError::blocked(
                "the server behind postgres.url is a standby, where nothing is announced",
                "let postgres.url name the primary",
            ));
        }
        if self.encoding != "UTF8" {
            return Err(PostgresError::blocked(
                format!(
                    "the database's encoding is {}: a byte that is not text would end the session",
                    self.encoding
                ),
                "use a database with encoding UTF8",
            ));
        }
        Ok(())
    }

    /// Whether a session that reads an outbox may work here.
    ///
    /// # Errors
    /// Blocked: the database is not UTF8, the server is a standby or too old.
    pub fn require_outbox(&self) -> Result<(), PostgresError> {
        if self.version < 140_000 {
            let text = format!("PostgreSQL {} is too old for an outbox", self.version_text);
            return Err(PostgresError::blocked(text, "use PostgreSQL 14 or newer"));
        }
        self.require_listen()
    }
}

/// Reads the server's clock, and tells core's.
pub async fn read_clock(connection: &mut PgConnection) -> Result<SystemTime, sqlx::Error> {
    let asked = Instant::now();
    let rows = look(connection, &format!("SELECT {NOW_MICROS}")).await?;
    let now = from_micros(rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?);
    clock().measured(now, asked);
    Ok(now)
}

/// Ends one of our own former server processes, if it is still there, and waits up to a second
/// until it is gone and its locks are free. The same role may.
///
/// A pooler in session mode gives that server process to another client when ours is cut off: it is
/// left alone unless it still calls itself by the name that only this process's sessions have, and
/// still holds an advisory lock (a pooler frees them before it gives a process on).
pub async fn end_backend(
    connection: &mut PgConnection,
    backend: &Backend,
) -> Result<bool, sqlx::Error> {
    let terminate = match connection.server_version_num() {
        Some(version) if version < 140_000 => "pg_terminate_backend(pid)",
        _ => "pg_terminate_backend(pid, 1000)",
    };
    let sql = format!(
        "SELECT {terminate} FROM pg_stat_activity \
         WHERE pid = {} AND backend_start::text = {} AND application_name = {} \
         AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = {} AND l.locktype = 'advisory')",
        backend.pid,
        literal(&backend.start),
        literal(application_name()),
        backend.pid
    );
    Ok(!once(connection, &sql).await?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    fn facts() -> ServerFacts {
        ServerFacts {
            version: 180_006,
            version_text: "18.6".into(),
            encoding: "UTF8".into(),
            in_recovery: false,
            backend: Backend { pid: 1, start: String::new() },
        }
    }

    #[test]
    fn only_a_utf8_primary_will_do() {
        assert_eq!(facts().require_listen(), Ok(()));
        let old = ServerFacts { version: 120_000, ..facts() };
        let standby = ServerFacts { in_recovery: true, ..facts() };
        let ascii = ServerFacts { encoding: "SQL_ASCII".into(), ..facts() };
        for refused in [old, standby, ascii] {
            assert_eq!(refused.require_listen().unwrap_err().class, Class::Blocked);
        }
    }

    #[test]
    fn micros_there_and_back() {
        assert_eq!(to_micros(from_micros(1_793_424_001_005_999)), 1_793_424_001_005_999);
        assert_eq!(to_micros(from_micros(-5)), 0);
    }
}
