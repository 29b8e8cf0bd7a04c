//! Kafka, NATS and HTTP in one pipeline, each failing in turn: the other two keep their latency, and
//! the one that failed has everything in the end.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use pgherald_testkit::{
    Answer, Bridge, HttpReceiver, JetStreamReader, Kafka, KafkaConsumer, Nats, Postgres, eventually,
};
use tokio::time::sleep;

use crate::{
    brokers::Reader,
    latency::{Beside, print_table},
    stage::{Config, SOON, length, nats, postgres},
    ticker::Ticker,
    truth::{Arrival, first_arrivals, from_http, missing_in_order},
};

/// Messages a second.
const RATE: f64 = 250.0;
/// What a minute announces and more: nothing overflows.
const BUDGET: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Bus,
    Live,
    Hook,
}

/// One sink's failure.
struct Failure {
    sink: Sink,
    calm: Range<SystemTime>,
    /// From the fault's beginning to its end.
    fault: Range<SystemTime>,
}

impl Sink {
    const ALL: [Self; 3] = [Self::Bus, Self::Live, Self::Hook];

    fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Live => "live",
            Self::Hook => "hook",
        }
    }

    fn fault(self) -> &'static str {
        match self {
            Self::Bus => "Kafka is frozen",
            Self::Live => "NATS is frozen",
            Self::Hook => "HTTP does not answer",
        }
    }
}

/// One pipeline into three servers of its own.
struct Scene {
    postgres: Postgres,
    kafka: Kafka,
    nats: Nats,
    hook: HttpReceiver,
    hook_is_silent: Arc<AtomicBool>,
    bridge: Bridge,
}

impl Scene {
    async fn start() -> Self {
        let (postgres, nats) = (postgres().await, nats().await);
        let (kafka, hook) = (Kafka::start().await.unwrap(), HttpReceiver::start().await.unwrap());
        let hook_is_silent = Arc::new(AtomicBool::new(false));
        let silent = Arc::clone(&hook_is_silent);
        hook.answer(move |_| match silent.load(Ordering::SeqCst) {
            true => Answer::Hang,
            false => Answer::Status(204),
        });
        let url = hook.url("/events");
        let mut config = Config::new(&postgres.url(), &["orders"])
            .with("key = \"json:/n\"")
            .kafka("bus", &kafka, "isolation", 1)
            .nats("live", &nats, "ISOLATION", "isolation")
            .with(&format!("[pipelines.p.sinks.hook.http]\nurl = \"{url}\"\ntimeout_ms = 2000"));
        for sink in Sink::ALL.map(Sink::name) {
            let budget = format!("budget_messages_max = {BUDGET}");
            config = config.with(&format!("[pipelines.p.sinks.{sink}]\n{budget}"));
        }
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { postgres, kafka, nats, hook, hook_is_silent, bridge }
    }

    /// The connections stay open and nobody answers.
    fn freeze(&self, sink: Sink) {
        match sink {
            Sink::Bus => self.kafka.pause(),
            Sink::Live => self.nats.pause(),
            Sink::Hook => self.hook_is_silent.store(true, Ordering::SeqCst),
        }
    }

    fn thaw(&self, sink: Sink) {
        match sink {
            Sink::Bus => self.kafka.resume(),
            Sink::Live => self.nats.resume(),
            Sink::Hook => self.hook_is_silent.store(false, Ordering::SeqCst),
        }
    }

    async fn fail(&self, sink: Sink) -> Failure {
        let calm_from = SystemTime::now();
        sleep(length(2, 20)).await;
        let (from, ready) = (SystemTime::now(), self.is_ready(sink).await);
        assert!(ready, "{sink:?} is well before its fault: {}", self.bridge.explain().await);
        self.freeze(sink);
        sleep(length(7, 60)).await;
        let ready = self.is_ready(sink).await;
        assert!(!ready, "{sink:?} noticed its fault: {}", self.bridge.explain().await);
        self.thaw(sink);
        let fault = from..SystemTime::now();
        self.caught_up(sink).await;
        Failure { sink, calm: calm_from..from, fault }
    }

