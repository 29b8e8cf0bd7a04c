//! A backlog of rows through the bridge, beside the bare table and the raw clients, in turns.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, Error, Result};

use super::table::Table;
use super::{Options, SOURCE, raw_table};
use crate::payload::BYTES;
use crate::samples::Samples;
use crate::section::{Column, Section};
use crate::servers::{Envelope, Flow, Servers, Target};
use crate::{raw_kafka, raw_nats};

/// How often the bridge is asked how far it is: each answer costs it a little.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// The slowest drain that is waited for, in rows a second.
const SLOWEST: usize = 2_000;

/// Messages to each destination before anything is measured.
const WARM_UP: usize = 200_000;

/// Where a backlog goes.
#[derive(Clone, Copy)]
struct Route {
    target: Target,
    envelope: Envelope,
    label: &'static str,
    /// Of topics and streams.
    name: &'static str,
}

const ROUTES: [Route; 3] = [
    Route { target: Target::Kafka, envelope: Envelope::Binary, label: "Kafka", name: "binary" },
    Route {
        target: Target::Kafka,
        envelope: Envelope::None,
        label: "Kafka, envelope none",
        name: "none",
    },
    Route {
        target: Target::JetStream,
        envelope: Envelope::Binary,
        label: "JetStream",
        name: "stream",
    },
];

/// One route, a value a round.
#[derive(Default)]
struct Measured {
    raw: Vec<f64>,
    carried: Vec<f64>,
    cpu: Vec<f64>,
    peak_mb: f64,
}

/// One backlog through the bridge.
pub(super) struct Drained {
    pub(super) rate: f64,
    /// Processor seconds of the bridge for a million rows.
    pub(super) cpu: f64,
    peak_mb: f64,
}

pub(crate) async fn measure(
    servers: &Servers,
    table: &Table,
    options: &Options,
) -> Result<Section> {
    let (rows, rounds) = (options.rows, options.rounds);
    let (mut copied, mut selected) = (Vec::new(), Vec::new());
    let mut measured = ROUTES.map(|route| (route, Measured::default()));
    println!("backlog: the brokers warm up ...");
    for route in ROUTES {
        // The number of no round; what comes first would pay for a JVM that has just begun.
        raw(servers, route, rounds, rows.min(WARM_UP)).await?;
    }
    for round in 0..rounds {
        println!("backlog, round {} of {rounds}: {rows} rows ...", round + 1);
        table.clear().await?;
        table.fill(rows).await?;
        let mut connection = table.connect().await?;
        copied.push(raw_table::copied(&mut connection, rows).await?);
        selected.push(raw_table::selected(&mut connection, rows).await?);
        for (route, measured) in &mut measured {
            let raw = raw(servers, *route, round, rows).await?;
            let drained = drain(servers, table, *route, round, rows).await?;
            println!("  {}: {:.0}/s, raw {raw:.0}/s", route.label, drained.rate);
            measured.raw.push(raw);
            measured.carried.push(drained.rate);
            measured.cpu.push(drained.cpu);
            measured.peak_mb = measured.peak_mb.max(drained.peak_mb);
        }
    }
    Ok(section(rows, [("COPY", &copied), ("SELECT", &selected)], &measured))
}

fn section(rows: usize, bare: [(&str, &Vec<f64>); 2], measured: &[(Route, Measured)]) -> Section {
    let columns = [
        Column("rows/s", 0),
        Column("of the raw client %", 0),
        Column("CPU s per million", 2),
        Column("peak RSS MB", 0),
    ];
    let title = format!("A backlog of {rows} rows of {BYTES} bytes, median of the rounds");
    let mut section = Section::new("backlog", title, &columns);
    let median = |values: &[f64]| values.iter().copied().collect::<Samples>().median();
    for (how, rates) in bare {
        section.row_of_rounds(format!("bare table, one {how}"), &[Some(median(rates))], rates);
    }
    for (Route { label, .. }, Measured { raw, carried, cpu, peak_mb }) in measured {
        let (raw_rate, rate) = (median(raw), median(carried));
        section.row_of_rounds(format!("raw client to {label}"), &[Some(raw_rate)], raw);
        let share = rate / raw_rate * 100.0;
        let cells = [Some(rate), Some(share), Some(median(cpu)), Some(*peak_mb)];
        section.row_of_rounds(format!("pgherald to {label}"), &cells, carried);
    }
    section
}

async fn raw(servers: &Servers, route: Route, round: usize, rows: usize) -> Result<f64> {
    let name = format!("raw-{}-{round}", route.name);
    match route.target {
        Target::Kafka => {
            servers.kafka.create_topic(&name, 1, &[]).await?;
            raw_kafka::rate(&servers.kafka.bootstrap(), &name, rows, route.envelope).await
        }
        Target::JetStream => raw_nats::rate(&servers.nats.url(), &name, rows).await,
    }
}

/// The rows are there before the bridge starts.
async fn drain(
    servers: &Servers,
    table: &Table,
    route: Route,
    round: usize,
    rows: usize,
) -> Result<Drained> {
    table.clear().await?;
    table.fill(rows).await?;
    let name = format!("carried-{}-{round}", route.name);
    let Route { target, envelope, .. } = route;
    let flow = Flow { source: SOURCE, target, envelope, name: &name, budget: None };
    let bridge = servers.launch(flow).await?;
    let drained = watch(&bridge, rows).await;
    let drained = match drained {
        Ok(drained) => drained,
        Err(error) => return Err(Error::because(error, bridge.explain().await)),
    };
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(drained)
}

/// The clock runs from the first rows that are confirmed: starting is another measurement.
async fn watch(bridge: &Bridge, rows: usize) -> Result<Drained> {
    drained(bridge, rows, SLOWEST).await
}

/// The same, for at least so many rows a second.
pub(super) async fn drained(bridge: &Bridge, rows: usize, slowest: usize) -> Result<Drained> {
    let deadline = Duration::from_secs(60 + (rows / slowest) as u64);
    let watching = async {
        let (first, cpu_before, began) = confirmed(bridge, 1.0).await;
        let (all, cpu, ended) = confirmed(bridge, rows as f64).await;
        let rest = all - first;
        // A backlog of one look has no rate of its own.
        let seconds = ended.duration_since(began).as_secs_f64().max(ASK_EVERY.as_secs_f64());
        let peak_mb = bridge.peak_rss_kb().unwrap_or_default() as f64 / 1024.0;
        let cpu = (cpu - cpu_before) / rest.max(1.0) * 1e6;
        Drained { rate: rest / seconds, cpu, peak_mb }
    };
    let watched = tokio::time::timeout(deadline, watching).await;
    watched.map_err(|_| Error::new(format!("the backlog was not drained within {deadline:?}")))
}

/// Waits until at least so many messages are confirmed: how many are, processor time, and when.
async fn confirmed(bridge: &Bridge, least: f64) -> (f64, f64, Instant) {
    loop {
        let metrics = bridge.metrics().await.ok();
        let count = metrics.and_then(|it| it.value("pgherald_messages_published_total", &[]));
        if let Some(count) = count.filter(|count| *count >= least) {
            return (count, bridge.cpu_seconds().unwrap_or_default(), Instant::now());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
