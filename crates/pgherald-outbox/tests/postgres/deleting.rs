//! Rows go when every sink has settled them, and not before.

use std::time::Duration;

use pgherald_core::SourceError;
use pgherald_outbox::{OutboxReport, remove};
use pgherald_testkit::eventually;
use tokio::sync::Mutex;

use crate::rig::{Db, Process, ROOM, SOON, server, settings, texts};

const LEFT: &str = "SELECT coalesce(string_agg(payload, ' ' ORDER BY id), '') FROM pgherald.outbox";

async fn until_left(db: &Mutex<Db>, wanted: &str) {
    let there = || async { db.lock().await.text(LEFT).await == wanted };
    if eventually(&format!("{wanted:?} is left"), SOON, there).await.is_err() {
        panic!("{:?} is left and not {wanted:?}", db.lock().await.text(LEFT).await);
    }
}

#[tokio::test]
async fn the_slowest_sink_that_takes_a_row_holds_it() {
    let postgres = server().await;
    let flows: [(&str, Option<&[&str]>); 2] = [("bus", None), ("live", Some(&["a", "c"]))];
    let process = Process::start(&postgres.url(), "{}", &flows);
    let db = Mutex::new(Db::open(&postgres).await);
    db.lock().await.send("a", &["1", "2"]).await;
    db.lock().await.send("b", &["3"]).await;
    let (mut bus, mut live) = (process.session(0).await, process.session(1).await);
    assert_eq!(texts(&bus.take(3).await), ["1", "2", "3"]);
    bus.idle_during(until_left(&db, "1 2")).await;
    assert_eq!(texts(&live.take(2).await), ["1", "2"]);
    live.idle_during(until_left(&db, "")).await;
}

#[tokio::test]
async fn a_row_that_comes_late_is_delivered_and_then_deleted() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let (db, long) = (Mutex::new(Db::open(&postgres).await), Mutex::new(Db::open(&postgres).await));
    let mut reading = process.session(0).await;
    long.lock().await.run("BEGIN; SELECT pgherald.send('a', 'late'::text)").await;
    db.lock().await.send("a", &["1", "2"]).await;
    reading.take(2).await;
    let commit = async {
        until_left(&db, "").await;
        long.lock().await.run("COMMIT").await;
    };
    let (messages, ()) = tokio::join!(reading.take(1), commit);
    assert_eq!(texts(&messages), ["late"]);
    reading.idle_during(until_left(&db, "")).await;
}

#[tokio::test]
async fn kept_rows_stay_and_unrouted_ones_are_counted_and_named() {
    let postgres = server().await;
    let url = postgres.url();
    let process = Process::start(&url, "{}", &[("bus", Some(&["a"]))]);
    let db = Mutex::new(Db::open(&postgres).await);
    db.lock().await.send("nobody", &["x", "y"]).await;
    db.lock().await.send("a", &["1"]).await;
    let mut reading = process.session(0).await;
    reading.take(1).await;
    let report = process.sources[0].report();
    let measured = async {
        until_left(&db, "x y").await;
        let named = || async { report.borrow().unrouted == [("nobody".to_owned(), 2)] };
        eventually("the unrouted channel is named", SOON, named).await.unwrap();
    };
    reading.idle_during(measured).await;
    assert_eq!(*report.borrow(), OutboxReport::default(), "a flow that ended tells nothing");
    let findings =
        pgherald_outbox::check(&settings(&url), &crate::rig::outbox_settings("{}"), "s").await;
    assert!(findings.iter().any(|it| it.text.contains("\"nobody\": 2 rows")), "{findings:?}");
    drop(process);

    let keeping = Process::start(&url, r#"{"retain": "keep"}"#, &[("bus", None)]);
    let mut reading = crate::rig::attach_soon(&keeping.sources[0]).await;
    db.lock().await.send("a", &["2"]).await;
    // The channels that it takes now bring their rows.
    reading.take(3).await;
    reading.idle_during(tokio::time::sleep(Duration::from_millis(2_500))).await;
    assert_eq!(db.lock().await.text(LEFT).await, "x y 2");
}

#[tokio::test]
async fn a_cursor_is_forgotten_only_if_nobody_carries_its_flow() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let reading = process.session(0).await;
    let settings = settings(&postgres.url());
    let refused = remove(&settings, "billing", None).await.unwrap();
    assert!(refused[0].carried_by.as_ref().unwrap().starts_with("pid "), "{refused:?}");
    drop(reading);
    let gone = || async {
        let removed = remove(&settings, "billing", Some("bus")).await.unwrap();
        removed.first().is_some_and(|it| it.carried_by.is_none())
    };
    eventually("the lock is free", SOON, gone).await.unwrap();
    assert_eq!(remove(&settings, "billing", None).await.unwrap(), []);
}

/// Ids are issued again behind a cursor: what it says is not about them.
#[tokio::test]
async fn a_sequence_that_is_set_back_halts_a_running_flow_and_nothing_is_deleted() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let db = Mutex::new(Db::open(&postgres).await);
    let mut reading = process.session(0).await;
    db.lock().await.send("a", &["1", "2", "3"]).await;
    reading.take(3).await;
    let reset = async {
        until_left(&db, "").await;
        let mut db = db.lock().await;
        db.run("ALTER SEQUENCE pgherald.outbox_id_seq RESTART").await;
        db.send("a", &["again"]).await;
    };
    let (read, ()) = tokio::join!(reading.read(ROOM), reset);
    assert!(matches!(read, Err(SourceError::Halted(_))), "{read:?}");
    assert_eq!(db.lock().await.text(LEFT).await, "again");
}
