//! What was heard before the stop is handed out.

use std::time::Duration;

use pgherald_core::{GapReason, Room, Settled, Source, SourceError};
use pgherald_postgres::query;
use pgherald_testkit::Postgres;
use tokio::task::JoinSet;

use crate::rig::*;

#[tokio::test(flavor = "multi_thread")]
async fn stop_hands_out_everything_and_then_says_so() {
    let postgres = Postgres::start().await.unwrap();
    let mut process = Process::start(&postgres.url(), &[("bus", &["a"], BUDGET)]);
    let source = process.sources[0].clone();
    let mut session = source.attach().await.unwrap().read_from(None).await.unwrap();
    let mut announcer = connection(&postgres).await;
    query(&mut announcer, "SELECT pg_notify('a', n::text) FROM generate_series(1, 3000) n")
        .await
        .unwrap();
    pgherald_testkit::eventually("it is heard", SOON, || async { source.unread() == 3_000 })
        .await
        .unwrap();
    process.stopped().await;
    let room = Room {
        messages: 1_000,
        bytes: 1 << 20,
        first_bytes: usize::MAX,
        budget: pgherald_core::Budget { messages: 1_000, bytes: 1 << 20 },
    };
    let settled = Settled::default();
    let mut payloads = Vec::new();
    let end = loop {
        match session.read(room, &settled).await {
            Ok(batch) => payloads.extend(batch.messages.iter().filter_map(payload)),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, SourceError::Stopped));
    assert_eq!(payloads, (1..=3_000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(matches!(source.attach().await, Err(SourceError::Stopped)));
    assert_eq!(source.unread(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_without_a_server() {
    let url = format!("postgres://u@127.0.0.1:{}/d", pgherald_testkit::free_port());
    let mut process = Process::start(&url, &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.until(|heard| !heard.errors.lock().unwrap().is_empty()).await;
    tokio::time::timeout(Duration::from_secs(2), process.stopped()).await.unwrap();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_pins_the_vacuum_horizon() {
    let postgres = Postgres::start().await.unwrap();
    let process = Process::start(&postgres.url(), &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.gap(GapReason::Start).await;
    let mut admin = connection(&postgres).await;
    let sql = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgherald%' \
               AND pid <> pg_backend_pid() AND state <> 'idle'";
    let mut busy = 0;
    for _ in 0..100 {
        busy += query(&mut admin, sql).await.unwrap().len();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(busy <= 3, "the session was busy {busy} times in 100");
}
