//! What reading rests on is altered under a running flow, or before it attaches.

use pgherald_core::{Source, SourceError};
use pgherald_outbox::OutboxSource;
use pgherald_postgres::{SetupOptions, setup};
use pgherald_testkit::Postgres;

use crate::rig::{
    Db, Process, ROOM, Reading, attach_soon, install, outbox_settings, said, server, settings,
    texts,
};

/// Reads until the session ends, as it must; nothing may come.
async fn ends(reading: &mut Reading) -> SourceError {
    loop {
        match reading.read(ROOM).await {
            Ok(batch) => assert!(batch.messages.is_empty(), "{:?}", batch.messages),
            Err(error) => return error,
        }
    }
}

/// Why the flow does not attach, once its lock is free.
async fn refused(source: &OutboxSource) -> SourceError {
    loop {
        match source.attach().await {
            Ok(_) => panic!("it must be refused"),
            Err(SourceError::Standby(_)) => {}
            Err(error) => return error,
        }
    }
}

/// `check` says it, as an error.
async fn check_fails(url: &str, word: &str) {
    let findings = pgherald_outbox::check(&settings(url), &outbox_settings("{}"), "s").await;
    let fails = |it: &pgherald_core::Finding| {
        it.level == pgherald_core::Level::Error && it.text.contains(word) && !it.fix.is_empty()
    };
    assert!(findings.iter().any(fails), "{word}: {findings:?}");
}

