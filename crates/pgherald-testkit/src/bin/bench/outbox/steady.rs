//! Rows at a steady rate, from just before their transaction to a consumer that reads along.

use std::time::Duration;

use pgherald_testkit::{Bridge, Result};

use super::load::Load;
use super::table::Table;
use super::{Options, flow};
use crate::arrivals::Arrivals;
use crate::payload::stamped_at;
use crate::samples::Samples;
use crate::section::{Column, Section};
use crate::servers::{Servers, Target};

const RATES: [usize; 3] = [1_000, 10_000, 50_000];
/// Beyond the time of the load, when the machine cannot keep up.
const SLACK: Duration = Duration::from_secs(120);

pub(crate) async fn measure(
    servers: &Servers,
    table: &Table,
    options: &Options,
) -> Result<Section> {
    let columns = [
        Column("rows/s", 0),
        Column("p50 ms", 2),
        Column("p99 ms", 2),
        Column("p99.9 ms", 2),
        Column("CPU s per million", 2),
        Column("peak RSS MB", 0),
    ];
    let title = "Steady load, from before the transaction to the consumer";
    let mut section = Section::new("steady", title, &columns);
    for target in Target::ALL {
        for per_second in RATES {
            println!("steady, into {}: {per_second} rows a second ...", target.name());
            table.clear().await?;
            let steady = steady(servers, table, target, per_second, options.seconds).await?;
            let label = format!("pgherald to {}, {per_second}/s", target.name());
            let parts = [0.5, 0.99, 0.999].map(|part| Some(steady.millis.at(part)));
            let cells = [&[Some(steady.rate)], &parts[..], &steady.cost].concat();
            section.row(label, &cells);
        }
    }
    Ok(section)
}

struct Steady {
    /// What the producers reached.
    rate: f64,
    millis: Samples,
    /// Processor seconds for a million rows, and the peak memory in MB.
    cost: [Option<f64>; 2],
}

async fn steady(
    servers: &Servers,
    table: &Table,
    target: Target,
    per_second: usize,
    seconds: usize,
) -> Result<Steady> {
    let name = format!("steady-{per_second}");
    let bridge = servers.bridge(flow(target, &name)).await?;
    let mut arrivals = Arrivals::open(servers, target, &name, stamped_at).await?;
    // The first second warms caches and connections.
    let (warm_up, rows) = (per_second, per_second * (seconds + 1));
    let load = Load { rows, per_second, seed: 1 };
    let before = bridge.cpu_seconds();
    let deadline = Duration::from_secs(seconds as u64) + SLACK;
    let (rate, millis) = tokio::join!(load.run(table), arrivals.millis(rows, deadline));
    let (rate, millis) = (rate?, millis?);
    let cost = cost(&bridge, before, rows);
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(Steady { rate, millis: millis.into_iter().skip(warm_up).collect(), cost })
}

fn cost(bridge: &Bridge, before: Option<f64>, rows: usize) -> [Option<f64>; 2] {
    let cpu = bridge.cpu_seconds().zip(before).map(|(now, before)| now - before);
    let per_million = cpu.map(|seconds| seconds / rows as f64 * 1e6);
    [per_million, bridge.peak_rss_kb().map(|kb| kb as f64 / 1024.0)]
}
