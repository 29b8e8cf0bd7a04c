//! One flow of the hub as core reads it.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{Attached, Batch, Checkpoint, Room, Session, Settled, Source, SourceError};

use tokio::time::timeout;

use crate::slot::{Reading, Slot};

/// How long a read waits for something to settle when nothing fits into its room.
const NO_ROOM_WAIT: Duration = Duration::from_millis(50);

/// One flow of a [`Hub`](crate::Hub): what core attaches to.
///
/// `notify` has no positions: what was heard stays in the flow's queue across LISTEN sessions and
/// comes before the gap that the next session begins with. A checkpoint only frees budget.
#[derive(Clone)]
pub struct NotifySource {
    slot: Arc<Slot>,
}

impl NotifySource {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }
}

impl Source for NotifySource {
    fn has_positions(&self) -> bool {
        false
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        async move {
            loop {
                let changed = self.slot.changed();
                if let Some(answer) = self.slot.attach() {
                    let reader = Reader { slot: Arc::clone(&self.slot), session: answer? };
                    return Ok(Box::new(reader) as Box<dyn Attached>);
                }
                changed.await;
            }
        }
        .boxed()
    }

    fn unread(&self) -> usize {
        self.slot.unread_messages()
    }
}

/// Reads one flow for as long as one LISTEN session lasts; `None`: only what is unread.
struct Reader {
    slot: Arc<Slot>,
    session: Option<u64>,
}

impl Attached for Reader {
    fn read_from(
        self: Box<Self>,
        _resume: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move { Ok(self as Box<dyn Session>) }.boxed()
    }
}

impl Session for Reader {
    fn read<'a>(
        &'a mut self,
        room: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        self.read_some(room, settled).boxed()
    }

    fn ack<'a>(&'a mut self, through: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        self.slot.settle(through);
        async { Ok(()) }.boxed()
    }
}

impl Reader {
    async fn read_some(&mut self, room: Room, settled: &Settled) -> Result<Batch, SourceError> {
        let mut news = settled.subscribe();
        let mut had_no_room = false;
        loop {
            let changed = self.slot.changed();
            let newest = news.borrow_and_update().clone();
            match self.slot.read(self.session, room, newest.as_ref()) {
                Reading::Batch(batch) => return Ok(batch),
                Reading::Over(error) => return Err(error),
                // Core may have more room by now than it said: it reads again.
                Reading::NoRoom if had_no_room => return Ok(self.slot.empty_batch()),
                Reading::NoRoom => {
                    had_no_room = true;
                    // The room may have grown before this read began, so the wait is short.
                    let _ = timeout(NO_ROOM_WAIT, news.changed()).await;
                }
                Reading::Nothing => tokio::select! {
                    () = changed => {}
                    _ = news.changed() => {}
                },
            }
        }
    }
}
