//! Seeded simulation of whole flows on tokio's paused clock: a database and a broker that fail in
//! every way that the seams allow, and an oracle that looks at what arrived.
//!
//! `PGHERALD_SEEDS` sets how many seeds run (10,000 by default, 1,000 without optimisation),
//! `PGHERALD_SEED` replays one.

mod broker;
mod database;
mod letters;
mod listener;
mod oracle;
mod run;
mod scenario;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use self::scenario::{Scenario, Situation};

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let usual = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    match number("PGHERALD_SEED") {
        Some(one) => one..one + 1,
        None => 0..number("PGHERALD_SEEDS").unwrap_or(usual),
    }
}

#[test]
fn every_seed_keeps_the_guarantees() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let seen: Mutex<BTreeMap<Situation, u64>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    for (situation, times) in run::run(Scenario::from_seed(seed)) {
                        *seen.lock().unwrap().entry(situation).or_default() += times;
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    println!("{} seeds; situations met: {seen:#?}", seeds.end - seeds.start);
    if seeds.end - seeds.start >= 10_000 {
        for situation in Situation::ALL {
            assert!(seen.contains_key(&situation), "no seed contains {situation:?}");
        }
    }
}
