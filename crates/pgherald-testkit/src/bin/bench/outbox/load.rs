//! Producers at a steady rate.

use std::time::{Duration, Instant, SystemTime};

use pgherald_testkit::{Error, Result};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::table::{CHANNEL, Table, because, count};
use crate::payload;

const CONNECTIONS: usize = 4;
/// Transactions a second at most: above it, each has more rows than one.
const TRANSACTIONS: usize = 1_000;

/// Rows of one payload, which is stamped just before its transaction.
const INSERT: &str = "INSERT INTO pgherald.outbox (channel, payload) \
                      SELECT $1, $2 FROM generate_series(1, $3)";

/// So many rows, so many a second, on four connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) rows: usize,
    pub(crate) per_second: usize,
    pub(crate) seed: u64,
}

impl Load {
    /// Rows of a transaction, on average.
    pub(crate) fn rows_each(&self) -> usize {
        self.per_second.div_ceil(TRANSACTIONS)
    }

    /// Inserts all of them; rows a second that were reached.
    pub(crate) async fn run(&self, table: &Table) -> Result<f64> {
        let started = Instant::now();
        let mut producers = JoinSet::new();
        for number in 0..CONNECTIONS {
            let rows = self.rows / CONNECTIONS + usize::from(number < self.rows % CONNECTIONS);
            let script = Script::new(self, number);
            producers.spawn(produce(table.connect().await?, script, rows, started));
        }
        while let Some(ended) = producers.join_next().await {
            ended.map_err(|error| Error::because("a producer", error))??;
        }
        Ok(self.rows as f64 / started.elapsed().as_secs_f64())
    }
}

async fn produce(
    mut connection: PgConnection,
    mut script: Script,
    rows: usize,
    started: Instant,
) -> Result<()> {
    let mut left = rows;
    while left > 0 {
        let (due, size) = script.next();
        tokio::time::sleep_until((started + due).into()).await;
        let size = size.min(left);
        let stamped = payload::stamped(SystemTime::now());
        let inserting = sqlx::query(INSERT).bind(CHANNEL).bind(stamped).bind(count(size));
        inserting.execute(&mut connection).await.map_err(because)?;
        left -= size;
    }
    Ok(())
}

/// When one connection's transactions are due, and how many rows each has: neither is even.
struct Script {
    random: SmallRng,
    rows_each: usize,
    /// Between two transactions, on average.
    every: Duration,
    due: Duration,
}

impl Script {
    fn new(load: &Load, number: usize) -> Self {
        let random = SmallRng::seed_from_u64(load.seed.wrapping_add(number as u64));
        let rows_each = load.rows_each();
        let per_second = load.per_second as f64 / rows_each as f64 / CONNECTIONS as f64;
        let every = Duration::from_secs_f64(1.0 / per_second);
        Self { random, rows_each, every, due: Duration::ZERO }
    }

    /// Waits are exponential, as of many producers that know nothing of each other.
    fn next(&mut self) -> (Duration, usize) {
        let wait = -(1.0 - self.random.random::<f64>()).ln();
        self.due += self.every.mul_f64(wait);
        (self.due, self.random.random_range(1..=2 * self.rows_each - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_the_rate_that_was_asked_for_and_is_not_even() {
        for (per_second, rows_each) in [(1_000, 1), (10_000, 10), (50_000, 50)] {
            let load = Load { rows: 0, per_second, seed: 7 };
            let mut script = Script::new(&load, 1);
            let steps: Vec<_> = (0..20_000).map(|_| script.next()).collect();
            let rows: usize = steps.iter().map(|(_, rows)| rows).sum();
            let rate = rows as f64 / script.due.as_secs_f64() * CONNECTIONS as f64;
            assert!((rate / per_second as f64 - 1.0).abs() < 0.05, "{rate} of {per_second}");
            assert!(steps.iter().all(|(_, rows)| (1..2 * rows_each).contains(rows)));
            let waits = steps.windows(2).map(|two| two[1].0 - two[0].0);
            assert!(waits.clone().any(|wait| wait > script.every * 3));
            assert!(waits.clone().any(|wait| wait < script.every / 3));
        }
    }
}
