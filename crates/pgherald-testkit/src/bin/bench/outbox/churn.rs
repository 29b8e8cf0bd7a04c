//! Rows that come and go by the million: the read has to stay as fast as it was.

use std::time::{Duration, Instant};

use pgherald_testkit::{Error, Result};
use sqlx::PgConnection;

use super::load::Load;
use super::table::{Table, because};
use super::{Options, flow};
use crate::arrivals::Arrivals;
use crate::payload::stamped_at;
use crate::samples::Samples;
use crate::section::{Column, Section};
use crate::servers::{Servers, Target};

const SLICES: usize = 10;
/// How often the read is timed.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// The slowest churn that is waited for, in rows a second.
const SLOWEST: usize = 2_000;
/// Old segments go, so that the disk does not fill.
const TOPIC: [(&str, &str); 2] = [("retention.bytes", "268435456"), ("segment.bytes", "67108864")];

/// The range of the primary key that the bridge's next page reads, from where its cursor stands.
const NEXT_PAGE: &str = "SELECT * FROM pgherald.outbox WHERE id > \
                         (SELECT coalesce(max(high), 0) FROM pgherald.cursor) \
                         ORDER BY id LIMIT 1000";

pub(crate) async fn measure(
    servers: &Servers,
    table: &Table,
    options: &Options,
) -> Result<Section> {
    let (rows, rate) = (options.churn_rows, options.churn_rate);
    let name = "churn";
    println!("churn: {rows} rows into Kafka, {rate} a second asked for ...");
    table.clear().await?;
    servers.kafka.create_topic(name, 1, &TOPIC).await?;
    let bridge = servers.bridge(flow(Target::Kafka, name)).await?;
    let arrivals = Arrivals::open(servers, Target::Kafka, name, stamped_at).await?;
    let load = Load { rows, per_second: rate, seed: 2 };
    let slices = async { Slices::new(table, arrivals).await?.measure(rows).await };
    let (inserted, slices) = tokio::try_join!(load.run(table), slices)?;
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(section(rows, inserted, &slices))
}

/// What a tenth of the rows met.
struct Slice {
    rate: f64,
    /// Milliseconds from before the transaction to the consumer.
    latency: Samples,
    /// Milliseconds of the bridge's read, run beside it.
    read: Samples,
    table_mb: f64,
}

fn section(rows: usize, inserted: f64, slices: &[Slice]) -> Section {
    let columns = [
        Column("rows/s", 0),
        Column("read p50 ms", 2),
        Column("read p99 ms", 2),
        Column("latency p50 ms", 1),
        Column("latency p99 ms", 1),
        Column("table MB", 1),
    ];
    let title = format!(
        "{rows} rows come and go ({inserted:.0}/s inserted); the bridge's read, run on another \
         connection"
    );
    let mut section = Section::new("churn", title, &columns);
    for (place, slice) in slices.iter().enumerate() {
        let Slice { rate, latency, read, table_mb } = slice;
        let cells = [*rate, read.at(0.5), read.at(0.99), latency.at(0.5), latency.at(0.99)];
        let cells = [&cells.map(Some)[..], &[Some(*table_mb)]].concat();
        section.row(format!("slice {} of {SLICES}", place + 1), &cells);
    }
    section
}

struct Slices<'a> {
    table: &'a Table,
    probe: PgConnection,
    arrivals: Arrivals,
}

impl<'a> Slices<'a> {
    async fn new(table: &'a Table, arrivals: Arrivals) -> Result<Self> {
        Ok(Self { table, probe: table.connect().await?, arrivals })
    }

    async fn measure(mut self, rows: usize) -> Result<Vec<Slice>> {
        let mut slices = Vec::new();
        for place in 0..SLICES {
            let part = rows * (place + 1) / SLICES - rows * place / SLICES;
            let slice = self.slice(part).await?;
            println!(
                "  slice {} of {SLICES}: {:.0}/s, read p50 {:.2} ms, latency p50 {:.1} ms",
                place + 1,
                slice.rate,
                slice.read.median(),
                slice.latency.median()
            );
            slices.push(slice);
        }
        Ok(slices)
    }

    async fn slice(&mut self, rows: usize) -> Result<Slice> {
        let started = Instant::now();
        let deadline = Duration::from_secs(60 + (rows / SLOWEST) as u64);
        let mut read = Vec::new();
        let millis = {
            let arriving = self.arrivals.millis(rows, deadline);
            let probing = probe(&mut self.probe, &mut read);
            tokio::select! {
                millis = arriving => millis?,
                failed = probing => return Err(failed),
            }
        };
        Ok(Slice {
            rate: rows as f64 / started.elapsed().as_secs_f64(),
            latency: millis.into_iter().collect(),
            read: read.into_iter().collect(),
            table_mb: self.megabytes().await?,
        })
    }

    /// On a connection of its own: a probe that was given up has left its own in mid-answer.
    async fn megabytes(&mut self) -> Result<f64> {
        self.probe = self.table.connect().await?;
        self.table.megabytes(&mut self.probe).await
    }
}

/// Times the bridge's latest read, again and again, in milliseconds. Ends only by an error.
async fn probe(connection: &mut PgConnection, millis: &mut Vec<f64>) -> Error {
    let mut every = tokio::time::interval(PROBE_EVERY);
    loop {
        every.tick().await;
        match timed_read(connection).await {
            Ok(took) => millis.push(took.as_secs_f64() * 1e3),
            Err(error) => return because(error),
        }
    }
}

async fn timed_read(connection: &mut PgConnection) -> std::result::Result<Duration, sqlx::Error> {
    let started = Instant::now();
    sqlx::query(NEXT_PAGE).fetch_all(&mut *connection).await?;
    Ok(started.elapsed())
}
