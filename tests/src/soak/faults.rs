//! One fault after the other, by the seed.

use std::time::Duration;

use pgherald_testkit::{Direction, FaultProxy};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::sleep;

use super::scene::{Mood, Scene};

/// What can happen in a scene.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KafkaKilled,
    KafkaPaused,
    NatsKilled,
    NatsPaused,
    HookRefused,
    HookBusy,
    HookSilent,
    PostgresCrashed,
    PostgresTerminates,
    ConnectionReset,
    ConnectionForgotten,
    NetworkSilent(Direction),
}

const FAULTS: [Fault; 14] = [
    Fault::KafkaKilled,
    Fault::KafkaPaused,
    Fault::NatsKilled,
    Fault::NatsPaused,
    Fault::HookRefused,
    Fault::HookBusy,
    Fault::HookSilent,
    Fault::PostgresCrashed,
    Fault::PostgresTerminates,
    Fault::ConnectionReset,
    Fault::ConnectionForgotten,
    Fault::NetworkSilent(Direction::Up),
    Fault::NetworkSilent(Direction::Down),
    Fault::NetworkSilent(Direction::Both),
];

pub(super) struct Faults {
    random: SmallRng,
    /// What is still to come before anything comes again.
    left: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), left: Vec::new() }
    }

    /// Begins and ends the next one.
    pub(super) async fn next(&mut self, scene: &Scene) {
        if self.left.is_empty() {
            self.left = FAULTS.to_vec();
        }
        let fault = self.left.swap_remove(self.random.random_range(0..self.left.len()));
        let length = Duration::from_millis(self.random.random_range(200..3_000));
        println!("{fault:?} for {length:?}");
        happen(fault, length, scene).await;
    }
}

async fn happen(fault: Fault, length: Duration, scene: &Scene) {
    match fault {
        Fault::KafkaKilled => {
            scene.kafka.kill().await.unwrap();
            scene.kafka.start_again().await.unwrap();
        }
        Fault::KafkaPaused => {
            scene.kafka.pause();
            sleep(length).await;
            scene.kafka.resume();
        }
        Fault::NatsKilled => {
            scene.nats.kill().await.unwrap();
            scene.nats.start_again().await.unwrap();
        }
        Fault::NatsPaused => {
            scene.nats.pause();
            sleep(length).await;
            scene.nats.resume();
        }
        Fault::HookRefused => scene.hurt_hook(Mood::Refusing, length).await,
        Fault::HookBusy => scene.hurt_hook(Mood::Busy, length).await,
        Fault::HookSilent => scene.hurt_hook(Mood::Silent, length).await,
        Fault::PostgresCrashed => {
            scene.postgres.crash().await.unwrap();
            scene.postgres.start_again().await.unwrap();
        }
        Fault::PostgresTerminates => scene.terminate_the_listener().await,
        Fault::ConnectionReset => scene.proxy.reset(),
        Fault::ConnectionForgotten => scene.proxy.strand(),
        Fault::NetworkSilent(direction) => silent(&scene.proxy, direction, length).await,
    }
}

async fn silent(proxy: &FaultProxy, direction: Direction, length: Duration) {
    proxy.black_hole(direction);
    sleep(length).await;
    proxy.heal();
}
