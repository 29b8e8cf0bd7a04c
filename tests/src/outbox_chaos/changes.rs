//! What an administrator does to the database in mid-flow.
//!
//! Not CACHE of the sequence: while it is on, ids say nothing about the order of commits, so the order
//! cannot be judged. That no row is lost then is a case of the environments.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use pgherald_testkit::OutboxTruth;
use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tokio::time::sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// `ALTER TABLE` that writes every row anew.
    Rewrite,
    /// A column with a default, which costs no rewrite.
    Column,
    VacuumFull,
    /// For a moment; nothing crashes meanwhile.
    Unlogged,
    Truncate,
    TruncateRestart,
    Increment,
    SequenceForward,
    /// For a moment: flows stop.
    RowSecurity,
    /// A setting of the bridge's role, which its next sessions have.
    RoleSetting,
}

pub(super) const CHANGES: [Change; 10] = [
    Change::Rewrite,
    Change::Column,
    Change::VacuumFull,
    Change::Unlogged,
    Change::Truncate,
    Change::TruncateRestart,
    Change::Increment,
    Change::SequenceForward,
    Change::RowSecurity,
    Change::RoleSetting,
];

const ROLE_SETTINGS: [&str; 9] = [
    "SET default_transaction_read_only = on",
    "SET default_transaction_isolation = 'serializable'",
    "SET statement_timeout = '100ms'",
    "SET lock_timeout = '50ms'",
    "SET idle_session_timeout = '1s'",
    "SET search_path = ''",
    "SET search_path = public, pgherald, pg_catalog",
    "SET enable_indexscan = off",
    "RESET ALL",
];

/// Fewer rows than this are little, and so long they are waited for.
const LITTLE: i64 = 300;
const LITTLE_WITHIN: Duration = Duration::from_secs(8);

/// Ends every session of the bridge.
const END_BRIDGE: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'herald'";
/// The administrator, and what was thrown away by intention.
pub(super) struct Administrator {
    url: String,
    /// Rows that were in the table when it was emptied: some sinks may not have them.
    emptied: BTreeSet<String>,
    restarts: usize,
}

impl Administrator {
    pub(super) fn new(url: String) -> Self {
        Self { url, emptied: BTreeSet::new(), restarts: 0 }
    }

    pub(super) async fn make(&mut self, change: Change, random: &mut SmallRng) {
        let pause = Duration::from_millis(random.random_range(0..1_500));
        match change {
            Change::Rewrite => {
                self.run("ALTER TABLE pgherald.outbox ADD COLUMN x uuid DEFAULT gen_random_uuid()")
                    .await;
                sleep(pause).await;
                self.run("ALTER TABLE pgherald.outbox DROP COLUMN x").await;
            }
            Change::Column => {
                self.run("ALTER TABLE pgherald.outbox ADD COLUMN y int DEFAULT 7").await;
                sleep(pause).await;
                self.run("ALTER TABLE pgherald.outbox DROP COLUMN y").await;
            }
            Change::VacuumFull => self.run("VACUUM (FULL) pgherald.outbox").await,
            Change::Unlogged => {
                self.run("ALTER TABLE pgherald.outbox SET UNLOGGED").await;
                sleep(pause).await;
                self.run("ALTER TABLE pgherald.outbox SET LOGGED").await;
            }
            Change::Truncate => {
                self.empty("TRUNCATE pgherald.outbox").await;
            }
            Change::TruncateRestart => {
                let done = self.empty("TRUNCATE pgherald.outbox RESTART IDENTITY").await;
                self.restarts += usize::from(done);
            }
            Change::Increment => {
                let increment = random.random_range(1..4);
                self.run(&format!(
                    "ALTER SEQUENCE pgherald.outbox_id_seq INCREMENT BY {increment}"
                ))
                .await;
            }
            Change::SequenceForward => {
                let forward = "nextval('pgherald.outbox_id_seq') + 1000";
                self.run(&format!("SELECT setval('pgherald.outbox_id_seq', {forward})")).await;
            }
            Change::RowSecurity => {
                self.run("ALTER TABLE pgherald.outbox ENABLE ROW LEVEL SECURITY").await;
                sleep(pause).await;
                self.run("ALTER TABLE pgherald.outbox DISABLE ROW LEVEL SECURITY").await;
            }
            Change::RoleSetting => {
                let setting = ROLE_SETTINGS.choose(random).expect("there are some");
                println!("         {setting}");
                self.run(&format!("ALTER ROLE herald {setting}; {END_BRIDGE}")).await;
            }
        }
    }

    async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        if let Err(error) = raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await {
            panic!("{sql}: {error}");
        }
    }

    /// Behind the lock nobody writes: what is seen then is what is thrown away. Whether that may be
    /// missing cannot be told, so it is done when little waits; false: too much did.
    async fn empty(&mut self, truncate: &str) -> bool {
        const WAITING: &str = "SELECT count(*) FROM pgherald.outbox";
        let mut connection = self.connect().await;
        let until = Instant::now() + LITTLE_WITHIN;
        loop {
            let waiting: i64 =
                sqlx::query_scalar(WAITING).fetch_one(&mut connection).await.unwrap();
            if waiting < LITTLE {
                break;
            }
            if Instant::now() > until {
                println!("         left out: {waiting} rows wait");
                return false;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let mut transaction = connection.begin().await.unwrap();
        let lock = "LOCK TABLE pgherald.outbox IN ACCESS EXCLUSIVE MODE";
        raw_sql(lock).execute(&mut *transaction).await.unwrap();
        const TAGS: &str = "SELECT payload::jsonb ->> 'tag' FROM pgherald.outbox";
        let tags: Vec<String> =
            sqlx::query_scalar(TAGS).fetch_all(&mut *transaction).await.unwrap();
        self.emptied.extend(tags);
        raw_sql(AssertSqlSafe(truncate)).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        true
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// What was thrown away may have arrived, and need not.
    pub(super) fn amend(&self, truth: OutboxTruth) -> OutboxTruth {
        let OutboxTruth { committed, mut unsure, .. } = truth;
        let (emptied, committed) =
            committed.into_iter().partition::<Vec<_>, _>(|row| self.emptied.contains(&row.tag));
        println!("{} of these rows were in a table that was emptied", emptied.len());
        unsure.extend(emptied);
        OutboxTruth { committed, unsure, restarts: self.restarts }
    }
}
