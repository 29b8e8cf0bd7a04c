//! Random faults while messages flow. A seed decides about every one of them.

use std::{ops::RangeInclusive, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep};

use super::{
    Destination, Verdict,
    messages::numbered,
    scene::{Scene, Wish},
};
use crate::{Direction, full_length};

/// At full length, and otherwise.
const SEEDS: (u64, u64) = (20, 6);
const MESSAGES: usize = 400;
const FAULTS: usize = 3;
/// A server needs seconds to start again, so only each so many-th seed kills it, at full length.
const KILLS_EVERY: u64 = 5;

/// The seed of `PGHERALD_SEED`, which is to be run alone.
pub(super) fn chosen() -> Option<u64> {
    std::env::var("PGHERALD_SEED").ok()?.parse().ok()
}

/// Every seed, or the chosen one.
pub(super) async fn all<D: Destination>(d: &D) -> Verdict {
    let count = if full_length() { SEEDS.0 } else { SEEDS.1 };
    let seeds = chosen().map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        let began = Instant::now();
        let verdict = one(d, seed).await;
        println!("    seed {seed}: {:.1} s", began.elapsed().as_secs_f64());
        let full = u8::from(full_length());
        verdict.map_err(|why| format!("PGHERALD_FULL={full} PGHERALD_SEED={seed}: {why}"))?;
    }
    Ok(())
}

async fn one<D: Destination>(d: &D, seed: u64) -> Verdict {
    let scene = Scene::made(d, Wish::at(&format!("seed-{seed}"))).await;
    let mut random = SmallRng::seed_from_u64(seed);
    let breaking = async {
        for _ in 0..FAULTS {
            pause(&mut random, 10..=120).await;
            fault(d, &mut random).await;
        }
        if full_length() && seed.is_multiple_of(KILLS_EVERY) {
            d.kill().await;
            d.start_again().await;
        }
    };
    let mut sizes = SmallRng::seed_from_u64(seed.rotate_left(32));
    tokio::join!(send(&scene, &mut sizes), breaking);
    d.proxy().heal();
    scene.judged().await
}

async fn send<D: Destination>(scene: &Scene<'_, D>, random: &mut SmallRng) {
    let mut sent = 0;
    while sent < MESSAGES {
        let end = MESSAGES.min(sent + random.random_range(1..60));
        scene.send(numbered(sent..end));
        sent = end;
        pause(random, 0..=60).await;
    }
}

/// One fault, from its beginning to its end.
async fn fault<D: Destination>(d: &D, random: &mut SmallRng) {
    let proxy = d.proxy();
    match random.random_range(0..8) {
        0 => proxy.reset(),
        1 => proxy.cut_after(random.random_range(1..20_000)),
        2 => {
            proxy.refuse();
            proxy.reset();
        }
        3 => proxy.black_hole(Direction::Up),
        4 => proxy.black_hole(Direction::Down),
        5 => {
            // The requests arrive, and their answers are lost.
            proxy.black_hole(Direction::Down);
            pause(random, 20..=100).await;
            proxy.reset();
        }
        6 => proxy.delay(Duration::from_millis(random.random_range(1..30))),
        _ => d.pause(),
    }
    pause(random, 20..=200).await;
    d.resume();
    proxy.heal();
}

async fn pause(random: &mut SmallRng, milliseconds: RangeInclusive<u64>) {
    sleep(Duration::from_millis(random.random_range(milliseconds))).await;
}
