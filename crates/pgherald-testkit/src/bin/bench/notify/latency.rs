//! One thousand NOTIFYs a second, each its own transaction, to a consumer that reads along.

use std::time::Duration;

use pgherald_testkit::{Announcement, Notifier, Result};

use super::{Options, flow, source};
use crate::arrivals::Arrivals;
use crate::payload::PADDING;
use crate::samples::Samples;
use crate::section::{Column, Section};
use crate::servers::{Servers, Target};

const PER_SECOND: usize = 1_000;
/// The first second warms caches and connections.
const WARM_UP: usize = PER_SECOND;
const BUDGET: usize = 10_000;
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(servers: &Servers, options: &Options) -> Result<Section> {
    let columns = [Column("p50 ms", 2), Column("p99 ms", 2), Column("p99.9 ms", 2)];
    let title = "1,000 NOTIFYs a second, from before the transaction to the consumer";
    let mut section = Section::new("latency", title, &columns);
    for target in Target::ALL {
        println!("latency into {}: {PER_SECOND} NOTIFYs a second ...", target.name());
        let millis = latencies(servers, target, options.seconds * PER_SECOND).await?;
        let cells = [0.5, 0.99, 0.999].map(|part| Some(millis.at(part)));
        section.row(format!("pgherald to {}", target.name()), &cells);
    }
    Ok(section)
}

/// From just before the transaction to the consumer, in milliseconds.
async fn latencies(servers: &Servers, target: Target, messages: usize) -> Result<Samples> {
    let name = "steady";
    let source = source(name);
    let bridge = servers.bridge(flow(&source, target, name, BUDGET)).await?;
    let notifier = Notifier::new(&servers.postgres.url())
        .channels(&[name])
        .connections(4)
        .messages(messages + WARM_UP)
        .sizes(&[1])
        .padding(PADDING)
        .rate(PER_SECOND as f64);
    // The gap of the start comes first; it holds no such time.
    let arriving = async {
        let mut arrivals = Arrivals::open(servers, target, name, Announcement::sent_at).await?;
        arrivals.millis(messages + WARM_UP, DEADLINE).await
    };
    let (sent, arrived) = tokio::join!(notifier.run(), arriving);
    sent?;
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(arrived?.into_iter().skip(WARM_UP).collect())
}
