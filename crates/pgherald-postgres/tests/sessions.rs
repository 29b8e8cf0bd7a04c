//! Sessions on a real server: what the role, the database or a pooler would make of them.

use std::time::Duration;

use pgherald_core::{
    BatchLimits, Body, Budget, ContentType, DeadLetter, DeadLetters, Envelope, EventNames,
    FlowContext, Headers, Message, MessageId, Room,
};
use pgherald_postgres::{
    Class, DeadLetterAdmin, DeadLetterStore, Filter, Identity, LockKey, PostgresSettings, Purpose,
    SetupOptions, connect, end_backend, once, open, query, setup, try_locks,
};
use pgherald_testkit::{Pgbouncer, PoolMode, Postgres, eventually, hostile_role};
use sqlx::{ConnectOptions, PgConnection, Row, postgres::PgConnectOptions};

const ROOM: Room = Room {
    messages: 10,
    bytes: 1 << 20,
    first_bytes: usize::MAX,
    budget: pgherald_core::Budget { messages: 10, bytes: 1 << 20 },
};

fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::parse(url).unwrap()
}

async fn text(connection: &mut PgConnection, sql: &str) -> String {
    query(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))[0].get(0)
}

async fn hostile_bridge(postgres: &Postgres) -> PostgresSettings {
    let options = SetupOptions { bridge_role: Some("bridge".into()), ..SetupOptions::default() };
    setup(&settings(&postgres.url()), &options, &mut |_| ()).await.unwrap();
    let mut admin = connect(&settings(&postgres.url())).await.unwrap();
    query(&mut admin, &hostile_role("bridge")).await.unwrap();
    settings(&postgres.url_of("bridge", "postgres"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_the_same_whatever_the_role_sets() {
    let postgres = Postgres::start().await.unwrap();
    let bridge = hostile_bridge(&postgres).await;
    let (mut session, server) = open(&bridge, Purpose::Outbox, None).await.unwrap();
    assert!(server.backend.pid > 1, "a function of the same name answered");
    for (name, wanted) in [
        ("search_path", "pg_catalog, pg_temp"),
        ("row_security", "off"),
        ("transaction_read_only", "off"),
        ("transaction_isolation", "read committed"),
        ("statement_timeout", "0"),
        ("bytea_output", "hex"),
        ("standard_conforming_strings", "on"),
        ("synchronous_commit", "local"),
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, MDY"),
    ] {
        assert_eq!(text(&mut session, &format!("SHOW {name}")).await, wanted, "{name}");
    }
    query(&mut session, "SELECT pg_sleep(0.3)").await.unwrap();
    let mut single = connect(&bridge).await.unwrap();
    let sql = "SELECT current_setting('search_path') || current_setting('transaction_read_only'), \
               pg_sleep(0.3)";
    let row = once(&mut single, sql).await.unwrap();
    assert_eq!(row[0].get::<String, _>(0), "pg_catalog, pg_tempoff");
    let after = text(&mut single, "SHOW search_path").await;
    assert_eq!(after, "public, pgherald, pg_catalog", "nothing stays behind");
}

fn rejected() -> Message {
    Message {
        id: MessageId::new(format_args!("1-1")),
        channel: "orders".into(),
        key: None,
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(b"a\\b\x00c".as_slice().into()),
        since: std::time::SystemTime::now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_kept_by_a_role_that_may_only_read() {
    let postgres = Postgres::start().await.unwrap();
    let bridge = hostile_bridge(&postgres).await;
    let context = FlowContext {
        pipeline: "p".into(),
        source: "notify",
        sink: "bus".into(),
        channels: None,
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 1_000, bytes: 1 << 20 },
        batch: BatchLimits { messages: 100, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1_000,
    };
    let letters = DeadLetterStore::new(bridge.clone()).of_flow(&context, None, Identity::This);
    let message = rejected();
    let letter = DeadLetter { message: &message, reason: "too large", age: Duration::ZERO };
    letters.put(letter).await.unwrap();
    let mut desk = DeadLetterAdmin::open(&bridge).await.unwrap();
    let mut listed = 0;
    desk.list(&Filter::default(), &mut |_| listed += 1).await.unwrap();
    assert_eq!(listed, 1);
    let again = desk.replay(&Filter::default(), &["1-1".to_owned()]).await.unwrap();
    assert_eq!(again, ["1-1"]);
    let next = letters.next(ROOM).await.unwrap();
    assert!(matches!(&next[0].body, Body::Payload(payload) if **payload == *b"a\\b\x00c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_named_and_nothing_is_set_behind_it() {
    let postgres = Postgres::start().await.unwrap();
    let pooler = Pgbouncer::start(&postgres).await.unwrap();
    let through = settings(&postgres.url_at(pooler.port()));
    let refused = open(&through, Purpose::Outbox, None).await.err().unwrap();
    assert_eq!(refused.class, Class::Blocked);
    assert!(refused.to_string().contains("a pooler in transaction mode"), "{refused}");
    let mut other = connect(&through).await.unwrap();
    once(&mut other, "SELECT 1").await.unwrap();
    for _ in 0..5 {
        let path = text(&mut other, "SHOW search_path").await;
        assert_eq!(path, "\"$user\", public", "another client gets what we set");
    }
}

/// A cut frees the pooler's session of the server for another client, with the same process id and
/// start.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_pooler_gave_to_another_client_is_left_alone() {
    let postgres = Postgres::start().await.unwrap();
    let pooler = Pgbouncer::start_in(PoolMode::Session, &postgres).await.unwrap();
    let through = settings(&postgres.url_at(pooler.port()));
    let mut taken = false;
    for round in 0..3 {
        let key = [LockKey::of_flow("p", &round.to_string())];
        let (mut ours, server) = open(&through, Purpose::Listen, None).await.unwrap();
        assert_eq!(try_locks(&mut ours, &key).await.unwrap(), [true]);
        drop(ours);
        // Other clients: two that name themselves, two that do not.
        let mut others = Vec::new();
        for n in 0..4 {
            let name = if n % 2 == 0 { "" } else { "&application_name=app" };
            let url = format!("{}?sslmode=disable{name}", postgres.url_at(pooler.port()));
            others.push(plain(&url).await);
        }
        for other in &mut others {
            taken |= text(other, "SELECT pg_backend_pid()::text").await
                == server.backend.pid.to_string();
            query(other, "SELECT pg_advisory_lock_shared(7)").await.unwrap();
        }
        let (mut again, _) = open(&through, Purpose::Listen, Some(&server.backend)).await.unwrap();
        assert_eq!(try_locks(&mut again, &key).await.unwrap(), [true]);
        for other in &mut others {
            text(other, "SELECT 'alive'").await;
        }
    }
    assert!(taken, "the pooler gave our session to nobody");
}

/// A client that is not pgherald.
async fn plain(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.extra_float_digits(None).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_named() {
    let primary = Postgres::start().await.unwrap();
    let standby = primary.standby().await.unwrap();
    let refused = open(&settings(&standby.url()), Purpose::Listen, None).await.err().unwrap();
    assert_eq!(refused.class, Class::Blocked);
    assert!(refused.text.contains("is a standby"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_session_that_still_holds_a_lock_is_ended() {
    let postgres = Postgres::start().await.unwrap();
    let (mut ours, server) = open(&settings(&postgres.url()), Purpose::Listen, None).await.unwrap();
    let key = [LockKey::of_flow("p", "bus")];
    assert_eq!(try_locks(&mut ours, &key).await.unwrap(), [true]);
    // It holds the lock until somebody ends it: a stranger's session does not.
    let mut second = connect(&settings(&postgres.url())).await.unwrap();
    assert_eq!(try_locks(&mut second, &key).await.unwrap(), [false]);
    assert!(end_backend(&mut second, &server.backend).await.unwrap());
    let second = tokio::sync::Mutex::new(second);
    let free = || async { try_locks(&mut *second.lock().await, &key).await.unwrap() == [true] };
    eventually("the lock is free", Duration::from_secs(5), free).await.unwrap();
}
