//! `check` as a doctor: each condition of PostgreSQL and of poolers in front of it gives its line and
//! its remedy; and where it blocks, `run` says the same and carries once it is repaired.

use std::path::Path;

use pgherald_testkit::{
    Bridge, Nats, Pgbouncer, Postgres, Scratch, eventually, packages::PostgresVersion,
};
use sqlx::{Connection, PgConnection, raw_sql};

use crate::{
    command_line::{Said, file, pgherald, said},
    knock::{carries, is_blocked},
    stage::{Config, SOON, nats, postgres},
};

/// Lines of `check` with this level and key.
pub(crate) fn lines<'a>(said: &'a Said, level: &str, key: &str) -> Vec<&'a str> {
    let of_key = |line: &&str| line.starts_with(level) && line.contains(&format!(" {key} "));
    said.out.lines().filter(of_key).collect()
}

/// What `check` says of this configuration.
pub(crate) async fn examine(config: &Path) -> Said {
    let config = config.to_str().expect("a path of ours");
    said(&mut pgherald(&["--config", config, "check"]).await).await
}

/// `check` has one line of that level and key with all these words, before and behind the dash.
pub(crate) fn assert_line(said: &Said, level: &str, key: &str, text: &[&str], fix: &str) {
    let found = lines(said, level, key).into_iter().any(|line| {
        line.split_once(" \u{2014} ").is_some_and(|(finding, remedy)| {
            text.iter().all(|word| finding.contains(word)) && remedy.contains(fix)
        })
    });
    assert!(found, "no {level} of {key} with {text:?} and {fix:?}:\n{}", said.all());
}

/// A configuration that is right but for its database.
fn config(url: &str, nats: &Nats, stream: &str) -> (Scratch, std::path::PathBuf) {
    let prefix = stream.to_ascii_lowercase();
    file(Config::new(url, &["orders"]).nats("live", nats, stream, &prefix).text())
}

async fn doctor(url: &str) -> Said {
    let nats = nats().await;
    let (_scratch, path) = config(url, &nats, "DOCTOR");
    examine(&path).await
}

async fn refused(url: &str, text: &[&str], fix: &str) {
    let said = doctor(url).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert_line(&said, "error", "postgres.url", text, fix);
}

async fn admin(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url()).await.unwrap()
}

