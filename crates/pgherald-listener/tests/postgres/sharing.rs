//! Two processes with the same flows: one carries, the other takes over.

use std::time::{Duration, Instant};

use pgherald_core::{GapReason, Source, SourceError};
use pgherald_postgres::query;
use pgherald_testkit::{Direction, FaultProxy, Postgres, eventually};
use tokio::task::JoinSet;

use crate::rig::*;

async fn is_standby(process: &Process, flow: usize) -> bool {
    let attached = tokio::time::timeout(Duration::from_secs(5), process.sources[flow].attach());
    match attached.await {
        Ok(Err(SourceError::Standby(holder))) => {
            let holder = holder.to_string();
            assert!(holder.contains("pid ") && holder.contains("(pgherald/"), "{holder}");
            true
        }
        _ => false,
    }
}

async fn becomes_standby(process: &Process, flow: usize) {
    eventually("it is a standby", SOON, || is_standby(process, flow)).await.unwrap();
}

async fn takeover(
    fault: impl AsyncFnOnce(Process, &FaultProxy, &Postgres) -> Option<Process>,
    limit: Duration,
) {
    let postgres = Postgres::start().await.unwrap();
    let proxy = FaultProxy::start(postgres.port()).await.unwrap();
    let flows: &[(&str, &[&str], _)] = &[("bus", &["a"], BUDGET)];
    let first = Process::start(&postgres.url_at(proxy.port()), flows);
    let mut tasks = JoinSet::new();
    let one = carry(first.sources[0].clone(), &mut tasks);
    one.gap(GapReason::Start).await;
    let second = Process::start(&postgres.url(), flows);
    becomes_standby(&second, 0).await;
    let two = carry(second.sources[0].clone(), &mut tasks);
    let ticker = Ticker::start(postgres.url(), "a");
    // Two heartbeats, so that the standby knows how far the first has settled.
    tokio::time::sleep(HEARTBEAT * 2).await;
    let broken = Instant::now();
    let first = fault(first, &proxy, &postgres).await;
    let gap = two.gap(GapReason::Takeover).await;
    assert!(broken.elapsed() < limit, "took {:?}", broken.elapsed());
    println!("took over after {:?}, gap of {:.3} s", broken.elapsed(), gap.seconds());
    two.until(|heard| heard.payloads().len() > 50).await;
    let sent = ticker.stop().await;
    two.payload(&sent.last().unwrap().0.to_string()).await;
    assert_eq!(two.reasons(), [GapReason::Takeover]);
    // What the first published and what the second publishes do not overlap.
    let mut all = numbers(&one);
    all.extend(numbers(&two));
    all.sort_unstable();
    verify(&all, &two.gaps(), &sent);
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_carrier() {
    takeover(
        async |first, _, _| {
            first.kill().await;
            None
        },
        Duration::from_secs(5),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_carrier_hands_over_at_once() {
    let stop = async |mut first: Process, _: &FaultProxy, _: &Postgres| {
        first.stopped().await;
        Some(first)
    };
    takeover(stop, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_holed_carrier() {
    let cut = async |first: Process, proxy: &FaultProxy, _: &Postgres| {
        proxy.black_hole(Direction::Both);
        Some(first)
    };
    takeover(cut, HEARTBEAT * 3 + Duration::from_secs(3)).await;
}

/// The owner's server process blocks in sending, so it is not idle: the idle timeout does not
/// end it, the TCP user timeout does.
#[tokio::test(flavor = "multi_thread")]
async fn a_black_holed_carrier_under_load() {
    let cut = async |first: Process, proxy: &FaultProxy, postgres: &Postgres| {
        proxy.black_hole(Direction::Both);
        let mut loader = connection(postgres).await;
        let load = "SELECT pg_notify('a', n || repeat('x', 7000)) FROM generate_series(1, 4000) n";
        query(&mut loader, load).await.unwrap();
        Some(first)
    };
    takeover(cut, HEARTBEAT * 4 + Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_per_flow() {
    let postgres = Postgres::start().await.unwrap();
    let one = Process::start(
        &postgres.url(),
        &[("a", &["x"], BUDGET), ("b", &["x"], BUDGET), ("c", &["y"], BUDGET)],
    );
    let mut tasks = JoinSet::new();
    let carried: Vec<_> =
        one.sources.iter().map(|source| carry(source.clone(), &mut tasks)).collect();
    for heard in &carried {
        heard.gap(GapReason::Start).await;
    }
    let two = Process::start(&postgres.url(), &[("b", &["x"], BUDGET), ("d", &["x"], BUDGET)]);
    becomes_standby(&two, 0).await;
    let own = carry(two.sources[1].clone(), &mut tasks);
    own.gap(GapReason::Start).await;
    let mut announcer = connection(&postgres).await;
    announce(&mut announcer, "x", "for a, b and d").await;
    announce(&mut announcer, "y", "for c").await;
    for heard in [&carried[0], &carried[1], &own] {
        heard.payload("for a, b and d").await;
    }
    carried[2].payload("for c").await;
    assert_eq!(carried[2].payloads(), ["for c"]);
    one.kill().await;
    let taken = carry(two.sources[0].clone(), &mut tasks);
    taken.until(|heard| !heard.gaps().is_empty()).await;
    announce(&mut announcer, "x", "after").await;
    taken.payload("after").await;
    own.payload("after").await;
    assert_eq!(own.reasons(), [GapReason::Start], "the other flow did not notice");
}
