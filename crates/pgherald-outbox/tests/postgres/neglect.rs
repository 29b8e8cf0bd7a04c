//! What keeps the keeper from its work, and what must not.

use std::time::Duration;

use pgherald_outbox::OutboxReport;
use pgherald_postgres::{SetupOptions, setup};
use pgherald_testkit::{Postgres, eventually};
use tokio::sync::{Mutex, watch};

use crate::{
    incarnations::{dump, restore},
    pump::Pump,
    rig::{Db, Process, ROOM, SOON, server, settings},
};

const ROWS: &str = "SELECT count(*) FROM pgherald.outbox";

/// A server where `app` may do what a bridge has to, and owns nothing.
async fn with_bridge_role() -> Postgres {
    let postgres = Postgres::start().await.unwrap();
    let options = SetupOptions { bridge_role: Some("app".to_owned()), ..SetupOptions::default() };
    setup(&settings(&postgres.url()), &options, &mut |_| ()).await.unwrap();
    postgres
}

async fn until_rows(db: &Mutex<Db>, wanted: i64) {
    let there = || async { db.lock().await.number(ROWS).await == wanted };
    if eventually(&format!("{wanted} rows are left"), SOON, there).await.is_err() {
        panic!("{} rows are left and not {wanted}", db.lock().await.number(ROWS).await);
    }
}

async fn until_told(report: &watch::Receiver<OutboxReport>, wanted: &str) {
    let told = || report.borrow().not_ready().unwrap_or_default();
    let there =
        || async { if wanted.is_empty() { told().is_empty() } else { told().contains(wanted) } };
    if eventually(&format!("{wanted:?} is told"), SOON, there).await.is_err() {
        panic!("{:?} is told and not {wanted:?}", told());
    }
}

#[tokio::test]
async fn a_locked_row_keeps_only_itself() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let (db, user) = (Mutex::new(Db::open(&postgres).await), Mutex::new(Db::open(&postgres).await));
    db.lock().await.send("a", &["1", "2", "3", "4"]).await;
    let sql = "BEGIN; SELECT FROM pgherald.outbox WHERE payload = '2' FOR UPDATE";
    user.lock().await.run(sql).await;
    let pump = Pump::start(&process.sources[0]);
    until_rows(&db, 1).await;
    db.lock().await.send("a", &["5", "6"]).await;
    pump.until_all(&["6".into()]).await;
    until_rows(&db, 1).await;
    user.lock().await.run("COMMIT").await;
    let there = || async { db.lock().await.number(ROWS).await == 0 };
    eventually("what was locked goes, too", SOON * 3, there).await.unwrap();
    assert_eq!(process.sources[0].report().borrow().not_ready(), None);
}

#[tokio::test]
async fn a_keeper_that_cannot_work_is_named_with_the_reason_and_works_again() {
    let postgres = with_bridge_role().await;
    let db = Mutex::new(Db::open(&postgres).await);
    let patience = Duration::from_secs(2);
    let flows: [(&str, Option<&[&str]>); 1] = [("bus", None)];
    let process = Process::with_patience(&postgres.url_for("app"), "{}", &flows, patience);
    let pump = Pump::start(&process.sources[0]);
    let report = process.sources[0].report();
    db.lock().await.send("a", &["1"]).await;
    until_rows(&db, 0).await;

    db.lock().await.run("REVOKE DELETE ON pgherald.outbox FROM app").await;
    db.lock().await.send("a", &["2"]).await;
    pump.until_all(&["2".into()]).await;
    until_told(&report, "permission denied for table outbox").await;
    db.lock().await.run("GRANT DELETE ON pgherald.outbox TO app").await;
    until_rows(&db, 0).await;
    until_told(&report, "").await;

    let mut locker = Db::open(&postgres).await;
    db.lock().await.send("a", &["3"]).await;
    pump.until_all(&["3".into()]).await;
    locker.run("BEGIN; LOCK TABLE pgherald.outbox IN SHARE MODE").await;
    db.lock().await.run("UPDATE pgherald.cursor SET retain = retain").await;
    until_told(&report, "holds ShareLock on pgherald.outbox").await;
    locker.run("COMMIT").await;
    until_rows(&db, 0).await;
    until_told(&report, "").await;
}

