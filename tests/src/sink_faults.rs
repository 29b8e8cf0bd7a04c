//! One broker is killed, paused or stopped while messages flow: everything arrives, the other sink
//! does not notice, and `/readyz` tells the truth all the time.

use std::time::{Duration, Instant, SystemTime};

use pgherald_testkit::{
    Bridge, JetStreamReader, Kafka, KafkaConsumer, Nats, Postgres, eventually,
};
use tokio::time::sleep;

use crate::{
    stage::{Config, SOON, length, nats, postgres},
    ticker::Ticker,
    truth::{
        Arrival, assert_ids_are_stable, assert_repeats_are_runs, first_arrivals, from_jetstream,
        from_kafka, missing_in_order,
    },
    watch::{Watch, assert_all, assert_blames},
};

const RATE: f64 = 200.0;
/// A message that waits for longer makes its flow stalled; a little more, to find that out.
const NOT_READY_WITHIN: Duration = Duration::from_secs(6);
/// A broker that nobody publishes to is missed later.
const IDLE_NOT_READY_WITHIN: Duration = Duration::from_secs(12);
/// How soon the flow carries again once its broker is there again.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// What the sink without a fault may take for a message, on a machine that starts a broker.
const UNDISTURBED: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broker {
    Kafka,
    Nats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and started again at once.
    Killed,
    /// Connections stay open and nobody answers.
    Paused(Duration),
    /// Ended cleanly, and started again after this time.
    Stopped(Duration),
}

impl Broker {
    fn sink(self) -> &'static str {
        match self {
            Self::Kafka => "bus",
            Self::Nats => "live",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Kafka => Self::Nats,
            Self::Nats => Self::Kafka,
        }
    }
}

/// One pipeline into a Kafka and a NATS that a test may hurt.
struct Scene {
    postgres: Postgres,
    kafka: Kafka,
    nats: Nats,
    bridge: Bridge,
}

impl Scene {
    async fn start() -> Self {
        let (postgres, nats) = (postgres().await, nats().await);
        let kafka = Kafka::start().await.unwrap();
        let config = Config::new(&postgres.url(), &["orders"])
            .kafka("bus", &kafka, "faults", 1)
            .nats("live", &nats, "FAULTS", "faults");
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { postgres, kafka, nats, bridge }
    }

    /// Begins and ends a fault; returns when the broker was there again.
    async fn hurt(&self, broker: Broker, fault: Fault) -> Instant {
        match fault {
            Fault::Killed => {
                self.kill(broker).await;
                self.start_again(broker).await;
            }
            Fault::Paused(length) => {
                self.pause(broker);
                sleep(length).await;
                self.resume(broker);
            }
            Fault::Stopped(length) => {
                self.stop(broker).await;
                sleep(length).await;
                self.start_again(broker).await;
            }
        }
        Instant::now()
    }

    async fn kill(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.kill().await,
            Broker::Nats => self.nats.kill().await,
        }
        .unwrap();
    }

    async fn stop(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.stop().await,
            Broker::Nats => self.nats.stop().await,
        }
        .unwrap();
    }

    async fn start_again(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.start_again().await,
            Broker::Nats => self.nats.start_again().await,
        }
        .unwrap();
    }

    fn pause(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.pause(),
            Broker::Nats => self.nats.pause(),
        }
    }

    fn resume(&self, broker: Broker) {
        match broker {
            Broker::Kafka => self.kafka.resume(),
            Broker::Nats => self.nats.resume(),
        }
    }

    async fn ready_again(&self) -> Instant {
        self.bridge.wait_ready(SOON).await.unwrap();
        Instant::now()
    }

    /// Waits until a sink has confirmed everything.
    async fn confirmed(&self, broker: Broker, count: usize) {
        let labels = [("sink", broker.sink())];
        let all = || async {
            let Ok(metrics) = self.bridge.metrics().await else { return false };
            metrics.value("pgherald_messages_published_total", &labels) == Some(count as f64)
        };
        let waited = eventually("everything is confirmed", SOON, all).await;
        if let Err(error) = waited {
            panic!("{error}: {broker:?}: {}", self.bridge.explain().await);
        }
    }

    async fn reader(&self, broker: Broker) -> Reader {
        match broker {
            Broker::Kafka => Reader::Kafka(
                KafkaConsumer::open(&self.kafka.bootstrap(), &["faults"]).await.unwrap(),
            ),
            Broker::Nats => {
                Reader::Nats(JetStreamReader::open(&self.nats.url(), "FAULTS").await.unwrap())
            }
        }
    }
}

/// Reads what lies at one sink.
enum Reader {
    Kafka(KafkaConsumer),
    Nats(JetStreamReader),
}

impl Reader {
    /// Reads until it is dropped; what it has read stays.
    async fn read_on(&mut self) {
        const FOREVER: Duration = Duration::from_secs(3600);
        match self {
            Self::Kafka(kafka) => drop(kafka.collect_until(FOREVER, |_| false).await),
            Self::Nats(nats) => drop(nats.collect_until(FOREVER, |_| false).await),
        }
    }

    /// Everything that lies there now.
    async fn arrivals(&mut self) -> Vec<Arrival> {
        match self {
            Self::Kafka(kafka) => from_kafka(kafka.read_all(SOON).await.unwrap()),
            Self::Nats(nats) => from_jetstream(nats.read_all(SOON).await.unwrap()),
        }
    }
}

/// When what happened.
struct Course {
    calm: Instant,
    hurt: Instant,
    healed: Instant,
    back: Instant,
    end: Instant,
}

