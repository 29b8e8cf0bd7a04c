//! Servers that die, freeze and vanish.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pgherald_core::{Event, Only, Sink, SinkError};
use pgherald_testkit::{Direction, FaultProxy, Nats};
use serde_json::json;

use crate::{
    bridge::{Carrier, batch, fates, message, open, publish, sink},
    stored::{CLEAN, all, app, create_stream, seen},
};

/// Kills the server three times while messages flow.
async fn survives_kills(atomic: bool) {
    const COUNT: usize = 40_000;
    let nats = Nats::builder().jetstream_config("sync_interval: always").start().await.unwrap();
    create_stream(&nats.url(), app(atomic)).await;
    let sink = sink(&nats.url(), json!({}));
    let mut carrier = Carrier::new(&sink, COUNT, &[400, 37, 1_000, 3, 250]);
    carrier.rest = Duration::from_millis(5);
    let kills = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            nats.kill().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            nats.start_again().await.unwrap();
        }
    };
    tokio::join!(carrier.run(), kills);
    assert!(carrier.sessions > 1, "it was killed while messages flowed");
    println!("{} sessions, atomic: {atomic}", carrier.sessions);
    assert_eq!(seen(&all(&nats.url()).await, COUNT), CLEAN);
}

#[tokio::test(flavor = "multi_thread")]
async fn atomic_batches_survive_kills_of_the_server() {
    survives_kills(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_survives_kills_of_the_server() {
    survives_kills(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_and_invert_nothing() {
    const COUNT: usize = 20_000;
    for atomic in [true, false] {
        let nats = Nats::start().await.unwrap();
        create_stream(&nats.url(), app(atomic)).await;
        let proxy = FaultProxy::start(nats.port()).await.unwrap();
        let sink = sink(&nats.url_at(proxy.port()), json!({}));
        let mut carrier = Carrier::new(&sink, COUNT, &[400, 37, 1_000, 3, 250]);
        carrier.rest = Duration::from_millis(5);
        let cuts = async {
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                proxy.reset();
            }
        };
        tokio::join!(carrier.run(), cuts);
        assert!(carrier.sessions > 1, "it was cut while messages flowed");
        assert_eq!(seen(&all(&nats.url()).await, COUNT), CLEAN);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_ends_the_session_at_once() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let sink = sink(&nats.url(), json!({}));
    let mut writer = open(&sink).await;
    assert!(writer.event().now_or_never().is_none(), "no news is good news");
    nats.kill().await.unwrap();
    let begun = Instant::now();
    let event = writer.event().await;
    assert!(matches!(event, Event::Ended(SinkError::Transient(_))), "{event:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(writer.publish(&batch(vec![message(0, "a")]), &Only::All).await.is_err());
    let begun = Instant::now();
    assert!(matches!(sink.open().await, Err(SinkError::Transient(_))));
    assert!(begun.elapsed() < Duration::from_secs(1));
    nats.start_again().await.unwrap();
    open(&sink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_leaves_messages_unknown_in_bounded_time() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let proxy = FaultProxy::start(nats.port()).await.unwrap();
    let sink = sink(&nats.url_at(proxy.port()), json!({}));
    let mut writer = open(&sink).await;
    // A writer that has stored nothing yet would have one message under way.
    assert_eq!(fates(&publish(&mut *writer, vec![message(0, "a")]).await), [""; 0]);
    proxy.black_hole(Direction::Down);
    let begun = Instant::now();
    let messages = batch((1..4).map(|n| message(n, "a")).collect());
    let published = writer.publish(&messages, &Only::All).await.unwrap();
    let outcome = published.confirmation.await;
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    assert_eq!(fates(&outcome), ["0 unknown", "1 unknown", "2 unknown"]);
    assert!(matches!(outcome.session, Some(SinkError::Transient(_))));
    assert!(matches!(writer.event().await, Event::Ended(_)));
    // They had arrived; the replay is recognised.
    proxy.heal();
    drop(writer);
    let mut carrier = Carrier::new(&sink, 4, &[2]);
    carrier.run().await;
    assert_eq!(seen(&all(&nats.url()).await, 4), CLEAN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_leaves_messages_unknown() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let sink = sink(&nats.url(), json!({}));
    let mut writer = open(&sink).await;
    nats.pause();
    let messages = batch(vec![message(0, "a"), message(1, "a")]);
    let published = writer.publish(&messages, &Only::All).await.unwrap();
    drop(writer);
    let outcome = published.confirmation.await;
    assert_eq!(fates(&outcome), ["0 unknown", "1 unknown"]);
    nats.resume();
}
