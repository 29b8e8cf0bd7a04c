//! Statements that may be refused without ending the session: the others of the keeper's go on.

use std::time::Duration;

use pgherald_postgres::{PostgresError, bounded};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// The server ends a statement before this side gives the session up.
pub(crate) const REFUSED_WITHIN: Duration = Duration::from_secs(8);
/// How long a statement waits for anybody's lock.
pub(crate) const LOCK_WITHIN: Duration = Duration::from_millis(300);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The server refused one statement; the session lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) fault: PostgresError,
    /// Somebody else's lock was in the way.
    pub(crate) locked: bool,
}

/// Settings for a session whose statements are refused and not waited for.
pub(crate) fn settings() -> String {
    format!(
        "SET statement_timeout = {}; SET lock_timeout = {}",
        REFUSED_WITHIN.as_millis(),
        LOCK_WITHIN.as_millis()
    )
}

/// Runs one statement. The outer error ends the session.
pub(crate) async fn attempt<T>(
    doing: &str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<Result<T, Refusal>, PostgresError> {
    let kept = async {
        match work.await {
            Ok(value) => Ok(Ok(value)),
            Err(error) => match refusal(doing, &error) {
                Some(refusal) => Ok(Err(refusal)),
                None => Err(error),
            },
        }
    };
    bounded(doing, ANSWER_WITHIN, kept).await
}

fn refusal(doing: &str, error: &sqlx::Error) -> Option<Refusal> {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    let database = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let lives = matches!(database.severity(), PgSeverity::Error);
    lives.then(|| Refusal {
        fault: PostgresError::of(doing, error),
        locked: database.code() == LOCK_NOT_AVAILABLE,
    })
}