async fn survives(broker: Broker, fault: Fault) {
    let scene = Scene::start().await;
    let mut undisturbed = scene.reader(broker.other()).await;
    let watch = Watch::start(&scene.bridge);
    let ticker = Ticker::start(&scene.postgres.url(), &["orders"], RATE);
    let hurt_at;
    let course = async {
        let calm = Instant::now();
        ticker.more(300).await;
        let hurt = Instant::now();
        let healed = scene.hurt(broker, fault).await;
        let back = scene.ready_again().await;
        ticker.more(300).await;
        Course { calm, hurt, healed, back, end: Instant::now() }
    };
    let course = tokio::select! {
        course = course => course,
        () = undisturbed.read_on() => unreachable!("it reads until it is dropped"),
    };
    hurt_at = SystemTime::now() - course.hurt.elapsed();
    let ticks = ticker.stop().await;
    let truth: Vec<String> = ticks.into_iter().map(|tick| tick.id).collect();
    for either in [broker, broker.other()] {
        scene.confirmed(either, truth.len()).await;
    }
    assert_readyz_told_the_truth(&watch, &course, broker);
    assert_did_not_notice(&undisturbed.arrivals().await, &truth, hurt_at);
    let arrivals = scene.reader(broker).await.arrivals().await;
    let again = assert_everything_arrived(broker, &arrivals, &truth);
    println!(
        "{broker:?} {fault:?}: {} messages, {again} again, down {:.1?}, back after {:.1?}",
        truth.len(),
        course.healed - course.hurt,
        course.back.saturating_duration_since(course.healed)
    );
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}

/// Everything, first arrivals in order, repeats as runs; in JetStream nothing twice. Returns how
/// many arrived again.
fn assert_everything_arrived(broker: Broker, arrivals: &[Arrival], truth: &[String]) -> usize {
    let gaps = arrivals.iter().filter(|arrival| arrival.gap).count();
    assert_eq!(gaps, 1, "nothing is missing but what was before the start");
    assert_ids_are_stable(arrivals);
    assert_eq!(missing_in_order(truth, &first_arrivals(arrivals)), Vec::<String>::new());
    assert_repeats_are_runs(truth, arrivals);
    let again = arrivals.len() - gaps - truth.len();
    if broker == Broker::Nats {
        assert_eq!(again, 0, "JetStream drops what it has already");
    }
    again
}

/// The sink without a fault has everything once, and none of it late.
fn assert_did_not_notice(arrivals: &[Arrival], truth: &[String], hurt: SystemTime) {
    assert_eq!(first_arrivals(arrivals), truth, "the other sink has everything in order");
    assert_eq!(arrivals.len(), truth.len() + 1, "once, behind the gap of the start");
    let since_hurt = arrivals.iter().filter(|arrival| arrival.sent > Some(hurt));
    let mut latencies: Vec<Duration> = since_hurt.filter_map(Arrival::latency).collect();
    latencies.sort_unstable();
    assert!(latencies.len() > 300, "messages flowed during the fault: {}", latencies.len());
    let (median, worst) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    println!("the other sink: {} messages, median {median:.1?}, worst {worst:.1?}", latencies.len());
    assert!(worst < UNDISTURBED, "the other sink waited for {worst:?}");
}

fn assert_readyz_told_the_truth(watch: &Watch, course: &Course, broker: Broker) {
    assert_all(&watch.between(course.calm, course.hurt), 200, "before the fault");
    assert_blames(&watch.between(course.hurt, course.end), broker.sink());
    let noticed = course.hurt + NOT_READY_WITHIN;
    if course.healed > noticed + Duration::from_secs(1) {
        assert_all(&watch.between(noticed, course.healed), 503, "during the fault");
    }
    assert_all(&watch.between(course.back, course.end), 200, "after the fault");
    let back = course.back.saturating_duration_since(course.healed);
    assert!(back < BACK_WITHIN, "ready again only {back:?} after the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_killed_during_flow() {
    survives(Broker::Kafka, Fault::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_paused_during_flow() {
    survives(Broker::Kafka, Fault::Paused(length(3, 20))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_stopped_during_flow() {
    survives(Broker::Kafka, Fault::Stopped(length(10, 20))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_killed_during_flow() {
    survives(Broker::Nats, Fault::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_paused_during_flow() {
    survives(Broker::Nats, Fault::Paused(length(3, 20))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_stopped_during_flow() {
    survives(Broker::Nats, Fault::Stopped(length(10, 20))).await;
}

/// Nothing is published, and still a broker that is gone is noticed, and its return.
async fn is_missed_without_traffic(broker: Broker) {
    let scene = Scene::start().await;
    let watch = Watch::start(&scene.bridge);
    let hurt = Instant::now();
    scene.kill(broker).await;
    let not_ready = || async { scene.bridge.readyz().await.is_ok_and(|it| it.status == 503) };
    eventually("/readyz says 503", IDLE_NOT_READY_WITHIN, not_ready).await.unwrap();
    let noticed = Instant::now();
    println!("{broker:?} was missed after {:.1?} without traffic", noticed - hurt);
    scene.start_again(broker).await;
    let healed = Instant::now();
    assert_all(&watch.between(noticed, healed), 503, "while the broker is gone");
    let back = scene.ready_again().await;
    assert!(back - healed < BACK_WITHIN, "ready again only {:?} after the broker", back - healed);
    assert_blames(&watch.between(hurt, back), broker.sink());
    let ticker = Ticker::start(&scene.postgres.url(), &["orders"], RATE);
    ticker.more(50).await;
    scene.confirmed(broker, ticker.stop().await.len()).await;
    assert_all(&watch.between(back, Instant::now()), 200, "after the broker's return");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_kafka_is_missed_without_traffic() {
    is_missed_without_traffic(Broker::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_nats_is_missed_without_traffic() {
    is_missed_without_traffic(Broker::Nats).await;
}
