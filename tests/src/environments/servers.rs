//! Every version of PostgreSQL that packages give, upgrades from one to another, and replication.

use futures_util::FutureExt;
use pgherald_testkit::{Postgres, eventually, packages::PostgresVersion};

use super::{
    cases::{
        Case,
        Step::{Play, Quiet, Refused, Sql},
        change,
    },
    scene::{ROWS_BETWEEN, Scene, install},
};
use crate::stage::SOON;

const ASIDE: usize = 20;

/// Settings, changes and a refusal on one version: what is refused in mid-flow comes last.
const fn version(name: &'static str, version: PostgresVersion) -> Case {
    Case {
        version: Some(version),
        before: &[
            "ALTER ROLE herald SET search_path = public, pgherald, pg_catalog",
            "ALTER ROLE herald SET default_transaction_read_only = on",
            "ALTER ROLE herald SET default_transaction_isolation = 'serializable'",
            "ALTER ROLE herald SET statement_timeout = '100ms'",
            "ALTER ROLE herald SET idle_session_timeout = '1s'",
            "ALTER ROLE herald SET datestyle = 'German'",
        ],
        ..change(
            name,
            &[
                Sql("ALTER TABLE pgherald.outbox ADD COLUMN extra uuid DEFAULT gen_random_uuid()"),
                Sql("VACUUM (FULL) pgherald.outbox"),
                Quiet("TRUNCATE pgherald.outbox RESTART IDENTITY"),
                Play(|scene| {
                    async {
                        scene.down().await;
                        scene.rows.more(ROWS_BETWEEN).await;
                        scene.up();
                        scene.ready().await;
                    }
                    .boxed_local()
                }),
                Sql("ALTER TABLE pgherald.outbox ENABLE ROW LEVEL SECURITY"),
                Refused {
                    says: &["row security", "DISABLE ROW LEVEL SECURITY"],
                    remedy: "ALTER TABLE pgherald.outbox DISABLE ROW LEVEL SECURITY",
                },
                Quiet("ALTER SEQUENCE pgherald.outbox_id_seq CACHE 50"),
                Refused {
                    says: &["CACHE 50", "ALTER COLUMN id SET CACHE 1"],
                    remedy: "ALTER TABLE pgherald.outbox ALTER COLUMN id SET CACHE 1",
                },
            ],
        )
    }
}

pub(super) const SERVERS: &[Case] = &[
    version("PostgreSQL 14", PostgresVersion::V14),
    version("PostgreSQL 15", PostgresVersion::V15),
    version("PostgreSQL 16", PostgresVersion::V16),
    version("PostgreSQL 17", PostgresVersion::V17Tls),
    Case {
        version: Some(PostgresVersion::V15),
        ..change(
            "pg_upgrade from 15 to 18",
            &[Play(|scene| upgraded(scene, PostgresVersion::V18).boxed_local())],
        )
    },
    Case {
        version: Some(PostgresVersion::V15),
        ..change(
            "pg_upgrade from 15 to 17",
            &[Play(|scene| upgraded(scene, PostgresVersion::V17Tls).boxed_local())],
        )
    },
    change("from 0.1.0 with rows waiting", &[Play(|scene| from_0_1_0(scene).boxed_local())]),
    change("a subscription writes the outbox", &[Play(|scene| subscribed(scene).boxed_local())]),
];

/// The bridge runs all the time, and rows wait in the old server.
async fn upgraded(scene: &Scene, version: PostgresVersion) {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let mut held = scene.rows.hold().await;
    scene.bridge.pause();
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    held.disconnect().await;
    scene.postgres.upgrade(version).await.unwrap();
    scene.bridge.resume();
    scene.postgres.start_again().await.unwrap();
    drop(held);
    scene.ready().await;
    let warned = scene.bridge.log_lines("was upgraded from PostgreSQL 15");
    assert!(!warned.is_empty(), "{}", scene.bridge.log());
    assert!(warned.iter().all(|line| line.contains("WARN")), "{warned:?}");
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(0), "{}", check.all());
}

