//! A source with positions that a case fills by hand.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Batch, Checkpoint, Message, Room, Session, Settled, Source, SourceError,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What was given to the flow, and how far the flow has acknowledged it.
#[derive(Clone)]
pub(super) struct Feed {
    sent: Arc<Mutex<Vec<Message>>>,
    count: watch::Sender<usize>,
    acked: watch::Sender<usize>,
    stop: CancellationToken,
}

impl Feed {
    pub(super) fn new(stop: CancellationToken) -> Self {
        let (count, acked) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { sent: Arc::default(), count, acked, stop }
    }

    fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        self.sent.lock().expect("no panic happens under this lock")
    }

    /// Gives these to the flow, after everything before.
    pub(super) fn send(&self, messages: Vec<Message>) {
        let mut sent = self.messages();
        sent.extend(messages);
        self.count.send_replace(sent.len());
    }

    /// Everything that was given so far.
    pub(super) fn sent(&self) -> Vec<Message> {
        self.messages().clone()
    }

    pub(super) fn acked(&self) -> usize {
        *self.acked.borrow()
    }

    /// Returns when everything is acknowledged.
    pub(super) async fn all_acked(&self) {
        let mut acked = self.acked.subscribe();
        let count = *self.count.borrow();
        // The sender lives as long as `self`.
        let _ = acked.wait_for(|acked| *acked >= count).await;
    }

    fn note(&self, settled: Option<Checkpoint>) {
        let Some(Checkpoint(bytes)) = settled else { return };
        let through = u64::from_be_bytes(bytes[..].try_into().expect("eight bytes")) as usize;
        self.acked
            .send_if_modified(|acked| through > std::mem::replace(acked, through.max(*acked)));
    }
}

impl Source for Feed {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        let attached = Box::new(self.clone());
        async move { Ok(attached as Box<dyn Attached>) }.boxed()
    }
}

impl Attached for Feed {
    fn read_from(
        self: Box<Self>,
        _: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        let next = self.acked();
        async move { Ok(Box::new(Reading { feed: *self, next }) as Box<dyn Session>) }.boxed()
    }
}

/// Reads on from what was acknowledged.
struct Reading {
    feed: Feed,
    next: usize,
}

impl Reading {
    /// Waits for a message, and notes meanwhile what has settled.
    async fn wait(&self, settled: &Settled) -> Result<(), SourceError> {
        let (mut count, mut moved) = (self.feed.count.subscribe(), settled.subscribe());
        loop {
            self.feed.note(settled.newest());
            if *count.borrow_and_update() > self.next {
                return Ok(());
            }
            tokio::select! {
                _ = count.changed() => {}
                _ = moved.changed() => {}
                () = self.feed.stop.cancelled() => return Err(SourceError::Stopped),
            }
        }
    }

    fn take(&mut self, room: Room) -> Batch {
        let sent = self.feed.messages();
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for message in &sent[self.next..] {
            if !room.admits(messages.len(), bytes, message.size()) {
                break;
            }
            bytes += message.size();
            messages.push(message.clone());
        }
        self.next += messages.len();
        let end = Bytes::copy_from_slice(&(self.next as u64).to_be_bytes());
        Batch { messages, end: Some(Checkpoint(end)) }
    }
}

impl Session for Reading {
    fn read<'a>(
        &'a mut self,
        room: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            settled.read_succeeded();
            self.wait(settled).await?;
            Ok(self.take(room))
        }
        .boxed()
    }

    fn tend<'a>(&'a mut self, settled: &'a Settled) -> BoxFuture<'a, SourceError> {
        async move {
            let mut moved = settled.subscribe();
            loop {
                self.feed.note(settled.newest());
                if moved.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, through: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        self.feed.note(Some(through.clone()));
        async { Ok(()) }.boxed()
    }
}
