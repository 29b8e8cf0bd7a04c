//! Core alone: a source and a sink that do nothing. Shows that core allocates nothing for a
//! message (only for a batch), and, in a release build, how many messages a second it moves.
//!
//! `cargo test --release -p pgherald-core --test throughput -- --nocapture`

use std::{
    alloc::System,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Backoff, Batch, BatchLimits, Body, Budget, Checkpoint, ContentType, Envelope, Event,
    Flow, FlowContext, FlowSettings, Headers, Message, MessageId, OnRejected, Only, Opened,
    Outcome, Published, Room, Session, Settled, Sink, SinkError, Source, SourceError, Writer,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: u64 = 2_000_000;
const PAYLOAD: &[u8] = &[b'x'; 200];

/// Hands out the same message again and again, until there were enough.
struct Tap {
    stop: CancellationToken,
}

struct Running {
    stop: CancellationToken,
    channel: Arc<str>,
    since: SystemTime,
    next: u64,
}

impl Source for Tap {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        let stop = self.stop.clone();
        let running = Running { stop, channel: "c".into(), since: SystemTime::now(), next: 0 };
        async move { Ok(Box::new(running) as Box<dyn Attached>) }.boxed()
    }
}

impl Attached for Running {
    fn read_from(
        self: Box<Self>,
        _: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move { Ok(self as Box<dyn Session>) }.boxed()
    }
}

impl Session for Running {
    fn read<'a>(
        &'a mut self,
        room: Room,
        _: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            if self.next >= MESSAGES {
                self.stop.cancelled().await;
                return Err(SourceError::Stopped);
            }
            let messages = (0..room.messages as u64).map(|n| Message {
                id: MessageId::new(format_args!("s-{}", self.next + n)),
                channel: Arc::clone(&self.channel),
                key: None,
                headers: Headers::default(),
                content_type: ContentType::Text,
                body: Body::Payload(Bytes::from_static(PAYLOAD)),
                since: self.since,
            });
            let messages: Vec<Message> = messages.collect();
            self.next += messages.len() as u64;
            Ok(Batch {
                messages,
                end: Some(Checkpoint(Bytes::copy_from_slice(&self.next.to_be_bytes()))),
            })
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, _: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        async { Ok(()) }.boxed()
    }
}

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

fn settings() -> FlowSettings {
    FlowSettings {
        context: FlowContext {
            pipeline: "p".into(),
            source: "none",
            sink: "s".into(),
            channels: None,
            envelope: Envelope::None,
            budget: Budget { messages: 10_000, bytes: 64 << 20 },
            batch: BatchLimits { messages: 1_000, bytes: 1 << 20, linger: Duration::ZERO },
            message_bytes_max: 1 << 20,
        },
        on_rejected: OnRejected::Halt,
        backoff: Backoff::default(),
        jitter_seed: 1,
    }
}

#[test]
fn core_alone_is_fast_and_allocates_for_batches_only() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (taken, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let source = Arc::new(Tap { stop: stop.clone() });
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
