//! `/readyz` names what is wrong now, whose matter it is and since when; and it is never 200 while nothing
//! can be read.

use std::time::Duration;

use pgherald_testkit::{Bridge, eventually};
use sqlx::raw_sql;

use super::course::{connection, install, outbox, prepared};
use crate::stage::{SOON, nats, postgres, shared_kafka};

/// A read that waits is given up with the lease, and then told.
const LOCKED_OUT_WITHIN: Duration = Duration::from_secs(60);

async fn says(bridge: &Bridge, within: Duration, words: &[&str]) -> String {
    let page = || async { bridge.readyz().await.ok().filter(|it| it.status == 503) };
    let told =
        || async { page().await.is_some_and(|it| words.iter().all(|word| it.body.contains(word))) };
    if let Err(late) = eventually(&format!("/readyz says {words:?}"), within, told).await {
        panic!("{late}\n{}", bridge.explain().await);
    }
    page().await.map(|it| it.body).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_that_was_mended_is_not_told_any_more() {
    let (postgres, kafka) = (postgres().await, shared_kafka().await);
    let text = outbox(&postgres, "").kafka("bus", kafka, "reasons.missing", 1);
    let text =
        text.text().replace("create_topics = true\npartitions = 1\nreplication_factor = 1", "");
    let bridge = Bridge::start(&text).await.unwrap();
    says(&bridge, SOON, &["p/bus: blocked: ", "pgherald setup", "(source, for "]).await;
    install(&postgres).await;
    let body = says(&bridge, SOON, &["p/bus: blocked: ", "reasons.missing", "(sink, for "]).await;
    assert!(!body.contains("pgherald setup"), "{body}");
    kafka.create_topic("reasons.missing", 1, &[]).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_keeps_the_reader_out_is_not_ready() {
    let (postgres, nats) = (prepared().await, nats().await);
    let bridge = Bridge::start(outbox(&postgres, "").nats("live", &nats, "BOX", "box").text())
        .await
        .unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut db = connection(&postgres).await;
    raw_sql("BEGIN; LOCK TABLE pgherald.outbox").execute(&mut db).await.unwrap();
    says(&bridge, LOCKED_OUT_WITHIN, &["p/live: ", "(source, for "]).await;
    raw_sql("COMMIT").execute(&mut db).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
}