const SCHEMA_0_1_0: &[u8] =
    include_bytes!("../../../crates/pgherald-postgres/tests/fixtures/schema_0_1_0.sql");
/// What 0.1.0's `setup --bridge-role herald` granted.
const GRANTS_0_1_0: &str = "GRANT USAGE ON SCHEMA pgherald TO herald; \
     GRANT SELECT ON pgherald.schema_version TO herald; \
     GRANT SELECT, DELETE ON pgherald.outbox TO herald; \
     GRANT SELECT, USAGE ON SEQUENCE pgherald.outbox_id_seq TO herald; \
     GRANT SELECT, INSERT, UPDATE, DELETE ON pgherald.cursor, pgherald.dead_letter TO herald; \
     GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgherald TO herald";
/// What it had settled: everything but the last rows, and one that came in behind.
const CURSORS_0_1_0: &str = "INSERT INTO pgherald.cursor (pipeline, sink, high, missing) \
     SELECT p, s, 100, '{[90,91)}' FROM unnest(ARRAY['causal', 'strict']) AS p, \
     unnest(ARRAY['bus', 'live', 'hook']) AS s";

/// The schema, the cursors and the rows are 0.1.0's; the bridge of this version waits for `setup`.
async fn from_0_1_0(scene: &Scene) {
    let mut held = scene.rows.hold().await;
    held.disconnect().await;
    scene.down().await;
    scene.execute("DROP SCHEMA pgherald CASCADE").await;
    scene.psql(&scene.owner_url(), SCHEMA_0_1_0).await;
    scene.execute("INSERT INTO pgherald.schema_version (version) VALUES (1)").await;
    scene.execute(GRANTS_0_1_0).await;
    scene.execute("SELECT setval('pgherald.outbox_id_seq', 100)").await;
    scene.execute(CURSORS_0_1_0).await;
    scene.set_aside(&scene.owner_url(), ASIDE).await;
    drop(held);
    scene.up();
    scene.refused(&["blocked", "pgherald setup"]).await;
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    let done = scene.setup("--bridge-role=herald").await;
    assert!(done.out.contains("version 2 is installed"), "{}", done.all());
    scene.ready().await;
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(0), "{}", check.all());
}

/// The outbox is another server's, until this one takes its place.
async fn subscribed(scene: &Scene) {
    scene.ready().await;
    scene.rows.more(ROWS_BETWEEN).await;
    let held = scene.quiet().await;
    scene.emptied().await;
    let publisher = Postgres::builder().setting("wal_level", "logical").start().await.unwrap();
    install(&publisher.url()).await;
    super::scene::execute(&publisher.url(), "SELECT setval('pgherald.outbox_id_seq', 100000)")
        .await;
    super::scene::execute(&publisher.url(), "CREATE PUBLICATION moving FOR TABLE pgherald.outbox")
        .await;
    let from = publisher.url();
    scene
        .execute(&format!("CREATE SUBSCRIPTION moving CONNECTION '{from}' PUBLICATION moving"))
        .await;
    scene.set_aside(&publisher.url(), ASIDE).await;
    let replicated =
        || async { scene.number("SELECT count(*) FROM pgherald.outbox").await == ASIDE as i64 };
    eventually("the rows are replicated", SOON, replicated).await.unwrap();
    let remedy = ["ALTER SUBSCRIPTION moving DISABLE", "pgherald setup --repair"];
    let says = [&["blocked", "subscription"], &remedy[..]].concat();
    scene.refused(&says).await;
    scene.down().await;
    scene.up();
    scene.refused(&says).await;
    let check = scene.command(&["check"]).await;
    assert_eq!(check.code, Some(1), "{}", check.all());
    assert!(check.out.contains("subscription"), "{}", check.all());
    scene.none_aside_arrived().await;
    scene.execute(remedy[0]).await;
    scene.setup("--repair").await;
    scene.ready().await;
    drop(held);
}
