//! What is read, in which order, and how much of it.

use std::{sync::Arc, time::Instant};

use pgherald_core::{Body, ContentType, Room, Source};
use pgherald_outbox::OutboxSource;
use pgherald_postgres::{SetupOptions, setup};
use pgherald_testkit::{Postgres, eventually};

use crate::rig::{Db, Process, ROOM, SOON, attach_soon, outbox_settings, server, settings, texts};

#[tokio::test]
async fn rows_become_messages() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(
        "SELECT pgherald.send('a', 'text'::text, 'k', '{\"x\": \"y\"}'), \
         pgherald.send('b', '{\"n\": 1}'::jsonb), pgherald.send('c', '\\x00ff'::bytea), \
         pgherald.send('d', NULL::text)",
    )
    .await;
    db.run("INSERT INTO pgherald.outbox (channel, content_type, payload) VALUES ('e', 'x/y', 'z')")
        .await;
    let process = Process::one(&postgres.url(), "{}");
    let messages = process.session(0).await.take(5).await;
    let channels: Vec<_> = messages.iter().map(|message| &*message.channel).collect();
    assert_eq!(channels, ["a", "b", "c", "d", "e"]);
    assert_eq!(texts(&messages[..2]), ["text", "{\"n\": 1}"]);
    assert!(matches!(&messages[2].body, Body::Payload(bytes) if bytes[..] == [0, 0xff]));
    assert!(matches!(messages[3].body, Body::Tombstone));
    let types: Vec<_> = messages.iter().map(|message| message.content_type.as_str()).collect();
    assert_eq!(types[..2], ["text/plain; charset=utf-8", "application/json"]);
    assert_eq!((messages[2].content_type.clone(), types[4]), (ContentType::Bytes, "x/y"));
    assert_eq!(messages[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(messages[0].headers.get("x"), Some("y"));
    let micros = "(extract(epoch FROM created_at)::numeric * 1000000)::bigint";
    let id = db.text(&format!("SELECT {micros} || '-' || id FROM pgherald.outbox LIMIT 1")).await;
    assert_eq!(messages[0].id.as_str(), id);
}

#[tokio::test]
async fn a_media_type_that_nobody_set_follows_from_the_payload() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(
        "INSERT INTO pgherald.outbox (channel, content_type, payload) VALUES \
         ('a', NULL, '{\"id\": 1}'), ('a', NULL, ' [1]'), ('a', NULL, '42'), \
         ('a', NULL, '{\"a\": \"\\ud83d\"}'), ('a', 'text/csv', '[1]')",
    )
    .await;
    let process = Process::one(&postgres.url(), "{}");
    let messages = process.session(0).await.take(5).await;
    let types: Vec<_> = messages.iter().map(|message| message.content_type.clone()).collect();
    let csv = ContentType::TextAs("text/csv".into());
    let expected =
        [ContentType::Json, ContentType::Json, ContentType::Text, ContentType::Text, csv];
    assert_eq!(types, expected);
}

#[tokio::test]
async fn waiting_rows_that_claim_to_be_events_and_are_none_are_counted() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(
        "INSERT INTO pgherald.outbox (channel, content_type, payload) VALUES \
         ('a', 'application/cloudevents+json', '{\"specversion\": \"1.0\", \"id\": \"1\", \
         \"source\": \"/s\", \"type\": \"t\"}'), \
         ('a', 'Application/CloudEvents+JSON; charset=utf-8', '{\"specversion\": \"1.0\"}'), \
         ('a', 'application/cloudevents-batch+json', '[]'), ('a', 'application/json', '{}')",
    )
    .await;
    let findings =
        pgherald_outbox::check(&settings(&postgres.url()), &outbox_settings("{}"), "s").await;
    let named = |it: &pgherald_core::Finding| {
        it.text.starts_with("2 waiting rows")
            && it.text.contains("row 2:")
            && it.text.contains(" id ")
    };
    assert!(findings.iter().any(named), "{findings:?}");
}

#[tokio::test]
async fn the_room_is_respected_and_a_large_row_travels_alone() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(
        "INSERT INTO pgherald.outbox (channel, payload) SELECT 'a', repeat('x', size) \
         FROM unnest(ARRAY[100, 100, 900, 100, 5000, 100]) AS size",
    )
    .await;
    let process = Process::one(&postgres.url(), "{}");
    let mut reading = process.session(0).await;
    let room = Room {
        messages: 10,
        bytes: 250,
        first_bytes: 500,
        budget: pgherald_core::Budget { messages: 10, bytes: 250 },
    };
    let first = reading.read(room).await.unwrap();
    assert_eq!(first.messages.len(), 2, "two of 100 bytes");
    let second = reading.read(room).await.unwrap();
    assert_eq!((second.messages.len(), &second.end), (0, &first.end), "900 bytes do not fit");
    let alone = reading.read(Room { first_bytes: usize::MAX, ..room }).await.unwrap();
    assert_eq!(alone.messages.len(), 1);
    assert_eq!(alone.messages[0].size(), 900);
    let rest = reading.read(room).await.unwrap().messages;
    assert!(matches!(rest[1].body, Body::Oversize(5000)), "{rest:?}");
    assert_eq!((rest.len(), rest[1].size()), (3, 0), "what is above message_bytes_max stays there");
    let one = Room { messages: 1, ..ROOM };
    db.send("a", &["1", "2"]).await;
    assert_eq!(reading.read(one).await.unwrap().messages.len(), 1);
}