/// Alters the outbox under a running flow: it blocks and says `word`, as does the next attach and
/// `check`; what was sent meanwhile is carried once it is mended.
async fn blocks(db: &mut Db, url: &str, order: &str, (alter, word, mend): (&str, &str, &str)) {
    let process = Process::one(url, &format!(r#"{{"order": "{order}"}}"#));
    let mut reading = attach_soon(&process.sources[0]).await;
    db.send("a", &["before"]).await;
    assert_eq!(texts(&reading.take(1).await), ["before"]);
    let newest = reading.settled.newest().unwrap();
    reading.ack(&newest).await;
    let (error, ()) = tokio::join!(ends(&mut reading), async {
        db.run(alter).await;
        db.send("a", &["meanwhile"]).await;
    });
    let text = said(&error);
    assert!(matches!(error, SourceError::Blocked(_)) && text.contains(word), "{order}: {text}");
    drop(reading);
    let error = refused(&process.sources[0]).await;
    let text = said(&error);
    assert!(matches!(error, SourceError::Blocked(_)) && text.contains(word), "{order}: {text}");
    check_fails(url, word).await;
    db.run(mend).await;
    let mut reading = attach_soon(&process.sources[0]).await;
    let mut left = Vec::new();
    while left.last().is_none_or(|last| last != "meanwhile") {
        let batch = reading.read(ROOM).await.unwrap();
        left.extend(texts(&batch.messages));
        reading.ack(&batch.end.unwrap()).await;
    }
}

#[tokio::test]
async fn a_sequence_that_is_altered_blocks_and_heals() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    for order in ["causal", "strict"] {
        let id = "ALTER TABLE pgherald.outbox ALTER COLUMN id";
        for (alter, word, mend) in
            [("SET CACHE 50", "CACHE 50", "SET CACHE 1"), ("SET CYCLE", "CYCLE", "SET NO CYCLE")]
        {
            let (alter, mend) = (format!("{id} {alter}"), format!("{id} {mend}"));
            blocks(&mut db, &postgres.url(), order, (&alter, word, &mend)).await;
        }
        let unlogged = ("SET UNLOGGED", "SET LOGGED");
        let [alter, mend] =
            [unlogged.0, unlogged.1].map(|it| format!("ALTER TABLE pgherald.outbox {it}"));
        blocks(&mut db, &postgres.url(), order, (&alter, "UNLOGGED", &mend)).await;
    }
}

/// Two producers draw fifty ids each: every row of theirs is carried, and none deleted before.
#[tokio::test]
async fn ids_that_are_drawn_in_advance_lose_no_row() {
    let postgres = server().await;
    let process = Process::one(&postgres.url(), "{}");
    let mut db = Db::open(&postgres).await;
    let (mut first, mut second) = (Db::open(&postgres).await, Db::open(&postgres).await);
    let mut reading = process.session(0).await;
    let (error, ()) = tokio::join!(ends(&mut reading), async {
        db.run("ALTER TABLE pgherald.outbox ALTER COLUMN id SET CACHE 50").await;
        for n in 0..10 {
            first.send("a", &[&format!("first {n}")]).await;
            second.send("a", &[&format!("second {n}")]).await;
        }
    });
    assert!(said(&error).contains("CACHE 50"), "{}", said(&error));
    drop(reading);
    assert!(said(&refused(&process.sources[0]).await).contains("CACHE 50"));
    assert_eq!(db.number("SELECT count(*) FROM pgherald.outbox").await, 20);
    db.run("ALTER TABLE pgherald.outbox ALTER COLUMN id SET CACHE 1").await;
    assert_eq!(attach_soon(&process.sources[0]).await.take(20).await.len(), 20);
}

/// What costs, and loses nothing, is warned of and goes on.
#[tokio::test]
async fn what_loses_nothing_goes_on() {
    let postgres = server().await;
    let (mut db, mut long) = (Db::open(&postgres).await, Db::open(&postgres).await);
    for order in ["causal", "strict"] {
        let process = Process::one(&postgres.url(), &format!(r#"{{"order": "{order}"}}"#));
        let mut reading = attach_soon(&process.sources[0]).await;
        for alter in [
            "ALTER TABLE pgherald.outbox ALTER COLUMN id SET INCREMENT 3",
            "ALTER TABLE pgherald.outbox ALTER COLUMN id SET GENERATED BY DEFAULT",
            "ALTER TABLE pgherald.outbox DISABLE TRIGGER pgherald_doorbell",
            "CREATE TABLE IF NOT EXISTS pgherald.child () INHERITS (pgherald.outbox)",
            "GRANT SELECT ON pgherald.outbox TO PUBLIC",
        ] {
            db.run(alter).await;
            db.send("a", &["on"]).await;
            assert_eq!(texts(&reading.take(1).await), ["on"], "{order}: {alter}");
        }
        // Straight into the child: the lock is on the child alone.
        let insert = "INSERT INTO pgherald.child (id, channel, payload) \
             VALUES (nextval('pgherald.outbox_id_seq'), 'a', 'child')";
        long.run(&format!("BEGIN; {insert}")).await;
        db.send("a", &["later"]).await;
        let commit = async {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            long.run("COMMIT").await;
        };
        let (read, ()) = tokio::join!(reading.take(2), commit);
        let mut read = texts(&read);
        read.sort();
        assert_eq!(read, ["child", "later"], "{order}");
        let newest = reading.settled.newest().unwrap();
        reading.ack(&newest).await;
    }
}

#[tokio::test]
async fn row_security_blocks_and_is_named() {
    let postgres = Postgres::start().await.unwrap();
    let roles = SetupOptions { bridge_role: Some("bridge".into()), ..SetupOptions::default() };
    setup(&settings(&postgres.url()), &roles, &mut |_| ()).await.unwrap();
    let (mut db, url) = (Db::open(&postgres).await, postgres.url_for("bridge"));
    for order in ["causal", "strict"] {
        for table in ["pgherald.outbox", "pgherald.cursor"] {
            let [alter, mend] = ["ENABLE", "DISABLE"]
                .map(|it| format!("ALTER TABLE {table} {it} ROW LEVEL SECURITY"));
            // Whoever owns the table does not notice.
            let word = "row";
            blocks(&mut db, &url, order, (&alter, word, &mend)).await;
            db.run(&alter).await;
            let process = Process::one(&url, "{}");
            let text = said(&refused(&process.sources[0]).await);
            assert!(text.contains("row security") && text.contains(table), "{text}");
            db.run(&mend).await;
        }
    }
}

/// Its ids were drawn on the publisher.
#[tokio::test]
async fn a_subscription_that_writes_the_outbox_blocks() {
    let postgres = Postgres::builder().setting("wal_level", "logical").start().await.unwrap();
    install(&postgres).await;
    let mut db = Db::open(&postgres).await;
    db.run("CREATE DATABASE publisher").await;
    let there = postgres.url_of("postgres", "publisher");
    setup(&settings(&there), &SetupOptions::default(), &mut |_| ()).await.unwrap();
    let mut publisher = Db::at(&there).await;
    publisher.run("CREATE PUBLICATION p FOR TABLE pgherald.outbox").await;
    publisher.run("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await;
    let subscribe = format!(
        "CREATE SUBSCRIPTION s CONNECTION '{there}' PUBLICATION p \
         WITH (create_slot = false, slot_name = 's', copy_data = false)"
    );
    for order in ["causal", "strict"] {
        blocks(
            &mut db,
            &postgres.url(),
            order,
            (&subscribe, "subscription", "ALTER SUBSCRIPTION s DISABLE"),
        )
        .await;
        db.run("ALTER SUBSCRIPTION s SET (slot_name = NONE)").await;
        db.run("DROP SUBSCRIPTION s").await;
    }
}
