//! What `pgherald check` says about the database of the `notify` sources.

use std::time::Duration;

use pgherald_core::{Finding, clock};
use pgherald_postgres::{
    CONNECT_TIMEOUT, PostgresError, PostgresSettings, ServerFacts, bounded, connect, look,
};
use sqlx::Row;

use crate::session::LiveSession;

/// Above this a queue that goes on filling makes every NOTIFYing commit fail before long.
const USAGE_RATIO_MAX: f64 = 0.25;
/// PostgreSQL's default is 1048576 pages of 8 KiB.
const QUEUE_PAGES_MIN: i64 = 4_096;
/// The first version with `idle_session_timeout`.
const IDLE_TIMEOUT_SINCE: i32 = 140_000;

/// Connects as the hub would, takes no lock, and reports what it finds under `key` (`postgres`):
/// connection, encryption, version, encoding, recovery, a pooler in between, the state of the
/// notification queue.
pub async fn check(settings: &PostgresSettings, key: &str) -> Vec<Finding> {
    let subject = format!("{key}.url");
    let mut findings = Vec::new();
    findings.extend(encryption(settings, &subject));
    match inspect(settings, &subject).await {
        Ok(found) => findings.extend(found),
        Err(fault) => findings.push(refused(&subject, fault)),
    }
    findings
}

fn refused(subject: &str, fault: PostgresError) -> Finding {
    let fix = match fault.fix.as_str() {
        "" => "see that the server runs, and that postgres.url names its host and port".to_owned(),
        fix => fix.to_owned(),
    };
    Finding::error(subject, fault.text, fix)
}

fn encryption(settings: &PostgresSettings, subject: &str) -> Option<Finding> {
    if settings.is_loopback() || settings.verifies_server() {
        return None;
    }
    let text = if settings.may_be_plaintext() {
        "the connection may be plaintext: password and payloads can be read on the way"
    } else {
        "the connection is encrypted, but the server's identity is not verified"
    };
    Some(Finding::warning(subject, text, "use sslmode=verify-full"))
}

async fn inspect(
    settings: &PostgresSettings,
    subject: &str,
) -> Result<Vec<Finding>, PostgresError> {
    let mut connection = connect(settings).await?;
    let reading = ServerFacts::read(&mut connection);
    let facts = bounded("read the server's settings", CONNECT_TIMEOUT, reading).await?;
    facts.require_listen()?;
    const QUEUE: &str = "SELECT pg_notification_queue_usage()::float8, \
         coalesce(current_setting('max_notify_queue_pages', true), '1048576')::bigint";
    let reading = look(&mut connection, QUEUE);
    let rows = bounded("read the notification queue", CONNECT_TIMEOUT, reading).await?;
    drop(connection);
    let (usage, pages) = rows
        .first()
        .map_or((0.0, QUEUE_PAGES_MIN), |row| (row.get::<f64, _>(0), row.get::<i64, _>(1)));
    let mut found = queue(subject, usage, pages);
    found.extend(lasting_locks(subject, &facts));
    let limit = Duration::from_secs(5);
    let (session, _) = LiveSession::establish(settings, limit, None).await?;
    session.connection.close().await;
    let text = format!("PostgreSQL {} at {settings}, UTF8, LISTEN heard", facts.version_text);
    found.insert(0, Finding::ok(subject, text));
    found.extend(clocks(subject, clock().offset_seconds()));
    Ok(found)
}

/// A server that cannot end the session of an owner that stands still.
fn lasting_locks(subject: &str, facts: &ServerFacts) -> Option<Finding> {
    (facts.version < IDLE_TIMEOUT_SINCE).then(|| {
        Finding::warning(
            subject,
            format!(
                "PostgreSQL {} has no idle_session_timeout: an owner that stands still keeps its \
                 locks, and no standby takes over",
                facts.version_text
            ),
            "use PostgreSQL 14 or newer",
        )
    })
}

/// Between machines a second is nothing; a minute is what receivers of signatures allow for.
const APART_SECONDS_MAX: f64 = 2.0;

/// Whether this machine's clock and the database's show the same.
fn clocks(subject: &str, offset_seconds: Option<f64>) -> Option<Finding> {
    let offset = offset_seconds.filter(|offset| offset.abs() > APART_SECONDS_MAX)?;
    let way = if offset > 0.0 { "behind" } else { "ahead of" };
    let text = format!("the clock of this machine is {:.0} s {way} the database's", offset.abs());
    Some(Finding::warning(subject, text, "let both follow a time server (NTP)"))
}

fn queue(subject: &str, usage: f64, pages: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if usage > USAGE_RATIO_MAX {
        findings.push(Finding::warning(
            subject,
            format!("the notification queue is {:.0} % full", usage * 100.0),
            "find the session that listens and does not read (pg_stat_activity, oldest \
             backend_xmin) and end it: with a full queue every NOTIFY fails",
        ));
    }
    if pages < QUEUE_PAGES_MIN {
        findings.push(Finding::warning(
            subject,
            format!("max_notify_queue_pages is {pages}: the notification queue fills soon"),
            "raise max_notify_queue_pages to its default, 1048576",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> PostgresSettings {
        PostgresSettings::parse(url).unwrap()
    }

    #[test]
    fn plaintext_and_strangers_are_warnings_off_loopback() {
        let said = |url: &str| encryption(&settings(url), "postgres.url").map(|it| it.text);
        assert_eq!(said("postgres://a@127.0.0.1/a"), None);
        assert_eq!(said("postgres://a@db/a?sslmode=verify-full"), None);
        assert!(said("postgres://a@db/a?sslmode=prefer").unwrap().contains("plaintext"));
        assert!(said("postgres://a@db/a?sslmode=require").unwrap().contains("not verified"));
    }

    #[test]
    fn a_server_that_keeps_locks_is_a_warning() {
        let facts = |version| ServerFacts {
            version,
            version_text: "13.20".into(),
            encoding: "UTF8".into(),
            in_recovery: false,
            backend: pgherald_postgres::Backend { pid: 1, start: String::new() },
        };
        assert!(lasting_locks("postgres.url", &facts(130_020)).unwrap().text.contains("13.20"));
        assert_eq!(lasting_locks("postgres.url", &facts(140_000)), None);
    }

    #[test]
    fn clocks_that_are_apart_are_a_warning() {
        assert_eq!(clocks("postgres.url", None), None);
        assert_eq!(clocks("postgres.url", Some(-1.5)), None);
        let text = clocks("postgres.url", Some(3600.0)).unwrap().text;
        assert_eq!(text, "the clock of this machine is 3600 s behind the database's");
    }

    #[test]
    fn a_queue_in_trouble_is_a_warning() {
        assert!(queue("postgres.url", 0.0, 1_048_576).is_empty());
        assert_eq!(queue("postgres.url", 0.5, 64).len(), 2);
    }
}
