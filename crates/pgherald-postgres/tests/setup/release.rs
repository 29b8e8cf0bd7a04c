//! From 0.1.0 to this, while everybody goes on.

use std::time::{Duration, Instant};

use pgherald_postgres::{Identity, SchemaState, SetupOptions, query, require_home, schema_state};
use pgherald_testkit::{Postgres, packages::PostgresVersion};

use crate::house::{Database, says};

/// What 0.1.0's `--bridge-role` and `--send-role` granted.
const ROLES: &str = "CREATE ROLE bridge LOGIN; CREATE ROLE app LOGIN; \
     GRANT USAGE ON SCHEMA pgherald TO bridge, app; \
     GRANT SELECT ON pgherald.schema_version TO bridge; \
     GRANT SELECT, DELETE ON pgherald.outbox TO bridge; \
     GRANT SELECT, USAGE ON SEQUENCE pgherald.outbox_id_seq TO bridge; \
     GRANT SELECT, INSERT, UPDATE, DELETE ON pgherald.cursor, pgherald.dead_letter TO bridge; \
     GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgherald TO bridge, app; \
     GRANT INSERT (channel, key, headers, content_type, payload, payload_bytes), SELECT (id) \
     ON pgherald.outbox TO app";

/// Legal for 0.1.0, and not any more.
const OFFENDERS: &str = "INSERT INTO pgherald.outbox (channel, headers, content_type, payload) \
     VALUES ('c', '{\"te\": \"x\"}', NULL, 'x'), ('c', '{\"proxy-x\": \"x\"}', NULL, 'x'), \
     ('c', '{}', 'not a media type', 'x')";

/// What a 0.1.0 bridge runs, attaching, reading, settling and deleting.
const OF_0_1_0: [&str; 5] = [
    "SELECT version FROM pgherald.schema_version",
    "UPDATE pgherald.cursor SET channels = NULL WHERE pipeline = 'p' AND channels IS DISTINCT FROM \
     NULL",
    "COPY (SELECT id, created_at, channel, key, headers, content_type, payload, payload_bytes \
     FROM pgherald.outbox WHERE id > 0 ORDER BY id LIMIT 10) TO STDOUT",
    "UPDATE pgherald.cursor SET high = 1, missing = '{}', settled_at = clock_timestamp() \
     WHERE pipeline = 'p' AND sink = 's'",
    "DELETE FROM pgherald.outbox WHERE id = 1",
];

#[tokio::test]
async fn rows_that_wait_and_rows_that_offend_are_there_afterwards() {
    for version in [PostgresVersion::V18, PostgresVersion::V15] {
        let server = Postgres::builder().version(version).start().await.unwrap();
        let database = Database::create(&server, "app").await;
        database.set_up_0_1_0().await;
        database.run(ROLES).await;
        database.run(OFFENDERS).await;
        database.run("SELECT pgherald.send('c', g::text) FROM generate_series(1, 100) g").await;
        let cursor = "INSERT INTO pgherald.cursor (pipeline, sink, high) VALUES ('p', 's', 0)";
        database.run(cursor).await;
        let faults = database.faults().await;
        assert!(faults[0].text.contains("version 1, 2 is needed"), "{faults:?}");

        let sent = upgrade_under_load(&server, &database).await;
        let count = "SELECT count(*)::text FROM pgherald.outbox";
        assert_eq!(database.rows(count).await, [format!("{}", 103 + sent)]);
        let faults = database.faults().await;
        let offend = |part: &str| faults.iter().any(|fault| fault.text.contains(part));
        assert!(offend("2 rows in pgherald.outbox offend the check headers_are"), "{faults:#?}");
        assert!(offend("1 rows in pgherald.outbox offend the check content_type"), "{faults:#?}");
        assert_eq!(faults.len(), 2, "{faults:#?}");
        assert!(database.refused(OFFENDERS).await.contains("headers_are_legal"), "new ones are");

        // The bridge's role of 0.1.0 does for both programs.
        let url = server.url_of("bridge", "app");
        let settings = pgherald_postgres::PostgresSettings::parse(&url).unwrap();
        let mut bridge = pgherald_postgres::connect(&settings).await.unwrap();
        assert_eq!(schema_state(&mut bridge).await.unwrap(), SchemaState::Usable);
        require_home(&mut bridge, Identity::This).await.unwrap();
        for sql in OF_0_1_0.iter().filter(|sql| !sql.starts_with("COPY")) {
            query(&mut bridge, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let (said, done) = database.psql(&["-o", "/dev/null"], &OF_0_1_0.join(";\n"));
        assert!(done, "{said}");

        database
            .run("DELETE FROM pgherald.outbox WHERE headers <> '{}' OR content_type <> ''")
            .await;
        database.set_up().await;
        database.is_sound().await;
    }
}

/// Upgrades while a producer sends; how many rows it sent. Nobody waits for longer than a lock is
/// tried for.
async fn upgrade_under_load(server: &Postgres, database: &Database<'_>) -> usize {
    let url = server.url_of("app", "app");
    let settings = pgherald_postgres::PostgresSettings::parse(&url).unwrap();
    let mut producer = pgherald_postgres::connect(&settings).await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let producing = async {
        let (mut sent, mut longest) = (0, Duration::ZERO);
        while stopped.try_recv().is_err() {
            let began = Instant::now();
            query(&mut producer, "SELECT pgherald.send('c', '{}'::jsonb)").await.unwrap();
            longest = longest.max(began.elapsed());
            sent += 1;
        }
        (sent, longest)
    };
    let upgrading = async {
        let (said, whole) = database.setup(&SetupOptions::default()).await.unwrap();
        stop.send(()).unwrap();
        (said, whole)
    };
    let ((sent, longest), (said, whole)) = tokio::join!(producing, upgrading);
    assert!(whole && says(&said, "version 2 is installed"), "{said:?}");
    assert!(says(&said, "older ones stay"), "{said:?}");
    assert!(longest < Duration::from_secs(10), "a producer waited for {longest:?}");
    sent
}
