//! A backlog of NOTIFYs through the bridge, beside the raw client and the bare listener, in turns.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, Error, Result, eventually};

use super::{Options, flow, raw_postgres, source};
use crate::payload::BYTES;
use crate::samples::Samples;
use crate::section::{Column, Section};
use crate::servers::{Envelope, Servers, Target};
use crate::{raw_kafka, raw_nats};

const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(servers: &Servers, options: &Options) -> Result<Section> {
    let messages = options.messages;
    let mut listener = Vec::new();
    let mut measured = Target::ALL.map(|target| (target, Measured::default()));
    for round in 0..options.rounds {
        let of = options.rounds;
        println!("throughput, round {} of {of}: {messages} messages each ...", round + 1);
        let channel = format!("bare{round}");
        let url = servers.postgres.url();
        listener.push(raw_postgres::rate(&url, &channel, messages).await?.0);
        for (target, measured) in &mut measured {
            measured.raw.push(raw_client(servers, *target, round, messages).await?);
            let (rate, peak_mb) = bridge(servers, *target, round, messages).await?;
            measured.carried.push(rate);
            measured.peak_mb = measured.peak_mb.max(peak_mb);
        }
    }
    Ok(section(messages, &listener, &measured))
}

/// One target, a rate a round.
#[derive(Default)]
struct Measured {
    raw: Vec<f64>,
    carried: Vec<f64>,
    peak_mb: f64,
}

fn section(messages: usize, listener: &[f64], measured: &[(Target, Measured)]) -> Section {
    let columns =
        [Column("messages/s", 0), Column("of the raw client %", 0), Column("peak RSS MB", 0)];
    let title = format!("A backlog of {messages} NOTIFYs of {BYTES} bytes, median of the rounds");
    let mut section = Section::new("throughput", title, &columns);
    let median = |rates: &[f64]| rates.iter().copied().collect::<Samples>().median();
    section.row_of_rounds("bare listener", &[Some(median(listener))], listener);
    for (target, Measured { raw, carried, peak_mb }) in measured {
        let (name, raw_rate, rate) = (target.name(), median(raw), median(carried));
        section.row_of_rounds(format!("raw client to {name}"), &[Some(raw_rate)], raw);
        let cells = [Some(rate), Some(rate / raw_rate * 100.0), Some(*peak_mb)];
        section.row_of_rounds(format!("pgherald to {name}"), &cells, carried);
    }
    section
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
            let bootstrap = servers.kafka.bootstrap();
            raw_kafka::rate(&bootstrap, &name, messages, Envelope::Binary).await
        }
        Target::JetStream => raw_nats::rate(&servers.nats.url(), &name, messages).await,
    }
}

/// Messages a second, and the largest resident memory in MB. The bridge stands still while the backlog is made, as the bare listener does not read.
async fn bridge(
    servers: &Servers,
    target: Target,
    round: usize,
    messages: usize,
) -> Result<(f64, f64)> {
    let name = format!("carried{round}");
    let source = source(&name);
    let bridge = servers.bridge(flow(&source, target, &name, messages + 1000)).await?;
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
    let peak_mb = bridge.peak_rss_kb().unwrap_or_default() as f64 / 1024.0;
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok((rate, peak_mb))
}

async fn published(bridge: &Bridge) -> Result<f64> {
    let metrics = bridge.metrics().await?;
    Ok(metrics.value("pgherald_messages_published_total", &[]).unwrap_or_default())
}
