//! A position belongs to one incarnation of the table, of its sequence and of the cursor's row.

use std::process::{Command, Stdio};

use pgherald_core::SourceError;
use pgherald_testkit::Postgres;

use crate::rig::{Db, Process, ROOM, Reading, SOON, attach_soon, install, server, texts};

/// Reads until the session ends, as it must.
async fn ends(reading: &mut Reading) -> SourceError {
    loop {
        match reading.read(ROOM).await {
            Ok(batch) => assert!(batch.messages.is_empty(), "{:?}", batch.messages),
            Err(error) => return error,
        }
    }
}

async fn ack(reading: &mut Reading) {
    let newest = reading.settled.newest().unwrap();
    reading.ack(&newest).await;
}

/// What `pg_dump --clean --if-exists` says of schema pgherald.
pub(crate) fn dump(postgres: &Postgres) -> Vec<u8> {
    let dumped = Command::new(postgres.bin().join("pg_dump"))
        .args(["--clean", "--if-exists", "--schema=pgherald", "--dbname", &postgres.url()])
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    dumped.stdout
}

/// In one transaction, as `psql -1` does.
pub(crate) async fn restore(postgres: &Postgres, dump: Vec<u8>) {
    let mut command = Command::new(postgres.bin().join("psql"));
    command.args(["-1", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", &postgres.url()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let restoring = move || {
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &dump).unwrap();
        child.wait().unwrap()
    };
    assert!(tokio::task::spawn_blocking(restoring).await.unwrap().success());
}

/// A dump that was taken while the bridge ran holds a cursor and its rows; what was read after it
/// says nothing about the table that is restored.
#[tokio::test]
async fn a_restore_under_a_running_flow_goes_on_from_the_restored_cursor() {
    for order in ["causal", "strict"] {
        let postgres = server().await;
        let process = Process::one(&postgres.url(), &format!(r#"{{"order": "{order}"}}"#));
        let mut db = Db::open(&postgres).await;
        let mut reading = process.session(0).await;
        db.send("a", &["1", "2", "3", "4", "5"]).await;
        reading.take(5).await;
        ack(&mut reading).await;
        db.send("a", &["6", "7"]).await;
        let dump = dump(&postgres);
        reading.take(2).await;
        db.send("a", &["8", "9"]).await;
        reading.take(2).await;
        ack(&mut reading).await;
        assert_eq!(db.cursor().await, "9 {}");
        let (error, ()) = tokio::join!(ends(&mut reading), restore(&postgres, dump));
        assert!(matches!(error, SourceError::Transient(_)), "{order}: {error:?}");
        drop(reading);
        db.send("a", &["new 8", "new 9"]).await;
        let mut reading = attach_soon(&process.sources[0]).await;
        assert_eq!(texts(&reading.take(4).await), ["6", "7", "new 8", "new 9"], "{order}");
    }
}

/// Core stops waiting for a write of the cursor whenever it has something else to do, and nobody knows
/// what became of the write. It is the session's own write all the same, whether it happened or not.
#[tokio::test]
async fn a_write_that_nobody_waited_for_is_no_strangers() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let mut db = Db::open(&postgres).await;
    let mut locker = Db::open(&postgres).await;
    let mut reading = process.session(0).await;
    for round in 1..=3 {
        db.send("a", &["1", "2"]).await;
        reading.take(2).await;
        locker.run("BEGIN; SELECT FROM pgherald.cursor FOR UPDATE").await;
        // The keeper writes the row too, and begins with another column.
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND \
                     query LIKE 'UPDATE pgherald.cursor SET high%'";
        reading.tend_during(async { while db.number(waits).await == 0 {} }).await;
        locker.run("COMMIT").await;
        db.until_cursor(&format!("{} {{}}", 2 * round)).await;
        ack(&mut reading).await;
    }
    db.send("a", &["last"]).await;
    assert_eq!(texts(&reading.take(1).await), ["last"]);
}

/// What is settled after the restore belongs to the table before it.
#[tokio::test]
async fn an_ack_behind_a_restore_moves_nothing() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let mut db = Db::open(&postgres).await;
    let mut reading = process.session(0).await;
    db.send("a", &["1", "2"]).await;
    let read = reading.read(ROOM).await.unwrap();
    // The token of the dump is the one that the session knows.
    let dump = dump(&postgres);
    restore(&postgres, dump).await;
    let acked = reading.try_ack(&read.end.unwrap()).await;
    assert!(matches!(acked, Err(SourceError::Transient(_))), "{acked:?}");
    assert_eq!(db.cursor().await, "0 {}");
    // Somebody else's write is as final: the row alone was changed.
    drop(reading);
    let mut reading = attach_soon(&process.sources[0]).await;
    let read = reading.read(ROOM).await.unwrap();
    db.run("UPDATE pgherald.cursor SET high = 1, token = gen_random_uuid()").await;
    assert!(reading.try_ack(&read.end.unwrap()).await.is_err());
    drop(reading);
    assert_eq!(texts(&attach_soon(&process.sources[0]).await.take(1).await), ["2"]);
}

