//! A reader that waits costs little, and wakes at once.

use std::time::{Duration, Instant};

use pgherald_core::SourceError;
use pgherald_testkit::{Postgres, eventually};

use crate::rig::{Db, Process, ROOM, SOON, server};

/// Whether somebody holds the doorbell's lock, as a sleeping reader does.
const ASLEEP: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
     AND classid = 1885825124 AND mode = 'ExclusiveLock'";

async fn asleep(db: &tokio::sync::Mutex<Db>, wanted: i64) {
    let there = || async { db.lock().await.number(ASLEEP).await == wanted };
    eventually("the doorbell's lock", SOON, there).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_sleeps_wakes_with_the_commit() {
    let postgres = server().await;
    let process = Process::start(&postgres.url(), "{}", &[("bus", None), ("live", None)]);
    let (mut bus, mut live) = (process.session(0).await, process.session(1).await);
    let db = tokio::sync::Mutex::new(Db::open(&postgres).await);
    let mut waits = Vec::new();
    for round in 0..10 {
        let both = async { tokio::join!(bus.read(ROOM), live.read(ROOM)) };
        let send = async {
            asleep(&db, 1).await;
            db.lock().await.send("a", &["x"]).await;
            Instant::now()
        };
        let ((first, second), sent) = tokio::join!(both, send);
        waits.push(sent.elapsed());
        assert_eq!(first.unwrap().messages.len() + second.unwrap().messages.len(), 2, "{round}");
    }
    waits.sort();
    println!("woken within {:?}, at worst {:?}", waits[5], waits[9]);
    assert!(waits[5] < Duration::from_millis(500), "the bell, not the poll each second: {waits:?}");
}

#[tokio::test]
async fn a_writer_that_is_open_keeps_the_reader_awake() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let mut reading = process.session(0).await;
    let (mut db, mut writer) = (Db::open(&postgres).await, Db::open(&postgres).await);
    writer.run("BEGIN; SELECT pgherald.send('a', 'x'::text)").await;
    let commit = async {
        // Long enough to fall asleep, if it could.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(db.number(ASLEEP).await, 0, "its commit will ring no bell");
        writer.run("COMMIT").await;
        Instant::now()
    };
    let (batch, sent) = tokio::join!(reading.read(ROOM), commit);
    assert_eq!(batch.unwrap().messages.len(), 1);
    println!("awake: {:?}", sent.elapsed());
}

#[tokio::test]
async fn an_idle_flow_costs_little() {
    let postgres = Postgres::builder().setting("log_statement", "all").start().await.unwrap();
    crate::rig::install(&postgres).await;
    let process = Process::one(&postgres.url(), "{}");
    let reading = process.session(0).await;
    // Over the simple protocol, and prepared ones.
    let statements = || {
        let log = postgres.log();
        log.matches("statement: ").count() + log.matches("execute sqlx").count()
    };
    let counted = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = statements();
        tokio::time::sleep(Duration::from_secs(4)).await;
        (statements() - before) as f64 / 4.0
    };
    let each_second = reading.idle_during(counted).await;
    println!("idle: {each_second} statements a second");
    assert!(each_second < 5.0, "{each_second}");
}

#[tokio::test]
async fn a_stop_ends_the_read_and_the_last_checkpoint_is_written() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let mut reading = process.session(0).await;
    let mut db = Db::open(&postgres).await;
    db.send("a", &["x"]).await;
    let end = reading.read(ROOM).await.unwrap().end.unwrap();
    let (read, ()) = tokio::join!(reading.read(ROOM), async {
        db.number(ASLEEP).await;
        process.stop.cancel();
    });
    assert!(matches!(read, Err(SourceError::Stopped)), "{read:?}");
    reading.ack(&end).await;
    assert_eq!(db.cursor().await, "1 {}");
}
