//! What an operator sees, and what heals by itself.

use std::time::Duration;

use pgherald_testkit::{Bridge, JetStreamReader, Postgres, bridge_binary, eventually};
use sqlx::raw_sql;

use super::course::{connection, flow, install, number, outbox, prepared, until_state};
use crate::stage::{SOON, nats, postgres};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_schema_blocks_until_setup_has_run() {
    let (postgres, nats) = (postgres().await, nats().await);
    let config = outbox(&postgres, "").nats("live", &nats, "BOX", "box");
    let bridge = Bridge::start(config.text()).await.unwrap();
    let blocked = until_state(&bridge, "live", "blocked").await;
    assert!(blocked["reason"].as_str().unwrap().contains("pgherald setup"), "{blocked}");
    assert_eq!(bridge.readyz().await.unwrap().status, 503);
    let metrics = bridge.metrics().await.unwrap();
    const MEASURED: [&str; 5] = [
        "backlog_messages",
        "oldest_age_seconds",
        "held_seconds",
        "unrouted_messages",
        "late_messages",
    ];
    for name in MEASURED {
        let labels = [("pipeline", "p"), ("source", "outbox"), ("sink", "live")];
        assert_eq!(metrics.value(&format!("pgherald_outbox_{name}"), &labels), Some(0.0), "{name}");
    }
    install(&postgres).await;
    bridge.wait_ready(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_was_set_back_halts() {
    let (postgres, nats) = (prepared().await, nats().await);
    let config = outbox(&postgres, "").nats("live", &nats, "BOX", "box");
    let bridge = Bridge::start(config.text()).await.unwrap();
    let mut db = connection(&postgres).await;
    raw_sql("SELECT pgherald.send('a', n::text) FROM generate_series(1, 20) n")
        .execute(&mut db)
        .await
        .unwrap();
    let settled = || async {
        let mut db = connection(&postgres).await;
        let sql = "SELECT count(*) FROM pgherald.cursor WHERE high = 20";
        number(&mut db, sql).await == 1
    };
    eventually("everything is settled", SOON, settled).await.unwrap();
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
    let reset = "ALTER SEQUENCE pgherald.outbox_id_seq RESTART WITH 5";
    raw_sql(reset).execute(&mut db).await.unwrap();
    bridge.start_again().unwrap();
    let halted = until_state(&bridge, "live", "halted").await;
    let reason = halted["reason"].as_str().unwrap();
    assert!(reason.contains("below the cursor at 20"), "{reason}");
    assert!(reason.contains("pgherald setup --repair"), "{reason}");
    assert!(reason.contains("duplicate key"), "{reason}");
    assert_eq!(bridge.readyz().await.unwrap().status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_begins_with_what_comes_after_it() {
    let (postgres, nats) = (prepared().await, nats().await);
    let mut db = connection(&postgres).await;
    raw_sql("SELECT pgherald.send('a', 'before')").execute(&mut db).await.unwrap();
    let config = outbox(&postgres, "start = \"latest\"").nats("live", &nats, "BOX", "box");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    raw_sql("SELECT pgherald.send('a', 'after')").execute(&mut db).await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "BOX").await.unwrap();
    let messages = reader.collect(1, SOON).await.unwrap();
    assert_eq!(&messages[0].payload[..], b"after");
    assert_eq!(messages[0].header("ce-subject"), Some("a"));
    assert_eq!(messages[0].subject, "box.a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_large_halts_and_goes_on_when_it_is_repaired() {
    let (postgres, nats) = (prepared().await, nats().await);
    let limit = "[pipelines.p.sinks.live]\nmessage_bytes_max = 1000";
    let config = outbox(&postgres, "").with(limit).nats("live", &nats, "BOX", "box");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut db = connection(&postgres).await;
    let sql = "SELECT pgherald.send('a', repeat('x', size)) FROM unnest(ARRAY[10, 5000, 10]) size";
    raw_sql(sql).execute(&mut db).await.unwrap();
    let halted = until_state(&bridge, "live", "halted").await;
    let reason = halted["reason"].as_str().unwrap();
    assert!(reason.contains("5000 bytes, above message_bytes_max = 1000"), "{reason}");
    assert_eq!(bridge.terminate(Duration::from_secs(20)).await.unwrap(), Some(1));
    raw_sql("DELETE FROM pgherald.outbox WHERE octet_length(payload) > 1000")
        .execute(&mut db)
        .await
        .unwrap();
    bridge.start_again().unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "BOX").await.unwrap();
    assert_eq!(reader.collect(2, SOON).await.unwrap().len(), 2);
    assert_eq!(flow(&bridge, "live").await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_gone_is_forgotten_and_its_rows_go() {
    let (postgres, nats) = (prepared().await, nats().await);
    let both =
        outbox(&postgres, "").nats("live", &nats, "BOX", "box").nats("old", &nats, "OLD", "old");
    let bridge = Bridge::start(both.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let refused = remove(&postgres, "old").await;
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(told.contains("p/old stays: the flow is carried by pid"), "{told}");
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());

    let one = outbox(&postgres, "").nats("live", &nats, "BOX", "box");
    let bridge = Bridge::start(one.text()).await.unwrap();
    let mut db = connection(&postgres).await;
    raw_sql("SELECT pgherald.send('a', 'x'::text)").execute(&mut db).await.unwrap();
    let live_has_it = || async {
        let mut db = connection(&postgres).await;
        let sql = "SELECT count(*) FROM pgherald.cursor WHERE sink = 'live' AND high = 1";
        number(&mut db, sql).await == 1
    };
    eventually("the other sink has settled it", SOON, live_has_it).await.unwrap();
    let rows = "SELECT count(*) FROM pgherald.outbox";
    assert_eq!(number(&mut db, rows).await, 1, "the sink that is gone holds it");
    let removed = remove(&postgres, "old").await;
    assert_eq!(removed.status.code(), Some(0), "{}", String::from_utf8_lossy(&removed.stdout));
    let gone = || async { number(&mut connection(&postgres).await, rows).await == 0 };
    eventually("the row is deleted", SOON, gone).await.unwrap();
    let backlog = || async { flow(&bridge, "live").await["outbox"]["backlog_messages"] == 0 };
    eventually("/status tells the backlog", SOON, backlog).await.unwrap();
}

/// `pgherald remove` for a sink of `p`.
async fn remove(postgres: &Postgres, sink: &str) -> std::process::Output {
    tokio::process::Command::new(bridge_binary().await.unwrap())
        .args(["remove", "--config", "/dev/null", "--pipeline", "p", "--sink", sink])
        .env("PGHERALD__POSTGRES__URL", postgres.url())
        .output()
        .await
        .unwrap()
}
