//! The table is altered under a running flow.

use std::{collections::BTreeSet, time::Duration};

use pgherald_core::Room;
use pgherald_testkit::{Postgres, eventually};
use tokio::{sync::Mutex, task::JoinSet, time::sleep};

use crate::rig::{Db, Process, SOON, server, texts};

const REWRITE: &str =
    "ALTER TABLE pgherald.outbox ADD COLUMN IF NOT EXISTS extra uuid DEFAULT gen_random_uuid()";
const WAITS: &str = "SELECT count(*) FROM pg_locks \
     WHERE relation = 'pgherald.outbox'::regclass AND NOT granted";

/// What reading rests on: a prepared SELECT is planned and takes its snapshot behind the lock. COPY
/// in the same place sees an empty table.
#[tokio::test]
async fn a_page_that_waits_for_a_rewrite_sees_every_row() {
    for order in ["strict", "causal"] {
        let postgres = server().await;
        let process = Process::one(&postgres.url(), &format!(r#"{{"order": "{order}"}}"#));
        let (mut db, mut alter) = (Db::open(&postgres).await, Db::open(&postgres).await);
        db.send("a", &["1"]).await;
        let mut reading = process.session(0).await;
        assert_eq!(texts(&reading.take(1).await), ["1"], "the page is prepared");
        db.send("a", &["2", "3"]).await;
        alter.run("BEGIN").await;
        alter.run(REWRITE).await;
        let db = Mutex::new(db);
        let commit = async {
            let waits = || async { db.lock().await.number(WAITS).await == 1 };
            eventually("the reader waits for the lock", SOON, waits).await.unwrap();
            alter.run("COMMIT").await;
        };
        let (messages, ()) = tokio::join!(reading.take(2), commit);
        assert_eq!(texts(&messages), ["2", "3"], "{order}");
    }
}

/// Of each producer so many transactions commit, and a sixth as many roll back.
const COMMITTED: usize = 300;

async fn producer(url: String, place: usize) {
    let mut db = Db::at(&url).await;
    for n in 0..COMMITTED {
        db.run("BEGIN").await;
        db.run(&format!("SELECT pgherald.send('a', '{place}-{n}'::text)")).await;
        if n % 10 == 3 {
            sleep(Duration::from_millis(20)).await;
        }
        db.run("COMMIT").await;
        if n % 6 == 5 {
            db.run("BEGIN; SELECT pgherald.send('a', 'never'::text); ROLLBACK").await;
        }
    }
}

#[tokio::test]
async fn rewrites_under_running_flows_of_either_order_lose_nothing() {
    const PRODUCERS: usize = 4;
    let postgres = server().await;
    let url = postgres.url();
    let strict = Process::start(&url, r#"{"order": "strict"}"#, &[("strict", None)]);
    let causal = Process::start(&url, "{}", &[("causal", None)]);
    let (mut strict, mut causal) = (strict.session(0).await, causal.session(0).await);
    let mut producers: JoinSet<()> =
        (0..PRODUCERS).map(|place| producer(url.clone(), place)).collect();
    let rewriting = async {
        let mut db = Db::open(&postgres).await;
        let mut rewrites = 0;
        while producers.try_join_next().is_some() || !producers.is_empty() {
            db.run("ALTER TABLE pgherald.outbox DROP COLUMN IF EXISTS extra").await;
            db.run(REWRITE).await;
            rewrites += 1;
            sleep(Duration::from_millis(20)).await;
        }
        rewrites
    };
    let all = COMMITTED * PRODUCERS;
    let (strict, causal, rewrites) = tokio::join!(strict.take(all), causal.take(all), rewriting);
    println!("{rewrites} rewrites");
    for read in [strict, causal] {
        let read = texts(&read).into_iter().collect::<BTreeSet<_>>();
        assert!(read.len() == all && !read.contains("never"), "every row once");
    }
}

/// Whatever is missing, and however much room there is: two texts, and only two entries.
#[tokio::test]
async fn pages_are_two_statements_to_pg_stat_statements() {
    let builder = Postgres::builder();
    let postgres = builder.setting("shared_preload_libraries", "pg_stat_statements").start();
    let postgres = postgres.await.unwrap();
    crate::rig::install(&postgres).await;
    let (mut db, mut long) = (Db::open(&postgres).await, Db::open(&postgres).await);
    db.run("CREATE EXTENSION pg_stat_statements").await;
    let process = Process::start(&postgres.url(), "{}", &[("all", None), ("some", Some(&["a"]))]);
    let (mut all, mut some) = (process.session(0).await, process.session(1).await);
    for round in 0..20 {
        long.run("BEGIN; SELECT pgherald.send('a', 'late'::text)").await;
        db.send("a", &["x", "y"]).await;
        let room = Room {
            messages: round % 7 + 1,
            bytes: 100 + round,
            first_bytes: 200 + round,
            budget: pgherald_core::Budget { messages: round % 7 + 1, bytes: 100 + round },
        };
        assert!(!all.read(room).await.unwrap().messages.is_empty());
        assert!(!some.read(room).await.unwrap().messages.is_empty());
        long.run("COMMIT").await;
    }
    let pages = "SELECT count(*) FROM pg_stat_statements \
         WHERE query LIKE '%unnest(%' AND query LIKE '%\"outbox\"%' AND query LIKE '%payload%'";
    let entries = db.number(pages).await;
    assert!((1..=2).contains(&entries), "{entries} entries");
}
