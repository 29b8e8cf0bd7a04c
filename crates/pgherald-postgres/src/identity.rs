//! Which database cursors, dead letters and rows belong to.
//!
//! A logical copy (a restore, `CREATE DATABASE … TEMPLATE`) has the rows of the original and is
//! another database: whoever carried them there too would send everything twice. The identity is
//! kept as a row, so that it travels with the data and not with the schema. A physical copy has the
//! same identity and cannot be told apart.

mod adopt;

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row, postgres::PgRow};

pub(crate) use self::adopt::adopt;
pub use self::adopt::{Adopt, Adopted};
use crate::{CONNECT_TIMEOUT, PostgresError, bounded, literal, once};

/// Whether a copy of the database may carry.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Only the database that the rows belong to.
    #[default]
    This,
    /// Every database: the comparison is off.
    Any,
}

/// What tells one database from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `None`: the role may not read it.
    system: Option<i64>,
    database: u32,
    outbox: Option<u32>,
    pub(crate) name: String,
    major: i32,
}

/// How this database stands to the one that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentityMatch {
    /// Nothing is written down: a copy of the schema alone, or a new installation.
    Unknown,
    /// It is this one. `stale`: something else about it has changed since.
    Home { stale: bool },
    /// It is this one after an upgrade to a higher major version.
    Upgraded { from: i32 },
    /// It is another one.
    Elsewhere(Facts),
}

/// Whether the cluster's identifier may be read: managed services take the right away.
const MAY_READ_SYSTEM: &str =
    "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";

const STORED: &str = "SELECT system_identifier, database_oid::bigint, outbox_oid::bigint, \
     database_name, server_major FROM pgherald.identity ORDER BY noted_at DESC";

/// This database's own values, in the order of [`COLUMNS`].
fn own_values(system: &str) -> String {
    format!(
        "{system}, d.oid, to_regclass('pgherald.outbox')::oid, d.datname::text, \
         current_setting('server_version_num')::int / 10000 \
         FROM pg_database d WHERE d.datname = current_database()"
    )
}

const COLUMNS: &str = "system_identifier, database_oid, outbox_oid, database_name, server_major";
const SYSTEM: &str = "(SELECT system_identifier FROM pg_control_system())";

/// Writes this database down if nothing is.
pub(crate) fn note_sql() -> String {
    let insert = |system: &str| {
        format!(
            "INSERT INTO pgherald.identity ({COLUMNS}) SELECT {} \
             AND NOT EXISTS (SELECT FROM pgherald.identity)",
            own_values(system)
        )
    };
    format!(
        "DO $note$\nBEGIN\n    IF ({MAY_READ_SYSTEM}) THEN\n        {};\n    ELSE\n        {};\n    \
         END IF;\nEND\n$note$",
        insert(SYSTEM),
        insert("NULL")
    )
}

impl Facts {
    async fn of_this(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let may: bool = one(&once(connection, MAY_READ_SYSTEM).await?)?.try_get(0)?;
        let system = if may { SYSTEM } else { "NULL::bigint" };
        let values = own_values(system).replace(".oid,", ".oid::bigint,");
        let values = values.replace("::oid,", "::oid::bigint,");
        Self::decode(one(&once(connection, &format!("SELECT {values}")).await?)?)
    }

    fn decode(row: &PgRow) -> Result<Self, sqlx::Error> {
        let oid = |number: i64| u32::try_from(number).unwrap_or(0);
        Ok(Self {
            system: row.try_get(0)?,
            database: oid(row.try_get(1)?),
            outbox: row.try_get::<Option<i64>, _>(2)?.map(oid),
            name: row.try_get(3)?,
            major: row.try_get(4)?,
        })
    }

    /// Whether the cluster's identifier could be read.
    pub(crate) fn knows_system(&self) -> bool {
        self.system.is_some()
    }

    /// An identifier that one of them does not know is not compared.
    fn is_same_system(&self, other: &Self) -> bool {
        self.system.is_none() || other.system.is_none() || self.system == other.system
    }

    /// Whether `stored` is this database.
    fn is_home(&self, stored: &Self) -> bool {
        self.is_same_system(stored) && self.database == stored.database
    }

    /// `pg_upgrade` and managed major upgrades make a new identifier and keep everything else.
    fn is_upgrade_of(&self, stored: &Self) -> bool {
        self.database == stored.database
            && self.outbox == stored.outbox
            && self.name == stored.name
            && self.major > stored.major
    }

    fn identity_match(&self, stored: &[Self]) -> IdentityMatch {
        let Some(newest) = stored.first() else { return IdentityMatch::Unknown };
        if let Some(other) = stored.iter().find(|stored| !self.is_home(stored)) {
            return match stored.iter().all(|stored| self.is_upgrade_of(stored)) {
                true => IdentityMatch::Upgraded { from: newest.major },
                false => IdentityMatch::Elsewhere(other.clone()),
            };
        }
        IdentityMatch::Home { stale: stored.len() > 1 || newest != self }
    }

    fn shown(&self) -> String {
        let system = self.system.map_or_else(String::new, |system| {
            // PostgreSQL shows it without a sign in pg_controldata.
            format!(" of system {}", u64::from_ne_bytes(system.to_ne_bytes()))
        });
        format!("{:?} (oid {}{system}, PostgreSQL {})", self.name, self.database, self.major)
    }
}

