//! A program that calls `pg_notify`, and that nobody changes: one ALTER ROLE makes it lossless.

use std::process::Stdio;

use pgherald_postgres::{PostgresSettings, SetupOptions, ShadowNotify, setup};
use pgherald_testkit::{Bridge, JetStreamReader, Postgres};
use sqlx::{Connection, PgConnection, raw_sql};
use tokio::process::Command;

use super::course::{connection, outbox};
use crate::{
    command_line::said,
    stage::{SOON, nats, postgres},
};

/// As `docs/migration.md` has it.
const ONE_STATEMENT: &str = "ALTER ROLE app SET search_path = public, pgherald, pg_catalog";

/// The program as a script of psql's.
async fn by_psql(postgres: &Postgres, script: &str) {
    let mut psql = Command::new(postgres.bin().join("psql"));
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &postgres.url_for("app"), "-c", script]);
    psql.stdout(Stdio::piped()).stderr(Stdio::piped());
    let psql = said(&mut psql).await;
    assert_eq!(psql.code, Some(0), "{}", psql.all());
}

/// The same as a program that binds its arguments.
async fn by_sqlx(postgres: &Postgres, payload: &str) {
    let mut app = PgConnection::connect(&postgres.url_for("app")).await.unwrap();
    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind("orders").bind(payload);
    notify.execute(&mut app).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_program_becomes_lossless_by_one_statement() {
    let (postgres, nats) = (postgres().await, nats().await);
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    let options = SetupOptions {
        send_role: Some("app".into()),
        shadow_notify: Some(ShadowNotify::Both),
        ..SetupOptions::default()
    };
    setup(&settings, &options, &mut |_| ()).await.unwrap();
    by_psql(&postgres, "SELECT pg_notify('orders', 'nobody listens')").await;
    raw_sql(ONE_STATEMENT).execute(&mut connection(&postgres).await).await.unwrap();

    // Still nobody listens.
    by_psql(&postgres, "SELECT pg_notify('orders', 'psql')").await;
    by_psql(&postgres, "BEGIN; SELECT pg_notify('orders', 'taken back'); ROLLBACK").await;
    by_sqlx(&postgres, "sqlx").await;
    // What docs/sql.md says that it does not catch.
    by_psql(&postgres, "NOTIFY orders, 'the statement'").await;
    by_psql(&postgres, "SELECT pg_catalog.pg_notify('orders', 'by its full name')").await;
    by_psql(&postgres, "SELECT pg_notify('orders', 'last')").await;

    let config = outbox(&postgres, "").nats("live", &nats, "BOX", "box");
    let bridge = Bridge::start(config.text()).await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "BOX").await.unwrap();
    let stored = reader.collect_until(SOON, |stored| {
        stored.last().is_some_and(|last| &last.payload[..] == b"last")
    });
    let stored = stored.await.unwrap();
    let payloads: Vec<_> =
        stored.iter().map(|it| String::from_utf8_lossy(&it.payload).into_owned()).collect();
    assert_eq!(payloads, ["psql", "sqlx", "last"]);
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
