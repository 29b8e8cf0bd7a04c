//! The primary is gone for good, and the standby that takes its address lacks the last rows: their
//! ids are issued again for other rows, and every row that the new primary has is delivered.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use pgherald_testkit::{
    Bridge, FaultProxy, OutboxArrival, OutboxProducers, OutboxRow, OutboxTruth, Postgres,
    eventually,
};
use sqlx::Connection;

use crate::{
    outbox_stage::{ORDERS, SINKS, Sinks, connect, outbox, source},
    stage::{SOON, nats, shared_kafka},
};

/// More than the 32 ids that a sequence is ahead of its own record in the log, which are skipped.
const LOST: usize = 500;

struct Scene {
    proxy: FaultProxy,
    sinks: Sinks,
    bridge: Bridge,
}

impl Scene {
    async fn start(primary: &Postgres, sinks: Sinks) -> Self {
        let proxy = FaultProxy::start(primary.port()).await.unwrap();
        let url = primary.url_at(proxy.port());
        let mut config = format!("[postgres]\nurl = \"{url}\"\n");
        for order in ORDERS {
            config += &source(order, "retain = \"keep\"");
            config += &sinks.config(order, &sinks.kafka, &sinks.nats);
        }
        let bridge = Bridge::start(&config).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { proxy, sinks, bridge }
    }

    /// What each sink has, once nothing of the truth is missing there.
    async fn arrivals(&self, truth: &OutboxTruth) -> HashMap<(&str, &str), Vec<OutboxArrival>> {
        let mut all = HashMap::new();
        for order in ORDERS {
            for sink in SINKS {
                let arrivals = self.sinks.arrivals(order, sink, truth).await;
                let verdict = truth.judge(&arrivals);
                let explained = self.bridge.explain().await;
                assert!(verdict.lost.is_empty(), "{order}/{sink}: {verdict}\n{explained}");
                all.insert((order, sink), arrivals);
            }
        }
        all
    }
}

async fn produce(postgres: &Postgres, seed: u64, rows: usize) -> OutboxTruth {
    OutboxProducers::new(&postgres.url()).seed(seed).rows(rows).run().await.unwrap()
}

async fn table(postgres: &Postgres) -> Vec<OutboxRow> {
    let sql = "SELECT id, payload FROM pgherald.outbox ORDER BY id";
    let mut connection = connect(postgres).await;
    let rows: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let row = |(id, payload): (i64, String)| OutboxRow::read(id, payload.as_bytes());
    rows.into_iter().map(|it| row(it).expect("a producer wrote it")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn outbox_failover_to_a_standby_that_lacks_the_last_rows_delivers_what_the_new_primary_has() {
    let (primary, nats, kafka) = (outbox().await, nats().await, shared_kafka().await);
    let sinks = Sinks { name: "failover", kafka: kafka.bootstrap(), nats: nats.url() };
    let standby = primary.standby().await.unwrap();
    let scene = Scene::start(&primary, sinks).await;

    let kept = produce(&primary, 1, 500).await;
    scene.arrivals(&kept).await;
    let heard = async || table(&standby).await.len() == kept.count();
    eventually("the standby has the rows", SOON, heard).await.unwrap();
    standby.stop().await.unwrap();
    let lost = produce(&primary, 2, LOST).await;
    scene.arrivals(&lost).await;

    primary.crash().await.unwrap();
    standby.start_again().await.unwrap();
    standby.promote().await.unwrap();
    scene.proxy.retarget(standby.port());
    scene.bridge.wait_ready(Duration::from_secs(60)).await.unwrap();
    produce(&standby, 3, 1_000).await;

    let rows = table(&standby).await;
    assert_ids_were_issued_again(&rows, &lost);
    let truth = OutboxTruth { committed: rows, unsure: lost.committed, restarts: 0 };
    for ((order, sink), arrivals) in scene.arrivals(&truth).await {
        assert_delivered(&format!("{order}/{sink}"), &truth, arrivals);
    }
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}

fn assert_ids_were_issued_again(rows: &[OutboxRow], lost: &OutboxTruth) {
    let ids: HashSet<i64> = rows.iter().map(|row| row.id).collect();
    let again = lost.committed.iter().filter(|row| ids.contains(&row.id)).count();
    println!("{again} of {} ids were issued again", lost.count());
    assert!(again > LOST / 2, "only {again} of {} ids were issued again", lost.count());
}

/// Nothing is missing or renamed, and without the lost rows each key is in order.
fn assert_delivered(sink: &str, truth: &OutboxTruth, arrivals: Vec<OutboxArrival>) {
    let verdict = truth.judge(&arrivals);
    let named = verdict.invented.is_empty() && verdict.misnamed.is_empty();
    assert!(named && verdict.lost.is_empty(), "{sink}: {verdict}");
    let there: HashSet<&str> = truth.committed.iter().map(|row| row.tag.as_str()).collect();
    let mut arrivals = arrivals;
    arrivals.retain(|it| there.contains(it.row.tag.as_str()));
    let verdict = truth.judge(&arrivals);
    println!("{sink}: {verdict}");
    assert!(verdict.is_at_least_once(), "{sink}: {verdict}");
}
