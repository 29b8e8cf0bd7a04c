//! What an idle bridge costs the database and the processor.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, Error, Result};
use sqlx::{PgConnection, Row};

use super::table::{Table, because};
use super::{Options, flow};
use crate::section::{Column, Section};
use crate::servers::{Servers, Target};

/// A flow has fallen asleep by then, and what it did before is counted by the server.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn measure(
    servers: &Servers,
    table: &Table,
    options: &Options,
) -> Result<Section> {
    let during = Duration::from_secs(options.seconds as u64);
    println!("idle: {during:?} without a bridge, and as long with one ...");
    table.clear().await?;
    let mut connection = table.connect().await?;
    let alone = Watched::over(&mut connection, None, during).await?;
    let bridge = servers.bridge(flow(Target::Kafka, "idle")).await?;
    let beside = Watched::over(&mut connection, Some(&bridge), during).await?;
    let rss_mb = bridge.rss_kb().unwrap_or_default() as f64 / 1024.0;
    bridge.terminate(Duration::from_secs(15)).await?;
    let columns = [Column("transactions/s", 2), Column("CPU %", 2), Column("RSS MB", 1)];
    let mut section = Section::new("idle", "One idle flow, no open writer", &columns);
    section.row("no bridge", &[Some(alone.transactions)]);
    let transactions = beside.transactions - alone.transactions;
    section.row("pgherald to Kafka", &[Some(transactions), beside.cpu_percent, Some(rss_mb)]);
    Ok(section)
}

/// What was used, each second.
struct Watched {
    transactions: f64,
    cpu_percent: Option<f64>,
}

impl Watched {
    async fn over(
        connection: &mut PgConnection,
        bridge: Option<&Bridge>,
        during: Duration,
    ) -> Result<Self> {
        tokio::time::sleep(SETTLE).await;
        let cpu = || bridge.and_then(Bridge::cpu_seconds);
        let (cpu_before, before, began) = (cpu(), transactions(connection).await?, Instant::now());
        tokio::time::sleep(during).await;
        let (cpu_after, after) = (cpu(), transactions(connection).await?);
        let seconds = began.elapsed().as_secs_f64();
        let used = cpu_after.zip(cpu_before).map(|(after, before)| after - before);
        Ok(Self {
            transactions: (after - before) as f64 / seconds,
            cpu_percent: used.map(|used| used / seconds * 100.0),
        })
    }
}

/// Transactions of the database so far, as its sessions have told.
async fn transactions(connection: &mut PgConnection) -> Result<i64> {
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database \
               WHERE datname = current_database()";
    let row = sqlx::query(sql).fetch_optional(connection).await.map_err(because)?;
    let row = row.ok_or_else(|| Error::new("the database counts no transactions"))?;
    row.try_get(0).map_err(because)
}
