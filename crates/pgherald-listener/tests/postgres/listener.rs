//! The dedicated connection.

use std::time::Duration;

use futures_util::FutureExt;
use pgherald_core::GapReason;
use pgherald_listener::{Heard, ListenError, Listener, ListenerOptions, check};
use pgherald_postgres::query;
use pgherald_testkit::{Direction, FaultProxy, Postgres, packages::PostgresVersion};
use sqlx::Row;

use crate::rig::{HEARTBEAT, announce, connection, settings};

const DELAY: Duration = Duration::from_millis(20);

async fn listener(url: &str) -> Listener {
    let options = ListenerOptions { heartbeat: HEARTBEAT, ..ListenerOptions::default() };
    Listener::connect(settings(url), options).await.unwrap()
}

fn text(heard: &Heard) -> &str {
    match heard {
        Heard::Notification(notification) => &notification.payload,
        Heard::Gap(_) => "gap",
    }
}

async fn take(listener: &mut Listener, count: usize) -> Vec<Heard> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(listener.batch(1_000, DELAY).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_receiving_interleave_without_loss() {
    let postgres = Postgres::start().await.unwrap();
    let mut listener = listener(&postgres.url()).await;
    listener.listen("a").await.unwrap();
    let mut announcer = connection(&postgres).await;
    let mut all = Vec::new();
    for n in 0..300 {
        announce(&mut announcer, "a", &n.to_string()).await;
        match n % 4 {
            0 => {
                let rows = listener.query("SELECT 1 + 1").await.unwrap();
                assert_eq!(rows[0].get::<i32, _>(0), 2);
            }
            1 => listener.listen("b").await.unwrap(),
            2 => listener.unlisten("b").await.unwrap(),
            // Cancelled in the middle, again and again.
            _ => {
                let _ = listener.query("SELECT pg_sleep(0.001)").now_or_never();
                let _ = listener.batch(10, DELAY).now_or_never().map(|heard| all.extend(heard));
            }
        }
    }
    all.extend(take(&mut listener, 300 - all.len()).await);
    let expected: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(all.iter().map(text).collect::<Vec<_>>(), expected);
    assert!(matches!(listener.query("SELECT nonsense").await, Err(ListenError::Statement(_))));
    assert!(matches!(listener.listen(&"x".repeat(64)).await, Err(ListenError::Channel(_))));
    announce(&mut announcer, "a", "after an error").await;
    assert_eq!(text(&take(&mut listener, 1).await[0]), "after an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_by_count_and_delay() {
    let postgres = Postgres::start().await.unwrap();
    let mut listener = listener(&postgres.url()).await;
    listener.listen("a").await.unwrap();
    let mut announcer = connection(&postgres).await;
    query(&mut announcer, "SELECT pg_notify('a', n::text) FROM generate_series(1, 25) n")
        .await
        .unwrap();
    let long = Duration::from_secs(60);
    assert_eq!(listener.batch(10, long).await.len(), 10);
    assert_eq!(listener.batch(10, long).await.len(), 10);
    assert_eq!(listener.batch(10, DELAY).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_a_gap_in_its_place() {
    let postgres = Postgres::start().await.unwrap();
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let mut listener = listener(&postgres.url_at(proxy.port())).await;
    listener.listen("a").await.unwrap();
    let mut announcer = connection(&postgres).await;
    announce(&mut announcer, "a", "before").await;
    assert_eq!(text(&take(&mut listener, 1).await[0]), "before");
    for (black_hole, reason) in [(false, GapReason::Disconnect), (true, GapReason::Deaf)] {
        if black_hole {
            proxy.black_hole(Direction::Both);
            let waited = tokio::time::timeout(HEARTBEAT * 3, listener.batch(1, DELAY)).await;
            assert!(waited.is_err());
            assert!(listener.trouble().is_some(), "it says why nothing is heard");
            proxy.heal();
        } else {
            proxy.reset();
        }
        match &take(&mut listener, 1).await[0] {
            Heard::Gap(gap) => assert_eq!((gap.reason, gap.from.is_some()), (reason, true)),
            other => panic!("{other:?}"),
        }
        assert_eq!(listener.trouble(), None);
        announce(&mut announcer, "a", "after").await;
        assert_eq!(text(&take(&mut listener, 1).await[0]), "after");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong() {
    let postgres = Postgres::builder()
        .version(PostgresVersion::V18)
        .setting("max_notify_queue_pages", "64")
        .start()
        .await
        .unwrap();
    let findings = check(&settings(&postgres.url()), "postgres").await;
    let lines: Vec<_> = findings.iter().map(|f| format!("{:?} {}", f.level, f.text)).collect();
    assert_eq!(findings.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("Ok PostgreSQL 18"), "{lines:?}");
    assert!(lines[1].contains("max_notify_queue_pages is 64"), "{lines:?}");
    let ascii = Postgres::builder().encoding("SQL_ASCII").start().await.unwrap();
    let findings = check(&settings(&ascii.url()), "postgres").await;
    assert!(findings[0].text.contains("SQL_ASCII") && findings[0].fix.contains("UTF8"));
    let nobody = settings(&format!("postgres://u@127.0.0.1:{}/d", pgherald_testkit::free_port()));
    let findings = check(&nobody, "postgres").await;
    assert!(findings[0].text.contains("refused"), "{findings:?}");
}
