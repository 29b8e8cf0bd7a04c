//! Faults of every kind at seeded moments while an outbox is written: everything arrives, each key
//! in its order.
//!
//! `cargo xtask chaos outbox` runs it at full length: 200 kills of the bridge and 10 of everything
//! else, what an administrator does to the database among it. `PGHERALD_SEED` chooses the course,
//! `PGHERALD_CHAOS_SECONDS` a time instead of a count.

mod changes;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pgherald_postgres::{PostgresSettings, SetupOptions, setup};
use pgherald_testkit::{
    Bridge, Direction, FaultProxy, Kafka, Nats, OutboxProducers, OutboxTruth, Postgres, free_port,
};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use tokio::time::sleep;

use self::changes::{Administrator, CHANGES, Change};
use crate::{
    outbox_stage::{ORDERS, SINKS, Sinks, assert_is_emptied, outbox, source},
    stage::{SOON, full_length},
};

/// Rows a second: what a debug build carries to six flows beside everything else.
const RATE: f64 = 300.0;
/// The most that one fault may repeat at a sink.
const BUDGET: usize = 500;
/// Until everything runs again after the last fault; Kafka needs half a minute after a kill.
const RECOVERED: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    BridgeKilled,
    PostgresCrashed,
    KafkaKilled,
    NatsKilled,
    ConnectionsReset,
    BlackHole,
    Changed(Change),
}

const OTHERS: [Fault; 5] = [
    Fault::PostgresCrashed,
    Fault::KafkaKilled,
    Fault::NatsKilled,
    Fault::ConnectionsReset,
    Fault::BlackHole,
];

/// How many faults: rounds of one of each kind and so many kills of the bridge, in any order.
struct Plan {
    seed: u64,
    rounds: usize,
    kills: usize,
    changes: &'static [Change],
    until: Option<Instant>,
}

impl Plan {
    fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let until = number("PGHERALD_CHAOS_SECONDS").map(Duration::from_secs);
        let (rounds, kills) = match (until, full_length()) {
            (Some(_), _) => (usize::MAX, 6),
            (None, true) => (10, 20),
            (None, false) => (1, 6),
        };
        Self {
            seed: number("PGHERALD_SEED").unwrap_or(1),
            rounds,
            kills,
            changes: if full_length() { &CHANGES } else { &[] },
            until: until.map(|time| Instant::now() + time),
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() > until)
    }

    fn round(&self, random: &mut SmallRng) -> Vec<Fault> {
        let mut faults = vec![Fault::BridgeKilled; self.kills];
        faults.extend(OTHERS);
        faults.extend(self.changes.iter().copied().map(Fault::Changed));
        faults.shuffle(random);
        faults
    }
}

/// Everything that can be hurt, with a proxy in front of each server.
struct Scene {
    postgres: Postgres,
    kafka: Kafka,
    nats: Nats,
    /// Of PostgreSQL, Kafka and NATS.
    proxies: [FaultProxy; 3],
    sinks: Sinks,
    bridge: Bridge,
    administrator: Administrator,
}

/// The role of the bridge, which row security and settings of roles concern.
async fn create_role(postgres: &Postgres) {
    let options = SetupOptions { bridge_role: Some("herald".into()), ..SetupOptions::default() };
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    setup(&settings, &options, &mut |_| ()).await.unwrap();
}

impl Scene {
    async fn start() -> Self {
        let (postgres, nats, port) = (outbox().await, Nats::start().await.unwrap(), free_port());
        create_role(&postgres).await;
        let kafka = Kafka::builder().advertise(port).start().await.unwrap();
        let to_kafka = ([127, 0, 0, 1], kafka.proxied_port()).into();
        let proxies = [
            FaultProxy::start(postgres.port()).await.unwrap(),
            FaultProxy::start_on(port, to_kafka).await.unwrap(),
            FaultProxy::start(nats.port()).await.unwrap(),
        ];
        let sinks = Sinks { name: "chaos", kafka: kafka.bootstrap(), nats: nats.url() };
        let url = format!("postgres://herald@{}/postgres", proxies[0].address());
        let administrator = Administrator::new(postgres.url());
        let mut config = format!("[postgres]\nurl = \"{url}\"\n");
        for order in ORDERS {
            config += &source(order, "");
            config += &sinks.config(order, &proxies[1].address(), &nats.url_at(proxies[2].port()));
            for sink in SINKS {
                config +=
                    &format!("[pipelines.{order}.sinks.{sink}]\nbudget_messages_max = {BUDGET}\n");
            }
        }
        let bridge = Bridge::start(&config).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { postgres, kafka, nats, proxies, sinks, bridge, administrator }
    }