/// This database, and how it stands to what is written down.
pub(crate) async fn look(
    connection: &mut PgConnection,
) -> Result<(Facts, IdentityMatch), sqlx::Error> {
    let this = Facts::of_this(connection).await?;
    let rows = once(connection, STORED).await?;
    let stored = rows.iter().map(Facts::decode).collect::<Result<Vec<_>, _>>()?;
    let identity_match = this.identity_match(&stored);
    Ok((this, identity_match))
}

/// Requires that cursors, dead letters and rows belong to this database. A copy of the schema alone
/// takes this one, and an upgrade to a higher major version goes on, with a warning.
///
/// # Errors
/// Blocked: they belong to another database.
pub async fn require_home(
    connection: &mut PgConnection,
    identity: Identity,
) -> Result<(), PostgresError> {
    if identity == Identity::Any {
        return Ok(());
    }
    const DOING: &str = "compare the database with the one that the rows belong to";
    let (this, identity_match) = bounded(DOING, CONNECT_TIMEOUT, look(connection)).await?;
    let sql = match identity_match {
        IdentityMatch::Home { stale: false } => return Ok(()),
        IdentityMatch::Elsewhere(other) => return Err(elsewhere(&this, &other)),
        IdentityMatch::Unknown => note_sql(),
        IdentityMatch::Home { stale: true } => renew_sql(&this),
        IdentityMatch::Upgraded { from } => {
            tracing::warn!(
                "the database {:?} was upgraded from PostgreSQL {from} to {}: its new identity is \
                 written down",
                this.name,
                this.major
            );
            format!("{FORGET_NODES}; {}", renew_sql(&this))
        }
    };
    let writing = once(connection, &sql);
    bounded("write the database's identity down", CONNECT_TIMEOUT, writing).await.map(drop)
}

pub(crate) fn elsewhere(this: &Facts, other: &Facts) -> PostgresError {
    PostgresError::blocked(
        format!(
            "the rows in schema pgherald belong to another database, {}; this one is {}",
            other.shown(),
            this.shown()
        ),
        "if this database takes the other one's place, run `pgherald setup --adopt=moved`: what \
         waits is sent; if it is a copy, run `pgherald setup --adopt=copy`: what waits is passed \
         over",
    )
}

/// File nodes may be others after an upgrade. Once, however many flows attach at the same time.
const FORGET_NODES: &str = "WITH upgraded AS (DELETE FROM pgherald.identity RETURNING 1) \
     UPDATE pgherald.cursor SET outbox_node = NULL, sequence_node = NULL \
     WHERE EXISTS (SELECT FROM upgraded)";

/// Writes this database down in the place of what is there. The outbox may be a new table, the
/// database may have a new name.
fn renew_sql(this: &Facts) -> String {
    let number = |number: Option<i64>| number.map_or("NULL".to_owned(), |n| n.to_string());
    format!(
        "DELETE FROM pgherald.identity; \
         INSERT INTO pgherald.identity ({COLUMNS}) VALUES ({}, {}, {}, {}, {})",
        number(this.system),
        this.database,
        number(this.outbox.map(i64::from)),
        literal(&this.name),
        this.major
    )
}

fn one(rows: &[PgRow]) -> Result<&PgRow, sqlx::Error> {
    rows.first().ok_or(sqlx::Error::RowNotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let (system, outbox) = (Some(7), Some(20));
        Facts { system, database: 10, outbox, name: "app".into(), major: 17 }
    }

    #[test]
    fn what_is_the_same_database_and_what_is_not() {
        let this = facts();
        let home = |stale| IdentityMatch::Home { stale };
        assert_eq!(this.identity_match(&[]), IdentityMatch::Unknown);
        assert_eq!(this.identity_match(&[facts()]), home(false));
        assert_eq!(this.identity_match(&[Facts { outbox: Some(9), ..facts() }]), home(true));
        assert_eq!(this.identity_match(&[Facts { name: "b".into(), ..facts() }]), home(true));
        assert_eq!(this.identity_match(&[facts(), facts()]), home(true), "restored at home");
        assert_eq!(this.identity_match(&[Facts { system: None, ..facts() }]), home(true));
        let upgraded = Facts { system: Some(6), major: 15, ..facts() };
        assert_eq!(
            this.identity_match(std::slice::from_ref(&upgraded)),
            IdentityMatch::Upgraded { from: 15 }
        );
        for other in [
            Facts { system: Some(6), ..facts() },
            Facts { database: 11, ..facts() },
            Facts { outbox: Some(9), ..upgraded.clone() },
            Facts { name: "b".into(), ..upgraded.clone() },
            Facts { major: 18, ..upgraded },
        ] {
            let identity_match = IdentityMatch::Elsewhere(other.clone());
            assert_eq!(this.identity_match(std::slice::from_ref(&other)), identity_match);
            assert_eq!(
                this.identity_match(&[facts(), other]),
                identity_match,
                "two rows that differ"
            );
        }
        let error = elsewhere(&this, &Facts { system: Some(-1), ..facts() });
        assert!(error.text.contains("another database"), "{error}");
        assert!(error.text.contains("18446744073709551615"), "{error}");
        assert!(error.fix.contains("--adopt=moved"), "{error}");
    }
}
