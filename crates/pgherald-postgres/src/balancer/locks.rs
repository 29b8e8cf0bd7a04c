//! The locks by which processes tell each other what they offer to carry and what they carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};

use super::plan::{Member, PipelineId, Snapshot};
use crate::{Holder, query};

/// The class of the shared lock (two-key form) of everybody who offers to carry a pipeline, `pghc`.
const CANDIDATE: i32 = 0x7067_6863;
/// The same of the exclusive lock of the one that carries it, `pghr`.
const CARRIER: i32 = 0x7067_6872;

/// What the locks call a pipeline with these sinks: the first 4 bytes, big-endian, of
/// SHA-256(`pgherald/<pipeline>/<sink>,<sink>…`), the sinks in order. The classes are ours, so that a look
/// finds the pipelines too that only other processes know: everybody makes the same plan.
pub(super) fn unit_of(pipeline: &str, sinks: &BTreeSet<&str>) -> PipelineId {
    let sinks = sinks.iter().copied().collect::<Vec<_>>().join(",");
    let digest = Sha256::digest(format!("pgherald/{pipeline}/{sinks}"));
    let first: [u8; 4] = digest[..4].try_into().expect("a digest has 32 bytes");
    PipelineId(u32::from_be_bytes(first))
}

/// One look at the locks.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) snapshot: Snapshot,
    pub(super) members: BTreeMap<Member, Holder>,
}

/// Looks, in one statement.
pub(super) async fn look(connection: &mut PgConnection) -> Result<Look, sqlx::Error> {
    let sql = format!(
        "SELECT l.classid = {CARRIER}::oid, l.objid::bigint, l.pid, \
         host(a.client_addr) || ':' || a.client_port, coalesce(a.application_name, '') \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid IS NOT NULL \
         AND l.classid IN ({CANDIDATE}::oid, {CARRIER}::oid) \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let mut look = Look::default();
    for row in query(connection, &sql).await? {
        let (carries, unit): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (unit, pid) =
            (PipelineId(u32::try_from(unit).expect("an oid has 32 bits")), row.try_get(2)?);
        let Snapshot { candidates, runners } = &mut look.snapshot;
        if carries {
            runners.insert(unit, pid);
        } else {
            candidates.entry(unit).or_default().insert(pid);
        }
        let holder = Holder { pid, client: row.try_get(3)?, application: row.try_get(4)? };
        look.members.insert(pid, holder);
    }
    Ok(look)
}

/// What a process changes about its own locks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// It offers to carry these no longer.
    pub(super) withdraw: Vec<PipelineId>,
    /// It carries these no longer.
    pub(super) let_go: Vec<PipelineId>,
    /// It offers to carry these.
    pub(super) offer: Vec<PipelineId>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn sql(&self) -> String {
        let mut sql = String::from("SELECT");
        let mut each = |function: &str, class: i32, units: &[PipelineId]| {
            for unit in units {
                let comma = if sql.ends_with(')') { "," } else { "" };
                let _ = write!(sql, "{comma} {function}({class}, '{}'::int)", unit.0.cast_signed());
            }
        };
        each("pg_advisory_unlock_shared", CANDIDATE, &self.withdraw);
        each("pg_advisory_unlock", CARRIER, &self.let_go);
        each("pg_try_advisory_lock_shared", CANDIDATE, &self.offer);
        sql
    }
}

/// Makes them, in one statement.
pub(super) async fn apply(
    connection: &mut PgConnection,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    query(connection, &changes.sql()).await.map(drop)
}

/// Tries to carry these, in one statement; returns those that this session carries now.
pub(super) async fn take(
    connection: &mut PgConnection,
    units: &[PipelineId],
) -> Result<Vec<PipelineId>, sqlx::Error> {
    let values: Vec<_> =
        units.iter().map(|unit| format!("('{}'::int)", unit.0.cast_signed())).collect();
    let sql = format!(
        "SELECT v.k FROM (VALUES {}) AS v(k) WHERE pg_try_advisory_lock({CARRIER}, v.k)",
        values.join(", ")
    );
    let rows = query(connection, &sql).await?;
    rows.iter().map(|row| Ok(PipelineId(row.try_get::<i32, _>(0)?.cast_unsigned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_a_contract_between_versions() {
        // printf 'pgherald/orders/bus,live' | sha256sum | cut -c1-8
        assert_eq!(unit_of("orders", &["live", "bus"].into()), PipelineId(0x1640_164b));
        assert_eq!((CANDIDATE.to_be_bytes(), CARRIER.to_be_bytes()), (*b"pghc", *b"pghr"));
    }

    #[test]
    fn one_statement_changes_everything() {
        let changes = Changes {
            withdraw: vec![PipelineId(1), PipelineId(u32::MAX)],
            let_go: vec![PipelineId(2)],
            offer: Vec::new(),
        };
        assert_eq!(
            changes.sql(),
            "SELECT pg_advisory_unlock_shared(1885825123, '1'::int), \
             pg_advisory_unlock_shared(1885825123, '-1'::int), \
             pg_advisory_unlock(1885825138, '2'::int)"
        );
    }
}