async fn execute(connection: &mut PgConnection, sql: &'static str) {
    raw_sql(sql).execute(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_blocks_until_the_url_names_the_server() {
    let (postgres, nats) = (postgres().await, nats().await);
    let pooler = Pgbouncer::start(&postgres).await.unwrap();
    let url = postgres.url_at(pooler.port());
    refused(&url, &["does not receive its own notifications", "pooler"], "name it").await;

    // The URL lies in a file, so that the repair needs no restart of the machine's service file.
    let (_scratch, secret) = file(&url);
    let text = Config::new(&url, &["orders"]).nats("live", &nats, "POOL", "pool");
    let text = text.text().replace(&format!("url = \"{url}\""), &format!("url_file = {secret:?}"));
    let bridge = Bridge::start(&text).await.unwrap();
    is_blocked(&bridge, "live", &["pooler", "connect to the server directly"]).await;
    assert_eq!(bridge.log_lines("a pooler in transaction mode").len(), 1, "{}", bridge.log());
    bridge.kill9().await.unwrap();
    std::fs::write(&secret, postgres.url()).unwrap();
    bridge.start_again().unwrap();
    carries(&bridge, &postgres).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn encoding_privileges_and_limits_are_errors_with_their_remedy() {
    let ascii = Postgres::builder().encoding("SQL_ASCII").start().await.unwrap();
    refused(&ascii.url(), &["encoding is SQL_ASCII"], "UTF8").await;

    let postgres = postgres().await;
    let mut admin = admin(&postgres).await;
    execute(&mut admin, "CREATE ROLE app LOGIN").await;
    execute(&mut admin, "CREATE DATABASE closed").await;
    execute(&mut admin, "REVOKE CONNECT ON DATABASE closed FROM PUBLIC").await;
    refused(&postgres.url_of("app", "closed"), &["permission denied", "42501"], "grant").await;
    execute(&mut admin, "ALTER ROLE app CONNECTION LIMIT 1").await;
    refused(&postgres.url_for("app"), &["53300"], "a process holds one session").await;
    execute(&mut admin, "ALTER ROLE app CONNECTION LIMIT -1").await;
    execute(&mut admin, "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC").await;
    refused(&postgres.url_for("app"), &["pg_notify", "42501"], "grant the role").await;
    execute(&mut admin, "GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO app").await;
    let said = doctor(&postgres.url_for("app")).await;
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(lines(&said, "ok", "postgres.url").len(), 1, "{}", said.all());
    refused(&postgres.url_for("nobody"), &["28000"], "the role in postgres.url").await;
    refused(&postgres.url_of("app", "nowhere"), &["3D000"], "the database").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filling_queue_and_a_short_one_are_warnings_and_a_full_one_an_error() {
    let builder =
        Postgres::builder().version(PostgresVersion::V18).setting("max_notify_queue_pages", "64");
    let postgres = builder.start().await.unwrap();
    let mut admin = admin(&postgres).await;
    let mut stuck = self::admin(&postgres).await;
    execute(&mut stuck, "LISTEN orders").await;
    execute(&mut stuck, "BEGIN").await;
    const TENTH: &str =
        "SELECT pg_notify('orders', n || repeat('x', 7900)) FROM generate_series(1, 25) n";
    execute(&mut admin, TENTH).await;
    execute(&mut admin, TENTH).await;
    let said = doctor(&postgres.url()).await;
    assert_eq!(said.code, Some(0), "warnings only: {}", said.all());
    assert_line(&said, "warning", "postgres.url", &["queue is", "% full"], "does not read");
    let pages = ["max_notify_queue_pages is 64"];
    assert_line(&said, "warning", "postgres.url", &pages, "raise max_notify_queue_pages");
    while raw_sql(TENTH).execute(&mut admin).await.is_ok() {}
    while raw_sql("NOTIFY orders, 'x'").execute(&mut admin).await.is_ok() {}
    refused(&postgres.url(), &["54000"], "the session that listens and does not read").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_blocks_until_it_is_promoted() {
    let postgres = Postgres::builder().file("standby.signal", "").start().await.unwrap();
    let nats = nats().await;
    refused(&postgres.url(), &["is a standby"], "name the primary").await;
    let text = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "LATER", "later");
    let bridge = Bridge::start(text.text()).await.unwrap();
    is_blocked(&bridge, "live", &["is a standby", "name the primary"]).await;
    execute(&mut admin(&postgres).await, "SELECT pg_promote()").await;
    carries(&bridge, &postgres).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// 0.0.0.0 is not loopback by its name, and leads there.
#[tokio::test(flavor = "multi_thread")]
async fn plaintext_off_loopback_is_a_warning_for_each_connection() {
    let (postgres, nats) = (postgres().await, nats().await);
    let kafka = crate::stage::shared_kafka().await;
    let elsewhere = |url: String| url.replace("127.0.0.1", "0.0.0.0");
    let url = format!("{}?sslmode=disable", elsewhere(postgres.url()));
    let text = Config::new(&url, &["orders"]).nats("live", &nats, "PLAIN", "plain").kafka(
        "bus",
        kafka,
        "plain.{channel}",
        1,
    );
    let (_scratch, path) = file(&elsewhere(text.text().to_owned()));
    let said = examine(&path).await;
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_line(&said, "warning", "postgres.url", &["plaintext"], "sslmode=verify-full");
    let (bus, live) = ("pipelines.p.sinks.bus.kafka", "pipelines.p.sinks.live.nats");
    assert_line(&said, "warning", &format!("{bus}.brokers"), &["unencrypted"], "tls]");
    assert_line(&said, "warning", &format!("{live}.servers"), &["encrypted"], "tls://");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_another_program_has_is_an_error() {
    let (postgres, nats) = (postgres().await, nats().await);
    let text = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "PORT", "port");
    let listen = format!("[admin]\nlisten = \"127.0.0.1:{}\"", nats.port());
    let (_scratch, path) = file(text.with(&listen).text());
    let said = examine(&path).await;
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert_line(&said, "error", "admin.listen", &["cannot bind"], "free the address");
    // A bridge of this configuration that runs already is as it should be.
    let text = Config::new(&postgres.url(), &["orders"]).nats("live", &nats, "PORT", "port");
    let bridge = Bridge::start(text.text()).await.unwrap();
    let alive = || async { bridge.livez().await.is_ok_and(|it| it.status == 200) };
    eventually("it lives", SOON, alive).await.unwrap();
    let said = examine(&bridge.config_file()).await;
    assert_eq!(lines(&said, "ok", "admin.listen").len(), 1, "{}", said.all());
}
