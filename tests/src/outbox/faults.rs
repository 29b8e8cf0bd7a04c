//! Nothing is lost and first arrivals are in order, whatever ends in the middle.

use std::time::Duration;

use pgherald_testkit::{Bridge, Nats, Postgres};

use super::course::{
    Sender, connection, in_jetstream, in_kafka, number, outbox, prepared, until_state,
};
use crate::{
    stage::{Config, SOON, nats, shared_kafka},
    truth::{Arrival, assert_ids_are_stable, first_arrivals, missing_in_order},
};

const PAUSE: Duration = Duration::from_millis(3);
/// Rows are kept, so that a sender can find out whether a commit without an answer happened.
const KEEP: &str = "retain = \"keep\"";

struct Stage {
    postgres: Postgres,
    nats: Nats,
    topic: String,
    bridge: Bridge,
    sender: Sender,
}

impl Stage {
    async fn start(name: &str) -> Self {
        let (postgres, nats, kafka) = (prepared().await, nats().await, shared_kafka().await);
        let topic = format!("outbox.{name}");
        let config = outbox(&postgres, KEEP)
            .kafka("bus", kafka, &topic, 1)
            .nats("live", &nats, "BOX", "box");
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        let sender = Sender::start(&postgres.url(), PAUSE);
        sender.more(50).await;
        Self { postgres, nats, topic, bridge, sender }
    }

    /// Everything is there and in order; in JetStream nothing twice.
    async fn assert_all_arrived(&self) {
        self.sender.more(50).await;
        let truth = self.sender.stop().await;
        let kafka = in_kafka(&self.topic, truth.len()).await;
        let nats = in_jetstream(&self.nats.url(), "BOX", truth.len()).await;
        for arrivals in [&kafka, &nats] {
            assert_all(&truth, arrivals);
        }
        assert_eq!(nats.len(), truth.len(), "JetStream knows what it has");
        println!("{} rows, {} arrivals in Kafka", truth.len(), kafka.len());
    }
}

fn assert_all(truth: &[String], arrivals: &[Arrival]) {
    assert!(arrivals.iter().all(|arrival| !arrival.gap), "an outbox has no gaps");
    assert_ids_are_stable(arrivals);
    assert_eq!(missing_in_order(truth, &first_arrivals(arrivals)), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_reach_both_sinks_and_a_restart_goes_on() {
    let stage = Stage::start("restart").await;
    assert_eq!(stage.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", stage.bridge.log());
    stage.sender.more(50).await;
    stage.bridge.start_again().unwrap();
    stage.bridge.wait_ready(SOON).await.unwrap();
    stage.sender.more(50).await;
    let truth = stage.sender.stop().await;
    let kafka = in_kafka(&stage.topic, truth.len()).await;
    assert_all(&truth, &kafka);
    assert_eq!(kafka.len(), truth.len(), "a clean stop repeats nothing");
    assert_eq!(stage.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", stage.bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_loses_nothing() {
    let stage = Stage::start("kill").await;
    for _ in 0..3 {
        stage.sender.more(30).await;
        stage.bridge.kill9().await.unwrap();
        stage.sender.more(10).await;
        stage.bridge.start_again().unwrap();
        stage.bridge.wait_ready(SOON).await.unwrap();
    }
    stage.assert_all_arrived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgresql_loses_nothing() {
    let stage = Stage::start("crash").await;
    for _ in 0..2 {
        stage.postgres.crash().await.unwrap();
        stage.postgres.start_again().await.unwrap();
        stage.sender.more(30).await;
    }
    stage.assert_all_arrived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_delays_no_other() {
    let stage = Stage::start("down").await;
    stage.nats.kill().await.unwrap();
    stage.sender.more(100).await;
    let sent = {
        let mut connection = connection(&stage.postgres).await;
        number(&mut connection, "SELECT count(*) FROM pgherald.outbox").await
    };
    let there = usize::try_from(sent).unwrap();
    in_kafka(&stage.topic, there).await;
    until_state(&stage.bridge, "live", "stalled").await;
    assert_eq!(super::course::flow(&stage.bridge, "bus").await["state"], "running");
    stage.nats.start_again().await.unwrap();
    stage.assert_all_arrived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_without_a_loss() {
    let stage = Stage::start("standby").await;
    let second = Bridge::start(&config_of(&stage).await).await.unwrap();
    for sink in ["bus", "live"] {
        let standby = until_state(&second, sink, "standby").await;
        assert!(standby["reason"].as_str().unwrap().contains("carried by pid"), "{standby}");
    }
    assert_eq!(second.readyz().await.unwrap().status, 200, "a standby is ready");
    stage.sender.more(50).await;
    stage.bridge.kill9().await.unwrap();
    for sink in ["bus", "live"] {
        until_state(&second, sink, "running").await;
    }
    stage.assert_all_arrived().await;
}

async fn config_of(stage: &Stage) -> String {
    let config: Config = outbox(&stage.postgres, KEEP);
    let config = config.kafka("bus", shared_kafka().await, &stage.topic, 1);
    config.nats("live", &stage.nats, "BOX", "box").text().to_owned()
}
