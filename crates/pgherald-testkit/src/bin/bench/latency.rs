//! One thousand NOTIFYs a second, each its own transaction, to a consumer that reads along.

use std::time::Duration;

use pgherald_testkit::{
    Announcement, JetStreamReader, KafkaConsumer, Notifier, Result, StoredMessage,
};

use crate::Options;
use crate::payload::PADDING;
use crate::report::{Latency, Report};
use crate::servers::{Servers, Target};

const PER_SECOND: usize = 1_000;
/// The first second warms caches and connections.
const WARM_UP: usize = PER_SECOND;
const BUDGET: usize = 10_000;
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(
    servers: &Servers,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    for target in Target::ALL {
        println!("latency into {}: {PER_SECOND} NOTIFYs a second ...", target.name());
        let millis = latencies(servers, target, options.seconds * PER_SECOND).await?;
        report.latency.push(Latency::of(target, millis));
    }
    Ok(())
}

/// From just before the transaction to the consumer, in milliseconds, sorted.
async fn latencies(servers: &Servers, target: Target, messages: usize) -> Result<Vec<f64>> {
    let name = "steady";
    let bridge = servers.bridge(target, name, BUDGET).await?;
    let notifier = Notifier::new(&servers.postgres.url())
        .channels(&[name])
        .connections(4)
        .messages(messages + WARM_UP)
        .sizes(&[1])
        .padding(PADDING)
        .rate(PER_SECOND as f64);
    let (sent, arrivals) =
        tokio::join!(notifier.run(), arrivals(servers, target, name, messages + WARM_UP));
    sent?;
    let mut arrivals: Vec<f64> = arrivals?.split_off(WARM_UP);
    arrivals.sort_by(f64::total_cmp);
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(arrivals)
}

async fn arrivals(
    servers: &Servers,
    target: Target,
    name: &str,
    messages: usize,
) -> Result<Vec<f64>> {
    // The gap of the start comes first.
    let count = messages + 1;
    match target {
        Target::Kafka => {
            let mut consumer = KafkaConsumer::open(&servers.kafka.bootstrap(), &[name]).await?;
            let records = consumer.collect(count, DEADLINE).await?;
            Ok(records.iter().filter_map(|it| since(it.value.as_deref()?, it.at)).collect())
        }
        Target::JetStream => {
            let mut reader = JetStreamReader::open(&servers.nats.url(), name).await?;
            let all = |messages: &[StoredMessage]| messages.len() >= count;
            let messages = reader.collect_until(DEADLINE, all).await?;
            Ok(messages.iter().filter_map(|it| since(&it.payload, it.at)).collect())
        }
    }
}

fn since(payload: &[u8], at: std::time::SystemTime) -> Option<f64> {
    let sent = Announcement::sent_at(payload)?;
    Some(at.duration_since(sent).unwrap_or_default().as_secs_f64() * 1e3)
}