#[tokio::test]
async fn a_schema_that_is_dropped_and_made_again_begins_with_the_oldest_row() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), r#"{"start": "latest"}"#);
    let mut db = Db::open(&postgres).await;
    let mut reading = process.session(0).await;
    db.send("a", &["1", "2", "3"]).await;
    reading.take(3).await;
    ack(&mut reading).await;
    let again = async {
        db.drop_schema().await;
        install(&postgres).await;
        db.send("a", &["new 1", "new 2"]).await;
    };
    let (error, ()) = tokio::join!(ends(&mut reading), again);
    assert!(!matches!(error, SourceError::Halted(_)), "{error:?}");
    drop(reading);
    let mut reading = attach_soon(&process.sources[0]).await;
    assert_eq!(texts(&reading.take(2).await), ["new 1", "new 2"]);
    drop(reading);
    // A cursor that is gone while its flow runs is not begun at the end either.
    let mut reading = attach_soon(&process.sources[0]).await;
    let read = reading.read(ROOM).await.unwrap();
    db.run("DELETE FROM pgherald.cursor").await;
    assert!(reading.try_ack(&read.end.unwrap()).await.is_err());
    drop(reading);
    let mut reading = attach_soon(&process.sources[0]).await;
    assert_eq!(texts(&reading.take(2).await), ["new 1", "new 2"]);
}

/// Test suites do this every minute: the refill stands above the old cursor before anybody looks.
#[tokio::test]
async fn a_truncated_table_begins_anew() {
    for order in ["causal", "strict"] {
        let postgres = server().await;
        let process = Process::one(&postgres.url(), &format!(r#"{{"order": "{order}"}}"#));
        let mut db = Db::open(&postgres).await;
        let mut reading = process.session(0).await;
        db.send("a", &["1", "2", "3"]).await;
        reading.take(3).await;
        ack(&mut reading).await;
        let refill = async {
            let rows = "INSERT INTO pgherald.outbox (channel, payload) \
                 SELECT 'a', 'new ' || n FROM generate_series(1, 5) AS n";
            let truncate = "TRUNCATE pgherald.outbox RESTART IDENTITY";
            db.run(&format!("BEGIN; {truncate}; {rows}; COMMIT")).await;
        };
        let (error, ()) = tokio::join!(ends(&mut reading), refill);
        assert!(matches!(error, SourceError::Transient(_)), "{order}: {error:?}");
        drop(reading);
        let mut reading = attach_soon(&process.sources[0]).await;
        let wanted = ["new 1", "new 2", "new 3", "new 4", "new 5"];
        assert_eq!(texts(&reading.take(5).await), wanted, "{order}");
        // And while nobody reads.
        ack(&mut reading).await;
        drop(reading);
        db.run("TRUNCATE pgherald.outbox RESTART IDENTITY").await;
        db.send("a", &wanted).await;
        db.send("a", &["6"]).await;
        let mut reading = attach_soon(&process.sources[0]).await;
        assert_eq!(reading.take(6).await.len(), 6, "{order}");
        // A rewrite, or a table that is emptied, is no such thing: ids go on.
        ack(&mut reading).await;
        let go_on = async {
            db.run("TRUNCATE pgherald.outbox").await;
            db.run("VACUUM FULL pgherald.outbox").await;
            db.send("a", &["7"]).await;
        };
        let (read, ()) = tokio::join!(reading.take(1), go_on);
        assert_eq!(texts(&read), ["7"], "{order}");
        let nodes = "SELECT (outbox_node = pg_relation_filenode('pgherald.outbox'))::text \
             FROM pgherald.cursor";
        assert_eq!(db.text(nodes).await, "true", "{order}");
    }
}

/// A copy takes the table's name; its writers hold other locks.
#[tokio::test]
async fn a_table_that_is_swapped_by_rename_is_read_by_a_new_session() {
    for order in ["causal", "strict"] {
        let postgres = server().await;
        let process = Process::one(&postgres.url(), &format!(r#"{{"order": "{order}"}}"#));
        let (mut db, mut long) = (Db::open(&postgres).await, Db::open(&postgres).await);
        let mut reading = process.session(0).await;
        db.send("a", &["1"]).await;
        reading.take(1).await;
        ack(&mut reading).await;
        let swap = async {
            db.run(
                "BEGIN; CREATE TABLE pgherald.copy (LIKE pgherald.outbox INCLUDING ALL); \
                 ALTER TABLE pgherald.outbox RENAME TO old; \
                 ALTER TABLE pgherald.copy RENAME TO outbox; \
                 ALTER TABLE pgherald.outbox ALTER COLUMN id RESTART WITH 2; COMMIT",
            )
            .await;
            let insert = "INSERT INTO pgherald.outbox (channel, payload) VALUES ('a', 'long')";
            long.run(&format!("BEGIN; {insert}")).await;
            db.run("INSERT INTO pgherald.outbox (channel, payload) VALUES ('a', 'short')").await;
        };
        let (error, ()) = tokio::join!(ends(&mut reading), swap);
        assert!(matches!(error, SourceError::Transient(_)), "{order}: {error:?}");
        drop(reading);
        let mut reading = attach_soon(&process.sources[0]).await;
        let commit = async {
            tokio::time::sleep(SOON / 40).await;
            long.run("COMMIT").await;
        };
        let (read, ()) = tokio::join!(reading.take(2), commit);
        let mut read = texts(&read);
        read.sort();
        assert_eq!(read, ["long", "short"], "{order}");
    }
}
