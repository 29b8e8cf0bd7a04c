//! A backlog of NOTIFYs through the bridge, beside the raw client and the bare listener, in turns.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, Error, Result, eventually};

use crate::report::{Report, Throughput};
use crate::servers::{Servers, Target};
use crate::{Options, raw_kafka, raw_nats, raw_postgres};

const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(
    servers: &Servers,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let messages = options.messages;
    let mut listener = Throughput::new("bare listener", None);
    let mut rows: Vec<(Throughput, Throughput)> = Target::ALL
        .map(|target| {
            let raw = Throughput::new("raw client", Some(target));
            (raw, Throughput::new("pgherald", Some(target)))
        })
        .into();
    for round in 0..options.rounds {
        println!(
            "throughput, round {} of {}: {messages} messages each ...",
            round + 1,
            options.rounds
        );
        let channel = format!("bare{round}");
        let url = servers.postgres.url();
        listener.rates.push(raw_postgres::rate(&url, &channel, messages).await?.0);
        for (target, (raw, bridged)) in Target::ALL.into_iter().zip(&mut rows) {
            raw.rates.push(raw_client(servers, target, round, messages).await?);
            let (rate, peak_kb) = bridge(servers, target, round, messages).await?;
            bridged.rates.push(rate);
            bridged.peak_kb = bridged.peak_kb.max(peak_kb);
        }
    }
    report.throughput.push(listener);
    report.throughput.extend(rows.into_iter().flat_map(|(raw, bridged)| [raw, bridged]));
    Ok(())
}

async fn raw_client(
    servers: &Servers,
    target: Target,
    round: usize,
    messages: usize,
) -> Result<f64> {
    let name = format!("raw{round}");
    match target {
        Target::Kafka => {
            servers.kafka.create_topic(&name, 1, &[]).await?;
            raw_kafka::rate(&servers.kafka.bootstrap(), &name, messages).await
        }
        Target::JetStream => raw_nats::rate(&servers.nats.url(), &name, messages).await,
    }
}

/// The bridge stands still while the backlog is made, as the bare listener does not read.
async fn bridge(
    servers: &Servers,
    target: Target,
    round: usize,
    messages: usize,
) -> Result<(f64, u64)> {
    let name = format!("carried{round}");
    let bridge = servers.bridge(target, &name, messages + 1000).await?;
    bridge.pause();
    raw_postgres::announce(&servers.postgres.url(), &name, messages).await?;
    bridge.resume();
    let started = Instant::now();
    let all = || async { published(&bridge).await.is_ok_and(|count| count >= messages as f64) };
    eventually("everything is confirmed", DEADLINE, all).await?;
    let rate = messages as f64 / started.elapsed().as_secs_f64();
    let dropped = bridge.metrics().await?.value("pgherald_gaps_total", &[("reason", "overflow")]);
    if dropped.unwrap_or_default() > 0.0 {
        return Err(Error::new("the bridge dropped messages: the measurement is void"));
    }
    let peak_kb = bridge.peak_rss_kb().unwrap_or_default();
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok((rate, peak_kb))
}

async fn published(bridge: &Bridge) -> Result<f64> {
    let metrics = bridge.metrics().await?;
    Ok(metrics.value("pgherald_messages_published_total", &[]).unwrap_or_default())
}
