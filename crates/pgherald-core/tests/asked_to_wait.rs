//! A destination that asks to be left alone for a while is.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Backoff, Batch, BatchLimits, Budget, Checkpoint, Envelope, Flow, FlowContext,
    FlowSettings, FlowState, OnRejected, Opened, Room, Session, Settled, Sink, SinkError, Source,
    SourceError,
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

/// Asks for these waits, one after the other, and remembers when it was asked.
struct Busy {
    waits: Mutex<Vec<Duration>>,
    opened: Arc<Mutex<Vec<Instant>>>,
}

impl Sink for Busy {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        async {
            self.opened.lock().unwrap().push(Instant::now());
            let wait = self.waits.lock().unwrap().pop();
            match wait {
                Some(wait) => Err(SinkError::Later { why: "429 Too Many Requests".into(), wait }),
                None => std::future::pending().await,
            }
        }
        .boxed()
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
