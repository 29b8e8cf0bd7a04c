//! Whoever watches a flow sees what passes it. Nobody who watches costs an atomic load a batch. A
//! watcher that is slow loses messages, which are counted, and never holds up a flow.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{Body, Message, MessageId};

/// What waits for one watcher.
const ENTRIES_MAX: usize = 1_000;
const BYTES_MAX: usize = 1 << 20;
/// Of a larger payload only the size is shown.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// What an entry costs beside its texts.
const ENTRY_BYTES: usize = 512;

/// Where one flow can be watched.
#[derive(Clone)]
pub struct Tap(Arc<Shared>);

struct Shared {
    pipeline: Arc<str>,
    sink: Arc<str>,
    is_watched: AtomicBool,
    watchers: Mutex<Vec<Weak<Queue>>>,
}

/// Somebody who watches one flow or several, until it is dropped.
#[derive(Default)]
pub struct Watcher(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    seen: VecDeque<Seen>,
    bytes: usize,
}

/// What a watcher sees, in order.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A message or a gap entered a flow, or a gap took the place of a message.
    Passed {
        /// The flow's pipeline.
        pipeline: Arc<str>,
        /// Its sink.
        sink: Arc<str>,
        /// The message. A large payload is left out ([`Body::Oversize`]).
        message: Box<Message>,
    },
    /// A sink will never take a message.
    Rejected {
        /// The flow's pipeline.
        pipeline: Arc<str>,
        /// Its sink.
        sink: Arc<str>,
        /// The message's id.
        id: MessageId,
        /// The message's channel.
        channel: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// So many messages passed that the watcher was too slow for.
    LeftOut(u64),
}

impl Tap {
    /// Of the flow with these names.
    #[must_use]
    pub fn new(pipeline: &Arc<str>, sink: &Arc<str>) -> Self {
        Self(Arc::new(Shared {
            pipeline: Arc::clone(pipeline),
            sink: Arc::clone(sink),
            is_watched: AtomicBool::new(false),
            watchers: Mutex::default(),
        }))
    }

    /// From now on the watcher sees what passes.
    pub fn watch(&self, watcher: &Watcher) {
        let mut watchers = self.watchers();
        watchers.retain(|known| known.strong_count() > 0);
        watchers.push(Arc::downgrade(&watcher.0));
        self.0.is_watched.store(true, Ordering::Relaxed);
    }

    pub(super) fn passed(&self, messages: &[Message]) {
        self.show(|queue| {
            for message in messages {
                let size = message.size().min(PAYLOAD_BYTES_MAX) + ENTRY_BYTES;
                queue.push(size, message.gap().is_none(), || Seen::Passed {
                    pipeline: Arc::clone(&self.0.pipeline),
                    sink: Arc::clone(&self.0.sink),
                    message: Box::new(without_large(message)),
                });
            }
        });
    }

    pub(super) fn rejected(&self, message: &Message, reason: &Arc<str>) {
        self.show(|queue| {
            queue.push(ENTRY_BYTES, false, || Seen::Rejected {
                pipeline: Arc::clone(&self.0.pipeline),
                sink: Arc::clone(&self.0.sink),
                id: message.id,
                channel: Arc::clone(&message.channel),
                reason: Arc::clone(reason),
            });
        });
    }

    fn show(&self, show: impl Fn(&mut State)) {
        if !self.0.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let mut watchers = self.watchers();
        watchers.retain(|watcher| {
            let Some(queue) = watcher.upgrade() else { return false };
            show(&mut queue.state());
            queue.changed.notify_one();
            true
        });
        self.0.is_watched.store(!watchers.is_empty(), Ordering::Relaxed);
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({}/{})", self.0.pipeline, self.0.sink)
    }
}

