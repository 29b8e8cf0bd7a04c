//! Partitions that are attached while the bridge runs or not, with rows in them.

use pgherald_core::Source;
use pgherald_outbox::{LateFilter, LateRow, late_list, late_send};
use pgherald_testkit::eventually;

use crate::{
    pump::Pump,
    rig::{Db, Process, SOON, server, settings},
};

const PARTITIONED: &str = r#"{"table": "public.parts"}"#;

/// Ids from 100 on, two partitions of partitions without any, and two tables that can be attached.
async fn partitioned(db: &mut Db) {
    for sql in [
        "CREATE TABLE parts (LIKE pgherald.outbox INCLUDING ALL) PARTITION BY RANGE (id)",
        "CREATE TABLE recent PARTITION OF parts FOR VALUES FROM (100) TO (1000)",
        "CREATE TABLE middle PARTITION OF parts FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id)",
        "CREATE TABLE far PARTITION OF parts FOR VALUES FROM (1000) TO (3000) PARTITION BY RANGE (id)",
        "CREATE TABLE archive (LIKE parts INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        "CREATE TABLE attic (LIKE parts INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        "INSERT INTO archive (id, channel, payload) SELECT n, 'a', 'late ' || n FROM generate_series(1, 3) AS n",
        "INSERT INTO attic (id, channel, payload) SELECT n, 'a', 'late ' || n FROM generate_series(10, 11) AS n",
        "SELECT setval(pg_get_serial_sequence('parts', 'id'), 99)",
    ] {
        db.run(sql).await;
    }
}

async fn attach_partitions(db: &mut Db) {
    db.run("ALTER TABLE parts ATTACH PARTITION archive FOR VALUES FROM (1) TO (10)").await;
    db.run("ALTER TABLE middle ATTACH PARTITION attic FOR VALUES FROM (10) TO (50)").await;
}

async fn insert(db: &mut Db, names: &[&str]) {
    for name in names {
        db.run(&format!("INSERT INTO parts (channel, payload) VALUES ('a', '{name}')")).await;
    }
}

async fn until(db: &mut Db, sql: &str, wanted: i64) {
    let db = tokio::sync::Mutex::new(db);
    let there = || async { db.lock().await.number(sql).await == wanted };
    eventually(sql, SOON, there).await.unwrap();
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// They were written long before, and show only now: below the cursor they are late.
#[tokio::test]
async fn rows_of_an_attached_partition_wait_for_a_decision() {
    for up in [true, false] {
        let postgres = server().await;
        let mut db = Db::open(&postgres).await;
        partitioned(&mut db).await;
        insert(&mut db, &["newer 1", "newer 2"]).await;
        let mut process = Process::one(&postgres.url(), PARTITIONED);
        let mut pump = Pump::start(&process.sources[0]);
        pump.until_all(&owned(&["newer 1", "newer 2"])).await;
        let settled = "SELECT count(*) FROM pgherald.cursor WHERE high = 101 AND seen_high = 101 \
             AND missing = '{}' AND seen_missing = '{}'";
        until(&mut db, settled, 1).await;
        until(&mut db, "SELECT count(*) FROM parts", 0).await;
        if up {
            attach_partitions(&mut db).await;
        } else {
            drop((process, pump));
            attach_partitions(&mut db).await;
            process = Process::one(&postgres.url(), PARTITIONED);
            pump = Pump::start(&process.sources[0]);
        }
        insert(&mut db, &["after"]).await;
        pump.until_all(&owned(&["after"])).await;
        let report = process.sources[0].report();
        let late = || report.borrow().late.as_ref().map_or(0, |late| late.messages);
        let found = || async { late() == 5 };
        eventually("five late rows", SOON, found).await.unwrap();
        // What was settled is deleted, and nothing else.
        until(&mut db, "SELECT count(*) FROM recent", 0).await;
        assert_eq!(db.number("SELECT count(*) FROM parts").await, 5, "up: {up}");
        let mut ids = Vec::new();
        let postgres = settings(&postgres.url());
        let mut row = |_: &_, row: LateRow| ids.push(row.id);
        late_list(&postgres, &LateFilter::default(), &mut |_| (), &mut row).await.unwrap();
        assert_eq!(ids, [1, 2, 3, 10, 11], "up: {up}");
        late_send(&postgres, &LateFilter::default()).await.unwrap();
        let wanted = owned(&["late 1", "late 2", "late 3", "late 10", "late 11"]);
        pump.until_all(&wanted).await;
        until(&mut db, "SELECT count(*) FROM parts", 0).await;
        assert_eq!(pump.delivered().iter().filter(|it| it.starts_with("late")).count(), 5);
    }
}

/// Whoever writes into a partition of a partition holds a lock on that one alone: it is known as soon as
/// it is attached.
#[tokio::test]
async fn a_writer_of_a_partition_that_was_just_attached_is_waited_for() {
    for order in ["causal", "strict"] {
        let postgres = server().await;
        let mut db = Db::open(&postgres).await;
        partitioned(&mut db).await;
        let json = format!(r#"{{"table": "public.parts", "order": "{order}"}}"#);
        let process = Process::one(&postgres.url(), &json);
        let pump = Pump::start(&process.sources[0]);
        insert(&mut db, &["before"]).await;
        pump.until_all(&owned(&["before"])).await;
        db.run("CREATE TABLE deep (LIKE parts INCLUDING DEFAULTS INCLUDING CONSTRAINTS)").await;
        db.run("ALTER TABLE far ATTACH PARTITION deep FOR VALUES FROM (1000) TO (2000)").await;
        db.run("SELECT setval(pg_get_serial_sequence('parts', 'id'), 1000)").await;
        let mut writer = Db::open(&postgres).await;
        writer.run("BEGIN").await;
        writer
            .run(
                "INSERT INTO deep (id, channel, payload) OVERRIDING SYSTEM VALUE \
                 VALUES (nextval(pg_get_serial_sequence('parts', 'id')), 'a', 'open')",
            )
            .await;
        insert(&mut db, &["behind it"]).await;
        if order == "causal" {
            pump.until_all(&owned(&["behind it"])).await;
        }
        if order == "strict" {
            let held = || async { process.sources[0].waits_for().is_some() };
            eventually("the flow names the writer that it waits for", SOON, held).await.unwrap();
        }
        writer.run("COMMIT").await;
        pump.until_all(&owned(&["open", "behind it"])).await;
        until(&mut db, "SELECT count(*) FROM parts", 0).await;
    }
}
