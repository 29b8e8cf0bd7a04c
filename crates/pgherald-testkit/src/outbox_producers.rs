//! Producers for an outbox: connections whose transactions do whatever transactions may do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::outbox_finisher::Finisher;
use crate::outbox_writer::Writer;
use crate::{Error, OutboxRow, OutboxTruth, Result};

const CONNECT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(50);
/// Prepared transactions that wait for their end; the server's `max_prepared_transactions` bounds
/// them too.
const PREPARED_MAX: usize = 64;

const VERSIONS: &str = "
    CREATE TABLE IF NOT EXISTS versions (key text PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 50);
    ALTER TABLE versions SET (autovacuum_vacuum_scale_factor = 0.5)";

/// How to produce; see [`OutboxProducers::new`].
#[derive(Clone, Debug)]
pub struct OutboxProducers {
    pub(crate) url: String,
    pub(crate) seed: u64,
    pub(crate) connections: usize,
    pub(crate) rows: usize,
    pub(crate) rows_max: usize,
    pub(crate) keys: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) channels: Vec<String>,
}

/// Producers at work.
#[derive(Debug)]
pub struct Producing {
    shared: Arc<Shared>,
    writers: JoinSet<Result<()>>,
    finisher: JoinSet<Result<()>>,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: OutboxProducers,
    started: Instant,
    drawn: AtomicUsize,
    committed: AtomicUsize,
    stop: AtomicBool,
    truth: Mutex<OutboxTruth>,
}

impl OutboxProducers {
    /// By default: 32 connections, 1,000 rows of 1,000 keys in transactions of 1 to 50 rows on
    /// channel `orders` of `pgherald.outbox`, as fast as it goes.
    ///
    /// Some transactions are slow (up to 500 ms), some are rolled back, some take back a part to a
    /// savepoint, and some are prepared and finished later by another connection, so the server
    /// needs `max_prepared_transactions`. Ids are out of commit order, versions of a key are in it.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            seed: 0,
            connections: 32,
            rows: 1000,
            rows_max: 50,
            keys: 1000,
            rate: None,
            channels: vec!["orders".into()],
        }
    }

    /// What the transactions are drawn from. Their interleaving is the server's.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many connections produce at the same time.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// How many rows to commit at least, over all connections.
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// The longest transaction in rows.
    pub fn rows_max(mut self, rows: usize) -> Self {
        self.rows_max = rows.max(1);
        self
    }

    /// How many keys there are: few make transactions wait for each other.
    pub fn keys(mut self, keys: usize) -> Self {
        self.keys = keys.max(1);
        self
    }

    /// Rows a second, over all connections, those that are rolled back too.
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// The channels, by key.
    pub fn channels(mut self, channels: &[&str]) -> Self {
        self.channels = channels.iter().map(|&channel| channel.into()).collect();
        self
    }

    /// Produces until enough is committed. A connection that is lost is opened again; it fails only
    /// if it cannot connect for 60 s, or if the server refuses a statement for another reason than
    /// its own end.
    pub async fn run(&self) -> Result<OutboxTruth> {
        self.start().await?.finish().await
    }

    /// Begins to produce.
    pub async fn start(&self) -> Result<Producing> {
        self.create_versions().await?;
        let shared = Arc::new(Shared::new(self.clone()));
        let (prepared, unfinished) = mpsc::channel(PREPARED_MAX);
        let mut finisher = JoinSet::new();
        finisher.spawn(Finisher::new(Arc::clone(&shared), unfinished).run());
        let mut writers = JoinSet::new();
        for number in 0..self.connections {
            writers.spawn(Writer::new(number, Arc::clone(&shared), prepared.clone()).run());
        }
        Ok(Producing { shared, writers, finisher })
    }

    /// The table `versions`, with a row for each key.
    async fn create_versions(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        let describe = |error| Error::because("cannot create the table `versions`", error);
        sqlx::raw_sql(VERSIONS).execute(&mut connection).await.map_err(describe)?;
        let keys: Vec<String> = (0..self.keys).map(key).collect();
        let fill = "INSERT INTO versions SELECT unnest($1::text[]), 0 ON CONFLICT DO NOTHING";
        sqlx::query(fill).bind(keys).execute(&mut connection).await.map_err(describe)?;
        connection.close().await.map_err(describe)
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        let deadline = Instant::now() + CONNECT;
        loop {
            match PgConnection::connect(&self.url).await {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() > deadline => {
                    return Err(Error::because("a producer cannot connect", error));
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// The prefix of the names of prepared transactions.
    pub(crate) fn gid_prefix(&self) -> String {
        format!("producers-{}-", self.seed)
    }

    pub(crate) fn channel(&self, key: usize) -> &str {
        &self.channels[key % self.channels.len()]
    }
}

pub(crate) fn key(number: usize) -> String {
    format!("k{number}")
}

impl Producing {
    /// Rows committed for certain so far.
    pub fn committed(&self) -> usize {
        self.shared.committed.load(Ordering::SeqCst)
    }

    /// Waits until enough is committed; everything has ended then, prepared transactions too.
    pub async fn finish(mut self) -> Result<OutboxTruth> {
        while let Some(joined) = self.writers.join_next().await {
            joined.map_err(|error| Error::because("a producer", error))??;
        }
        while let Some(joined) = self.finisher.join_next().await {
            joined.map_err(|error| Error::because("the finisher", error))??;
        }
        Ok(std::mem::take(&mut *self.shared.truth()))
    }

    /// Begins no further transaction, and waits for the end of those that run.
    pub async fn stop(self) -> Result<OutboxTruth> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.finish().await
    }
}

impl Shared {
    fn new(plan: OutboxProducers) -> Self {
        Self {
            plan,
            started: Instant::now(),
            drawn: AtomicUsize::new(0),
            committed: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            truth: Mutex::default(),
        }
    }

    /// True when no further transaction is to begin.
    pub(crate) fn enough(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.committed.load(Ordering::SeqCst) >= self.plan.rows
    }

    /// Waits until so many rows more are due, or until nobody wants them.
    pub(crate) async fn pace(&self, rows: usize) {
        let drawn = self.drawn.fetch_add(rows, Ordering::SeqCst);
        let Some(rate) = self.plan.rate else { return };
        let due = self.started + Duration::from_secs_f64(drawn as f64 / rate);
        while Instant::now() < due && !self.enough() {
            let wait = due.saturating_duration_since(Instant::now()).min(RETRY);
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) fn commit(&self, rows: Vec<OutboxRow>) {
        self.committed.fetch_add(rows.len(), Ordering::SeqCst);
        self.truth().committed.extend(rows);
    }

    pub(crate) fn doubt(&self, rows: Vec<OutboxRow>) {
        self.truth().unsure.extend(rows);
    }

    fn truth(&self) -> MutexGuard<'_, OutboxTruth> {
        self.truth.lock().expect("no producer panics")
    }
}

/// Runs one statement over the simple protocol.
pub(crate) async fn execute(
    connection: &mut PgConnection,
    sql: String,
) -> std::result::Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// True for what a server says that goes, comes, or is not the primary yet: connection errors, and
/// the classes 57 (operator intervention), 08 (connection), 25006 (read-only).
pub(crate) fn is_outage(error: &sqlx::Error) -> bool {
    let Some(answer) = error.as_database_error() else { return true };
    let code = answer.code().unwrap_or_default();
    code.starts_with("57") || code.starts_with("08") || code == "25006"
}
