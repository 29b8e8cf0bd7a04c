//! Setup on real servers.

use std::time::{Duration, Instant};

use pgherald_testkit::{Postgres, packages::PostgresVersion};
use sqlx::Row;

use super::*;
use crate::query;
use crate::schema_state;

async fn open(postgres: &Postgres) -> PgConnection {
    open_as(postgres, "postgres").await
}

async fn open_as(postgres: &Postgres, role: &str) -> PgConnection {
    connect(&settings(&postgres.url_for(role))).await.unwrap()
}

fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::parse(url).unwrap()
}

async fn install(postgres: &Postgres, options: &SetupOptions) -> Vec<Progress> {
    let mut said = Vec::new();
    setup(&settings(&postgres.url()), options, &mut |progress| said.push(progress)).await.unwrap();
    said
}

/// Runs a statement; the SQLSTATE of what it was refused with, or nothing.
async fn refused(connection: &mut PgConnection, sql: &str) -> Option<String> {
    let error = query(connection, sql).await.err()?;
    Some(error.as_database_error().expect(sql).code().expect(sql).into_owned())
}

async fn run(connection: &mut PgConnection, sql: &str) {
    query(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn text(connection: &mut PgConnection, sql: &str) -> String {
    query(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))[0].get(0)
}

fn both_roles() -> SetupOptions {
    SetupOptions {
        bridge_role: Some("the bridge \"$pgherald$\" 'x' \\".into()),
        send_role: Some("app".into()),
        shadow_notify: Some(ShadowNotify::Both),
        ..SetupOptions::default()
    }
}

const LOCKED: &str = "BEGIN; LOCK TABLE pgherald.outbox, pgherald.cursor, pgherald.dead_letter, \
     pgherald.schema_version IN EXCLUSIVE MODE; LOCK TABLE pgherald.outbox IN ACCESS EXCLUSIVE MODE";

#[tokio::test]
async fn the_second_setup_waits_for_nobody() {
    let postgres = Postgres::start().await.unwrap();
    let said = install(&postgres, &both_roles()).await;
    assert!(matches!(&said[0], Progress::Done(text) if text.contains("version 2 is installed")));
    assert!(
        said.iter().any(|p| matches!(p, Progress::Done(t) if t.contains("without a password")))
    );
    let mut holder = open(&postgres).await;
    run(&mut holder, LOCKED).await;
    let said = install(&postgres, &both_roles()).await;
    assert!(matches!(&said[0], Progress::Done(text) if text.contains("up to date")), "{said:?}");
    let waited = said.iter().any(|progress| matches!(progress, Progress::Waiting(_)));
    assert!(!waited, "{said:?}");
    let mut other = open(&postgres).await;
    assert_eq!(schema_state(&mut other).await.unwrap(), SchemaState::Usable);
}

#[tokio::test]
async fn what_is_printed_does_the_same_and_may_run_again() {
    for version in [PostgresVersion::V18, PostgresVersion::V17Tls] {
        let postgres = Postgres::builder().version(version).start().await.unwrap();
        let mut connection = open(&postgres).await;
        assert_eq!(schema_state(&mut connection).await.unwrap(), SchemaState::Missing);
        let script = setup_script(&both_roles());
        for _ in 0..2 {
            run(&mut connection, &script).await;
            assert_eq!(schema_state(&mut connection).await.unwrap(), SchemaState::Usable);
        }
        let said = install(&postgres, &SetupOptions::default()).await;
        assert!(matches!(&said[..], [Progress::Done(text)] if text.contains("up to date")));
    }
}

#[tokio::test]
async fn setups_at_the_same_time_do_not_meet() {
    let postgres = Postgres::start().await.unwrap();
    let options = both_roles();
    let runs = (0..4).map(|_| install(&postgres, &options));
    for said in futures_util::future::join_all(runs).await {
        assert!(matches!(said.last(), Some(Progress::Done(_))), "{said:?}");
    }
}

/// What a later version might add.
fn next() -> Vec<Step> {
    let mut steps = steps();
    let mut note = steps[1].facts[2].clone();
    note.proof = "EXISTS (SELECT FROM pg_attribute WHERE attname = 'note' \
         AND attrelid = to_regclass('pgherald.outbox'))"
        .into();
    note.cure = objects::Cure::Repair("ALTER TABLE pgherald.outbox ADD COLUMN note text".into());
    steps[1].facts.push(note);
    steps
}

#[tokio::test]
async fn an_upgrade_that_waits_lets_producers_through() {
    let postgres = Postgres::start().await.unwrap();
    install(&postgres, &SetupOptions::default()).await;
    let mut holder = open(&postgres).await;
    run(&mut holder, "BEGIN; SELECT pgherald.send('orders', 'open for long')").await;
    let mut said = Vec::new();
    let mut say = |progress| said.push(progress);
    let mut longest = Duration::ZERO;
    {
        let connection = open(&postgres).await;
        let mut installer =
            Installer { connection, pause: Duration::from_millis(200), say: &mut say };
        let steps = next();
        let upgrade = installer.objects(&steps);
        let producer = async {
            let mut producer = open(&postgres).await;
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until {
                let began = Instant::now();
                run(&mut producer, "SELECT pgherald.send('orders', 'x')").await;
                longest = longest.max(began.elapsed());
                sleep(Duration::from_millis(5)).await;
            }
            run(&mut holder, "COMMIT").await;
        };
        let (upgraded, ()) = tokio::join!(upgrade, producer);
        upgraded.unwrap();
    }
    assert!(longest > Duration::from_millis(500), "the upgrade never stood in anybody's way");
    let bound = Duration::from_millis(u64::from(script::LOCK_TIMEOUT_MS)) + Duration::from_secs(5);
    assert!(longest < bound, "a producer waited for {longest:?}");
    let named = |p: &Progress| matches!(p, Progress::Waiting(t) if t.contains("idle in a trans"));
    assert!(said.iter().any(named), "{said:?}");
    assert_eq!(
        said.last(),
        Some(&Progress::Done("schema pgherald is up to date: version 2".into()))
    );
    let mut connection = open(&postgres).await;
    assert_eq!(schema_state(&mut connection).await.unwrap(), SchemaState::Usable);
}

#[tokio::test]
async fn a_schema_from_the_future_is_refused() {
    let postgres = Postgres::start().await.unwrap();
    install(&postgres, &SetupOptions::default()).await;
    let mut connection = open(&postgres).await;
    run(&mut connection, "UPDATE pgherald.schema_version SET version = 3").await;
    install(&postgres, &SetupOptions::default()).await;
    run(&mut connection, "UPDATE pgherald.schema_version SET version = 9").await;
    let refused = setup(&settings(&postgres.url()), &both_roles(), &mut |_| {}).await.unwrap_err();
    assert!(refused.text.contains("version 9"), "{refused}");
    assert!(refused.fix.contains("newer pgherald"), "{refused}");
}

#[tokio::test]
async fn a_role_that_does_not_own_the_schema_is_told() {
    let postgres = Postgres::builder().sql("CREATE ROLE dev LOGIN").start().await.unwrap();
    let dev = settings(&postgres.url_for("dev"));
    let refused = setup(&dev, &SetupOptions::default(), &mut |_| {}).await.unwrap_err();
    assert!(refused.text.contains("permission denied"), "{refused}");
    install(&postgres, &both_roles()).await;
    let options = SetupOptions { send_role: Some("app".into()), ..SetupOptions::default() };
    let refused = setup(&dev, &options, &mut |_| {}).await.unwrap_err();
    assert!(refused.text.contains("permission denied"), "{refused}");
}

#[tokio::test]
async fn what_each_role_may() {
    let postgres = Postgres::start().await.unwrap();
    let options = SetupOptions { bridge_role: Some("bridge".into()), ..both_roles() };
    install(&postgres, &options).await;
    let mut app = open_as(&postgres, "app").await;
    for sql in [
        "SELECT pgherald.send('a', 'x'), pgherald.send('a', '{}'::jsonb, 'k', '{\"h\": \"v\"}')",
        "INSERT INTO pgherald.outbox (channel, payload_bytes) VALUES ('a', '\\x00') RETURNING id",
        "SELECT pgherald.pg_notify('a', 'b')",
    ] {
        run(&mut app, sql).await;
    }
    for sql in [
        "SELECT payload FROM pgherald.outbox",
        "SELECT channel FROM pgherald.outbox",
        "DELETE FROM pgherald.outbox",
        "UPDATE pgherald.outbox SET channel = 'b'",
        "TRUNCATE pgherald.outbox",
        "INSERT INTO pgherald.outbox (id, channel) OVERRIDING SYSTEM VALUE VALUES (1, 'a')",
        "INSERT INTO pgherald.outbox (channel, created_at) VALUES ('a', now())",
        "SELECT * FROM pgherald.cursor",
        "UPDATE pgherald.cursor SET high = 1",
        "SELECT * FROM pgherald.dead_letter",
        "DELETE FROM pgherald.dead_letter",
        "SELECT nextval('pgherald.outbox_id_seq')",
        "UPDATE pgherald.schema_version SET version = 7",
        "CREATE TABLE pgherald.mine (id int)",
        "ALTER TABLE pgherald.outbox DISABLE TRIGGER ALL",
    ] {
        assert_eq!(refused(&mut app, sql).await.as_deref(), Some("42501"), "{sql}");
    }
    let mut bridge = open_as(&postgres, "bridge").await;
    assert_eq!(schema_state(&mut bridge).await.unwrap(), SchemaState::Usable);
    for sql in [
        "SELECT * FROM pgherald.outbox",
        "DELETE FROM pgherald.outbox WHERE id = 1",
        "INSERT INTO pgherald.cursor (pipeline, sink, high) VALUES ('a', 'b', 1)",
        "UPDATE pgherald.cursor SET high = 2",
        "DELETE FROM pgherald.cursor",
        "DELETE FROM pgherald.dead_letter",
    ] {
        run(&mut bridge, sql).await;
    }
    let last = "SELECT pg_sequence_last_value('pgherald.outbox_id_seq')::text";
    assert_eq!(text(&mut bridge, last).await, "4");
    for sql in [
        "UPDATE pgherald.outbox SET payload = ''",
        "INSERT INTO pgherald.outbox (channel) VALUES ('a')",
        "UPDATE pgherald.schema_version SET version = 7",
    ] {
        assert_eq!(refused(&mut bridge, sql).await.as_deref(), Some("42501"), "{sql}");
    }
}
