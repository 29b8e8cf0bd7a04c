//! Attaching: what is required, who carries, where a flow begins.

use pgherald_core::{Source, SourceError};
use pgherald_testkit::Postgres;

use crate::rig::{Db, Process, ROOM, attach_soon, said, server, texts};

async fn refusal(process: &Process) -> SourceError {
    match process.sources[0].attach().await {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_missing_schema_blocks_and_names_the_remedy_and_heals() {
    let postgres = Postgres::start().await.unwrap();
    let process = Process::one(&postgres.url(), "{}");
    let error = refusal(&process).await;
    assert!(matches!(error, SourceError::Blocked(_)), "{error:?}");
    assert!(said(&error).contains("pgherald setup"), "{}", said(&error));
    crate::rig::install(&postgres).await;
    let elsewhere = Process::one(&postgres.url(), r#"{"table": "public.mine"}"#);
    assert!(said(&refusal(&elsewhere).await).contains("public.mine does not exist"));
    process.session(0).await;
}

#[tokio::test]
async fn a_role_that_may_not_see_the_sequence_is_blocked() {
    let postgres = Postgres::builder().sql("CREATE ROLE app LOGIN").start().await.unwrap();
    crate::rig::install(&postgres).await;
    let mut db = Db::open(&postgres).await;
    db.run(
        "GRANT USAGE ON SCHEMA pgherald TO app; \
         GRANT SELECT ON pgherald.outbox, pgherald.schema_version, pgherald.identity TO app; \
         GRANT SELECT, INSERT, UPDATE ON pgherald.cursor TO app",
    )
    .await;
    let process = Process::one(&postgres.url_for("app"), r#"{"order": "strict"}"#);
    let error = refusal(&process).await;
    assert!(matches!(error, SourceError::Blocked(_)), "{error:?}");
    assert!(said(&error).contains("the sequence of"), "{}", said(&error));
    db.run("GRANT USAGE ON SEQUENCE pgherald.outbox_id_seq TO app").await;
    db.send("a", &["1"]).await;
    assert_eq!(texts(&process.session(0).await.take(1).await), ["1"]);
}

#[tokio::test]
async fn one_process_carries_and_the_other_names_it() {
    let postgres = server().await;
    let (first, second) =
        (Process::one(&postgres.url(), "{}"), Process::one(&postgres.url(), "{}"));
    let mut db = Db::open(&postgres).await;
    db.send("a", &["1", "2"]).await;
    let mut reading = first.session(0).await;
    let batch = reading.read(ROOM).await.unwrap();
    assert_eq!(batch.messages.len(), 2);
    let error = refusal(&second).await;
    assert!(matches!(error, SourceError::Standby(_)), "{error:?}");
    assert!(said(&error).contains("held by pid"), "{}", said(&error));
    reading.ack(&batch.end.unwrap()).await;
    drop(reading);
    db.send("a", &["3"]).await;
    let mut reading = attach_soon(&second.sources[0]).await;
    assert_eq!(texts(&reading.take(1).await), ["3"], "it goes on behind the first one's cursor");
    // The first one ends its own former session before it tries the lock again.
    assert!(matches!(refusal(&first).await, SourceError::Standby(_)));
}

#[tokio::test]
async fn a_process_ends_its_own_former_session() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    // As if the network had cut it off: the server still has it, and its lock.
    let _stranded = process.session(0).await;
    process.session(0).await;
}

#[tokio::test]
async fn latest_is_exact_with_writers_open() {
    let postgres = server().await;
    let (mut db, mut long) = (Db::open(&postgres).await, Db::open(&postgres).await);
    long.run("BEGIN; SELECT pgherald.send('a', 'open before'::text)").await;
    db.send("a", &["before"]).await;
    db.run("BEGIN; SELECT pgherald.send('a', 'never'::text); ROLLBACK").await;
    db.send("a", &["before, too"]).await;
    let process = Process::one(&postgres.url(), r#"{"start": "latest"}"#);
    let mut reading = process.session(0).await;
    assert_eq!(db.cursor().await, "4 {[1,2),[3,4)}");
    long.run("COMMIT").await;
    db.send("a", &["after"]).await;
    assert_eq!(texts(&reading.take(2).await), ["open before", "after"]);
    // Without open writers nothing below is looked at.
    let other = Process::start(&postgres.url(), r#"{"start": "latest"}"#, &[("other", None)]);
    let mut reading = other.session(0).await;
    let sql = "SELECT high || ' ' || missing FROM pgherald.cursor WHERE sink = 'other'";
    assert_eq!(db.text(sql).await, "5 {}");
    db.send("a", &["last"]).await;
    assert_eq!(texts(&reading.take(1).await), ["last"]);
}

#[tokio::test]
async fn a_sequence_below_the_cursor_or_a_row_halts_and_names_the_repair() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    let process = Process::one(&postgres.url(), "{}");
    db.send("a", &["1", "2", "3"]).await;
    let mut reading = process.session(0).await;
    reading.take(3).await;
    let newest = reading.settled.newest().unwrap();
    reading.ack(&newest).await;
    drop(reading);
    let sequence = "'pgherald.outbox_id_seq'";
    db.run(&format!("SELECT setval({sequence}, 2)")).await;
    let error = refusal(&process).await;
    assert!(matches!(error, SourceError::Halted(_)), "{error:?}");
    let text = said(&error);
    assert!(text.contains("stands at 2, below the cursor at 3"), "{text}");
    assert!(text.contains("pgherald setup --repair") && text.contains("duplicate key"), "{text}");
    // A row that brought its own id.
    db.run(&format!("SELECT setval({sequence}, 7)")).await;
    db.run("INSERT INTO pgherald.outbox (id, channel) OVERRIDING SYSTEM VALUE VALUES (9, 'a')")
        .await;
    let text = said(&refusal(&process).await);
    assert!(text.contains("stands at 7, below the highest id at 9"), "{text}");
    // Restarted above everything, and not used since.
    db.run("ALTER SEQUENCE pgherald.outbox_id_seq RESTART WITH 10").await;
    process.session(0).await;
}

#[tokio::test]
async fn a_cursor_of_another_table_halts() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run("CREATE TABLE public.mine (LIKE pgherald.outbox INCLUDING ALL)").await;
    Process::one(&postgres.url(), "{}").session(0).await;
    let process = Process::one(&postgres.url(), r#"{"table": "public.mine"}"#);
    let error = loop {
        let error = refusal(&process).await;
        if !matches!(error, SourceError::Standby(_)) {
            break error;
        }
    };
    assert!(matches!(error, SourceError::Halted(_)), "{error:?}");
}
