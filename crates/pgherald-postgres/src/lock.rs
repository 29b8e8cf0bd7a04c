//! One runner for each flow: session-level advisory locks, tried and never awaited.
//!
//! A waiting `pg_advisory_lock` shows as `active` and pins the vacuum horizon, so nothing here
//! waits.

use std::{fmt, time::Duration};

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};

use crate::query;

/// The key of one flow's advisory lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockKey(i64);

impl LockKey {
    /// The first 8 bytes, big-endian, of SHA-256(`pgherald/<pipeline>/<sink>`).
    #[must_use]
    pub fn of_flow(pipeline: &str, sink: &str) -> Self {
        Self::of(&format!("pgherald/{pipeline}/{sink}"))
    }

    /// What a setup holds while it works. No flow is called like that.
    pub(crate) fn of_setup() -> Self {
        Self::of("pgherald setup")
    }

    fn of(text: &str) -> Self {
        let digest = Sha256::digest(text);
        let first: [u8; 8] = digest[..8].try_into().expect("a digest has 32 bytes");
        Self(i64::from_be_bytes(first))
    }

    /// The key as PostgreSQL takes it.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its backend's process id.
    pub pid: i32,
    /// Where its client connects from; `None`: a Unix socket, or hidden from this role.
    pub client: Option<String>,
    /// What it calls itself; empty: nothing, or hidden from this role.
    pub application: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} from {}", self.pid, self.client.as_deref().unwrap_or("a local socket"))?;
        match shown(&self.application) {
            "" => Ok(()),
            application => write!(f, " ({application})"),
        }
    }
}

/// What a session calls itself, without the random part of ours.
fn shown(application: &str) -> &str {
    let ours = application.strip_prefix("pgherald/").and_then(|rest| rest.split_once('/'));
    ours.map_or(application, |(pid, _)| &application[.."pgherald/".len() + pid.len()])
}

/// Tries every lock once, in one statement; says for each whether this session holds it now.
pub async fn try_locks(
    connection: &mut PgConnection,
    keys: &[LockKey],
) -> Result<Vec<bool>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query(connection, &try_statement(keys)).await?;
    let mut held = vec![false; keys.len()];
    for row in rows {
        let place: i32 = row.try_get(0)?;
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| held.get_mut(place)) {
            *slot = row.try_get(1)?;
        }
    }
    Ok(held)
}

fn try_statement(keys: &[LockKey]) -> String {
    let values: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(place, key)| format!("({place}, '{}'::bigint)", key.get()))
        .collect();
    let values = values.join(", ");
    format!("SELECT v.n, pg_try_advisory_lock(v.k) FROM (VALUES {values}) AS v(n, k)")
}

/// SQL for an opened session ([`crate::open`]) that holds a lock. One that the network or a stopped process cut off ends by
/// itself: after three heartbeats without a statement, or two without the peer taking data.
#[must_use]
pub fn lock_holder_settings(heartbeat: Duration, statement_within: Duration) -> String {
    let (ms, seconds) = (heartbeat.as_millis(), heartbeat.as_secs());
    format!(
        "SET tcp_user_timeout = {}; SET tcp_keepalives_idle = {seconds}; \
         SET tcp_keepalives_interval = {seconds}; SET tcp_keepalives_count = 2; \
         SET idle_session_timeout = {}; SET statement_timeout = {}",
        ms * 2,
        ms * 3,
        statement_within.as_millis(),
    )
}

/// Who holds this lock now; `None`: nobody.
pub async fn holder(
    connection: &mut PgConnection,
    key: LockKey,
) -> Result<Option<Holder>, sqlx::Error> {
    let bits = key.get().cast_unsigned();
    let (high, low) = (bits >> 32, bits & 0xffff_ffff);
    let sql = format!(
        "SELECT l.pid, host(a.client_addr) || ':' || a.client_port, coalesce(a.application_name, '') \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND l.classid = '{high}'::oid AND l.objid = '{low}'::oid \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1"
    );
    let rows = query(connection, &sql).await?;
    rows.first()
        .map(|row| {
            Ok(Holder {
                pid: row.try_get(0)?,
                client: row.try_get(1)?,
                application: row.try_get(2)?,
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_a_contract_between_versions() {
        // printf 'pgherald/orders/bus' | sha256sum | cut -c1-16
        assert_eq!(LockKey::of_flow("orders", "bus").get().cast_unsigned(), 0x2132_b263_a4e0_8da1);
        assert_ne!(LockKey::of_flow("orders", "bus"), LockKey::of_flow("orders", "live"));
    }

    #[test]
    fn one_statement_tries_them_all() {
        let sql = try_statement(&[LockKey(1), LockKey(i64::MIN)]);
        assert_eq!(
            sql,
            "SELECT v.n, pg_try_advisory_lock(v.k) FROM \
             (VALUES (0, '1'::bigint), (1, '-9223372036854775808'::bigint)) AS v(n, k)"
        );
    }

    #[test]
    fn a_holder_reads_well() {
        let holder = Holder { pid: 7, client: Some("10.0.0.1:99".into()), application: "x".into() };
        assert_eq!(holder.to_string(), "pid 7 from 10.0.0.1:99 (x)");
        let ours = Holder { application: "pgherald/12/00ff".into(), ..holder };
        assert_eq!(ours.to_string(), "pid 7 from 10.0.0.1:99 (pgherald/12)");
    }
}