    /// Does the damage and repairs it; the flows may need longer.
    async fn hurt(&mut self, fault: Fault, random: &mut SmallRng) {
        let down = Duration::from_millis(random.random_range(0..1_000));
        let proxy = &self.proxies[random.random_range(0..self.proxies.len())];
        match fault {
            Fault::BridgeKilled => {
                self.bridge.kill9().await.unwrap();
                sleep(down / 2).await;
                self.bridge.start_again().unwrap();
            }
            Fault::PostgresCrashed => {
                self.postgres.crash().await.unwrap();
                sleep(down).await;
                self.postgres.start_again().await.unwrap();
            }
            Fault::KafkaKilled => {
                self.kafka.kill().await.unwrap();
                self.kafka.start_again().await.unwrap();
            }
            Fault::NatsKilled => {
                self.nats.kill().await.unwrap();
                sleep(down).await;
                self.nats.start_again().await.unwrap();
            }
            Fault::ConnectionsReset => proxy.reset(),
            Fault::BlackHole => {
                let ways = [Direction::Up, Direction::Down, Direction::Both];
                proxy.black_hole(ways[random.random_range(0..ways.len())]);
                sleep(down * 12).await;
                proxy.heal();
            }
            Fault::Changed(change) => self.administrator.make(change, random).await,
        }
    }

    /// At each sink: everything, each key in order, nothing renamed, few repeats, and none in a
    /// stream.
    async fn assert_everything_arrived(&self, truth: &OutboxTruth, faults: usize) {
        for order in ORDERS {
            for sink in SINKS {
                let verdict = self.sinks.verdict(order, sink, truth).await;
                println!("{order}/{sink}: {verdict}");
                let allowed = if sink == "live" { 0 } else { faults * BUDGET };
                let in_order = verdict.is_strict() || order == "causal";
                let right = verdict.is_at_least_once() && in_order && verdict.repeated <= allowed;
                let explained = self.bridge.explain().await;
                assert!(right, "{order}/{sink}: {verdict}\n{explained}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outbox_chaos_loses_nothing_and_keeps_the_order() {
    let plan = Plan::from_environment();
    let (mut scene, mut random) = (Scene::start().await, SmallRng::seed_from_u64(plan.seed));
    let producers = OutboxProducers::new(&scene.postgres.url()).seed(plan.seed).rate(RATE);
    let producing = producers.rows(usize::MAX).start().await.unwrap();
    let (began, mut done) = (Instant::now(), BTreeMap::<Fault, usize>::new());
    'rounds: for _ in 0..plan.rounds {
        for fault in plan.round(&mut random) {
            if plan.is_over() {
                break 'rounds;
            }
            sleep(Duration::from_millis(random.random_range(100..2_500))).await;
            println!("{:6.1} s: {fault:?}", began.elapsed().as_secs_f64());
            scene.hurt(fault, &mut random).await;
            *done.entry(fault).or_default() += 1;
        }
    }
    let truth = scene.administrator.amend(producing.stop().await.unwrap());
    let (sure, unsure) = (truth.count(), truth.unsure.len());
    println!("seed {}: {done:?}; {sure} rows committed, {unsure} unsure", plan.seed);
    scene.bridge.wait_ready(RECOVERED).await.unwrap();
    scene.assert_everything_arrived(&truth, done.values().sum()).await;
    assert_is_emptied(&scene.postgres).await;
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}
