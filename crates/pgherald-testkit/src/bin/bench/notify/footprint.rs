//! Memory, start-up time and size of the binary.

use std::time::{Duration, Instant};

use pgherald_testkit::{Error, JetStreamReader, Notifier, Result, bridge_binary};

use super::{flow, source};
use crate::section::{Column, Section};
use crate::servers::{Servers, Target};

/// How long the bridge idles before its memory is read.
const IDLE: Duration = Duration::from_secs(5);
/// How long announcements go on while the bridge starts.
const ANNOUNCING: usize = 3_000;
const BUDGET: usize = 10_000;
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(servers: &Servers) -> Result<Section> {
    println!("footprint: idle memory, start to first message, size of the binary ...");
    let idle_kb = idle(servers).await?;
    let start = start_to_first_message(servers).await?;
    let binary = bridge_binary().await?;
    let size =
        std::fs::metadata(&binary).map_err(|error| Error::because(binary.display(), error))?;
    let mut section = Section::new("footprint", "Footprint", &[Column("value", 1)]);
    section.row("idle memory, MB", &[Some(idle_kb as f64 / 1024.0)]);
    section.row("start to the first message, ms", &[Some(start.as_secs_f64() * 1e3)]);
    section.row("size of the binary, MB", &[Some(size.len() as f64 / 1e6)]);
    Ok(section)
}

/// Resident memory of a bridge that has nothing to do.
async fn idle(servers: &Servers) -> Result<u64> {
    let source = source("idle");
    let bridge = servers.bridge(flow(&source, Target::Kafka, "idle", BUDGET)).await?;
    tokio::time::sleep(IDLE).await;
    bridge.rss_kb().ok_or_else(|| Error::new("the bridge's memory cannot be read"))
}

/// From the process's start to the first message that lies in JetStream, with a NOTIFY a
/// millisecond and the stream already there.
async fn start_to_first_message(servers: &Servers) -> Result<Duration> {
    let name = "started";
    let source = source(name);
    let flow = flow(&source, Target::JetStream, name, BUDGET);
    drop(servers.bridge(flow).await?);
    let mut reader = JetStreamReader::open(&servers.nats.url(), name).await?;
    let before = reader.read_all(DEADLINE).await?.len();
    let notifier = Notifier::new(&servers.postgres.url()).channels(&[name]).messages(ANNOUNCING);
    let notifier = notifier.sizes(&[1]).rate(1_000.0);
    let first = async {
        let started = Instant::now();
        let bridge = servers.launch(flow).await?;
        // The gap of the new start, then the first message.
        reader.collect(before + 2, DEADLINE).await?;
        let took = started.elapsed();
        bridge.terminate(DEADLINE).await?;
        Ok(took)
    };
    let (sent, took) = tokio::join!(notifier.run(), first);
    sent?;
    took
}
