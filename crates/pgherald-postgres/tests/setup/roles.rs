//! What an object-relational mapper's role may, and what a shadowed `pg_notify` asks for.

use pgherald_core::Level;
use pgherald_postgres::{
    PostgresSettings, Progress, SetupOptions, ShadowNotify, connect, query, setup_script,
};
use pgherald_testkit::Postgres;
use sqlx::Row;

use crate::house::{Database, says};

#[tokio::test]
async fn a_mapper_names_every_column_and_reads_them_back() {
    let server = Postgres::start().await.unwrap();
    let database = Database::create(&server, "app").await;
    let options = SetupOptions { orm_role: Some("orm".into()), ..SetupOptions::default() };
    for _ in 0..2 {
        let (said, whole) = database.setup(&options).await.unwrap();
        assert!(whole && says(&said, "pgherald.messages"), "{said:?}");
    }
    let settings = PostgresSettings::parse(&server.url_of("orm", "app")).unwrap();
    let mut orm = connect(&settings).await.unwrap();
    // Awake is who does not hold the lock: the doorbell tries it.
    for sql in [
        "INSERT INTO pgherald.messages (id, channel, key, headers, content_type, payload, \
         payload_bytes) VALUES (DEFAULT, 'c', 'k', '{}', NULL, 'x', NULL) RETURNING *",
        "INSERT INTO pgherald.messages (channel, payload) VALUES ('c', 'x') RETURNING id, channel, \
         key, headers, content_type, payload, payload_bytes",
        "INSERT INTO pgherald.messages (id, channel) OVERRIDING USER VALUE VALUES (1, 'c') \
         RETURNING *",
        "INSERT INTO pgherald.outbox (channel) VALUES ('c') RETURNING id",
        "SELECT pgherald.send_json('c', '{\"a\": 1}')",
    ] {
        let rows = query(&mut orm, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows.len(), 1, "{sql}");
    }
    for (sql, state) in [
        ("INSERT INTO pgherald.messages (id, channel) VALUES (7, 'c')", "428C9"),
        ("INSERT INTO pgherald.outbox (id, channel) VALUES (DEFAULT, 'c')", "42501"),
        (
            "INSERT INTO pgherald.messages (channel, headers) VALUES ('c', '{\"te\": \"x\"}')",
            "23514",
        ),
        ("UPDATE pgherald.messages SET payload = 'y'", "42501"),
        ("DELETE FROM pgherald.messages", "42501"),
        ("SELECT created_at FROM pgherald.outbox", "42501"),
        ("SELECT * FROM pgherald.cursor", "42501"),
    ] {
        let error = query(&mut orm, sql).await.err().unwrap_or_else(|| panic!("{sql} is taken"));
        let code = error.as_database_error().expect(sql).code().expect(sql).into_owned();
        assert_eq!(code, state, "{sql}: {error}");
    }
    for (table, text) in
        [("messages", "cannot copy to view"), ("outbox", "permission denied for table outbox")]
    {
        let copy =
            format!("\\c - orm\nCOPY pgherald.{table} (id, channel) FROM STDIN;\n7\tc\n\\.\n");
        let (said, done) = database.psql(&[], &copy);
        assert!(!done && said.contains(text), "{said}");
    }
    database.is_sound().await;
}

#[tokio::test]
async fn an_insert_through_the_view_rings_the_doorbell() {
    let server = Postgres::start().await.unwrap();
    let database = Database::create(&server, "app").await;
    database.set_up().await;
    let mut sleeper = database.connect().await;
    let sleep = "SELECT pg_try_advisory_lock(1885825124, 'pgherald.outbox'::regclass::oid::int)";
    query(&mut sleeper, sleep).await.unwrap();
    let mut bell = sqlx::postgres::PgListener::connect(&database.url()).await.unwrap();
    bell.listen("pgherald_doorbell").await.unwrap();
    database.run("INSERT INTO pgherald.messages (channel, payload) VALUES ('c', 'x')").await;
    let rung = tokio::time::timeout(std::time::Duration::from_secs(30), bell.recv()).await;
    let table = database.rows("SELECT 'pgherald.outbox'::regclass::oid::text").await;
    assert_eq!([rung.unwrap().unwrap().payload()], [table[0].as_str()]);
}

#[tokio::test]
async fn drivers_that_leave_types_open_send_what_they_mean() {
    let server = Postgres::start().await.unwrap();
    let database = Database::create(&server, "app").await;
    database.set_up().await;
    let mut connection = database.connect().await;
    // What a driver prepares that names no types.
    for (name, stored) in [
        ("send_json", r#"application/json {"a": 1} -"#),
        ("send_text", r#"- {"a":1} -"#),
        ("send_bytes", r"- - \x7b2261223a317d"),
    ] {
        let prepare = format!("PREPARE {name} AS SELECT pgherald.{name}($1, $2)");
        query(&mut connection, &prepare).await.unwrap();
        let execute = format!("EXECUTE {name}('c', '{{\"a\":1}}')");
        let rows = query(&mut connection, &execute).await.unwrap();
        let id: i64 = rows[0].get(0);
        let row = format!(
            "SELECT concat_ws(' ', coalesce(content_type, '-'), coalesce(payload, '-'), \
             coalesce(payload_bytes::text, '-')) FROM pgherald.outbox WHERE id = {id}"
        );
        assert_eq!(database.rows(&row).await, [stored], "{name}");
    }
}

#[tokio::test]
async fn a_first_shadow_waits_until_schema_public_is_closed() {
    let server = Postgres::start().await.unwrap();
    let database = Database::create(&server, "app").await;
    database.run("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    let options =
        SetupOptions { shadow_notify: Some(ShadowNotify::Both), ..SetupOptions::default() };
    let refused = database.setup(&options).await.unwrap_err();
    let revoke = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    assert!(refused.fix.contains(revoke), "{refused}");
    let there = "SELECT coalesce(to_regprocedure('pgherald.pg_notify(text,text)')::text, 'none')";
    assert_eq!(database.rows(there).await, ["none"]);
    let (said, done) = database.psql(&[], &setup_script(&options));
    assert!(!done && said.contains(revoke), "{said}");
    database.run(revoke).await;
    let (said, whole) = database.setup(&options).await.unwrap();
    assert!(whole && !says(&said, revoke), "{said:?}");
    // Those who rely on it keep it.
    database.run("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    let options =
        SetupOptions { shadow_notify: Some(ShadowNotify::Only), ..SetupOptions::default() };
    let (said, whole) = database.setup(&options).await.unwrap();
    let warned =
        |progress: &Progress| matches!(progress, Progress::Warning(t) if t.contains(revoke));
    assert!(whole && said.iter().any(warned), "{said:?}");
    let (said, done) = database.psql(&[], &setup_script(&options));
    assert!(done && said.contains(revoke), "{said}");
    assert_eq!(database.rows(there).await, ["pgherald.pg_notify(text,text)"]);
    assert!(database.faults().await.iter().all(|fault| fault.level != Level::Error));
}
