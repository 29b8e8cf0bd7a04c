//! Why reading an outbox does not go on now.

use std::fmt;

use pgherald_core::SourceError;
use pgherald_postgres::{Class, PostgresError};

use crate::TableName;

/// What the database says contradicts what was delivered, or was meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Contradiction {
    #[error(
        "the sequence of {table} stands at {last}, below {what} at {at}: it was set back, or rows were \
         restored without it; producers get `duplicate key`, or ids that were carried before; run \
         `pgherald setup --repair`, which sets it above both"
    )]
    SequenceBehind { table: TableName, last: i64, what: Behind, at: i64 },
    #[error(
        "the cursor of {pipeline}/{sink} belongs to the outbox {known}, not to {table}; run \
         `pgherald remove --pipeline {pipeline} --sink {sink}` to begin anew, or name {known} again"
    )]
    OtherTable { table: TableName, known: Box<str>, pipeline: Box<str>, sink: Box<str> },
}

/// What a sequence stands below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Cursor,
    HighestId,
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cursor => "the cursor",
            Self::HighestId => "the highest id",
        })
    }
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
