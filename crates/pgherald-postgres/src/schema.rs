//! The objects in schema `pgherald`: which version is there, and whether this program can use it.

use sqlx::{PgConnection, Row};

use crate::{PostgresError, look};

/// The version of the schema that this program installs.
pub const SCHEMA_VERSION: i32 = 2;

const REMEDY: &str = "run `pgherald setup` as the owner of the schema";

/// What a database has in schema `pgherald`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// This program's version or the next one: an upgrade may come before the new program.
    Usable,
    /// Nothing is installed.
    Missing,
    /// An older version, which this program cannot use.
    Older(i32),
    /// A version from too far ahead.
    Newer(i32),
}

impl SchemaState {
    /// The state that an installed version stands for.
    #[must_use]
    pub fn of(installed: Option<i32>) -> Self {
        match installed {
            None => Self::Missing,
            Some(version) if version < SCHEMA_VERSION => Self::Older(version),
            Some(version) if version > SCHEMA_VERSION + 1 => Self::Newer(version),
            Some(_) => Self::Usable,
        }
    }

    /// Whether the tables and functions of [`SCHEMA_VERSION`] can be used.
    ///
    /// # Errors
    /// Blocked, with the remedy.
    pub fn require_usable(self) -> Result<(), PostgresError> {
        match self {
            Self::Usable => Ok(()),
            Self::Missing => {
                Err(PostgresError::blocked("schema pgherald is not installed", REMEDY))
            }
            Self::Older(0) => Err(PostgresError::blocked(
                "schema pgherald is incomplete: nothing in it says its version",
                REMEDY,
            )),
            Self::Older(version) => Err(PostgresError::blocked(
                format!("schema pgherald has version {version}, {SCHEMA_VERSION} is needed"),
                REMEDY,
            )),
            Self::Newer(version) => Err(PostgresError::blocked(
                format!(
                    "schema pgherald has version {version}, this pgherald knows {SCHEMA_VERSION}"
                ),
                "use a newer pgherald",
            )),
        }
    }
}

/// Looks at what is installed. Takes no lock that anything waits for.
pub async fn schema_state(connection: &mut PgConnection) -> Result<SchemaState, sqlx::Error> {
    Ok(SchemaState::of(installed_version(connection).await?))
}

/// The version that is installed: the row in `pgherald.schema_version`, or, in a copy of the schema
/// alone, what the function of that name says. Asks the catalog first, which everybody may read, so
/// that a database without the schema logs no error. 0: there are objects, and none says a version.
pub(crate) async fn installed_version(
    connection: &mut PgConnection,
) -> Result<Option<i32>, sqlx::Error> {
    const THERE: &str = "SELECT \
         coalesce(bool_or(c.relname = 'schema_version'), false), count(c.oid) > 0, \
         (SELECT substring(p.prosrc FROM '^SELECT ([0-9]{1,6})$')::int FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = 'pgherald' AND p.proname = 'schema_version' AND p.pronargs = 0) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'pgherald' AND c.relname IN ('schema_version', 'outbox', 'cursor')";
    let rows = look(connection, THERE).await?;
    let there = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (row, any, said): (bool, bool, Option<i32>) =
        (there.try_get(0)?, there.try_get(1)?, there.try_get(2)?);
    if row {
        let rows = look(connection, "SELECT max(version) FROM pgherald.schema_version").await?;
        let noted: Option<i32> = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
        if noted.is_some() {
            return Ok(noted);
        }
    }
    Ok(said.or(any.then_some(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[test]
    fn this_version_and_the_next_one_will_do() {
        for usable in [SCHEMA_VERSION, SCHEMA_VERSION + 1] {
            assert_eq!(SchemaState::of(Some(usable)).require_usable(), Ok(()));
        }
        for (installed, part) in [
            (None, "not installed"),
            (Some(SCHEMA_VERSION - 1), "is needed"),
            (Some(SCHEMA_VERSION + 2), "this pgherald knows"),
        ] {
            let error = SchemaState::of(installed).require_usable().unwrap_err();
            assert_eq!(error.class, Class::Blocked);
            assert!(error.text.contains(part), "{error}");
        }
        let missing = SchemaState::Missing.require_usable().unwrap_err();
        assert!(missing.to_string().contains("pgherald setup"), "{missing}");
    }
}
