//! PostgreSQL with certificates and SCRAM.

use std::fs;

use pgherald_testkit::{
    Bridge, Certificates, JetStreamReader, Postgres, packages::PostgresVersion,
};
use sqlx::{Connection, PgConnection};

use super::{Files, PASSWORD, Trouble, carries};
use crate::stage::{Config, SOON, nats};

/// The role `app` must encrypt and prove itself; the superuser is the test's own.
const HBA: &str = "\
hostssl all app 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 trust
";

async fn server(made: &Certificates) -> Postgres {
    let builder = Postgres::builder().version(PostgresVersion::V17Tls).setting("ssl", "on");
    let builder = builder.file("server.crt", made.certificate_pem());
    let builder = builder.file("server.key", made.key_pem()).hba(HBA);
    let role = format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'");
    builder.sql(&role).start().await.expect("PostgreSQL with TLS starts")
}

/// As the superuser.
async fn run(postgres: &Postgres, sql: &'static str) {
    let mut admin = PgConnection::connect(&postgres.url()).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut admin).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_connection_carries_and_whatever_is_wrong_is_waited_for() {
    let (made, other, files) =
        (Certificates::new().unwrap(), Certificates::new().unwrap(), Files::new());
    let (postgres, nats) = (server(&made).await, nats().await);
    let (port, ca) = (postgres.port(), files.trust(&other));
    let url = format!(
        "postgres://app:{PASSWORD}@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={ca}"
    );
    let config = Config::new(&url, &["orders"]).nats("live", &nats, "SECURE", "secure");
    let bridge = Bridge::start(config.text()).await.unwrap();
    let log = || postgres.log();
    let unknown = Trouble {
        words: &["TLS failed", "UnknownIssuer"],
        key: "postgres.url",
        fix: "sslrootcert",
        refusal: "could not accept SSL connection",
    };
    unknown.shows(&bridge, log).await;
    files.trust(&made);
    carries(&bridge, &postgres).await;
    let mut admin = PgConnection::connect(&postgres.url()).await.unwrap();
    let encrypted: Option<bool> = sqlx::query_scalar(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE usename = 'app'",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert_eq!(encrypted, Some(true));
    drop(admin);

    let certificate = postgres.data().join("server.crt");
    fs::write(&certificate, made.expired_pem()).unwrap();
    postgres.restart().await.unwrap();
    let expired = Trouble { words: &["TLS failed", "expired"], ..unknown };
    expired.shows(&bridge, log).await;
    fs::write(&certificate, made.certificate_pem()).unwrap();
    postgres.restart().await.unwrap();
    carries(&bridge, &postgres).await;

    run(&postgres, "ALTER ROLE app PASSWORD 'another'").await;
    run(&postgres, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .await;
    let refused = Trouble {
        words: &["password authentication failed", "28P01"],
        key: "postgres.url",
        fix: "url_file",
        refusal: "password authentication failed",
    };
    refused.shows(&bridge, log).await;
    run(&postgres, "ALTER ROLE app PASSWORD 'right-hunter22'").await;
    carries(&bridge, &postgres).await;

    let mut reader = JetStreamReader::open(&nats.url(), "SECURE").await.unwrap();
    let stored = reader.read_all(SOON).await.unwrap();
    assert_eq!(stored.iter().filter(|message| !message.is_gap()).count(), 60);
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// A server that takes only encrypted connections says so to one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_plaintext_connection_is_refused_in_words() {
    let made = Certificates::new().unwrap();
    let (postgres, nats) = (server(&made).await, nats().await);
    let url = postgres.url_for(&format!("app:{PASSWORD}"));
    let config = Config::new(&format!("{url}?sslmode=disable"), &["orders"]);
    let config = config.nats("live", &nats, "PLAIN", "plain");
    let bridge = Bridge::start(config.text()).await.unwrap();
    let refused = Trouble {
        words: &["no encryption", "28000"],
        key: "postgres.url",
        fix: "pg_hba.conf",
        refusal: "no pg_hba.conf entry",
    };
    refused.shows(&bridge, || postgres.log()).await;
}