/// Small rows are read without being weighed; now and then four in a row are above their share
/// of the room, by payload, key or headers, and do not fit beside a hundred small ones.
#[tokio::test]
async fn rows_of_all_sizes_come_in_order_and_within_the_room() {
    const ROWS: usize = 6_000;
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(&format!(
        "INSERT INTO pgherald.outbox (channel, payload, key, headers) \
         SELECT CASE WHEN n % 3 = 0 THEN 'b' ELSE 'a' END, \
         n || repeat('x', CASE WHEN n % 1400 BETWEEN 10 AND 13 THEN 900 ELSE n % 30 END), \
         CASE WHEN n % 1400 BETWEEN 410 AND 413 THEN repeat('k', 900) END, \
         CASE WHEN n % 1400 BETWEEN 810 AND 813 THEN jsonb_build_object('h', repeat('v', 900)) ELSE '{{}}' END \
         FROM generate_series(1, {ROWS}) AS n"
    ))
    .await;
    let url = postgres.url();
    let process = Process::start(&url, "{}", &[("all", None), ("some", Some(&["a"]))]);
    let room = Room {
        messages: 100,
        bytes: 4_000,
        first_bytes: 8_000,
        budget: pgherald_core::Budget { messages: 100, bytes: 4_000 },
    };
    for (place, taken) in [(0, None), (1, Some("a"))] {
        let mut reading = process.session(place).await;
        let mut numbers = Vec::new();
        let wanted: Vec<usize> = (1..=ROWS).filter(|n| taken.is_none() || n % 3 != 0).collect();
        while numbers.len() < wanted.len() {
            let messages = reading.read(room).await.unwrap().messages;
            let bytes: usize = messages.iter().map(|message| message.size()).sum();
            assert!(messages.len() <= room.messages, "{} messages", messages.len());
            assert!(messages.len() == 1 || bytes <= room.bytes, "{bytes} bytes");
            let number = |text: &String| text.trim_end_matches('x').parse::<usize>().unwrap();
            numbers.extend(texts(&messages).iter().map(number));
        }
        assert!(numbers == wanted, "every row once, in order");
    }
}

#[tokio::test]
async fn other_channels_are_passed_over_and_the_cursor_with_them() {
    let postgres = server().await;
    let mut db = Db::open(&postgres).await;
    db.run(
        "INSERT INTO pgherald.outbox (channel, payload) \
         SELECT CASE WHEN n % 5000 = 0 THEN 'it''s' ELSE 'b' END, n::text \
         FROM generate_series(1, 12000) AS n",
    )
    .await;
    let url = postgres.url();
    let process = Process::start(&url, "{}", &[("bus", Some(&["it's", "none"]))]);
    let mut reading = process.session(0).await;
    assert_eq!(texts(&reading.take(2).await), ["5000", "10000"]);
    db.send("b", &["not for us"]).await;
    let batch = reading.read(ROOM).await.unwrap();
    assert!(batch.messages.is_empty(), "the checkpoint moves over the rest");
    reading.ack(&batch.end.unwrap()).await;
    assert_eq!(db.cursor().await, "12001 {}");
    assert_eq!(db.text("SELECT channels::text FROM pgherald.cursor").await, "{it's,none}");
}

#[tokio::test]
async fn causal_passes_an_open_writer_and_brings_its_rows_later() {
    let postgres = server().await;
    let (mut db, mut long) = (Db::open(&postgres).await, Db::open(&postgres).await);
    let process = Process::one(&postgres.url(), "{}");
    let mut reading = process.session(0).await;
    long.run("BEGIN; SELECT pgherald.send('a', 'long'::text)").await;
    db.send("a", &["1", "2"]).await;
    db.run("BEGIN; SELECT pgherald.send('a', 'never'::text); ROLLBACK").await;
    db.send("a", &["3"]).await;
    assert_eq!(texts(&reading.take(3).await), ["1", "2", "3"]);
    // The cursor is written while the session waits; two ids may still be the long one's.
    let commit = async {
        db.until_cursor("5 {[1,2),[4,5)}").await;
        long.run("COMMIT").await;
    };
    let (messages, ()) = tokio::join!(reading.take(1), commit);
    assert_eq!(texts(&messages), ["long"]);
    reading.idle_during(db.until_cursor("5 {}")).await;
}

