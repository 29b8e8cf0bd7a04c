//! Why listening does not go on now.

use pgherald_core::SourceError;
use pgherald_postgres::{Class, PostgresError};

/// What the [`Listener`](crate::Listener) could not do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A channel's name that PostgreSQL would cut off or refuse.
    #[error("cannot listen: the channel's name {0}")]
    Channel(String),
    /// The database could not be reached, or refused.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A statement of the caller's failed; the session goes on.
    #[error("the statement failed")]
    Statement(#[source] sqlx::Error),
}

/// A fault of the LISTEN session as core takes it.
pub(crate) fn source_error(fault: PostgresError) -> SourceError {
    match fault.class {
        Class::Transient => SourceError::Transient(Box::new(fault)),
        Class::Blocked => SourceError::Blocked(Box::new(fault)),
    }
}
