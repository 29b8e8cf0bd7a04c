//! A destination that asks to be left alone for a while is.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Backoff, Batch, BatchLimits, Budget, Checkpoint, Envelope, Event, Flow, FlowContext,
    FlowSettings, FlowState, OnRejected, Only, Opened, Published, Room, Session, Settled, Sink,
    SinkError, Source, SourceError, Writer,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Has nothing to read until it is stopped.
#[derive(Clone)]
struct Silence(CancellationToken);

impl Source for Silence {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        let this = self.clone();
        async move { Ok(Box::new(this) as Box<dyn Attached>) }.boxed()
    }
}

impl Attached for Silence {
    fn read_from(
        self: Box<Self>,
        _: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move { Ok(self as Box<dyn Session>) }.boxed()
    }
}

impl Session for Silence {
    fn read<'a>(
        &'a mut self,
        _: Room,
        _: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async {
            self.0.cancelled().await;
            Err(SourceError::Stopped)
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, _: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        async { Ok(()) }.boxed()
    }
}

/// Its writers ask for these waits, the last one first, and it remembers when it was opened.
struct Busy {
    waits: Mutex<Vec<Duration>>,
    opened: Arc<Mutex<Vec<Instant>>>,
}

struct BusyWriter(Option<Duration>);

impl Sink for Busy {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        self.opened.lock().unwrap().push(Instant::now());
        let writer = BusyWriter(self.waits.lock().unwrap().pop());
        async { Ok(Opened { writer: Box::new(writer), resume: None }) }.boxed()
    }
}

impl Writer for BusyWriter {
    fn publish<'a>(
        &'a mut self,
        _: &'a Batch,
        _: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        unreachable!("there is nothing to publish")
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        let Some(wait) = self.0 else { return std::future::pending().boxed() };
        let why = "429 Too Many Requests".into();
        async move { Event::Ended(SinkError::Later { why, wait }) }.boxed()
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
            budget: Budget { messages: 1, bytes: 1 },
            batch: BatchLimits { messages: 1, bytes: 1, linger: Duration::ZERO },
            message_bytes_max: 1,
        },
        on_rejected: OnRejected::Halt,
        backoff: Backoff::default(),
        jitter_seed: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_is_left_alone_as_long_as_it_asks_and_no_longer_than_five_minutes() {
    let (opened, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let waits = Mutex::new(vec![Duration::from_secs(86_400), Duration::from_secs(120)]);
    let sink = Arc::new(Busy { waits, opened: Arc::clone(&opened) });
    let flow = Flow::new(settings(), Arc::new(Silence(stop.clone())), sink);
    let status = flow.status();
    let running = flow.run(stop.clone(), Duration::from_secs(1));
    let looking = async {
        sleep(Duration::from_secs(100)).await;
        let now = status.borrow().clone();
        assert_eq!((now.state, now.ready), (FlowState::Stalled, false));
        let reason = now.reason.expect("a reason");
        assert!(reason.contains("429") && reason.contains("120 s later"), "{reason}");
        sleep(Duration::from_secs(600)).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(timeout(Duration::from_secs(800), running), looking);
    ended.expect("the flow ends");
    let opened = opened.lock().unwrap();
    let seconds = |n: usize| (opened[n + 1] - opened[n]).as_secs();
    assert_eq!(opened.len(), 3);
    assert!((120..=125).contains(&seconds(0)), "{} s", seconds(0));
    assert!((300..=305).contains(&seconds(1)), "{} s", seconds(1));
}
