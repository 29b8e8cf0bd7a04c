//! Why reading an outbox does not go on now.

use pgherald_core::SourceError;
use pgherald_postgres::{Class, PostgresError};

use crate::TableName;

/// What the database says contradicts what was delivered, or was meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Contradiction {
    #[error(
        "the sequence of {table} stands at {last}, below the cursor at {high}: after a restore or a \
         failover that lost rows, ids are issued again for other rows; make sure that nothing is \
         missing, then run `pgherald remove --pipeline {pipeline} --sink {sink}` to begin anew"
    )]
    SequenceBelowCursor {
        table: TableName,
        last: i64,
        high: i64,
        pipeline: Box<str>,
        sink: Box<str>,
    },
    #[error(
        "the cursor of {pipeline}/{sink} belongs to the outbox {known}, not to {table}; run \
         `pgherald remove --pipeline {pipeline} --sink {sink}` to begin anew, or name {known} again"
    )]
    OtherTable { table: TableName, known: Box<str>, pipeline: Box<str>, sink: Box<str> },
}

impl From<Contradiction> for SourceError {
    fn from(contradiction: Contradiction) -> Self {
        Self::Halted(Box::new(contradiction))
    }
}

/// A fault at the database as core takes it.
pub(crate) fn source_error(fault: PostgresError) -> SourceError {
    match fault.class {
        Class::Transient => SourceError::Transient(Box::new(fault)),
        Class::Blocked => SourceError::Blocked(Box::new(fault)),
    }
}

/// A statement of the reader's failed.
pub(crate) fn failed(doing: &str, error: &sqlx::Error) -> SourceError {
    source_error(PostgresError::of(doing, error))
}
