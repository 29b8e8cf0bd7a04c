//! A source that has so many messages, all alike, and is silent behind them until it is stopped.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Backoff, Batch, BatchLimits, Body, Budget, Checkpoint, ContentType, Envelope,
    EventNames, FlowContext, FlowSettings, Headers, Message, MessageId, OnRejected, Room, Session,
    Settled, Source, SourceError,
};
use tokio_util::sync::CancellationToken;

const PAYLOAD: &[u8] = &[b'x'; 200];

/// Every attachment begins with the first message.
pub(crate) struct Tap {
    count: u64,
    stop: CancellationToken,
}

struct Running {
    count: u64,
    stop: CancellationToken,
    channel: Arc<str>,
    since: SystemTime,
    next: u64,
}

impl Tap {
    /// A batch is as large as there is room, or what is left.
    pub(crate) fn new(count: u64, stop: &CancellationToken) -> Self {
        Self { count, stop: stop.clone() }
    }
}

impl Source for Tap {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        let running = Running {
            count: self.count,
            stop: self.stop.clone(),
            channel: "c".into(),
            since: SystemTime::now(),
            next: 0,
        };
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
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            if self.next >= self.count {
                settled.read_succeeded();
                self.stop.cancelled().await;
                return Err(SourceError::Stopped);
            }
            let end = self.count.min(self.next + room.messages as u64);
            let numbers = std::mem::replace(&mut self.next, end)..end;
            Ok(batch(numbers, &self.channel, self.since))
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, _: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        async { Ok(()) }.boxed()
    }
}

fn message(n: u64, channel: &Arc<str>, since: SystemTime) -> Message {
    Message {
        id: MessageId::new(format_args!("s-{n}")),
        channel: Arc::clone(channel),
        key: None,
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(Bytes::from_static(PAYLOAD)),
        since,
    }
}

/// The messages with these numbers, and a checkpoint behind them.
pub(crate) fn batch(numbers: Range<u64>, channel: &Arc<str>, since: SystemTime) -> Batch {
    let end = Some(Checkpoint(Bytes::copy_from_slice(&numbers.end.to_be_bytes())));
    Batch { messages: numbers.map(|n| message(n, channel, since)).collect(), end }
}

/// Of a flow with the defaults of the configuration.
pub(crate) fn settings() -> FlowSettings {
    FlowSettings {
        context: FlowContext {
            pipeline: "p".into(),
            source: "none",
            sink: "s".into(),
            channels: None,
            envelope: Envelope::None,
            events: EventNames::default(),
            budget: Budget { messages: 10_000, bytes: 64 << 20 },
            batch: BatchLimits { messages: 1_000, bytes: 1 << 20, linger: Duration::ZERO },
            message_bytes_max: 1 << 20,
        },
        on_rejected: OnRejected::Halt,
        backoff: Backoff::default(),
        jitter_seed: 1,
    }
}
