//! A long run into every sink at once with a fault every while: flat memory, flat file
//! descriptors, and nothing missing outside reported gaps.
//!
//! `cargo xtask soak` runs it for an hour at 2,000 messages a second; `PGHERALD_SOAK_SECONDS`,
//! `PGHERALD_SOAK_FAULT_EVERY`, `PGHERALD_SOAK_RATE` and `PGHERALD_SOAK_SEED` say otherwise.

mod arrivals;
mod faults;
mod footprint;
mod producer;
mod scene;
mod verdict;

use std::time::{Duration, Instant};

use self::{faults::Faults, footprint::Footprint, producer::Producer, scene::Scene};
use crate::stage::SOON;

const CHANNEL: &str = "soak";
const KEYS: usize = 100;

#[derive(Clone, Copy, Debug)]
struct Plan {
    length: Duration,
    fault_every: Duration,
    /// Messages a second.
    rate: u64,
    seed: u64,
}

impl Plan {
    fn of_environment() -> Self {
        let number = |name: &str, otherwise: u64| {
            let text = std::env::var(name).ok();
            text.map_or(otherwise, |text| text.parse().expect("a whole number"))
        };
        Self {
            length: Duration::from_secs(number("PGHERALD_SOAK_SECONDS", 45)),
            fault_every: Duration::from_secs(number("PGHERALD_SOAK_FAULT_EVERY", 9)),
            rate: number("PGHERALD_SOAK_RATE", 500),
            seed: number("PGHERALD_SOAK_SEED", 1),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sink_survives_a_fault_every_while() {
    let plan = Plan::of_environment();
    println!("{plan:?}");
    let scene = Scene::start().await;
    let arrivals = scene.read().await;
    let producer = Producer::start(&scene.postgres.url(), plan.rate);
    let footprint = Footprint::watch(scene.bridge.pid());
    let until = Instant::now() + plan.length;
    let mut faults = Faults::new(plan.seed);
    while Instant::now() + plan.fault_every < until {
        tokio::time::sleep(plan.fault_every).await;
        faults.next(&scene).await;
        assert!(!scene.bridge.ended(), "the process ended: {}", scene.bridge.log());
    }
    tokio::time::sleep_until(until.into()).await;
    scene.begin_a_session().await;
    producer.more().await;
    let truth = producer.stop().await;
    scene.settled(&arrivals, &truth).await;
    let verdicts = arrivals.held_against(&truth);
    footprint.assert_flat(plan.length);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", scene.bridge.log());
}
