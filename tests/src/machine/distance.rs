//! PostgreSQL is 20 ms away: every sink still gets rows by the page, and not one a round trip.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, FaultProxy, HttpReceiver, eventually};
use sqlx::raw_sql;

use crate::{
    outbox::course::{connection, number, prepared},
    stage::{Config, SOON, length, nats, shared_kafka},
};

/// There and back.
const ONE_WAY: Duration = Duration::from_millis(10);
const ROWS: u32 = 3_000;
const SEND: &str =
    "SELECT pgherald.send('orders', n::text, 'k' || n % 64) FROM generate_series(1, 3000) n";

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_by_the_page_over_20_ms() {
    let (postgres, kafka, nats) = (prepared().await, shared_kafka().await, nats().await);
    let hook = HttpReceiver::start().await.unwrap();
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    proxy.delay(ONE_WAY);
    let config = Config::outbox(&postgres.url_at(proxy.port()), "")
        .kafka("bus", kafka, "distance", 1)
        .nats("live", &nats, "DISTANCE", "distance")
        .with(&format!("[pipelines.p.sinks.hook.http]\nurl = \"{}\"", hook.url("/")));
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let mut db = connection(&postgres).await;
    raw_sql(SEND).execute(&mut db).await.unwrap();
    let began = Instant::now();
    for sink in ["bus", "live", "hook"] {
        let sql = match sink {
            "bus" => "SELECT count(*) FROM pgherald.cursor WHERE sink = 'bus' AND high = 3000",
            "live" => "SELECT count(*) FROM pgherald.cursor WHERE sink = 'live' AND high = 3000",
            _ => "SELECT count(*) FROM pgherald.cursor WHERE sink = 'hook' AND high = 3000",
        };
        let all = || async { number(&mut connection(&postgres).await, sql).await == 1 };
        // One row a round trip takes a minute and more.
        if let Err(late) = eventually(sink, length(45, 45), all).await {
            panic!("{late}: {}", bridge.explain().await);
        }
        let rate = f64::from(ROWS) / began.elapsed().as_secs_f64();
        println!("{sink}: at least {rate:.0} rows/s at 20 ms");
    }
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
