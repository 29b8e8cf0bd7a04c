//! One broker is killed, paused or stopped while messages flow: everything arrives, the other sink
//! does not notice, and `/readyz` tells the truth all the time.

use std::time::{Duration, Instant, SystemTime};

use pgherald_testkit::eventually;

use crate::{
    brokers::{Broker, Fault, Scene},
    stage::{SOON, length, postgres},
    ticker::Ticker,
    truth::{
        Arrival, assert_ids_are_stable, assert_repeats_are_runs, first_arrivals, missing_in_order,
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

/// When what happened.
struct Course {
    calm: Instant,
    hurt: Instant,
    healed: Instant,
    back: Instant,
    end: Instant,
}

async fn survives(broker: Broker, fault: Fault) {
    let scene = Scene::start(postgres().await).await;
    let mut undisturbed = scene.reader(broker.other()).await;
    let watch = Watch::start(&scene.bridge);
    let ticker = Ticker::start(&scene.postgres.url(), &["orders"], RATE);
    let course = async {
        let calm = Instant::now();
        ticker.more(300).await;
        let hurt = Instant::now();
        let healed = scene.hurt(broker, fault).await;
        let back = scene.back(broker).await;
        ticker.more(300).await;
        Course { calm, hurt, healed, back, end: Instant::now() }
    };
    let course = tokio::select! {
        course = course => course,
        () = undisturbed.read_on() => unreachable!("it reads until it is dropped"),
    };
    let hurt_at = SystemTime::now() - course.hurt.elapsed();
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
    println!(
        "the other sink: {} messages, median {median:.1?}, worst {worst:.1?}",
        latencies.len()
    );
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
    let scene = Scene::start(postgres().await).await;
    let watch = Watch::start(&scene.bridge);
    let hurt = Instant::now();
    scene.kill(broker).await;
    let not_ready = || async { scene.bridge.readyz().await.is_ok_and(|it| it.status == 503) };
    eventually("/readyz says 503", IDLE_NOT_READY_WITHIN, not_ready).await.unwrap();
    let noticed = Instant::now();
    println!("{broker:?} was missed after {:.1?} without traffic", noticed - hurt);
    scene.start_again(broker).await;
    let healed = Instant::now();
    let gone = watch.between(noticed, healed);
    assert!(gone.iter().all(|sample| sample.status == Some(503)), "while it is gone: {gone:?}");
    let back = scene.back(broker).await;
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
