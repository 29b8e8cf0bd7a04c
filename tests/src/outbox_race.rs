//! Ids are taken at the insert and become visible at the commit: whoever reads an outbox by its ids
//! runs a race against every open transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use pgherald_testkit::{Bridge, OutboxProducers, OutboxTruth, OutboxVerdict};
use tokio::task::JoinSet;

use crate::{
    outbox_model::{Reader, WRONG, Way},
    outbox_stage::{ORDERS, SINKS, Sinks, assert_is_emptied, connect, outbox, source},
    stage::{SOON, full_length, nats, shared_kafka},
};

/// Among many, a hole always finds a holder that outlives the prepared transaction it belongs to.
const FEW: usize = 6;
/// A wrong reader has so many chances to be wrong.
const SEEDS: u64 = 8;

/// What readers of these ways got of rows that were produced meanwhile.
async fn read_beside_producers(
    connections: usize,
    seed: u64,
    ways: &[Way],
) -> Vec<(Way, OutboxVerdict)> {
    let postgres = outbox().await;
    let producers = OutboxProducers::new(&postgres.url()).seed(seed).rows(3_000);
    let producers = producers.connections(connections);
    let written = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for &way in ways {
        let mut reader = Reader::open(&postgres.url(), way).await;
        let written = Arc::clone(&written);
        readers.spawn(async move {
            reader.read(&written).await;
            (way, reader.arrivals)
        });
    }
    let truth = producers.run().await.unwrap();
    written.store(true, Ordering::SeqCst);
    assert_is_the_table(&truth, &mut connect(&postgres).await).await;
    let read = readers.join_all().await;
    read.iter().map(|(way, arrivals)| (*way, truth.judge(arrivals))).collect()
}

/// The producers know exactly what is there.
async fn assert_is_the_table(truth: &OutboxTruth, connection: &mut sqlx::PgConnection) {
    let sql = "SELECT id FROM pgherald.outbox ORDER BY id";
    let table: Vec<i64> = sqlx::query_scalar(sql).fetch_all(connection).await.unwrap();
    let mut known: Vec<i64> = truth.committed.iter().map(|row| row.id).collect();
    known.sort_unstable();
    assert_eq!((known, truth.unsure.len()), (table, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn outbox_readers_of_the_specification_are_exact() {
    for (way, verdict) in read_beside_producers(32, 1, &[Way::Causal, Way::Strict]).await {
        assert!(verdict.is_exact(), "{way:?}: {verdict}");
        assert!(verdict.is_strict() == (way == Way::Strict), "{way:?}: {verdict}");
    }
}

/// The same producers, and readers that people write: the race is there, and the judge sees it.
#[tokio::test(flavor = "multi_thread")]
async fn outbox_readers_that_are_wrong_lose_rows() {
    let mut blameless = WRONG.to_vec();
    for seed in 0..SEEDS {
        for (way, verdict) in read_beside_producers(FEW, seed, &blameless).await {
            println!("seed {seed}, {way:?}: {verdict}");
            assert!(verdict.invented.is_empty() && verdict.misnamed.is_empty(), "{way:?}");
            if !verdict.lost.is_empty() {
                blameless.retain(|it| *it != way);
            }
        }
        if blameless.is_empty() {
            return;
        }
    }
    panic!("{blameless:?} lost nothing in {SEEDS} runs");
}

/// The race of the bridge itself: both orders, three sinks each, on one outbox.
#[tokio::test(flavor = "multi_thread")]
async fn outbox_race_loses_and_doubles_nothing_at_three_sinks_in_both_orders() {
    let rows = if full_length() { 200_000 } else { 5_000 };
    let (postgres, nats, kafka) = (outbox().await, nats().await, shared_kafka().await);
    let sinks = Sinks { name: "race", kafka: kafka.bootstrap(), nats: nats.url() };
    let mut config = format!("[postgres]\nurl = \"{}\"\n", postgres.url());
    for order in ORDERS {
        config += &source(order, "");
        config += &sinks.config(order, &sinks.kafka, &sinks.nats);
    }
    let bridge = Bridge::start(&config).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let began = Instant::now();
    let producers = OutboxProducers::new(&postgres.url()).seed(5).rows(rows).keys(rows / 10);
    let truth = producers.run().await.unwrap();
    println!("{} rows committed in {:.1?}", truth.count(), began.elapsed());
    for order in ORDERS {
        for sink in SINKS {
            let verdict = sinks.verdict(order, sink, &truth).await;
            println!("{order}/{sink} after {:.1?}: {verdict}", began.elapsed());
            let in_order = verdict.is_strict() || order == "causal";
            let right = verdict.is_exact() && in_order;
            assert!(right, "{order}/{sink}: {verdict}\n{}", bridge.explain().await);
        }
    }
    assert_is_emptied(&postgres).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
