//! A role whose search path catches our own heartbeats, and whose settings end statements early.

use pgherald_postgres::{SetupOptions, ShadowNotify, query, setup};
use pgherald_testkit::{Postgres, hostile_role};
use sqlx::Row;
use tokio::task::JoinSet;

use crate::rig::*;

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_of_a_hostile_role_are_heard_and_kept_by_nobody() {
    let postgres = Postgres::start().await.unwrap();
    let options = SetupOptions {
        bridge_role: Some("bridge".into()),
        shadow_notify: Some(ShadowNotify::Only),
        ..SetupOptions::default()
    };
    setup(&settings(&postgres.url()), &options, &mut |_| ()).await.unwrap();
    let mut admin = connection(&postgres).await;
    query(&mut admin, &hostile_role("bridge")).await.unwrap();
    query(&mut admin, "GRANT INSERT ON pgherald.outbox TO bridge").await.unwrap();
    let url = postgres.url_of("bridge", "postgres");
    let process = Process::start(&url, &[("bus", &["a"], BUDGET)]);
    let mut tasks = JoinSet::new();
    let heard = carry(process.sources[0].clone(), &mut tasks);
    heard.until(|heard| !heard.gaps().is_empty()).await;
    announce(&mut admin, "a", "one").await;
    heard.payload("one").await;
    // More than one heartbeat later the session is the same.
    tokio::time::sleep(HEARTBEAT * 3).await;
    announce(&mut admin, "a", "two").await;
    heard.payload("two").await;
    assert_eq!(heard.gaps().len(), 1, "{:?}", heard.errors);
    let kept = query(&mut admin, "SELECT count(*)::text FROM pgherald.outbox").await.unwrap();
    assert_eq!(kept[0].get::<String, _>(0), "0", "a heartbeat became a row");
}
