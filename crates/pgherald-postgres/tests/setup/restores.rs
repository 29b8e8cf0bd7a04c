//! Dumps of every kind, and the sequence that they leave behind.

use pgherald_postgres::{SchemaState, SetupOptions, schema_state};
use pgherald_testkit::Postgres;

use crate::house::{Database, says};

const ROWS: &str = "SELECT pgherald.send('c', g::text) FROM generate_series(1, 20) g";
const CURSOR: &str = "INSERT INTO pgherald.cursor (pipeline, sink, high) VALUES ('p', 's', 10)";

#[tokio::test]
async fn a_copy_of_the_schema_alone_is_whole_and_takes_its_own_database() {
    let server = Postgres::start().await.unwrap();
    let original = Database::create(&server, "original").await;
    original.set_up().await;
    original.run(ROWS).await;
    let copy = Database::create(&server, "copy").await;
    copy.restore(&original.dump(&["-s"]));
    assert_eq!(copy.rows("SELECT version::text FROM pgherald.schema_version").await.len(), 0);
    let state = schema_state(&mut copy.connect().await).await.unwrap();
    assert_eq!(state, SchemaState::Usable, "the schema itself says its version");
    let said = copy.set_up().await;
    assert!(says(&said, "version 2"), "{said:?}");
    copy.is_sound().await;
    // Of 0.1.0 the version was a row alone.
    let old = Database::create(&server, "old").await;
    old.set_up_0_1_0().await;
    let copy = Database::create(&server, "old_copy").await;
    copy.restore(&old.dump(&["-s"]));
    let faults = copy.faults().await;
    assert!(faults[0].text.contains("incomplete"), "{faults:?}");
    assert!(faults[0].fix.contains("pgherald setup"), "{faults:?}");
    copy.set_up().await;
    copy.is_sound().await;
}

#[tokio::test]
async fn a_dump_of_data_alone_goes_into_a_fresh_setup() {
    let server = Postgres::start().await.unwrap();
    for (n, old) in [true, false].into_iter().enumerate() {
        let original = Database::create(&server, &format!("original{n}")).await;
        if old {
            original.set_up_0_1_0().await;
        } else {
            original.set_up().await;
        }
        original.run(&format!("{ROWS}; {CURSOR}")).await;
        for (m, arguments) in [&["-a"][..], &["-a", "--inserts"], &["-a", "--disable-triggers"]]
            .into_iter()
            .enumerate()
        {
            let fresh = Database::create(&server, &format!("fresh{n}{m}")).await;
            fresh.set_up().await;
            fresh.restore(&original.dump(arguments));
            let state = schema_state(&mut fresh.connect().await).await.unwrap();
            assert_eq!(state, SchemaState::Usable, "{arguments:?}");
            let ids = "SELECT count(*)::text || max(id)::text FROM pgherald.outbox";
            assert_eq!(fresh.rows(ids).await, ["2020"]);
            let next = fresh.rows("SELECT pgherald.send('c', 'x')::text").await;
            assert_eq!(next, ["21"], "the sequence was restored behind the rows");
        }
    }
}

/// A restore of the rows without the sequence: what `pg_restore -t` and a logical cut-over leave.
async fn with_a_low_sequence(server: &Postgres) -> Database<'_> {
    let database = Database::create(server, "low").await;
    database.set_up().await;
    database.run(&format!("{ROWS}; {CURSOR}")).await;
    database.run("UPDATE pgherald.cursor SET high = 500").await;
    database.run("SELECT setval('pgherald.outbox_id_seq', 3)").await;
    database
}

#[tokio::test]
async fn a_sequence_that_is_too_low_is_moved_on_once() {
    let server = Postgres::start().await.unwrap();
    let database = with_a_low_sequence(&server).await;
    let (said, whole) = database.setup(&SetupOptions::default()).await.unwrap();
    assert!(!whole && says(&said, "setup --repair") && says(&said, "duplicate key"), "{said:?}");
    let faults = database.faults().await;
    assert!(faults[0].text.contains("stands at 3") && faults[0].fix.contains("--repair"));
    assert!(database.refused("SELECT pgherald.send('c', 'x')").await.contains("duplicate key"));
    let repair = SetupOptions { repair: true, ..SetupOptions::default() };
    let (said, whole) = database.setup(&repair).await.unwrap();
    assert!(whole && says(&said, "to 10500"), "{said:?}");
    assert!(says(&said, "20 rows of pgherald.outbox may have been drawn below"), "{said:?}");
    assert_eq!(database.rows("SELECT pgherald.send('c', 'x')::text").await, ["10501"]);
    database.is_sound().await;
    let (said, whole) = database.setup(&repair).await.unwrap();
    assert!(whole && says(&said, "nothing changed"), "{said:?}");
    assert_eq!(database.rows("SELECT pgherald.send('c', 'x')::text").await, ["10502"]);
}

#[tokio::test]
async fn with_a_snapshot_only_rows_that_came_later_count_as_drawn_below() {
    let server = Postgres::start().await.unwrap();
    let database = with_a_low_sequence(&server).await;
    database.run("UPDATE pgherald.cursor SET seen = pg_current_snapshot(), seen_high = 500").await;
    database.run("SELECT setval('pgherald.outbox_id_seq', 100)").await;
    database.run("SELECT pgherald.send('c', 'late') FROM generate_series(1, 3)").await;
    let repair = SetupOptions { repair: true, ..SetupOptions::default() };
    let (said, _) = database.setup(&repair).await.unwrap();
    assert!(says(&said, "3 rows of pgherald.outbox were drawn below a cursor"), "{said:?}");
    assert!(says(&said, "outbox late list"), "{said:?}");
}

/// What a migration tool does: the script in the middle of a transaction that goes on.
fn in_a_migration(script: &str) -> String {
    format!(
        "CREATE TABLE before (id int);\n{script}\n\
         CREATE TABLE own (id int);\nINSERT INTO own VALUES (1);\nSELECT 1 / (\
         current_setting('search_path') || current_setting('lock_timeout') \
         = '\"$user\", public7s')::int;\nDROP TABLE public.own, public.before;\n"
    )
}

#[tokio::test]
async fn what_is_printed_leaves_no_setting_behind() {
    let server = Postgres::start().await.unwrap();
    let options = SetupOptions {
        bridge_role: Some("bridge".into()),
        send_role: Some("app".into()),
        orm_role: Some("orm".into()),
        shadow_notify: Some(pgherald_postgres::ShadowNotify::Both),
        ..SetupOptions::default()
    };
    let script = in_a_migration(&pgherald_postgres::setup_script(&options));
    let database = Database::create(&server, "one").await;
    database.run("ALTER DATABASE one SET lock_timeout = '7s'").await;
    for _ in 0..2 {
        let (said, done) = database.psql(&["-1", "-o", "/dev/null"], &script);
        assert!(done, "{said}");
        assert_eq!(said, "");
    }
    database.is_sound().await;
}
