//! The cases that break the server and the network. They run one after the other.

use std::time::Duration;

use pgherald_core::FlowState;
use tokio::time::sleep;

use super::{
    Case, Destination, Verdict, conclude,
    messages::numbered,
    scene::{Scene, Wish},
    seeds,
};
use crate::Direction;

/// Runs every case in which the server or the network fails, and the seeds of random faults; with
/// `PGHERALD_SEED` that seed alone.
///
/// # Panics
/// If one of them fails; the text has them all.
pub async fn with_faults<D: Destination>(destination: D) {
    let d = &destination;
    let cases = [
        Case::new("unreachable at the start, and later", unreachable(d)),
        Case::new("slow", slow(d)),
        Case::new("answers lost, redelivery recognised", answers_lost(d)),
        Case::new("server killed", killed(d)),
        Case::new("server paused", paused(d)),
        Case::new("half-open connection", half_open(d)),
        Case::new("random faults", seeds::all(d)),
    ];
    let skipped = seeds::chosen().map_or(0, |_| cases.len() - 1);
    let mut verdicts = Vec::new();
    for case in cases.into_iter().skip(skipped) {
        verdicts.push(case.judged().await);
        d.proxy().heal();
    }
    conclude(verdicts);
}

async fn unreachable<D: Destination>(d: &D) -> Verdict {
    d.make("unreachable").await;
    d.proxy().refuse();
    let scene = Scene::start(d, Wish::at("unreachable"));
    scene.send(numbered(0..20));
    let fails = |state| matches!(state, FlowState::Stalled | FlowState::Attaching);
    scene.until("not ready, with a reason", |now| fails(now.state) && now.reason.is_some()).await?;
    d.proxy().heal();
    scene.delivered().await?;
    d.proxy().refuse();
    d.proxy().reset();
    scene.send(numbered(20..40));
    scene.until("not ready", |now| !now.ready).await?;
    d.proxy().heal();
    scene.judged().await
}

/// Slow is no fault: nothing is sent twice.
async fn slow<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("slow")).await;
    d.proxy().delay(Duration::from_millis(50));
    scene.send(numbered(0..60));
    scene.judged_once().await
}

/// The messages arrive and their answers do not; then they are sent again.
async fn answers_lost<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("answers-lost")).await;
    scene.send(numbered(0..20));
    scene.delivered().await?;
    d.proxy().black_hole(Direction::Down);
    scene.send(numbered(20..40));
    sleep(Duration::from_millis(300)).await;
    d.proxy().reset();
    d.proxy().heal();
    scene.judged().await
}

/// Killed in the middle: what was confirmed is there afterwards.
async fn killed<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("killed")).await;
    scene.send(numbered(0..1_000));
    sleep(Duration::from_millis(20)).await;
    d.kill().await;
    scene.send(numbered(1_000..1_500));
    sleep(Duration::from_millis(200)).await;
    d.start_again().await;
    scene.judged().await
}

async fn paused<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("paused")).await;
    scene.send(numbered(0..20));
    scene.delivered().await?;
    d.pause();
    scene.send(numbered(20..40));
    let stalled = scene.until("stalled", |now| now.state == FlowState::Stalled).await;
    d.resume();
    stalled?;
    scene.judged().await
}

/// Nothing passes on the connections of now, not even their end; new ones work.
async fn half_open<D: Destination>(d: &D) -> Verdict {
    let scene = Scene::made(d, Wish::at("half-open")).await;
    scene.send(numbered(0..20));
    scene.delivered().await?;
    d.proxy().strand();
    scene.send(numbered(20..40));
    scene.judged().await
}
