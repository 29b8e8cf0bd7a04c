//! The smallest readers of an outbox: two that are right, and three that look right and are not.
//!
//! They poll with SQL alone, and write down what they read. The right ones are the specification
//! that the bridge is held against; the wrong ones prove that the producers of the tests provoke
//! what makes them wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use pgherald_testkit::{OutboxArrival, OutboxRow};
use sqlx::{Connection, PgConnection};

/// One that holds the table open for inserts: by its virtual transaction, or by its process too.
type Holder = String;
type Holders = BTreeSet<Holder>;

const HOLDERS: &str = "
    SELECT virtualtransaction || CASE WHEN $1 THEN coalesce('/' || pid, '') ELSE '' END
    FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'pgherald.outbox'::regclass AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'RowExclusiveLock'";
const NEWEST: &str = "
    SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('pgherald.outbox', 'id')::regclass), 0)";
const ROWS: &str = "
    SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint || '-' || id, payload
    FROM pgherald.outbox WHERE id > $1 AND id <= $2 OR id = ANY ($3) ORDER BY id";

const BETWEEN_POLLS: Duration = Duration::from_millis(2);
/// So many polls without news after the last commit, and no news will come.
const QUIET_POLLS: u32 = 5;

/// How a reader decides what may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// A hole waits until all that held the table when it was seen are gone.
    Causal,
    /// Nothing behind an open writer is read.
    Strict,
    /// `WHERE id > last`.
    IdAfterLast,
    /// Causal, and takes a prepared transaction for another holder than the session it came from.
    HoldersByPid,
    /// Causal, and takes holes for rolled back.
    HolesAreDead,
}

pub(crate) const WRONG: [Way; 3] = [Way::IdAfterLast, Way::HoldersByPid, Way::HolesAreDead];

/// A reader and what it has read.
pub(crate) struct Reader {
    way: Way,
    connection: PgConnection,
    high: i64,
    /// Missing ids, and who may still own each; none: not asked yet.
    missing: BTreeMap<i64, Option<Holders>>,
    /// Strict: what each holder may own begins behind this.
    bounds: BTreeMap<Holder, i64>,
    newest_before: i64,
    pub(crate) arrivals: Vec<OutboxArrival>,
}

impl Reader {
    pub(crate) async fn open(url: &str, way: Way) -> Self {
        let connection = PgConnection::connect(url).await.unwrap();
        let (missing, bounds) = (BTreeMap::new(), BTreeMap::new());
        Self { way, connection, high: 0, missing, bounds, newest_before: 0, arrivals: Vec::new() }
    }

    /// Polls until nobody writes any more and nothing is left to wait for.
    pub(crate) async fn read(&mut self, written: &AtomicBool) {
        let mut quiet = 0;
        while quiet < QUIET_POLLS {
            let last = written.load(Ordering::SeqCst);
            let before = self.arrivals.len();
            self.poll().await;
            quiet = if last && self.arrivals.len() == before { quiet + 1 } else { 0 };
            tokio::time::sleep(BETWEEN_POLLS).await;
        }
    }

    async fn poll(&mut self) {
        match self.way {
            Way::Strict => self.poll_strict().await,
            _ => self.poll_causal().await,
        }
    }

    async fn poll_causal(&mut self) {
        self.narrow_holders().await;
        let asked: Vec<i64> = self.missing.keys().copied().collect();
        let rows = self.fetch(self.high, i64::MAX, &asked).await;
        let dead = |owners: &Option<Holders>| owners.as_ref().is_some_and(Holders::is_empty);
        self.missing.retain(|id, owners| !rows.contains(id) && !dead(owners));
        let high = rows.last().copied().unwrap_or_default().max(self.high);
        if self.way != Way::HolesAreDead && self.way != Way::IdAfterLast {
            let holes = (self.high + 1..high).filter(|id| !rows.contains(id));
            self.missing.extend(holes.map(|id| (id, None)));
        }
        self.high = high;
    }

    /// Whoever had the table when a hole was first asked for, and has had it ever since.
    async fn narrow_holders(&mut self) {
        if self.missing.is_empty() {
            return;
        }
        let holders = self.holders().await;
        for owners in self.missing.values_mut() {
            *owners = Some(match owners.take() {
                None => holders.clone(),
                Some(before) => before.intersection(&holders).cloned().collect(),
            });
        }
    }

    async fn poll_strict(&mut self) {
        let newest: i64 = sqlx::query_scalar(NEWEST).fetch_one(&mut self.connection).await.unwrap();
        let holders = self.holders().await;
        let bounds = std::mem::take(&mut self.bounds);
        let bound = |holder| bounds.get(&holder).copied().unwrap_or(self.newest_before);
        self.bounds = holders.into_iter().map(|it| (it.clone(), bound(it))).collect();
        let floor = self.bounds.values().min().copied().unwrap_or(newest).max(self.high);
        self.newest_before = newest;
        self.fetch(self.high, floor, &[]).await;
        self.high = floor;
    }

    async fn holders(&mut self) -> Holders {
        let by_pid = self.way == Way::HoldersByPid;
        let query = sqlx::query_scalar(HOLDERS).bind(by_pid);
        let holders: Vec<Holder> = query.fetch_all(&mut self.connection).await.unwrap();
        holders.into_iter().collect()
    }

    /// Reads in one snapshot, in the order of the ids, which it returns.
    async fn fetch(&mut self, after: i64, through: i64, asked: &[i64]) -> Vec<i64> {
        let query = sqlx::query_as(ROWS).bind(after).bind(through).bind(asked);
        let rows: Vec<(i64, String, String)> = query.fetch_all(&mut self.connection).await.unwrap();
        let arrival = |(id, message_id, payload): &(i64, String, String)| {
            let row = OutboxRow::read(*id, payload.as_bytes()).expect("a producer wrote it");
            OutboxArrival { unit: 0, message_id: message_id.clone(), row }
        };
        self.arrivals.extend(rows.iter().map(arrival));
        rows.into_iter().map(|(id, ..)| id).collect()
    }
}