#[tokio::test]
async fn strict_waits_for_an_open_writer_and_says_for_whom() {
    let postgres = server().await;
    let (mut db, mut long) = (Db::open(&postgres).await, Db::open(&postgres).await);
    let process = Process::one(&postgres.url(), r#"{"order": "strict"}"#);
    let mut reading = process.session(0).await;
    db.send("a", &["1"]).await;
    assert_eq!(texts(&reading.take(1).await), ["1"]);
    long.run("BEGIN; SELECT pgherald.send('a', '2'::text)").await;
    db.send("a", &["3"]).await;
    let commit = async {
        let waits_for = until_it_waits(&process.sources[0]).await;
        let pid = long.number("SELECT pg_backend_pid()::bigint").await;
        assert!(waits_for.contains(&format!("pid {pid} (role postgres")), "{waits_for}");
        long.run("COMMIT").await;
    };
    let (messages, ()) = tokio::join!(reading.take(2), commit);
    assert_eq!(texts(&messages), ["2", "3"]);
    let forgotten = async {
        let source = &process.sources[0];
        eventually("nobody is named", SOON, || async { source.waits_for().is_none() }).await
    };
    reading.idle_during(forgotten).await.unwrap();
}

/// Who holds the flow back, once it says so.
async fn until_it_waits(source: &OutboxSource) -> Arc<str> {
    let named = || async { source.waits_for().is_some() };
    eventually("the open writer is named", SOON, named).await.unwrap();
    source.waits_for().unwrap()
}

#[tokio::test]
async fn a_prepared_writer_is_still_a_writer() {
    let postgres =
        Postgres::builder().setting("max_prepared_transactions", "5").start().await.unwrap();
    crate::rig::install(&postgres).await;
    let mut db = Db::open(&postgres).await;
    for order in ["causal", "strict"] {
        let process = Process::one(&postgres.url(), &format!(r#"{{"order": "{order}"}}"#));
        let mut reading = process.session(0).await;
        db.run("BEGIN; SELECT pgherald.send('a', 'prepared'::text)").await;
        db.run("PREPARE TRANSACTION 'left''behind'").await;
        db.send("a", &["later"]).await;
        let mut wanted = ["prepared", "later"];
        if order == "causal" {
            wanted.reverse();
            assert_eq!(texts(&reading.take(1).await), ["later"]);
        }
        let commit = async {
            if order == "strict" {
                let waits_for = until_it_waits(&process.sources[0]).await;
                assert!(waits_for.contains("left'behind"), "{waits_for}");
            }
            db.run("COMMIT PREPARED 'left''behind'").await;
        };
        let left = if order == "causal" { 1 } else { 2 };
        let (messages, ()) = tokio::join!(reading.take(left), commit);
        assert_eq!(texts(&messages), wanted[2 - left..]);
        let newest = reading.settled.newest().unwrap();
        reading.ack(&newest).await;
    }
}

#[tokio::test]
async fn a_backlog_is_read_in_pages_also_beside_open_writers() {
    const ROWS: usize = 30_000;
    let postgres = server().await;
    let (mut db, mut long) = (Db::open(&postgres).await, Db::open(&postgres).await);
    long.run("BEGIN; SELECT pgherald.send('a', 'late'::text)").await;
    db.run(&format!(
        "INSERT INTO pgherald.outbox (channel, key, payload) \
         SELECT 'a', 'k', n || repeat('x', 200) FROM generate_series(1, {ROWS}) AS n"
    ))
    .await;
    let process = Process::one(&postgres.url(), "{}");
    let mut reading = process.session(0).await;
    let began = Instant::now();
    let messages = reading.take(ROWS).await;
    let took = began.elapsed();
    println!("{ROWS} rows in {took:?}: {:.0} a second", ROWS as f64 / took.as_secs_f64());
    let wanted: Vec<_> = (1..=ROWS).map(|n| format!("{n}{}", "x".repeat(200))).collect();
    assert!(texts(&messages) == wanted, "every row, in order");
    let (late, _) = tokio::join!(reading.take(1), long.run("COMMIT"));
    assert_eq!(texts(&late), ["late"]);
}

/// The roles that `pgherald setup` makes can do what they are for, and need nothing else.
#[tokio::test]
async fn the_bridge_role_reads_and_deletes_what_the_send_role_sends() {
    let postgres = Postgres::start().await.unwrap();
    let roles = SetupOptions {
        bridge_role: Some("bridge".into()),
        send_role: Some("app".into()),
        ..SetupOptions::default()
    };
    setup(&settings(&postgres.url()), &roles, &mut |_| ()).await.unwrap();
    let mut app = Db::at(&postgres.url_for("app")).await;
    app.send("a", &["1"]).await;
    app.run("INSERT INTO pgherald.outbox (channel, payload) VALUES ('a', '2') RETURNING id").await;
    for order in ["causal", "strict"] {
        let json = format!(r#"{{"order": "{order}"}}"#);
        let process = Process::one(&postgres.url_for("bridge"), &json);
        let mut reading = attach_soon(&process.sources[0]).await;
        let wanted = if order == "causal" { ["1", "2"] } else { ["3", "4"] };
        assert_eq!(texts(&reading.take(2).await), wanted);
        let db = tokio::sync::Mutex::new(Db::open(&postgres).await);
        let empty =
            || async { db.lock().await.number("SELECT count(*) FROM pgherald.outbox").await == 0 };
        reading.idle_during(eventually("rows are deleted", SOON, empty)).await.unwrap();
        app.send("a", &["3", "4"]).await;
    }
}
