//! One of two sinks is down for a whole run: the other one keeps its latency, the rows stay, and the
//! first one catches up in order.

use std::{
    ops::Range,
    time::{Duration, Instant, SystemTime},
};

use pgherald_testkit::{Bridge, KafkaConsumer, Nats, Postgres, eventually};
use tokio::time::sleep;

use super::course::{Sender, connection, in_jetstream, number, outbox, prepared, until_state};
use crate::{
    brokers::Reader,
    knock::published,
    latency::{Beside, print_table},
    stage::{SOON, length, nats, shared_kafka},
    truth::first_arrivals,
};

const TOPIC: &str = "outbox.isolation";
const PAUSE: Duration = Duration::from_millis(3);
const ROWS: &str = "SELECT count(*) FROM pgherald.outbox";
/// More than any if there is none.
const OLDEST: &str = "SELECT coalesce(min(id), 1000000) FROM pgherald.outbox";

struct Scene {
    postgres: Postgres,
    nats: Nats,
    bridge: Bridge,
    sender: Sender,
}

impl Scene {
    async fn start() -> Self {
        let (postgres, nats, kafka) = (prepared().await, nats().await, shared_kafka().await);
        let config =
            outbox(&postgres, "").kafka("bus", kafka, TOPIC, 1).nats("live", &nats, "BOX", "box");
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        let sender = Sender::start(&postgres.url(), PAUSE);
        Self { postgres, nats, bridge, sender }
    }

    /// The whole run of one process, from its first rows at Kafka to its end.
    async fn run(&self, time: Duration) -> Range<SystemTime> {
        until_state(&self.bridge, "bus", "running").await;
        published(&self.bridge, "bus", 1, SOON).await;
        self.sender.more(100).await;
        let from = SystemTime::now();
        sleep(time).await;
        from..SystemTime::now()
    }

    async fn ask(&self, sql: &'static str) -> i64 {
        number(&mut connection(&self.postgres).await, sql).await
    }

    /// Waits until a sink has settled everything.
    async fn settled(&self, sink: &str, sent: usize) {
        let sql = "SELECT high FROM pgherald.cursor WHERE sink = $1";
        let all = || async {
            let high = sqlx::query_scalar::<_, i64>(sql).bind(sink);
            let high = high.fetch_one(&mut connection(&self.postgres).await).await.unwrap();
            high == sent as i64
        };
        if let Err(error) = eventually("everything is settled", SOON, all).await {
            panic!("{error}: {sink} of {sent}: {}", self.bridge.explain().await);
        }
    }

    /// While both sinks are there rows go.
    async fn rows_go(&self) {
        let gone = || async { self.ask(OLDEST).await > 1 };
        eventually("rows are deleted", SOON, gone).await.unwrap();
    }

    /// Exactly what the sink that is down has not settled is there.
    async fn assert_rows_stay(&self, sent: usize) {
        let settled = self.ask("SELECT high FROM pgherald.cursor WHERE sink = 'live'").await;
        assert_eq!(self.ask(ROWS).await, sent as i64 - settled, "of {sent} rows");
        assert_eq!(self.ask(OLDEST).await, settled + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_for_a_whole_run_changes_nothing_for_the_other_one() {
    let scene = Scene::start().await;
    let bootstrap = shared_kafka().await.bootstrap();
    let mut bus = Reader::Kafka(KafkaConsumer::open(&bootstrap, &[TOPIC]).await.unwrap());
    let course = async {
        let before = scene.run(length(3, 60)).await;
        scene.rows_go().await;
        assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
        scene.nats.kill().await.unwrap();
        scene.bridge.start_again().unwrap();
        let during = scene.run(length(6, 60)).await;
        (before, during, scene.sender.stop().await)
    };
    let (before, during, truth) = tokio::select! {
        course = course => course,
        () = bus.read_on() => unreachable!("it reads until it is dropped"),
    };
    scene.settled("bus", truth.len()).await;
    scene.assert_rows_stay(truth.len()).await;

    let arrivals = bus.arrivals().await;
    assert_eq!(first_arrivals(&arrivals), truth, "in order");
    let row = Beside::new("NATS is down", "bus", &arrivals, before, during);
    print_table(std::slice::from_ref(&row));
    row.assert_did_not_notice();

    scene.nats.start_again().await.unwrap();
    let back = Instant::now();
    scene.settled("live", truth.len()).await;
    println!("NATS is back: caught up after {:.1?}", back.elapsed());
    let live = in_jetstream(&scene.nats.url(), "BOX", truth.len()).await;
    assert_eq!(first_arrivals(&live), truth, "it catches up in order");
    let gone = || async { scene.ask(ROWS).await == 0 };
    eventually("the rows go", SOON, gone).await.unwrap();
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}
