//! Reading beside the bridge: what is there, what comes, and nothing held back.

use std::sync::Arc;

use pgherald_core::Message;
use pgherald_outbox::{Order, OutboxTail, StoredRows, TAIL_PAYLOAD_BYTES_MAX, TailOptions, Tailed};
use pgherald_testkit::Postgres;
use tokio::time::timeout;

use crate::rig::{Db, Process, SOON, outbox_settings, server, settings, texts};

fn options(order: Order, channels: Option<&[&str]>, last: Option<u64>) -> TailOptions {
    let channels = channels.map(|names| names.iter().map(|name| Arc::from(*name)).collect());
    TailOptions { table: outbox_settings("{}").table, order, channels, last }
}

async fn stored(postgres: &Postgres, channels: Option<&[&str]>, last: Option<u64>) -> Vec<String> {
    let options = options(Order::Causal, channels, last);
    let mut rows = StoredRows::open(&settings(&postgres.url()), &options).await.unwrap();
    let mut all = Vec::new();
    while let Some(messages) = rows.next().await.unwrap() {
        all.extend(texts(&messages));
    }
    all
}

async fn follow(postgres: &Postgres, order: Order, last: Option<u64>) -> OutboxTail {
    let mut tail = OutboxTail::new(settings(&postgres.url()), options(order, None, last));
    tail.open().await.unwrap();
    tail
}

/// Payloads, and in their place what has no row.
fn shown(news: Vec<Tailed>) -> Vec<String> {
    let one = |news| match news {
        Tailed::Message(message) => texts(&[message] as &[Message]).remove(0),
        Tailed::Unseen { ids, .. } => format!("unseen {ids}"),
        Tailed::Anew => "anew".to_owned(),
    };
    news.into_iter().map(one).collect()
}

async fn take(tail: &mut OutboxTail, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let news = timeout(SOON, tail.next()).await.expect("news come soon");
        all.extend(shown(news.unwrap()));
    }
    all
}

#[tokio::test]
async fn what_the_table_holds_is_read_in_order_and_stays() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    assert_eq!(stored(&postgres, None, None).await, Vec::<String>::new());
    assert_eq!(stored(&postgres, None, Some(3)).await, Vec::<String>::new());
    db.run("SELECT pgherald.send(chr(97 + n % 3), n::text) FROM generate_series(0, 2499) AS n")
        .await;
    let all: Vec<String> = (0..2_500).map(|n| n.to_string()).collect();
    assert_eq!(stored(&postgres, None, None).await, all);
    assert_eq!(stored(&postgres, None, Some(2)).await, all[2_498..]);
    assert_eq!(stored(&postgres, None, Some(0)).await, Vec::<String>::new());
    assert_eq!(stored(&postgres, Some(&["b"]), Some(2)).await, ["2494", "2497"]);
    assert_eq!(stored(&postgres, Some(&["x'y"]), None).await, Vec::<String>::new());
    db.run(&format!("SELECT pgherald.send('z', repeat('x', {TAIL_PAYLOAD_BYTES_MAX} + 1))")).await;
    let large = format!("Oversize({})", TAIL_PAYLOAD_BYTES_MAX + 1);
    assert_eq!(stored(&postgres, None, Some(2)).await, ["2499".to_owned(), large]);
    assert_eq!(db.number("SELECT count(*) FROM pgherald.outbox").await, 2_501);
}

/// The lower id appears after the higher one, and one never does.
async fn a_late_commit_is_not_missed(order: Order, expected: &[&str]) {
    let postgres = server().await;
    let (mut db, mut late, mut undone) =
        (Db::open(&postgres).await, Db::open(&postgres).await, Db::open(&postgres).await);
    db.send("a", &["old 1", "old 2", "old 3"]).await;
    late.run("BEGIN; SELECT pgherald.send('a', 'late'::text)").await;
    let mut tail = follow(&postgres, order, Some(2)).await;
    undone.run("BEGIN; SELECT pgherald.send('a', 'undone'::text)").await;
    db.send("a", &["new"]).await;
    let mut seen = take(&mut tail, if order == Order::Causal { 3 } else { 2 }).await;
    late.run("COMMIT").await;
    undone.run("ROLLBACK").await;
    seen.extend(take(&mut tail, expected.len() - seen.len()).await);
    seen.sort_by_key(|text| text.starts_with("unseen"));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_late_commit_comes_behind_in_causal_order() {
    let expected = ["old 2", "old 3", "new", "late", "unseen 1"];
    a_late_commit_is_not_missed(Order::Causal, &expected).await;
}

#[tokio::test]
async fn a_late_commit_is_waited_for_in_strict_order() {
    let expected = ["old 2", "old 3", "late", "new", "unseen 1"];
    a_late_commit_is_not_missed(Order::Strict, &expected).await;
}

#[tokio::test]
async fn it_goes_on_where_a_lost_session_stood_and_anew_where_ids_begin_anew() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.send("a", &["1", "2"]).await;
    let mut tail = follow(&postgres, Order::Causal, None).await;
    assert_eq!(take(&mut tail, 2).await, ["1", "2"]);
    let ended = db
        .number(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        .await;
    assert_eq!(ended, 1, "it has one session");
    db.send("a", &["3"]).await;
    assert!(timeout(SOON, tail.next()).await.unwrap().is_err(), "it says that it was lost");
    assert_eq!(take(&mut tail, 1).await, ["3"]);
    db.run("ALTER TABLE pgherald.outbox ADD COLUMN more text").await;
    db.send("a", &["4"]).await;
    assert_eq!(take(&mut tail, 1).await, ["4"]);
    db.run("TRUNCATE pgherald.outbox RESTART IDENTITY").await;
    db.send("a", &["5"]).await;
    assert_eq!(take(&mut tail, 2).await, ["anew", "5"]);
}

#[tokio::test]
async fn no_lock_and_no_transaction_is_held_and_a_flow_goes_on() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.send("a", &["1"]).await;
    let mut tail = follow(&postgres, Order::Causal, None).await;
    assert_eq!(take(&mut tail, 1).await, ["1"]);
    let held = "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()";
    assert_eq!(db.number(held).await, 0);
    let process = Process::one(&postgres.url(), "{}");
    let mut flow = process.session(0).await;
    assert_eq!(texts(&flow.take(1).await), ["1"]);
    db.send("a", &["2"]).await;
    assert_eq!(take(&mut tail, 1).await, ["2"]);
    assert_eq!(texts(&flow.take(1).await), ["2"]);
}