    async fn is_ready(&self, sink: Sink) -> bool {
        let page = self.bridge.readyz().await.unwrap();
        let of_sink = format!("p/{}: ", sink.name());
        page.status == 200 || !page.body.lines().any(|line| line.starts_with(&of_sink))
    }

    /// Waits until the sink has confirmed what it had received, and everything is ready.
    async fn caught_up(&self, sink: Sink) {
        let received = self.count("received", sink).await;
        self.published(sink, received).await;
        self.bridge.wait_ready(SOON).await.unwrap();
    }

    async fn published(&self, sink: Sink, count: f64) {
        let all = || async { self.count("published", sink).await >= count };
        if let Err(error) = eventually("everything is confirmed", 2 * SOON, all).await {
            panic!("{error}: {sink:?}: {}", self.bridge.explain().await);
        }
    }

    async fn count(&self, what: &str, sink: Sink) -> f64 {
        let name = format!("pgherald_messages_{what}_total");
        let metrics = self.bridge.metrics().await.unwrap();
        metrics.value(&name, &[("sink", sink.name())]).unwrap_or_default()
    }
}

/// Reads at the brokers from their beginning; the hook keeps what it gets.
struct Readers {
    bus: Reader,
    live: Reader,
}

impl Readers {
    async fn open(scene: &Scene) -> Self {
        let bus = KafkaConsumer::open(&scene.kafka.bootstrap(), &["isolation"]).await.unwrap();
        let live = JetStreamReader::open(&scene.nats.url(), "ISOLATION").await.unwrap();
        Self { bus: Reader::Kafka(bus), live: Reader::Nats(Box::new(live)) }
    }

    async fn read_on(&mut self) {
        tokio::join!(self.bus.read_on(), self.live.read_on());
    }

    async fn arrivals(&mut self, scene: &Scene, sink: Sink) -> Vec<Arrival> {
        match sink {
            Sink::Bus => self.bus.arrivals().await,
            Sink::Live => self.live.arrivals().await,
            Sink::Hook => from_http(&scene.hook.received()),
        }
    }
}

/// Everything is there, once the gap of the start aside; the brokers have it in order.
fn assert_has_everything(sink: Sink, arrivals: &[Arrival], truth: &[String]) {
    assert_eq!(arrivals.iter().filter(|it| it.gap).count(), 1, "{sink:?}: the start alone");
    let mut first = first_arrivals(arrivals);
    if sink == Sink::Hook {
        // Every message has a key of its own there: side by side.
        first.sort_by_key(|id| id.rsplit('-').next().and_then(|n| n.parse::<usize>().ok()));
    }
    assert_eq!(missing_in_order(truth, &first), Vec::<String>::new(), "{sink:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_sinks_fails_and_the_other_two_keep_their_latency() {
    let scene = Scene::start().await;
    let mut readers = Readers::open(&scene).await;
    let ticker = Ticker::start(&scene.postgres.url(), &["orders"], RATE);
    let course = async {
        let mut failures = Vec::new();
        for sink in Sink::ALL {
            failures.push(scene.fail(sink).await);
        }
        let truth: Vec<String> = ticker.stop().await.into_iter().map(|tick| tick.id).collect();
        for sink in Sink::ALL {
            scene.published(sink, truth.len() as f64).await;
        }
        (failures, truth)
    };
    let (failures, truth) = tokio::select! {
        course = course => course,
        () = readers.read_on() => unreachable!("they read until they are dropped"),
    };
    let mut table = Vec::new();
    for sink in Sink::ALL {
        let arrivals = readers.arrivals(&scene, sink).await;
        assert_has_everything(sink, &arrivals, &truth);
        for failure in failures.iter().filter(|it| it.sink != sink) {
            let (calm, fault) = (failure.calm.clone(), failure.fault.clone());
            let what = failure.sink.fault();
            table.push(Beside::new(what, sink.name(), &arrivals, calm, fault));
        }
    }
    table.sort_by_key(|row| row.fault);
    print_table(&table);
    table.iter().for_each(Beside::assert_did_not_notice);
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}
