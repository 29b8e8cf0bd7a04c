//! One sink is stopped for longer than its budget holds, under 2,000 notifications a second:
//! PostgreSQL is not harmed, memory stays bounded, the other sink goes on, and what did not fit is
//! one gap with exact edges.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use pgherald_testkit::{
    Announcement, Metrics, Notifier, Observer, Postgres, eventually, get, packages::PostgresVersion,
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::{task::JoinSet, time::interval};

use crate::{
    brokers::{Broker, Fault, Scene},
    stage::{SOON, length},
    truth::{Arrival, assert_ids_are_stable, first_arrivals, missing_in_order},
    watch::{Watch, assert_blames},
};

const RATE: f64 = 2_000.0;
/// Announced after the broker is back.
const MORE: usize = 100;
/// Ten thousand of these fill most of the default budget, and twice that is too much.
const PADDING: usize = 4_000;
/// `budget_bytes_max` where nothing is said, and what the process may take besides.
const RSS_MAX_BYTES: u64 = 67_108_864 + 60_000_000;
/// What the other flow holds comes on top, in the flow and once more at its client: little, unless
/// its server shares the machine with too many others.
const COPIES: u64 = 2;
/// 64 MB: a listener that is not drained fills it during the downtime.
const QUEUE_PAGES: &str = "8192";
/// Two seconds of announcements, on a machine that starts a broker meanwhile.
const QUEUE_USAGE_MAX: f64 = 0.3;
/// How long a session of the bridge may go on with the same snapshot.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(1);

/// The database at its worst.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    samples: u32,
    /// Samples that saw a session of the bridge.
    sessions: u32,
    snapshot_age: Duration,
    queue_usage: f64,
    /// What the flow without a fault held, in bytes.
    other_in_flight: f64,
}

/// Looks at the worst of everything, from now until it is dropped.
struct Lookout {
    worst: Arc<Mutex<Worst>>,
    _tasks: JoinSet<()>,
}

impl Lookout {
    async fn start(scene: &Scene, other: Broker) -> Self {
        let worst = Arc::new(Mutex::default());
        let connection = PgConnection::connect(&scene.postgres.url()).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(look(connection, Arc::clone(&worst)));
        tasks.spawn(look_at_flow(scene.bridge.admin_port(), other.sink(), Arc::clone(&worst)));
        Self { worst, _tasks: tasks }
    }

    fn worst(&self) -> Worst {
        *self.worst.lock().expect("the lookout does not panic")
    }
}

async fn look(mut connection: PgConnection, worst: Arc<Mutex<Worst>>) {
    // A LISTEN session that hands out notifications shows the start of its latest statement as
    // the start of its transaction: only its snapshot tells how long that has been open.
    const SQL: &str = "SELECT pg_notification_queue_usage(), \
        count(*), string_agg(pid || '/' || backend_xmin, ' ' ORDER BY pid) \
        FROM pg_stat_activity WHERE application_name LIKE 'pgherald/%'";
    let mut every = interval(Duration::from_millis(50));
    let mut snapshot: Option<(String, Instant)> = None;
    loop {
        every.tick().await;
        let row: Result<(f64, i64, Option<String>), _> =
            sqlx::query_as(SQL).fetch_one(&mut connection).await;
        let (usage, sessions, now) = row.expect("the server answers");
        snapshot = now.map(|now| match snapshot.take() {
            Some((same, since)) if same == now => (same, since),
            _ => (now, Instant::now()),
        });
        let age = snapshot.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let mut worst = worst.lock().expect("the test does not panic");
        worst.samples += 1;
        worst.sessions += u32::from(sessions > 0);
        worst.snapshot_age = worst.snapshot_age.max(age);
        worst.queue_usage = worst.queue_usage.max(usage);
    }
}

async fn look_at_flow(admin_port: u16, sink: &'static str, worst: Arc<Mutex<Worst>>) {
    let mut every = interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        let Ok(page) = get(admin_port, "/metrics").await else { continue };
        let held = Metrics::new(page.body).value("pgherald_in_flight_bytes", &[("sink", sink)]);
        let mut worst = worst.lock().expect("the test does not panic");
        worst.other_in_flight = worst.other_in_flight.max(held.unwrap_or_default());
    }
}