impl Watcher {
    /// Nothing is seen before [`Tap::watch`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for something, and takes all that is there.
    ///
    /// # Cancellation
    /// Nothing is lost: what was not returned comes with the next call.
    pub async fn next(&self) -> Vec<Seen> {
        loop {
            let changed = self.0.changed.notified();
            let seen = self.0.state().take();
            if !seen.is_empty() {
                return seen;
            }
            changed.await;
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is no message (a gap, a rejection) has twice the room.
    fn push(&mut self, size: usize, is_message: bool, entry: impl FnOnce() -> Seen) {
        let times = if is_message { 1 } else { 2 };
        let fits = self.seen.len() < ENTRIES_MAX * times && self.bytes + size <= BYTES_MAX * times;
        match self.seen.back_mut() {
            _ if fits => {
                self.bytes += size;
                self.seen.push_back(entry());
            }
            Some(Seen::LeftOut(count)) => *count += 1,
            _ => self.seen.push_back(Seen::LeftOut(1)),
        }
    }

    fn take(&mut self) -> Vec<Seen> {
        self.bytes = 0;
        std::mem::take(&mut self.seen).into()
    }
}

fn without_large(message: &Message) -> Message {
    let mut shown = message.clone();
    if message.payload_size() > PAYLOAD_BYTES_MAX {
        shown.body = Body::Oversize(message.payload_size());
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use futures_util::FutureExt;

    use super::*;
    use crate::{ContentType, Gap, GapReason, Headers};

    fn tap() -> Tap {
        Tap::new(&"p".into(), &"s".into())
    }

    fn message(body: Body) -> Message {
        Message {
            id: MessageId::new(format_args!("a-1")),
            channel: "c".into(),
            key: None,
            headers: Headers::default(),
            content_type: ContentType::Text,
            body,
            since: UNIX_EPOCH,
        }
    }

    fn text(size: usize) -> Message {
        message(Body::Payload(vec![b'x'; size].into()))
    }

    fn gap() -> Message {
        message(Body::Gap(Gap {
            channels: ["c".into()].into(),
            from: None,
            to: UNIX_EPOCH,
            reason: GapReason::Start,
            count: None,
            rejected: None,
        }))
    }

    #[test]
    fn a_slow_watcher_is_told_how_much_it_missed_and_sees_every_gap() {
        let (tap, watcher, quick) = (tap(), Watcher::new(), Watcher::new());
        tap.passed(&[text(1)]);
        tap.watch(&watcher);
        tap.watch(&quick);
        let mut quick_saw = 0;
        for _ in 0..ENTRIES_MAX {
            tap.passed(&[text(1)]);
            quick_saw += quick.next().now_or_never().unwrap().len();
        }
        tap.passed(&[text(1), text(1), gap(), text(1)]);
        tap.rejected(&text(1), &"why".into());
        let seen = watcher.next().now_or_never().unwrap();
        assert_eq!(quick_saw, ENTRIES_MAX);
        let Some([left_out, a_gap, more, rejected]) = seen.last_chunk() else { panic!() };
        assert!(matches!(left_out, Seen::LeftOut(2)), "{left_out:?}");
        assert!(matches!(a_gap, Seen::Passed { message, .. } if message.gap().is_some()));
        assert!(matches!(more, Seen::LeftOut(1)), "{more:?}");
        assert!(matches!(rejected, Seen::Rejected { reason, .. } if &**reason == "why"));
        assert_eq!(seen.len(), ENTRIES_MAX + 4);
        assert!(watcher.next().now_or_never().is_none(), "all of it was taken");
        tap.passed(&[text(1)]);
        assert_eq!(watcher.next().now_or_never().unwrap().len(), 1, "there is room again");
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_nothing_waits_for_who_has_left() {
        let (tap, watcher) = (tap(), Watcher::new());
        tap.watch(&watcher);
        tap.passed(&[text(PAYLOAD_BYTES_MAX + 1)]);
        let seen = watcher.next().now_or_never().unwrap();
        let [Seen::Passed { message, .. }] = &seen[..] else { panic!("{seen:?}") };
        assert!(matches!(message.body, Body::Oversize(size) if size == PAYLOAD_BYTES_MAX + 1));
        for _ in 0..100 {
            tap.passed(&[text(PAYLOAD_BYTES_MAX)]);
        }
        assert!(watcher.0.state().bytes <= BYTES_MAX);
        drop(watcher);
        assert!(tap.0.is_watched.load(Ordering::Relaxed));
        tap.passed(&[text(1)]);
        assert!(!tap.0.is_watched.load(Ordering::Relaxed), "it costs nothing again");
    }
}
