//! A logical copy has the rows of another database.

use pgherald_core::{
    BatchLimits, Budget, DeadLetters, DeadLettersError, Envelope, EventNames, FlowContext, Room,
};
use pgherald_postgres::{
    Adopt, Class, DeadLetterStore, FlowDeadLetters, Identity, Progress, SetupOptions, require_home,
};
use pgherald_testkit::{Postgres, packages::PostgresVersion};

use crate::house::{Database, says};

fn adopt(adopt: Adopt) -> SetupOptions {
    SetupOptions { adopt: Some(adopt), ..SetupOptions::default() }
}

/// 20 rows, of which a cursor has settled 10 and skipped one, and a dead letter that is to be sent
/// again.
async fn original(server: &Postgres) -> Database<'_> {
    let database = Database::create(server, "original").await;
    database.set_up().await;
    database
        .run(
            "SELECT pgherald.send('c', g::text) FROM generate_series(1, 20) g; \
             INSERT INTO pgherald.cursor (pipeline, sink, high, missing, token, seen, seen_high, \
             outbox_oid, left_channels) VALUES ('p', 's', 10, '{[7,8)}', gen_random_uuid(), \
             pg_current_snapshot(), 10, 'pgherald.outbox'::regclass, \
             '{\"d\": {\"high\": 5, \"missing\": \"{}\"}}'); \
             INSERT INTO pgherald.dead_letter (pipeline, sink, id, channel, message_time, reason, \
             first_attempt_at, last_attempt_at, attempts, replay_at) \
             VALUES ('p', 's', '1-1', 'c', now(), 'no', now(), now(), 1, now())",
        )
        .await;
    database
}

fn letters(database: &Database<'_>, identity: Identity) -> FlowDeadLetters {
    let context = FlowContext {
        pipeline: "p".into(),
        source: "outbox",
        sink: "s".into(),
        channels: None,
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 1_000, bytes: 1 << 20 },
        batch: BatchLimits { messages: 100, bytes: 1 << 20, linger: std::time::Duration::ZERO },
        message_bytes_max: 1_000,
    };
    DeadLetterStore::new(database.settings()).of_flow(&context, None, identity)
}

const ROOM: Room = Room {
    messages: 10,
    bytes: 1 << 20,
    first_bytes: usize::MAX,
    budget: pgherald_core::Budget { messages: 10, bytes: 1 << 20 },
};
const CURSOR: &str = "SELECT concat_ws(' ', high, missing, seen IS NULL, outbox_oid IS NULL, \
     left_channels) FROM pgherald.cursor";
const MARKED: &str = "SELECT id FROM pgherald.dead_letter WHERE replay_at IS NOT NULL";
const TOKEN: &str = "SELECT token::text FROM pgherald.cursor";

async fn is_blocked(database: &Database<'_>) {
    let mut connection = database.connect().await;
    let refused = require_home(&mut connection, Identity::This).await.unwrap_err();
    assert_eq!(refused.class, Class::Blocked);
    assert!(refused.text.contains("another database"), "{refused}");
    assert!(refused.fix.contains("pgherald setup --adopt=moved"), "{refused}");
    assert!(refused.fix.contains("pgherald setup --adopt=copy"), "{refused}");
    require_home(&mut connection, Identity::Any).await.unwrap();
    let letters_here = letters(database, Identity::This).next(ROOM).await.unwrap_err();
    let DeadLettersError::Blocked(why) = letters_here else { panic!("{letters_here:?}") };
    assert!(why.to_string().contains("another database"), "{why}");
    assert_eq!(letters(database, Identity::Any).next(ROOM).await.unwrap().len(), 1);
    let faults = database.faults().await;
    assert!(faults.iter().any(|fault| fault.text.contains("another database")), "{faults:?}");
}

async fn is_home(database: &Database<'_>) {
    let mut connection = database.connect().await;
    require_home(&mut connection, Identity::This).await.unwrap();
    letters(database, Identity::This).next(ROOM).await.unwrap();
    database.is_sound().await;
}

#[tokio::test]
async fn a_copy_waits_for_the_operators_word() {
    let server = Postgres::start().await.unwrap();
    let original = original(&server).await;
    is_home(&original).await;
    let before = original.rows(CURSOR).await;
    for word in [Adopt::Moved, Adopt::Copy] {
        let (said, whole) = original.setup(&adopt(word)).await.unwrap();
        assert!(whole && says(&said, "nothing changed") && says(&said, "0 rows"), "{said:?}");
    }
    assert_eq!(original.rows(CURSOR).await, before);

    let moved = original.template("moved").await;
    is_blocked(&moved).await;
    let token = moved.rows(TOKEN).await;
    let (said, whole) = moved.setup(&adopt(Adopt::Moved)).await.unwrap();
    assert!(whole, "{said:?}");
    for part in ["1 cursors", "11 waiting rows are sent", "1 dead letters"] {
        assert!(says(&said, part), "{part}: {said:?}");
    }
    let expected = r#"10 {[7,8)} t t {"d": {"high": 5, "missing": "{}"}}"#;
    assert_eq!(moved.rows(CURSOR).await, [expected]);
    assert_eq!(moved.rows(MARKED).await, ["1-1"]);
    assert_ne!(moved.rows(TOKEN).await, token);
    is_home(&moved).await;

    let copy = Database::create(&server, "copy").await;
    copy.restore(&original.dump(&[]));
    is_blocked(&copy).await;
    let (said, whole) = copy.setup(&adopt(Adopt::Copy)).await.unwrap();
    assert!(whole, "{said:?}");
    for part in ["1 cursors were moved past 11 waiting rows", "1 dead letters are no longer"] {
        assert!(says(&said, part), "{part}: {said:?}");
    }
    let expected = r#"20 {} t t {"d": {"high": 20, "missing": "{}"}}"#;
    assert_eq!(copy.rows(CURSOR).await, [expected]);
    assert!(copy.rows(MARKED).await.is_empty());
    assert_eq!(copy.rows("SELECT count(*)::text FROM pgherald.outbox").await, ["20"]);
    is_home(&copy).await;
    is_home(&original).await;
}

