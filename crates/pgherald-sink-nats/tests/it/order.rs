//! Exact order and exact multiset, whichever way messages go.

use std::time::{Duration, Instant};

use pgherald_testkit::Nats;
use serde_json::json;

use crate::{
    bridge::{Carrier, fates, message, open, publish, sink},
    stored::{CLEAN, all, app, client, create_stream, seen},
};

const COUNT: usize = 20_000;

async fn carry_all(nats: &Nats, sizes: &[usize], depth: usize) -> Duration {
    let sink = sink(&nats.url(), json!({}));
    let mut carrier = Carrier::new(&sink, COUNT, sizes);
    carrier.depth = depth;
    let begun = Instant::now();
    carrier.run().await;
    let took = begun.elapsed();
    assert_eq!(carrier.sessions, 1);
    let stored = all(&nats.url()).await;
    assert_eq!(seen(&stored, COUNT), CLEAN);
    assert_eq!(stored[3].subject, "app.b");
    assert_eq!(stored[3].payload, b"payload 3");
    assert_eq!(stored[3].header("ce-id"), "5e55-3");
    assert_eq!(stored[3].header("Nats-Msg-Id"), "orders/live/5e55-3");
    assert_eq!(stored[3].header("Nats-Expected-Stream"), "APP");
    took
}

fn report(what: &str, took: Duration) {
    println!("{what}: {:.0} messages/s", COUNT as f64 / took.as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn atomic_batches_keep_order() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    report("atomic", carry_all(&nats, &[500, 1, 2_300, 7, 1_000], 8).await);
    let batched = all(&nats.url()).await;
    assert!(!batched[100].header("Nats-Batch-Id").is_empty(), "it went as a batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_are_joined_into_atomic_ones() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    report("atomic, batches of 1, 1000 under way", carry_all(&nats, &[1], 1_000).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_keeps_order() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(false)).await;
    report("chain", carry_all(&nats, &[500, 1, 2_300, 7, 1_000], 8).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_needs_no_more_input() {
    let nats = Nats::start().await.unwrap();
    for atomic in [true, false] {
        create_stream(
            &nats.url(),
            async_nats::jetstream::stream::Config {
                name: format!("APP{}", u8::from(atomic)),
                subjects: vec![format!("app{}.>", u8::from(atomic))],
                allow_atomic_publish: atomic,
                ..app(atomic)
            },
        )
        .await;
        let (stream, subject) =
            (format!("APP{}", u8::from(atomic)), format!("app{}.{{channel}}", u8::from(atomic)));
        let sink = sink(&nats.url(), json!({ "stream": stream, "subject": subject }));
        let mut writer = open(&sink).await;
        let begun = Instant::now();
        for n in 0..1_000 {
            assert_eq!(fates(&publish(&mut *writer, vec![message(n, "a")]).await), [""; 0]);
        }
        println!("one at a time: {:.0} messages/s", 1_000.0 / begun.elapsed().as_secs_f64());
        assert_eq!(fates(&publish(&mut *writer, vec![]).await), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_who_write_to_the_stream_never_invert_a_chain() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(false)).await;
    let other = client(&nats.url()).await;
    let noise = tokio::task::JoinSet::from_iter([async move {
        loop {
            other.publish("app.other", "noise".into()).await.unwrap();
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }]);
    let sink = sink(&nats.url(), json!({}));
    let mut carrier = Carrier::new(&sink, COUNT, &[500, 3, 1_000]);
    let begun = Instant::now();
    carrier.run().await;
    report("chain among others", begun.elapsed());
    drop(noise);
    assert_eq!(carrier.sessions, 1);
    let stored = all(&nats.url()).await;
    assert_eq!(seen(&stored, COUNT), CLEAN);
    assert!(stored.len() > COUNT, "there was noise");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_cut_at_other_places_is_recognised() {
    for atomic in [true, false] {
        let nats = Nats::start().await.unwrap();
        create_stream(&nats.url(), app(atomic)).await;
        let sink = sink(&nats.url(), json!({}));
        let numbers = |range: std::ops::Range<usize>| range.map(|n| message(n, "a")).collect();
        let mut writer = open(&sink).await;
        assert_eq!(fates(&publish(&mut *writer, numbers(0..700)).await), [""; 0]);
        let mut writer = open(&sink).await;
        for range in [200..500, 500..900, 900..1_400] {
            assert_eq!(fates(&publish(&mut *writer, numbers(range)).await), [""; 0]);
        }
        assert_eq!(seen(&all(&nats.url()).await, 1_400), CLEAN);
    }
}

/// Rows that were invisible the first time stand between those that are stored: what follows the
/// stream's last message in the replay must not be stored in front of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_in_another_order_stores_what_is_new_in_its_order() {
    for (atomic, padding) in [(true, 0), (false, 0), (true, 100)] {
        let nats = Nats::start().await.unwrap();
        create_stream(&nats.url(), app(atomic)).await;
        let sink = sink(&nats.url(), json!({}));
        let before = [1, 2, 5];
        let replay: Vec<usize> = (1..=8 + padding).collect();
        for numbers in [&before[..], &replay] {
            let messages = numbers.iter().map(|&n| message(n, "a")).collect();
            let mut writer = open(&sink).await;
            assert_eq!(fates(&publish(&mut *writer, messages).await), [""; 0]);
        }
        let stored = all(&nats.url()).await;
        let order: Vec<String> = stored.iter().map(|it| it.header("ce-id").to_owned()).collect();
        let new = replay.iter().filter(|n| !before.contains(n));
        let expected: Vec<String> = before.iter().chain(new).map(|n| format!("5e55-{n}")).collect();
        assert_eq!(order, expected, "atomic {atomic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn core_mode_sends_in_order_and_says_so_after_the_server_has_read_it() {
    use futures_util::StreamExt;
    let nats = Nats::builder().without_jetstream().start().await.unwrap();
    let client = client(&nats.url()).await;
    let mut heard = client.subscribe("app.>").await.unwrap();
    client.flush().await.unwrap();
    let sink = sink(&nats.url(), json!({ "mode": "core", "stream": null }));
    let mut writer = open(&sink).await;
    for start in [0, 500] {
        let messages = (start..start + 500).map(|n| message(n, "a")).collect();
        assert_eq!(fates(&publish(&mut *writer, messages).await), [""; 0]);
    }
    for n in 0..1_000 {
        let message = heard.next().await.unwrap();
        assert_eq!(&message.payload[..], format!("payload {n}").as_bytes());
        let headers = message.headers.unwrap();
        assert!(headers.get("Nats-Msg-Id").is_none(), "nobody would look at it");
    }
}
