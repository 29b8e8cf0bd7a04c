//! A publish that waits for room: how the connection stands is told all the same.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Backoff, Batch, BatchLimits, Body, Budget, Checkpoint, ContentType, Envelope, Event,
    Flow, FlowContext, FlowSettings, FlowState, FlowStatus, Headers, Message, MessageId,
    OnRejected, Only, Opened, Outcome, Published, Room, Session, Settled, Sink, SinkError, Source,
    SourceError, Standing, Writer,
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// Has one message.
#[derive(Clone)]
struct One {
    stop: CancellationToken,
    read: bool,
}

impl Source for One {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        let attached = self.clone();
        async move { Ok(Box::new(attached) as Box<dyn Attached>) }.boxed()
    }
}

impl Attached for One {
    fn read_from(
        self: Box<Self>,
        _: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move { Ok(self as Box<dyn Session>) }.boxed()
    }
}

impl Session for One {
    fn read<'a>(
        &'a mut self,
        _: Room,
        _: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            if std::mem::replace(&mut self.read, true) {
                self.stop.cancelled().await;
                return Err(SourceError::Stopped);
            }
            let message = Message {
                id: MessageId::new(format_args!("s-0")),
                channel: "c".into(),
                key: None,
                headers: Headers::default(),
                content_type: ContentType::Text,
                body: Body::Payload(Bytes::new()),
                since: SystemTime::now(),
            };
            Ok(Batch { messages: vec![message], end: Some(Checkpoint(Bytes::from_static(b"1"))) })
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, _: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        async { Ok(()) }.boxed()
    }
}

/// Takes nothing before there is room.
#[derive(Clone)]
struct Full {
    room: CancellationToken,
    standing: watch::Sender<Standing>,
}

impl Sink for Full {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        let writer = Box::new(self.clone());
        async move { Ok(Opened { writer, resume: None }) }.boxed()
    }
}

impl Writer for Full {
    fn publish<'a>(
        &'a mut self,
        _: &'a Batch,
        _: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        async {
            self.room.cancelled().await;
            Ok(Published::all(async { Outcome::default() }.boxed()))
        }
        .boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        std::future::pending().boxed()
    }

    fn standing(&self) -> Option<watch::Receiver<Standing>> {
        Some(self.standing.subscribe())
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
            budget: Budget { messages: 10, bytes: 1_000 },
            batch: BatchLimits { messages: 10, bytes: 1_000, linger: Duration::ZERO },
            message_bytes_max: 100,
        },
        on_rejected: OnRejected::Halt,
        backoff: Backoff::default(),
        jitter_seed: 1,
    }
}

async fn until(status: &mut watch::Receiver<FlowStatus>, is: impl Fn(&FlowStatus) -> bool) {
    let waited = timeout(Duration::from_secs(60), status.wait_for(is)).await;
    waited.expect("in time").expect("the flow runs");
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_waits_does_not_hide_a_lost_connection() {
    let stop = CancellationToken::new();
    let sink = Full { room: CancellationToken::new(), standing: watch::Sender::new(None) };
    let source = Arc::new(One { stop: stop.clone(), read: false });
    let flow = Flow::new(settings(), source, Arc::new(sink.clone()));
    let mut status = flow.status();
    let knocks = async {
        let why = |now: &FlowStatus, words: &str| {
            now.reason.as_deref().is_some_and(|reason| reason.contains(words))
        };
        until(&mut status, |now| why(now, "has waited longer")).await;
        sink.standing.send_replace(Some("nobody answers".into()));
        let gone = |now: &FlowStatus| why(now, "nobody answers");
        until(&mut status, |now| now.state == FlowState::Stalled && gone(now)).await;
        sink.standing.send_replace(None);
        until(&mut status, |now| why(now, "has waited longer")).await;
        sink.room.cancel();
        until(&mut status, |now| now.ready).await;
        stop.cancel();
    };
    let (end, ()) = tokio::join!(flow.run(stop.clone(), Duration::from_secs(5)), knocks);
    assert!(end.drained);
}