async fn overflows(broker: Broker, downtime: Duration) {
    let postgres = Postgres::builder()
        .version(PostgresVersion::V18)
        .setting("max_notify_queue_pages", QUEUE_PAGES);
    let scene = Scene::start(postgres.start().await.unwrap()).await;
    let observer = Observer::listen(&scene.postgres.url(), &["orders"]).await.unwrap();
    let mut undisturbed = scene.reader(broker.other()).await;
    let (watch, lookout) =
        (Watch::start(&scene.bridge), Lookout::start(&scene, broker.other()).await);
    // It begins before the fault, and goes on behind it.
    let messages = RATE as usize * (downtime.as_secs() as usize + 8);
    let notifier = Notifier::new(&scene.postgres.url()).connections(4).padding(PADDING);
    let began = Instant::now();
    let course = async {
        let fault = async {
            scene.confirmed(broker, 2_000).await;
            scene.hurt(broker, Fault::Stopped(downtime)).await;
        };
        let notifier = notifier.messages(messages).rate(RATE);
        let (sent, ()) = tokio::join!(notifier.run(), fault);
        all_accounted_for(&scene, broker, sent.unwrap().count()).await;
        announce_more(&scene.postgres).await;
        let truth = observer.collect(messages + MORE, SOON).await.unwrap();
        scene.confirmed(broker.other(), truth.len()).await;
        all_accounted_for(&scene, broker, truth.len()).await;
        truth
    };
    let truth = tokio::select! {
        truth = course => truth,
        () = undisturbed.read_on() => unreachable!("it reads until it is dropped"),
    };
    let truth: Vec<String> =
        truth.iter().filter_map(|it| Announcement::id_of(it.payload.as_bytes())).collect();
    assert_eq!((truth.len(), observer.breaks()), (messages + MORE, 0));
    assert_blames(&watch.between(began, Instant::now()), broker.sink());

    let healthy = undisturbed.arrivals().await;
    assert_eq!(first_arrivals(&healthy), truth, "the other sink has everything in order");
    assert_eq!(healthy.len(), truth.len() + 1, "once, behind the gap of the start");
    let arrivals = scene.reader(broker).await.arrivals().await;
    let dropped = assert_one_exact_gap(&arrivals, &healthy, &truth);
    assert_counted(&scene, broker, truth.len(), dropped).await;
    assert_nobody_was_harmed(&scene, lookout.worst());
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}

/// Something in any case comes behind the gap.
async fn announce_more(postgres: &Postgres) {
    const SQL: &str = "SELECT pg_notify('orders', \
        format('{\"writer\":99,\"n\":%s,\"sent_us\":0}', n)) FROM generate_series(1, $1) AS n";
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    sqlx::query(SQL).bind(MORE as i32).execute(&mut connection).await.unwrap();
}

/// Waits until everything is either confirmed by this sink or inside its gap, and it is ready.
async fn all_accounted_for(scene: &Scene, broker: Broker, announced: usize) {
    let accounted = || async {
        let (status, metrics) = (scene.bridge.status().await, scene.bridge.metrics().await);
        let (Ok(status), Ok(metrics)) = (status, metrics) else { return false };
        let sink = [("sink", broker.sink())];
        let published = metrics.value("pgherald_messages_published_total", &sink);
        published == Some((announced as u64 - dropped(&status, broker)) as f64)
    };
    if eventually("everything is confirmed or in the gap", SOON, accounted).await.is_err() {
        let metrics = scene.bridge.metrics().await.unwrap();
        let sink = [("sink", broker.sink())];
        let value = |name: &str| metrics.value(name, &sink);
        panic!(
            "of {announced} {:?} were received, {:?} are published, {} were dropped\n{}",
            value("pgherald_messages_received_total"),
            value("pgherald_messages_published_total"),
            dropped(&scene.bridge.status().await.unwrap(), broker),
            scene.bridge.log()
        );
    }
    scene.bridge.wait_ready(SOON).await.unwrap();
}

/// What the overflows of a flow took, as `/status` tells it.
fn dropped(status: &Value, broker: Broker) -> u64 {
    let flows = status["flows"].as_array().expect("a list of flows");
    let flow = flows.iter().find(|flow| flow["sink"] == broker.sink()).expect("the sink's flow");
    let gaps = flow["gaps"].as_array().expect("a list of gaps");
    gaps.iter().filter_map(|gap| gap["count"].as_u64()).sum()
}

