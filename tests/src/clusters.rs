//! One server of three dies while it leads: another one takes over, everything arrives in order, and
//! `check` says what is missing.

use std::time::Instant;

use async_nats::jetstream::stream;
use pgherald_testkit::{
    Bridge, JetStreamReader, Kafka, KafkaCluster, KafkaConsumer, NatsCluster, Postgres,
};

use crate::{
    doctor::{assert_line, examine, lines},
    knock::published,
    stage::{Config, SOON, full_length, postgres},
    ticker::Ticker,
    truth::{
        Arrival, assert_ids_are_stable, assert_repeats_are_runs, first_arrivals, from_jetstream,
        from_kafka, missing_in_order,
    },
};

const RATE: f64 = 200.0;

/// How often the leader dies.
fn deaths() -> usize {
    if full_length() { 5 } else { 1 }
}

/// Atomic batches, and at full length a chain too.
fn ways() -> &'static [bool] {
    if full_length() { &[true, false] } else { &[true] }
}

fn assert_everything_arrived(arrivals: &[Arrival], truth: &[String]) -> usize {
    let gaps = arrivals.iter().filter(|arrival| arrival.gap).count();
    assert_eq!(gaps, 1, "nothing is missing but what was before the start");
    assert_ids_are_stable(arrivals);
    assert_eq!(missing_in_order(truth, &first_arrivals(arrivals)), Vec::<String>::new());
    assert_repeats_are_runs(truth, arrivals);
    arrivals.len() - gaps - truth.len()
}

async fn start(postgres: &Postgres, sink: &str) -> Bridge {
    let config = Config::new(&postgres.url(), &["orders"]).with(sink);
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    bridge
}

/// Everything that was announced, once it is confirmed.
async fn truth(bridge: &Bridge, sink: &str, ticker: Ticker) -> Vec<String> {
    let truth: Vec<String> = ticker.stop().await.into_iter().map(|tick| tick.id).collect();
    published(bridge, sink, truth.len() as u64, SOON).await;
    bridge.wait_ready(SOON).await.unwrap();
    truth
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_three_kafka_brokers_dies() {
    let (postgres, kafka) = tokio::join!(postgres(), KafkaCluster::start());
    let kafka = kafka.unwrap();
    kafka.create_topic("safe", 1).await.unwrap();
    let brokers = kafka.bootstrap();
    let sink = format!("[pipelines.p.sinks.bus.kafka]\nbrokers = \"{brokers}\"\ntopic = \"safe\"");
    let bridge = start(&postgres, &sink).await;
    let healthy = examine(&bridge.config_file()).await;
    assert!(!healthy.out.lines().any(|line| line.starts_with("warning")), "{}", healthy.all());
    let ticker = Ticker::start(&postgres.url(), &["orders"], RATE);
    let mut dead: Option<&Kafka> = None;
    for _ in 0..deaths() {
        if let Some(dead) = dead {
            dead.start_again().await.unwrap();
        }
        ticker.more(200).await;
        let leader = kafka.leader("safe").await.unwrap();
        leader.kill().await.unwrap();
        let killed = Instant::now();
        let next = kafka.leader("safe").await.unwrap();
        println!("{} leads after {:.1?}", next.bootstrap(), killed.elapsed());
        ticker.more(200).await;
        let said = examine(&bridge.config_file()).await;
        let key = "pipelines.p.sinks.bus.kafka.topic";
        let text = ["fewer replicas in sync than they have", "2 of 3"];
        assert_line(&said, "warning", key, &text, "start the missing brokers");
        dead = Some(leader);
    }
    let truth = truth(&bridge, "bus", ticker).await;
    let mut consumer = KafkaConsumer::open(&brokers, &["safe"]).await.unwrap();
    let arrivals = from_kafka(consumer.read_all(SOON).await.unwrap());
    let again = assert_everything_arrived(&arrivals, &truth);
    println!("{} messages, {again} again", truth.len());
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_three_nats_servers_dies() {
    let (postgres, nats) = tokio::join!(postgres(), NatsCluster::start());
    let nats = nats.unwrap();
    for atomic in ways() {
        let name = if *atomic { "ATOMIC" } else { "CHAIN" };
        let subject = name.to_ascii_lowercase();
        let config = stream::Config {
            name: name.into(),
            subjects: vec![subject.clone()],
            allow_atomic_publish: *atomic,
            ..stream::Config::default()
        };
        nats.create_stream(config).await.unwrap();
        let urls = nats.urls();
        let sink = format!(
            "[pipelines.p.sinks.live.nats]\nservers = \"{urls}\"\nsubject = \"{subject}\"\n\
             stream = \"{name}\""
        );
        let bridge = start(&postgres, &sink).await;
        let said = examine(&bridge.config_file()).await;
        assert_eq!(lines(&said, "error", "pipelines.p.sinks.live.nats.stream"), [""; 0]);
        let ticker = Ticker::start(&postgres.url(), &["orders"], RATE);
        for _ in 0..deaths() {
            ticker.more(200).await;
            let leader = nats.leader(name).await.unwrap();
            leader.kill().await.unwrap();
            let killed = Instant::now();
            nats.leader(name).await.unwrap();
            println!("{name} has a leader after {:.1?}", killed.elapsed());
            ticker.more(200).await;
            leader.start_again().await.unwrap();
        }
        let truth = truth(&bridge, "live", ticker).await;
        let mut reader = JetStreamReader::open(&nats.any().url(), name).await.unwrap();
        let arrivals = from_jetstream(reader.read_all(SOON).await.unwrap());
        let again = assert_everything_arrived(&arrivals, &truth);
        println!("{name}: {} messages, {again} again", truth.len());
        assert_eq!(again, 0, "JetStream drops what it has already");
        assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
    }
}
