//! What SQL sees of schema `pgherald`: send(), the checks, the doorbell, the shadow of pg_notify.

use std::{process::Command, time::Duration};

use pgherald_core::{
    BatchLimits, Binding, Body, Budget, ContentType, Envelope, EventNames, FlowContext, Message,
    MessageId, Wrapper, is_media_type,
};
use pgherald_postgres::{PostgresSettings, SetupOptions, ShadowNotify, connect, query, setup};
use pgherald_testkit::{Postgres, packages::PostgresVersion};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, postgres::PgListener};
use tokio::time::timeout;

async fn installed(postgres: &Postgres, shadow_notify: Option<ShadowNotify>) -> PgConnection {
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    let options = SetupOptions { shadow_notify, ..SetupOptions::default() };
    setup(&settings, &options, &mut |_| {}).await.unwrap();
    connect(&settings).await.unwrap()
}

async fn another(postgres: &Postgres) -> PgConnection {
    connect(&PostgresSettings::parse(&postgres.url()).unwrap()).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) {
    query(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A statement's rows, as `a|b` each.
async fn rows(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = query(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// The SQLSTATE and the words of a refusal.
async fn refusal(connection: &mut PgConnection, sql: &str) -> (String, String) {
    let error = query(connection, sql).await.err().unwrap_or_else(|| panic!("{sql} is taken"));
    let error = error.into_database_error().expect(sql);
    (error.code().expect(sql).into_owned(), error.message().to_owned())
}

const STORED: &str = "SELECT concat_ws('|', channel, coalesce(key, '-'), headers::text, \
     coalesce(content_type, '-'), coalesce(payload, '-'), coalesce(payload_bytes::text, '-')) \
     FROM pgherald.outbox ORDER BY id";

#[tokio::test]
async fn send_takes_what_people_write() {
    for version in [PostgresVersion::V18, PostgresVersion::V17Tls] {
        let postgres = Postgres::builder().version(version).start().await.unwrap();
        let mut connection = installed(&postgres, None).await;
        let calls = [
            ("send('c', 'x')", r"c|-|{}|-|x|-"),
            ("send('c', '{\"a\":1}'::jsonb)", r#"c|-|{}|application/json|{"a": 1}|-"#),
            ("send('c', '{\"a\":1}'::json)", r#"c|-|{}|application/json|{"a":1}|-"#),
            ("send('c', row_to_json(row(1)))", r#"c|-|{}|application/json|{"f1":1}|-"#),
            (r"send('c', '\x01ff'::bytea)", r"c|-|{}|-|-|\x01ff"),
            ("send('c', NULL::text)", "c|-|{}|-|-|-"),
            ("send('c', NULL)", "c|-|{}|-|-|-"),
            ("send('c', NULL::jsonb, 'k')", "c|k|{}|-|-|-"),
            ("send('c', 'x'::varchar, 'k')", "c|k|{}|-|x|-"),
            ("send('c', 'x', NULL, NULL)", "c|-|{}|-|x|-"),
            ("send('c', 'x', 'k', '{\"h\": \"v\"}')", r#"c|k|{"h": "v"}|-|x|-"#),
            ("send(payload => 'x', channel => 'c')", "c|-|{}|-|x|-"),
            ("send('c', 'x', headers => '{\"ce-type\": \"t\"}')", r#"c|-|{"ce-type": "t"}|-|x|-"#),
        ];
        for (call, _) in calls {
            run(&mut connection, &format!("SELECT pgherald.{call}")).await;
        }
        let expected: Vec<_> = calls.iter().map(|(_, row)| *row).collect();
        assert_eq!(rows(&mut connection, STORED).await, expected);
        // The id comes back, and several rows go through one statement.
        let ids = rows(
            &mut connection,
            "SELECT pgherald.send('c', g::text)::text FROM generate_series(1, 3) g",
        );
        assert_eq!(ids.await, ["14", "15", "16"]);
    }
}

const COLUMNS: &str =
    "INSERT INTO pgherald.outbox (channel, headers, content_type, payload, payload_bytes)";

async fn is_refused_by(connection: &mut PgConnection, check: &str, values: &str) {
    let (state, text) = refusal(connection, &format!("{COLUMNS} VALUES ({values})")).await;
    assert_eq!(state, "23514", "{values}: {text}");
    assert!(text.contains(&format!("\"{check}\"")), "{values}: {text}");
}

#[tokio::test]
async fn every_check_refuses_what_it_should() {
    let postgres = Postgres::start().await.unwrap();
    let mut connection = installed(&postgres, None).await;
    let long = "x".repeat(250);
    let large = "x".repeat(16_380);
    for (check, values) in [
        ("channel_is_legal", "'', '{}', NULL, 'x', NULL".to_owned()),
        ("channel_is_legal", format!("'{long}', '{{}}', NULL, 'x', NULL")),
        ("one_payload_at_most", "'c', '{}', NULL, 'x', 'x'".to_owned()),
        (HEADERS, format!("'c', '{{\"h\": \"{large}\"}}', NULL, 'x', NULL")),
    ] {
        is_refused_by(&mut connection, check, &values).await;
    }
    let longest = "x".repeat(249);
    let fitting = "x".repeat(16_300);
    for values in [
        format!("'{longest}', '{{}}', 'text/plain', 'x', NULL"),
        format!("'c', '{{\"h\": \"{fitting}\"}}', NULL, 'x', NULL"),
    ] {
        run(&mut connection, &format!("{COLUMNS} VALUES ({values})")).await;
    }
    let forged = "INSERT INTO pgherald.outbox (id, channel) VALUES (1, 'c')";
    assert_eq!(refusal(&mut connection, forged).await.0, "428C9");
}

const MEDIA_TYPE: &str = "content_type_is_legal_media_type";

#[tokio::test]
async fn a_content_type_is_a_media_type() {
    let postgres = Postgres::start().await.unwrap();
    let mut connection = installed(&postgres, None).await;
    let long = format!("text/{}", "x".repeat(251));
    for refused in [
        "",
        "not a media type",
        "text",
        "text/",
        "/plain",
        "text/plain/x",
        "text /plain",
        "text/plain; charset",
        "text/plain; =utf-8",
        "text/plain; charset=utf 8",
        "text/plain; charset=\"utf-8",
        "text/plain charset=utf-8",
        "text/plain\n",
        "text/plain;\tcharset=utf-8",
        "text/plain; a=\"b\tc\"",
        "text/pl\u{e4}in",
        " text/plain",
        "application/json, text/plain",
        &long,
    ] {
        let values = format!("'c', '{{}}', '{refused}', 'x', NULL");
        is_refused_by(&mut connection, MEDIA_TYPE, &values).await;
        assert!(refused == long || !is_media_type(refused), "{refused:?}: the sinks' rule");
    }
    for taken in [
        "text/plain",
        "application/vnd.acme.order+json; v=2",
        "text/plain; charset=utf-8",
        "TEXT/plain;format=flowed;Charset=\"UTF-8\"",
        "text/plain ; a=\"x; y, \\\" z\" ;b=c",
        "text/plain;",
        "text/plain; ",
        "x/!#$%&'*+.^_`|~-",
        &long[..255],
    ] {
        assert!(is_media_type(taken), "{taken:?}: the sinks' rule");
        let values = format!(
            "'c', '{{}}', E'{}', 'x', NULL",
            taken.replace('\\', "\\\\").replace('\'', "''")
        );
        run(&mut connection, &format!("{COLUMNS} VALUES ({values})")).await;
    }
}

const HEADERS: &str = "headers_are_legal_and_not_reserved";

/// Names, and whether a message may bring them along; the sinks go by the same list.
const NAMES: &[(&str, bool)] = &[
    ("", false),
    ("a b", false),
    ("a:b", false),
    ("\u{e4}", false),
    ("a\\n", false),
    ("x_-!#$%&*+.^`|~9", true),
    ("content-type", true),
    ("hosts", true),
    ("Host", false),
    ("content-length", false),
    ("Transfer-Encoding", false),
    ("connection", false),
    ("Authorization", false),
    ("te", false),
    ("TE", false),
    ("tea", true),
    ("Expect", false),
    ("trailer", false),
    ("trailers", true),
    ("upgrade", false),
    ("Keep-Alive", false),
    ("proxy-authorization", false),
    ("Proxy-Connection", false),
    ("proxy", true),
    ("Nats-Msg-Id", false),
    ("nats", true),
    ("webhook-id", false),
    ("ce_type", false),
    ("CE_ID", false),
    ("ce", true),
    ("ce-", false),
    ("ce-id", false),
    ("CE-Id", false),
    ("ce-time", false),
    ("ce-specversion", false),
    ("ce-datacontenttype", false),
    ("ce-partitionkey", false),
    ("ce-data", false),
    ("ce-data_base64", false),
    ("ce-type", true),
    ("CE-Type", true),
    ("ce-source", true),
    ("ce-subject", true),
    ("ce-dataschema", true),
    ("ce-traceparent", true),
    ("ce-12345678901234567890", true),
    ("ce-123456789012345678901", false),
    ("ce-trace-parent", false),
];

/// Whether a sink sends a message with this header.
fn is_sent(name: &str, value: &str) -> bool {
    let context = FlowContext {
        pipeline: "p".into(),
        source: "outbox",
        sink: "s".into(),
        channels: None,
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 1, bytes: 1 << 20 },
        batch: BatchLimits { messages: 1, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1 << 20,
    };
    let message = Message {
        id: MessageId::new(format_args!("1-1")),
        channel: "c".into(),
        key: None,
        headers: [(name.into(), value.into())].into_iter().collect(),
        content_type: ContentType::of_text("x"),
        body: Body::Payload("x".into()),
        since: std::time::UNIX_EPOCH,
    };
    Wrapper::new(Binding::Http, &context).headers(&message, &mut |_, _| {}).is_ok()
}

#[tokio::test]
async fn reserved_and_illegal_headers_are_refused() {
    let postgres = Postgres::start().await.unwrap();
    let mut connection = installed(&postgres, None).await;
    for (name, taken) in NAMES {
        let as_text = name.replace("\\n", "\n");
        assert_eq!(is_sent(&as_text, "/v"), *taken, "{name:?}: the sinks' rule");
        let values = format!("'c', '{{\"{name}\": \"/v\"}}', NULL, 'x', NULL");
        match taken {
            true => run(&mut connection, &format!("{COLUMNS} VALUES ({values})")).await,
            false => is_refused_by(&mut connection, HEADERS, &values).await,
        }
    }
    for headers in [
        "[]",
        "1",
        "\"a\"",
        "{\"a\": 1}",
        "{\"a\": null}",
        "{\"a\": {}}",
        "{\"fine\": \"x\", \"host\": \"x\"}",
        "{\"ce-subject\": \"a\\u0001b\"}",
        "{\"ce-subject\": \"a\\u009fb\"}",
        "{\"ce-x\": \"a\\nb\"}",
    ] {
        let values = format!("'c', '{headers}', NULL, 'x', NULL");
        is_refused_by(&mut connection, HEADERS, &values).await;
    }
    for value in ["a\u{1}b", "a\u{9f}b", "a\nb"] {
        assert!(!is_sent("ce-subject", value), "{value:?}: the sinks' rule");
    }
    assert!(is_sent("ce-subject", "\u{e4}\u{20ac}") && is_sent("a", "\u{e4}\n"));
    let fine = "'c', '{\"a\": \"\u{e4}\\n\", \"ce-subject\": \"\u{e4}\u{20ac}\"}', NULL, NULL, 'x'";
    run(&mut connection, &format!("{COLUMNS} VALUES ({fine})")).await;
    // A session may say anything about backslashes and where names are looked up.
    let odd =
        "SET standard_conforming_strings = off; SET search_path = public, pgherald, pg_catalog";
    run(&mut connection, odd).await;
    is_refused_by(&mut connection, HEADERS, "'c', '{\"te\": \"x\"}', NULL, 'x', NULL").await;
}

/// What a reader that sleeps does: it holds the doorbell's lock.
async fn sleeping_reader(postgres: &Postgres) -> PgConnection {
    let mut reader = another(postgres).await;
    let lock =
        "SELECT pg_try_advisory_lock(1885825124, 'pgherald.outbox'::regclass::oid::int)::text";
    assert_eq!(rows(&mut reader, lock).await, ["true"]);
    reader
}

async fn listener(postgres: &Postgres, channel: &str) -> PgListener {
    let mut listener = PgListener::connect(&postgres.url()).await.unwrap();
    listener.listen(channel).await.unwrap();
    listener
}

/// What was announced on that channel so far: everything before a word of our own.
async fn heard(listener: &mut PgListener, channel: &str) -> Vec<String> {
    let enough = format!("SELECT pg_notify('{channel}', 'enough')");
    listener.execute(AssertSqlSafe(enough)).await.unwrap();
    let mut heard = Vec::new();
    loop {
        let said = timeout(Duration::from_secs(30), listener.recv()).await.unwrap().unwrap();
        match said.payload() {
            "enough" => return heard,
            payload => heard.push(payload.to_owned()),
        }
    }
}

/// A session that keeps what is announced in the queue: it listens and stays in a transaction.
async fn pinned_queue(postgres: &Postgres) -> PgConnection {
    let mut pin = another(postgres).await;
    run(&mut pin, "LISTEN pgherald_doorbell").await;
    run(&mut pin, "BEGIN; SELECT 1").await;
    pin
}

#[tokio::test]
async fn the_doorbell_rings_for_a_sleeper_only() {
    let postgres = Postgres::start().await.unwrap();
    let mut connection = installed(&postgres, None).await;
    let mut bell = listener(&postgres, "pgherald_doorbell").await;
    run(&mut connection, "SELECT pgherald.send('c', 'x')").await;
    let rings = heard(&mut bell, "pgherald_doorbell").await;
    assert!(rings.is_empty(), "it rang for a reader that is awake");
    let _reader = sleeping_reader(&postgres).await;
    run(&mut connection, "SELECT pgherald.send('c', 'x'), pgherald.send('c', 'y')").await;
    let table = rows(&mut connection, "SELECT 'pgherald.outbox'::regclass::oid::text").await;
    assert_eq!(heard(&mut bell, "pgherald_doorbell").await, table);
}

#[tokio::test]
async fn a_sender_with_two_phases_is_not_harmed() {
    let postgres =
        Postgres::builder().setting("max_prepared_transactions", "2").start().await.unwrap();
    let mut connection = installed(&postgres, None).await;
    let _reader = sleeping_reader(&postgres).await;
    let sql = "BEGIN; SELECT pgherald.send('c', 'x'); PREPARE TRANSACTION 'two'";
    run(&mut connection, sql).await;
    run(&mut connection, "COMMIT PREPARED 'two'").await;
    assert_eq!(rows(&mut connection, STORED).await.len(), 1);
}

#[tokio::test]
async fn a_full_notification_queue_stops_nobody_who_sends() {
    let postgres =
        Postgres::builder().setting("max_notify_queue_pages", "64").start().await.unwrap();
    let mut connection = installed(&postgres, None).await;
    let _pin = pinned_queue(&postgres).await;
    let fill = "SELECT pg_notify('pgherald_doorbell', repeat('x', 7900) || g::text) \
         FROM generate_series(1, 40) g";
    while query(&mut connection, fill).await.is_ok() {}
    let alone = "SELECT pg_notify('other', repeat('y', 7900))";
    while query(&mut connection, alone).await.is_ok() {}
    let _reader = sleeping_reader(&postgres).await;
    run(&mut connection, "SELECT pgherald.send('c', 'x')").await;
}

const SHADOWED: &str = "SET search_path = public, pgherald, pg_catalog";

#[tokio::test]
async fn a_shadowed_pg_notify_loses_nothing() {
    let postgres = Postgres::start().await.unwrap();
    let mut connection = installed(&postgres, Some(ShadowNotify::Both)).await;
    run(&mut connection, "CREATE ROLE app LOGIN SUPERUSER").await;
    run(&mut connection, "ALTER ROLE app SET search_path = public, pgherald, pg_catalog").await;
    let settings = PostgresSettings::parse(&postgres.url_for("app")).unwrap();
    let mut app = connect(&settings).await.unwrap();
    let mut real = listener(&postgres, "c").await;
    run(&mut app, "BEGIN; SELECT pg_notify('c', 'x'), pg_notify('c', 'x'); COMMIT").await;
    run(&mut app, "SELECT pg_notify('c', NULL)").await;
    run(&mut app, "BEGIN; SELECT pg_notify('c', 'rolled back'); ROLLBACK").await;
    run(&mut app, "NOTIFY c, 'not caught'").await;
    let expected = ["c|-|{}|-|x|-", "c|-|{}|-|x|-", "c|-|{}|-||-"];
    assert_eq!(rows(&mut connection, STORED).await, expected);
    assert_eq!(heard(&mut real, "c").await, ["x", "", "not caught"], "the real one was not called");
}

#[tokio::test]
async fn both_shadows_refuse_what_the_real_one_refuses() {
    let postgres = Postgres::start().await.unwrap();
    for shadow in [ShadowNotify::Both, ShadowNotify::Only] {
        let mut connection = installed(&postgres, Some(shadow)).await;
        for arguments in ["'', 'x'", "NULL, 'x'", "repeat('c', 64), 'x'", "'c', repeat('x', 8000)"]
        {
            let real = refusal(&mut connection, &format!("SELECT pg_notify({arguments})")).await;
            run(&mut connection, SHADOWED).await;
            let ours = refusal(&mut connection, &format!("SELECT pg_notify({arguments})")).await;
            run(&mut connection, "RESET search_path").await;
            assert_eq!(ours, real, "{shadow:?} {arguments}");
        }
        run(&mut connection, SHADOWED).await;
        let largest = "SELECT pg_notify(repeat('c', 63), repeat('x', 7999))";
        run(&mut connection, largest).await;
    }
    let mut connection = another(&postgres).await;
    let mut real = listener(&postgres, "c").await;
    run(&mut connection, SHADOWED).await;
    run(&mut connection, "SELECT pg_notify('c', 'row alone')").await;
    assert_eq!(heard(&mut real, "c").await, Vec::<String>::new(), "`only` announces nothing");
    assert_eq!(rows(&mut connection, STORED).await.last().unwrap(), "c|-|{}|-|row alone|-");
}

#[tokio::test]
async fn psql_takes_what_is_printed() {
    let postgres = Postgres::start().await.unwrap();
    let options = SetupOptions {
        bridge_role: Some("a \"quoted\" $pgherald$ 'name'".into()),
        send_role: Some("app".into()),
        shadow_notify: Some(ShadowNotify::Only),
        ..SetupOptions::default()
    };
    let script = pgherald_postgres::setup_script(&options);
    let psql = || {
        let mut psql = Command::new(postgres.bin().join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &postgres.url(), "-c", &script]);
        psql.output().unwrap()
    };
    for _ in 0..2 {
        let output = psql();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(said, "");
    }
    let mut connection = another(&postgres).await;
    let there = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'a \"%' OR rolname = 'app'";
    assert_eq!(rows(&mut connection, there).await.len(), 2);
}
