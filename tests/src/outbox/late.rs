//! Rows that come in below the cursor, as an operator meets them.

use pgherald_testkit::{Bridge, JetStreamReader, eventually};
use sqlx::raw_sql;

use super::course::{connection, number, outbox, prepared};
use crate::{
    command_line::{Said, file, pgherald, said},
    stage::{SOON, nats},
};

async fn command(path: &std::path::Path, arguments: &[&str]) -> Said {
    let config = ["--config", path.to_str().unwrap()];
    said(&mut pgherald(&[&config, arguments].concat()).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_put_back_wait_for_a_decision_and_new_rows_go_on() {
    let (postgres, nats) = (prepared().await, nats().await);
    let config = outbox(&postgres, "").nats("live", &nats, "BOX", "box");
    let (_scratch, path) = file(config.text());
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut db = connection(&postgres).await;
    let sql = "SELECT pgherald.send('a', 'sent ' || n) FROM generate_series(1, 20) n";
    raw_sql(sql).execute(&mut db).await.unwrap();
    let settled = || async {
        let mut db = connection(&postgres).await;
        let sql = "SELECT count(*) FROM pgherald.cursor WHERE seen_high = 20";
        number(&mut db, sql).await == 1
    };
    eventually("everything is settled", SOON, settled).await.unwrap();
    let none = command(&path, &["outbox", "late", "send"]).await;
    assert_eq!((none.code, none.out.as_str()), (Some(0), "no rows below a cursor\n"));

    let sql = "INSERT INTO pgherald.outbox (id, channel, payload) OVERRIDING SYSTEM VALUE \
         SELECT n, 'a', 'put back ' || n FROM generate_series(1, 5) n; \
         SELECT pgherald.send('a', 'new'::text)";
    raw_sql(sql).execute(&mut db).await.unwrap();
    let told = || async {
        let ready = bridge.readyz().await.unwrap();
        ready.status == 503 && ready.body.contains("5 rows came in below the cursor since 2")
    };
    eventually("/readyz says so", SOON, told).await.unwrap();
    let mut reader = JetStreamReader::open(&nats.url(), "BOX").await.unwrap();
    let messages = reader.collect(21, SOON).await.unwrap();
    assert_eq!(&messages[20].payload[..], b"new");
    let metrics = bridge.metrics().await.unwrap();
    let labels = [("pipeline", "p"), ("sink", "live")];
    assert_eq!(metrics.value("pgherald_outbox_late_messages", &labels), Some(5.0));
    let check = command(&path, &["check"]).await;
    assert_eq!(check.code, Some(1));
    assert!(check.out.contains("5 rows came in below the cursor of p/live"), "{}", check.out);

    let list = command(&path, &["outbox", "late", "list"]).await;
    assert_eq!((list.code, list.out.lines().count()), (Some(0), 6), "{}", list.all());
    assert!(list.out.contains("p/live  3  a  2") && !list.out.contains("put back"), "{}", list.out);
    let dry = command(&path, &["remove", "--pipeline", "p", "--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{}", dry.all());
    assert!(dry.out.contains("with start = \"earliest\": 5 rows"), "{}", dry.out);
    let of_none = command(&path, &["outbox", "late", "drop", "--sink", "other"]).await;
    assert_eq!((of_none.code, of_none.out.as_str()), (Some(0), "no rows below a cursor\n"));

    let sent = command(&path, &["outbox", "late", "send", "--pipeline", "p"]).await;
    assert_eq!((sent.code, sent.out.as_str()), (Some(0), "p/live: 5 rows will be sent\n"));
    let messages = reader.collect(26, SOON).await.unwrap();
    assert!(messages[21..].iter().all(|it| it.payload.starts_with(b"put back")));
    bridge.wait_ready(SOON).await.unwrap();

    drop(bridge);
    drop(postgres);
    let refused = command(&path, &["outbox", "late", "list"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.all());
}