/// What is missing is one run, and the gap in its place says so: how many, from when, to when.
/// Returns how many.
fn assert_one_exact_gap(arrivals: &[Arrival], healthy: &[Arrival], truth: &[String]) -> usize {
    assert_ids_are_stable(arrivals);
    let missing = missing_in_order(truth, &first_arrivals(arrivals));
    let begin = truth.iter().position(|id| missing.first() == Some(id));
    let begin = begin.expect("the budget did not hold everything");
    assert_eq!(truth[begin..begin + missing.len()], missing, "one run is missing");
    println!("{} of {} were dropped", missing.len(), truth.len());

    let (gap, place) = the_overflow(arrivals);
    assert_eq!(gap["count"].as_u64(), Some(missing.len() as u64), "{gap}");
    assert_eq!(gap["channels"], serde_json::json!(["orders"]));
    // Both flows hear a message at the same time: the other sink's tell the edges.
    let edge = |id: &String| healthy.iter().find(|it| it.announced.as_ref() == Some(id)).unwrap();
    assert_eq!(gap["from"], edge(&missing[0]).time, "the arrival of the first one");
    assert_eq!(gap["to"], edge(&missing[missing.len() - 1]).time, "the arrival of the last one");

    let around = |arrival: Option<&Arrival>| arrival.and_then(|it| it.announced.clone());
    assert_eq!(around(arrivals.get(place - 1)).as_ref(), truth.get(begin - 1), "right before");
    let behind = truth.get(begin + missing.len());
    assert!(behind.is_some(), "messages flowed again behind the gap");
    assert_eq!(around(arrivals.get(place + 1)).as_ref(), behind, "right behind");
    missing.len()
}

/// The gap of the overflow and its place; there is no other gap but that of the start.
fn the_overflow(arrivals: &[Arrival]) -> (&Value, usize) {
    let gaps = arrivals.iter().filter(|arrival| arrival.gap);
    let ids: BTreeSet<&str> = gaps.map(|arrival| arrival.id.as_str()).collect();
    assert_eq!(ids.len(), 2, "the start and one overflow: {ids:?}");
    let reason = |arrival: &Arrival| arrival.gap_json.as_ref().map(|gap| gap["reason"].clone());
    let place = arrivals.iter().position(|it| reason(it) == Some("overflow".into()));
    let place = place.expect("there is a gap of an overflow");
    (arrivals[place].gap_json.as_ref().expect("it is a gap"), place)
}

async fn assert_counted(scene: &Scene, broker: Broker, announced: usize, dropped: usize) {
    let metrics = scene.bridge.metrics().await.unwrap();
    for (sink, gaps, dropped) in [(broker.sink(), 1.0, dropped), (broker.other().sink(), 0.0, 0)] {
        let value = |name: &str, labels: &[(&str, &str)]| {
            metrics.value(name, &[&[("sink", sink)], labels].concat())
        };
        assert_eq!(value("pgherald_gaps_total", &[("reason", "overflow")]), Some(gaps), "{sink}");
        let taken = (announced - dropped) as f64;
        assert_eq!(value("pgherald_messages_received_total", &[]), Some(taken), "{sink}");
        assert_eq!(value("pgherald_messages_published_total", &[]), Some(taken), "{sink}");
    }
}

fn assert_nobody_was_harmed(scene: &Scene, worst: Worst) {
    let peak_kb = scene.bridge.peak_rss_kb().expect("it runs");
    println!("peak RSS {peak_kb} kB, {worst:?}");
    assert!(worst.samples > 50 && worst.sessions == worst.samples, "who listens? {worst:?}");
    assert!(worst.queue_usage < QUEUE_USAGE_MAX, "the queue filled up: {worst:?}");
    assert!(worst.snapshot_age < SNAPSHOT_AGE_MAX, "the vacuum horizon was held: {worst:?}");
    let most = RSS_MAX_BYTES + COPIES * worst.other_in_flight as u64;
    assert!(peak_kb * 1024 < most, "{peak_kb} kB of at most {most} bytes: {worst:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_nats_overflows_alone_with_exact_edges() {
    overflows(Broker::Nats, length(10, 60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_kafka_overflows_alone_with_exact_edges() {
    overflows(Broker::Kafka, length(10, 60)).await;
}
