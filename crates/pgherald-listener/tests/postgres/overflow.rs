//! A slow flow overflows its own queue; the socket is drained all the same.

use std::time::{Duration, Instant};

use pgherald_core::{Budget, GapReason, Room, Settled, Source};
use pgherald_postgres::query;
use pgherald_testkit::{Postgres, packages::PostgresVersion};
use sqlx::Row;
use tokio::task::JoinSet;

use crate::rig::*;

const ROOM: Room = Room {
    messages: 1_000,
    bytes: 1 << 20,
    first_bytes: usize::MAX,
    budget: pgherald_core::Budget { messages: 1_000, bytes: 1 << 20 },
};

#[tokio::test(flavor = "multi_thread")]
async fn one_gap_with_exact_edges_for_the_slow_flow_alone() {
    let postgres = Postgres::start().await.unwrap();
    let small = Budget { messages: 100, bytes: 1 << 20 };
    let process =
        Process::start(&postgres.url(), &[("slow", &["a"], small), ("fast", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let fast = carry(process.sources[1].clone(), &mut tasks);
    fast.gap(GapReason::Start).await;
    let mut slow = process.sources[0].attach().await.unwrap().read_from(None).await.unwrap();
    let settled = Settled::default();
    let first = slow.read(ROOM, &settled).await.unwrap();
    assert_eq!(first.messages[0].gap().unwrap().reason, GapReason::Start);

    let mut announcer = connection(&postgres).await;
    let before = now(&mut announcer).await;
    query(&mut announcer, "SELECT pg_notify('a', n::text) FROM generate_series(1, 1000) n")
        .await
        .unwrap();
    let after = now(&mut announcer).await;
    fast.payload("1000").await;
    let usage =
        query(&mut announcer, "SELECT pg_notification_queue_usage()::float8").await.unwrap();
    assert!(usage[0].get::<f64, _>(0) < 0.001, "the socket is drained");

    let held = slow.read(ROOM, &settled).await.unwrap();
    assert_eq!(held.messages.len(), 100);
    settled.advance(held.end.expect("a source says where it stands"));
    // No further message arrives: the gap comes with the release alone.
    let gap = slow.read(ROOM, &settled).await.unwrap();
    let overflow = gap.messages[0].gap().unwrap();
    assert_eq!((overflow.reason, overflow.count), (GapReason::Overflow, Some(900)));
    let slack = Duration::from_millis(500);
    assert!(overflow.from.unwrap() + slack >= before && overflow.to <= after + slack);
    // Two gaps and a hundred messages of the session came before.
    assert!(gap.messages[0].id.as_str().ends_with("-gap-102"), "{}", gap.messages[0].id);
    announce(&mut announcer, "a", "next").await;
    let next = slow.read(ROOM, &settled).await.unwrap();
    assert_eq!(payload(&next.messages[0]).as_deref(), Some("next"));
    fast.payload("next").await;
    assert_eq!(fast.payloads().len(), 1001);
    assert_eq!(fast.reasons(), [GapReason::Start]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_order_from_many_and_throughput() {
    let postgres = Postgres::start().await.unwrap();
    let large = Budget { messages: 1_000_000, bytes: 1 << 30 };
    let flows: [(&str, &[&str], Budget); 2] = [("one", &["a"], large), ("two", &["a"], large)];
    let process = Process::beating(SOON, &postgres.url(), &flows);
    let mut tasks = JoinSet::new();
    let heard: Vec<_> =
        process.sources.iter().map(|source| carry(source.clone(), &mut tasks)).collect();
    heard[1].gap(GapReason::Start).await;
    let mut reference = connection(&postgres).await;
    query(&mut reference, "CREATE TABLE said (n bigserial, text text)").await.unwrap();
    let mut announcers = JoinSet::new();
    for writer in 0..8 {
        let mut announcer = connection(&postgres).await;
        announcers.spawn(async move {
            for round in 0..100 {
                // The lock makes the table's order the commit order.
                let size = [1, 2, 50][round % 3];
                let sql = format!(
                    "BEGIN; LOCK said; WITH s AS (INSERT INTO said (text) \
                     SELECT format('%s-%s-%s', {writer}, {round}, i) FROM generate_series(1, {size}) i \
                     RETURNING text) SELECT pg_notify('a', text) FROM s; COMMIT"
                );
                query(&mut announcer, &sql).await.unwrap();
            }
        });
    }
    while let Some(done) = announcers.join_next().await {
        done.unwrap();
    }
    let rows = query(&mut reference, "SELECT text FROM said ORDER BY n").await.unwrap();
    let said: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for heard in &heard {
        heard.until(|heard| heard.payloads().len() >= said.len()).await;
        assert!(heard.payloads() == said, "not the commit order");
    }

    let before = said.len();
    let begun = Instant::now();
    let many = "SELECT pg_notify('a', repeat('x', 100) || n) FROM generate_series(1, 200000) n";
    query(&mut reference, many).await.unwrap();
    let committed = begun.elapsed();
    let listening = Instant::now();
    let count = |heard: &Heard| heard.messages.lock().unwrap().len();
    heard[0].until(|heard| count(heard) > before + 200_000).await;
    println!(
        "200,000 notifications of one transaction: commit {committed:?}, all in two flows {:?} later",
        listening.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_notification_queue_is_no_gap() {
    let postgres = Postgres::builder()
        .version(PostgresVersion::V18)
        .setting("max_notify_queue_pages", "64")
        .start()
        .await
        .unwrap();
    let process = Process::start(&postgres.url(), &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.gap(GapReason::Start).await;
    // Somebody else listens and then sits in a transaction: the queue's tail is pinned.
    let mut stuck = connection(&postgres).await;
    query(&mut stuck, "LISTEN other").await.unwrap();
    query(&mut stuck, "BEGIN").await.unwrap();
    let mut announcer = connection(&postgres).await;
    let filler = "SELECT pg_notify('other', repeat('x', 7000) || n) FROM generate_series(1, 20) n";
    let full = async { while query(&mut announcer, filler).await.is_ok() {} };
    tokio::time::timeout(SOON, full).await.expect("the queue is full in the end");
    tokio::time::sleep(HEARTBEAT * 3).await;
    drop(stuck);
    // The heartbeat empties the queue; nobody else would.
    let freed = async {
        let say = "SELECT pg_notify('a', 'free again')";
        while query(&mut announcer, say).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, freed).await.expect("the queue is free in the end");
    heard.payload("free again").await;
    assert_eq!(heard.reasons(), [GapReason::Start]);
}

/// A gap that ends with an arrival covers what was committed until then, so no arrival may be dated
/// before its commit: not after a slow answer, and not in the middle of a burst.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_heard_before_it_was_announced() {
    const EACH: usize = 2_000;
    let postgres = Postgres::start().await.unwrap();
    let process = Process::start(&postgres.url(), &[("fast", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let fast = carry(process.sources[0].clone(), &mut tasks);
    fast.gap(GapReason::Start).await;
    let mut announcers = JoinSet::new();
    for _ in 0..3 {
        let mut announcer = connection(&postgres).await;
        announcers.spawn(async move {
            let clock = pgherald_postgres::NOW_MICROS;
            let sql = format!("SELECT pg_notify('a', ({clock})::text)");
            for _ in 0..EACH {
                query(&mut announcer, &sql).await.unwrap();
            }
        });
    }
    announcers.join_all().await;
    fast.until(|heard| heard.payloads().len() == 3 * EACH).await;
    let messages = fast.messages.lock().unwrap();
    for message in messages.iter().filter(|message| message.gap().is_none()) {
        let announced: i64 = payload(message).unwrap().parse().unwrap();
        let announced = pgherald_postgres::from_micros(announced);
        assert!(message.since >= announced, "{:?} before {announced:?}", message.since);
    }
}
