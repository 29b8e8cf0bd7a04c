//! A network on the way to PostgreSQL that passes small packets only: everything looks well, and no
//! page of rows arrives.

use std::time::{Duration, Instant};

use pgherald_testkit::{Bridge, FaultProxy, eventually};
use sqlx::raw_sql;

use crate::{
    knock::{assert_logged_once, is_in_state, published},
    outbox::course::{connection, number, prepared},
    stage::{Config, SOON, nats},
};

/// Above every answer but a page of rows.
const LARGE: usize = 8_192;
const ROWS: u64 = 50;
const SEND: &str =
    "SELECT pgherald.send('orders', repeat(md5(n::text), 32)) FROM generate_series(1, 50) n";
const WHY: &[&str] = &["large packets", "MTU"];

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_lost_on_the_way_stall_the_flow_and_name_the_mtu() {
    let (postgres, nats) = (prepared().await, nats().await);
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let config =
        Config::outbox(&postgres.url_at(proxy.port()), "").nats("live", &nats, "PATH", "path");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    proxy.drop_large_answers(LARGE);
    raw_sql(SEND).execute(&mut connection(&postgres).await).await.unwrap();
    let began = Instant::now();
    is_in_state(&bridge, "live", "stalled", WHY).await;
    println!("stalled after {:.1?}", began.elapsed());
    // It stays so, whatever small answers arrive, and says so once.
    tokio::time::sleep(Duration::from_secs(8)).await;
    is_in_state(&bridge, "live", "stalled", WHY).await;
    assert_logged_once(&bridge, "stalled", WHY);
    let rows = "SELECT count(*) FROM pgherald.outbox";
    assert_eq!(number(&mut connection(&postgres).await, rows).await, ROWS as i64);

    proxy.heal();
    let began = Instant::now();
    bridge.wait_ready(SOON).await.unwrap();
    published(&bridge, "live", ROWS, SOON).await;
    println!("healed after {:.1?}", began.elapsed());
    let emptied = || async { number(&mut connection(&postgres).await, rows).await == 0 };
    eventually("every row is delivered and deleted", SOON, emptied).await.unwrap();
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}
