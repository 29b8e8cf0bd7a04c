//! Core alone: a source and a sink that do nothing. Shows that core allocates nothing for a
//! message (only for a batch), and, in a release build, how many messages a second it moves.
//!
//! `cargo test --release -p pgherald-core --test throughput -- --nocapture`

#[path = "flow/tap.rs"]
mod tap;

use std::{
    alloc::System,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Batch, Event, Flow, Only, Opened, Outcome, Published, Sink, SinkError, Writer,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio_util::sync::CancellationToken;

use self::tap::{Tap, settings};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: u64 = 2_000_000;

/// Confirms everything at once.
struct Drain {
    taken: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Sink for Drain {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        let writer = Drain { taken: Arc::clone(&self.taken), stop: self.stop.clone() };
        async move { Ok(Opened { writer: Box::new(writer), resume: None }) }.boxed()
    }
}

impl Writer for Drain {
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        _: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        let count = batch.messages.len() as u64;
        if self.taken.fetch_add(count, Relaxed) + count >= MESSAGES {
            self.stop.cancel();
        }
        async { Ok(Published::all(async { Outcome::default() }.boxed())) }.boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        std::future::pending().boxed()
    }
}

#[test]
fn core_alone_is_fast_and_allocates_for_batches_only() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (taken, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let source = Arc::new(Tap::new(MESSAGES, &stop));
    let sink = Arc::new(Drain { taken: Arc::clone(&taken), stop: stop.clone() });
    let flow = Flow::new(settings(), source, sink);
    let region = Region::new(ALLOCATOR);
    let started = Instant::now();
    runtime.block_on(flow.run(stop, Duration::from_secs(30)));
    let (taken, elapsed) = (taken.load(Relaxed), started.elapsed());
    let allocations = region.change().allocations;
    let rate = taken as f64 / elapsed.as_secs_f64();
    println!("{taken} messages, {rate:.0} a second, {allocations} allocations");
    assert!(taken >= MESSAGES);
    // Some for each batch of 1,000; one for each message would be two million.
    assert!(allocations < (taken / 20) as usize, "{allocations} allocations");
    if cfg!(not(debug_assertions)) {
        assert!(rate > 1_000_000.0, "{rate:.0} messages a second");
    }
}
