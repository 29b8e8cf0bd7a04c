//! A role and a search path that are against the reader, and a pooler that is.

use pgherald_core::SourceError;
use pgherald_postgres::{SetupOptions, ShadowNotify, setup};
use pgherald_testkit::{Pgbouncer, Postgres, hostile_role};

use crate::rig::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_role_reads_and_deletes_as_any_other() {
    let postgres = Postgres::start().await.unwrap();
    let options = SetupOptions {
        bridge_role: Some("bridge".into()),
        shadow_notify: Some(ShadowNotify::Both),
        ..SetupOptions::default()
    };
    setup(&settings(&postgres.url()), &options, &mut |_| ()).await.unwrap();
    let mut db = Db::open(&postgres).await;
    db.run(&hostile_role("bridge")).await;
    for order in ["causal", "strict"] {
        let json = format!(r#"{{"order": "{order}"}}"#);
        let url = postgres.url_of("bridge", "postgres");
        let process = Process::one(&url, &json);
        let mut reading = attach_soon(&process.sources[0]).await;
        db.send("orders", &["one", "two", "three"]).await;
        assert_eq!(texts(&reading.take(3).await), ["one", "two", "three"], "{order}");
        let waiting = reading.idle_during(async {
            let db = tokio::sync::Mutex::new(&mut db);
            let empty = || async {
                db.lock().await.number("SELECT count(*) FROM pgherald.outbox").await == 0
            };
            pgherald_testkit::eventually("rows are deleted", SOON, empty).await
        });
        waiting.await.unwrap();
        process.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_pooler_in_transaction_mode_nobody_carries_and_the_text_names_it() {
    let postgres = server().await;
    let pooler = Pgbouncer::start(&postgres).await.unwrap();
    let process = Process::one(&postgres.url_at(pooler.port()), "{}");
    match Reading::attach(&process.sources[0]).await {
        Err(SourceError::Blocked(fault)) => {
            assert!(fault.to_string().contains("a pooler in transaction mode"), "{fault}");
        }
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("attached"),
    }
}