/// A cursor that row security hides is an error, and not absent.
#[tokio::test]
async fn a_policy_that_hides_another_pipelines_cursor_deletes_nothing() {
    let postgres = with_bridge_role().await;
    let db = Mutex::new(Db::open(&postgres).await);
    let other = "INSERT INTO pgherald.cursor (pipeline, sink, high) VALUES ('other', 'slow', 0)";
    db.lock().await.run(other).await;
    let patience = Duration::from_secs(2);
    let flows: [(&str, Option<&[&str]>); 1] = [("bus", None)];
    let process = Process::with_patience(&postgres.url_for("app"), "{}", &flows, patience);
    let pump = Pump::start(&process.sources[0]);
    db.lock().await.send("a", &["1"]).await;
    pump.until_all(&["1".into()]).await;
    let policy = "CREATE POLICY own ON pgherald.cursor USING (pipeline = 'billing'); \
         ALTER TABLE pgherald.cursor ENABLE ROW LEVEL SECURITY";
    db.lock().await.run(policy).await;
    db.lock().await.send("a", &["2"]).await;
    let there = || async {
        let told = process.sources[0].report().borrow().not_ready();
        told.is_some_and(|told| told.contains("row-level")) || pump.fault().contains("row")
    };
    if eventually("the flow says so", SOON, there).await.is_err() {
        panic!("{} {:?}", pump.fault(), process.sources[0].report().borrow());
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    until_rows(&db, 2).await;
    let end = "ALTER TABLE pgherald.cursor DISABLE ROW LEVEL SECURITY; \
         UPDATE pgherald.cursor SET high = 1000 WHERE sink = 'slow'; \
         SELECT setval('pgherald.outbox_id_seq', 2000); SELECT pgherald.send('a', '3'::text)";
    db.lock().await.run(end).await;
    pump.until_all(&["3".into()]).await;
    until_rows(&db, 1).await;
}

/// A cursor that somebody takes away is no permission to delete.
#[tokio::test]
async fn a_cursor_that_is_taken_away_or_moved_by_hand_deletes_nothing_unsent() {
    let postgres = server().await;
    let flows: [(&str, Option<&[&str]>); 2] = [("bus", None), ("slow", None)];
    let process = Process::start(&postgres.url(), "{}", &flows);
    let db = Mutex::new(Db::open(&postgres).await);
    let mut slow = process.session(1).await;
    let bus = Pump::start(&process.sources[0]);
    db.lock().await.send("a", &["1", "2"]).await;
    let batch = slow.read(ROOM).await.unwrap();
    assert_eq!(batch.messages.len(), 2);
    slow.ack(&batch.end.unwrap()).await;
    bus.until_all(&["2".into()]).await;
    until_rows(&db, 0).await;
    // The slow one has stopped reading.
    db.lock().await.send("a", &["3", "4"]).await;
    bus.until_all(&["4".into()]).await;
    db.lock().await.run("UPDATE pgherald.cursor SET high = 4 WHERE sink = 'slow'").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    until_rows(&db, 2).await;
    db.lock().await.run("DELETE FROM pgherald.cursor WHERE sink = 'slow'").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    until_rows(&db, 2).await;
    drop(slow);
    let slow = Pump::start(&process.sources[1]);
    // Nobody knows what it had: it begins with the oldest row.
    slow.until_all(&["3".into(), "4".into()]).await;
    until_rows(&db, 0).await;
}

/// The restored cursor is older than what was carried; its rows come again, and stay until then.
#[tokio::test]
async fn a_dump_that_is_restored_under_a_running_flow_deletes_nothing_unsent() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let pump = Pump::start(&process.sources[0]);
    let db = Mutex::new(Db::open(&postgres).await);
    let send = async |word: &str, count: usize| {
        let texts: Vec<String> = (1..=count).map(|n| format!("{word} {n}")).collect();
        let all: Vec<&str> = texts.iter().map(String::as_str).collect();
        db.lock().await.send("a", &all).await;
        texts
    };
    pump.until_all(&send("before", 5).await).await;
    let mut writer = Db::open(&postgres).await;
    writer.run("BEGIN; SELECT pgherald.send('a', 'open'::text)").await;
    let dump = dump(&postgres);
    writer.run("COMMIT").await;
    pump.until_all(&send("after", 55).await).await;
    restore(&postgres, dump).await;
    // These have ids that were carried for other rows.
    pump.until_all(&send("new", 20).await).await;
    until_rows(&db, 0).await;
    assert_eq!(process.sources[0].report().borrow().not_ready(), None);
}

/// A bulk transaction between many commits drains about as fast as one range.
#[tokio::test]
async fn a_bulk_transaction_between_others_does_not_drain_quadratically() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    let fill = |ids: &str| {
        format!(
            "INSERT INTO pgherald.outbox (id, channel, payload) OVERRIDING SYSTEM VALUE \
             SELECT n, 'a', 'x' FROM generate_series(1, 100000) AS n WHERE {ids}"
        )
    };
    db.run("SELECT setval('pgherald.outbox_id_seq', 100000)").await;
    let mut bulk = Db::open(&postgres).await;
    bulk.run(&format!("BEGIN; {}", fill("n % 100 <> 0"))).await;
    db.run(&fill("n % 100 = 0")).await;
    let process = Process::one(&postgres.url(), "{}");
    let pump = Pump::start(&process.sources[0]);
    pump.until("what is committed", |delivered| delivered.len() == 1_000).await;
    bulk.run("COMMIT").await;
    let began = std::time::Instant::now();
    let db = Mutex::new(db);
    let there = || async { db.lock().await.number(ROWS).await == 0 };
    eventually("the bulk is gone", SOON * 3, there).await.unwrap();
    eprintln!("99,000 rows in 1,000 ranges: {:?}", began.elapsed());
    assert_eq!(pump.delivered().len(), 100_000);
}
