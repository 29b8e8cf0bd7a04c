//! One connection, twenty announcements a transaction: commit order is the order of its numbers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use pgherald_testkit::eventually;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use super::{CHANNEL, KEYS};
use crate::stage::SOON;

/// Announcements of one transaction.
pub(super) const PER_TRANSACTION: usize = 20;

/// One transaction: its announcements have the numbers from `PER_TRANSACTION` times its place on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transaction {
    /// It was committed between these two times, if it was.
    pub(super) sent: SystemTime,
    pub(super) answered: SystemTime,
    /// The server said so; otherwise it is not known.
    pub(super) committed: bool,
}

/// What was announced, by number.
pub(super) struct Truth {
    pub(super) transactions: Vec<Transaction>,
}

impl Truth {
    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.transactions.len() * PER_TRANSACTION
    }

    pub(super) fn transaction(&self, number: usize) -> &Transaction {
        &self.transactions[number / PER_TRANSACTION]
    }
}

/// Announces until it is told to stop.
pub(super) struct Producer {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
    task: JoinSet<Vec<Transaction>>,
}

impl Producer {
    pub(super) fn start(url: &str, rate: u64) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let every = Duration::from_secs_f64(PER_TRANSACTION as f64 / rate as f64);
        let mut task = JoinSet::new();
        task.spawn(announce_all(url.to_owned(), every, Arc::clone(&stop), Arc::clone(&committed)));
        Self { stop, committed, task }
    }

    /// Waits until some more are committed.
    pub(super) async fn more(&self) {
        let wanted = self.committed.load(Ordering::SeqCst) + 10;
        let reached = || async { self.committed.load(Ordering::SeqCst) >= wanted };
        eventually("announcements", SOON, reached).await.unwrap();
    }

    pub(super) async fn stop(mut self) -> Truth {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.task.join_next().await.expect("one task");
        Truth { transactions: ended.expect("the producer does not panic") }
    }
}

/// The last transaction is one that was committed for certain.
async fn announce_all(
    url: String,
    every: Duration,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
) -> Vec<Transaction> {
    let mut connection = connect(&url).await;
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut every = tokio::time::interval(every);
    while !stop.load(Ordering::SeqCst) || transactions.last().is_none_or(|last| !last.committed) {
        every.tick().await;
        let sent = SystemTime::now();
        let announced = announce(&mut connection, transactions.len() * PER_TRANSACTION).await;
        let is_committed = announced.is_ok();
        committed.fetch_add(usize::from(is_committed), Ordering::SeqCst);
        if !is_committed {
            connection = connect(&url).await;
        }
        let answered = SystemTime::now();
        transactions.push(Transaction { sent, answered, committed: is_committed });
    }
    transactions
}

async fn announce(connection: &mut PgConnection, first: usize) -> Result<(), sqlx::Error> {
    let payloads: Vec<String> = (first..first + PER_TRANSACTION)
        .map(|n| format!("{{\"key\":\"k{}\",\"n\":{n}}}", n % KEYS))
        .collect();
    sqlx::query("SELECT pg_notify($1, p) FROM unnest($2::text[]) AS t(p)")
        .bind(CHANNEL)
        .bind(payloads)
        .execute(connection)
        .await
        .map(drop)
}

async fn connect(url: &str) -> PgConnection {
    loop {
        match PgConnection::connect(url).await {
            Ok(connection) => return connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