#[tokio::test]
async fn data_of_another_database_over_a_fresh_setup_is_of_another_database() {
    let server = Postgres::start().await.unwrap();
    let original = original(&server).await;
    let fresh = Database::create(&server, "fresh").await;
    fresh.set_up().await;
    fresh.restore(&original.dump(&["-a"]));
    is_blocked(&fresh).await;
    fresh.setup(&adopt(Adopt::Moved)).await.unwrap();
    is_home(&fresh).await;
    // At home twice over is home.
    let dump = fresh.dump(&["-a", "-t", "pgherald.identity"]);
    fresh.restore(&dump);
    is_home(&fresh).await;
    let rows = fresh.rows("SELECT count(*)::text FROM pgherald.identity").await;
    assert_eq!(rows, ["1"], "what is said twice is written once");
}

#[tokio::test]
async fn whoever_holds_the_outbox_is_named_while_a_copy_waits() {
    let server = Postgres::start().await.unwrap();
    let copy = original(&server).await.template("copy").await;
    let mut holder = copy.connect().await;
    let begin = "BEGIN; SELECT pgherald.send('c', 'open for long')";
    pgherald_postgres::query(&mut holder, begin).await.unwrap();
    let mut said = Vec::new();
    let settings = copy.settings();
    let options = adopt(Adopt::Copy);
    {
        let (waiting, waits) = tokio::sync::oneshot::channel();
        let mut waiting = Some(waiting);
        let mut say = |progress| {
            if matches!(progress, Progress::Waiting(_)) {
                waiting.take().map(|waiting| waiting.send(()));
            }
            said.push(progress);
        };
        let setting_up = pgherald_postgres::setup(&settings, &options, &mut say);
        let commit = async {
            waits.await.unwrap();
            pgherald_postgres::query(&mut holder, "COMMIT").await.unwrap();
        };
        let (done, ()) = tokio::join!(setting_up, commit);
        assert!(done.unwrap());
    }
    assert!(says(&said, "idle in a transaction"), "{said:?}");
    assert!(says(&said, "moved past 12 waiting rows"), "{said:?}");
}

#[tokio::test]
async fn a_major_upgrade_goes_on_by_itself() {
    let server = Postgres::start().await.unwrap();
    let database = original(&server).await;
    // What pg_upgrade leaves: another identifier, everything else as it was, an older version.
    database
        .run("UPDATE pgherald.identity SET system_identifier = 1, server_major = server_major - 3")
        .await;
    is_home(&database).await;
    database.run("UPDATE pgherald.identity SET system_identifier = 1").await;
    is_blocked(&database).await;
}

#[tokio::test]
async fn an_identifier_that_cannot_be_read_is_not_compared() {
    for version in [PostgresVersion::V18, PostgresVersion::V17Tls, PostgresVersion::V15] {
        let server = Postgres::builder().version(version).start().await.unwrap();
        let database = Database::create(&server, "app").await;
        database.run("CREATE ROLE bridge LOGIN").await;
        database.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await;
        let role = SetupOptions { bridge_role: Some("bridge".into()), ..SetupOptions::default() };
        database.setup(&role).await.unwrap();
        let url = server.url_of("bridge", "app");
        let settings = pgherald_postgres::PostgresSettings::parse(&url).unwrap();
        let mut bridge = pgherald_postgres::connect(&settings).await.unwrap();
        require_home(&mut bridge, Identity::This).await.unwrap();
        let findings = pgherald_postgres::check_schema(&settings, Identity::This).await;
        assert!(findings[0].text.contains("cannot be read"), "{findings:?}");
        drop(bridge);
        let other = Database::create(&server, "other").await;
        other.restore(&database.dump(&[]));
        let settings =
            pgherald_postgres::PostgresSettings::parse(&server.url_of("bridge", "other"));
        let mut bridge = pgherald_postgres::connect(&settings.unwrap()).await.unwrap();
        let refused = require_home(&mut bridge, Identity::This).await.unwrap_err();
        assert!(refused.text.contains("another database"), "{refused}");
    }
}
