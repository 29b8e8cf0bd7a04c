//! The demo itself: announce, break, compare.

use std::time::Duration;

use pgherald_testkit::{
    JetStreamReader, KafkaConsumer, KafkaRecord, Notifier, Observed, Observer, Result, Sent,
    StoredMessage,
};

use crate::Options;
use crate::accident::{Outage, gap_metric, provoke};
use crate::report::{Evidence, print};
use crate::stage::{CHANNELS, STREAM, Stage, TOPICS};
use crate::verdict::Seen;

const CONNECTIONS: usize = 4;
const PER_SECOND: u32 = 1_000;
const ARRIVAL: Duration = Duration::from_secs(30);

/// Runs it and prints the summary; true if everything held.
pub(crate) async fn demo(options: Options) -> Result<bool> {
    let stage = Stage::set(options).await?;
    let observer = Observer::listen(&stage.postgres.url(), &CHANNELS).await?;
    let mut jetstream = JetStreamReader::open(&stage.nats.url(), STREAM).await?;
    let mut kafka = match &stage.kafka {
        Some(kafka) => Some(KafkaConsumer::open(&kafka.bootstrap(), &TOPICS).await?),
        None => None,
    };
    warm_up(&mut jetstream, kafka.as_mut()).await?;
    let seconds = options.seconds.max(2);
    println!("{CONNECTIONS} connections send NOTIFYs for {seconds} s ...");
    let (sent, in_jetstream, in_kafka) = tokio::join!(
        announce(&stage, seconds),
        jetstream.collect_until(ARRIVAL, all_closed(StoredMessage::text)),
        consume(kafka.as_mut()),
    );
    let (sent, outage) = sent?;
    let truth = truth(&observer, &sent).await?;
    let evidence = Evidence {
        seconds,
        outage,
        sent,
        observed: truth,
        jetstream: Seen::in_jetstream(in_jetstream?),
        kafka: in_kafka?.map(Seen::in_kafka),
        metric: gap_metric(&stage.bridge.metrics().await?),
        log: gap_lines(&stage),
    };
    let ended = stage.bridge.terminate(Duration::from_secs(15)).await?;
    Ok(print(&evidence, ended))
}

/// Waits until both consumers read: the start itself is reported to each destination as a gap.
async fn warm_up(jetstream: &mut JetStreamReader, kafka: Option<&mut KafkaConsumer>) -> Result<()> {
    let count = CHANNELS.len();
    jetstream.collect(count, ARRIVAL).await?;
    if let Some(kafka) = kafka {
        kafka.collect(count, ARRIVAL).await?;
    }
    Ok(())
}

async fn announce(stage: &Stage, seconds: u32) -> Result<(Sent, Outage)> {
    let notifier = Notifier::new(&stage.postgres.url())
        .channels(&CHANNELS)
        .connections(CONNECTIONS)
        .messages((PER_SECOND * seconds) as usize)
        .sizes(&[1, 1, 3, 1, 20, 2, 1])
        .rate(f64::from(PER_SECOND));
    let middle = Duration::from_secs(seconds.into()) / 2;
    let (sent, outage) = tokio::join!(notifier.run(), provoke(stage, middle));
    // One more for each channel tells the consumers that they have everything.
    close(stage).await?;
    Ok((sent?, outage?))
}

/// The last announcement on each channel has this padding and no other.
async fn close(stage: &Stage) -> Result<()> {
    let last = Notifier::new(&stage.postgres.url()).channels(&CHANNELS).padding(CLOSING);
    last.messages(CHANNELS.len()).sizes(&[1]).run().await.map(drop)
}

const CLOSING: usize = 7;

fn is_closing(text: &str) -> bool {
    text.contains("\"pad\"")
}

/// True once as many closing messages have come as there are channels. Looks at each only once.
fn all_closed<T>(text: impl Fn(&T) -> String) -> impl FnMut(&[T]) -> bool {
    let (mut looked_at, mut closed) = (0, 0);
    move |all| {
        closed += all[looked_at..].iter().filter(|it| is_closing(&text(it))).count();
        looked_at = all.len();
        closed >= CHANNELS.len()
    }
}

async fn consume(kafka: Option<&mut KafkaConsumer>) -> Result<Option<&[KafkaRecord]>> {
    match kafka {
        Some(kafka) => kafka.collect_until(ARRIVAL, all_closed(KafkaRecord::text)).await.map(Some),
        None => Ok(None),
    }
}

/// What PostgreSQL announced, the closing ones included.
async fn truth(observer: &Observer, sent: &Sent) -> Result<Vec<Observed>> {
    observer.collect(sent.count() + CHANNELS.len(), ARRIVAL).await
}

fn gap_lines(stage: &Stage) -> Vec<String> {
    let lines = stage.bridge.log_lines("gap");
    lines.into_iter().filter(|line| line.contains("disconnect")).collect()
}
