//! One batch of the window, and the fate of each of its messages.

use std::sync::Arc;

use tokio::time::Instant;

use super::Resolved;
use crate::{Batch, BatchLimits, Message, Open};

/// What is known of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Never sent, or certainly not taken.
    Unsent,
    /// Published, no word yet.
    InFlight,
    /// Published, and the word was lost: it may have arrived.
    Unknown,
    /// Confirmed once, and to be published again: something before it in its ordering unit may arrive
    /// after it otherwise.
    Repeat,
    /// Published again, no word yet.
    Repeating,
    /// Confirmed.
    Settled,
    /// Disposed of by policy: it is never published again.
    Disposed,
}

impl Fate {
    /// Nothing is left to do.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Settled | Self::Disposed)
    }

    /// Whether it would be lost if the process ended now.
    fn is_undelivered(self) -> bool {
        matches!(self, Self::Unsent | Self::InFlight | Self::Unknown)
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) batch: Arc<Batch>,
    pub(super) bytes: usize,
    pub(super) arrived: Instant,
    fates: Vec<Fate>,
    open: usize,
    published: bool,
}

impl Entry {
    pub(super) fn new(batch: Batch, arrived: Instant) -> Self {
        let (bytes, open) = (batch.size(), batch.messages.len());
        let fates = vec![Fate::Unsent; open];
        Self { batch: Arc::new(batch), bytes, arrived, fates, open, published: false }
    }

    pub(super) fn len(&self) -> usize {
        self.batch.messages.len()
    }

    /// Messages that would be lost with this entry; what is sent again is kept elsewhere.
    pub(super) fn undelivered(&self) -> usize {
        if self.is_replay() {
            return 0;
        }
        let messages = self.batch.messages.iter().zip(&self.fates);
        messages.filter(|(m, fate)| fate.is_undelivered() && m.gap().is_none()).count()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.open == 0
    }

    /// Dead letters that are sent again.
    pub(super) fn is_replay(&self) -> bool {
        self.batch.end.is_none()
    }

    pub(super) fn was_published(&self) -> bool {
        self.published
    }

    pub(super) fn fates(&self) -> &[Fate] {
        &self.fates
    }

    /// Goes back before the first publish, with what is known. Messages whose unit has begun its replay
    /// are repeated; `begun` says whether it has, and is told which message begins one.
    pub(super) fn rewind(&mut self, begun: &mut dyn FnMut(&Message, bool) -> bool) {
        for (fate, message) in self.fates.iter_mut().zip(&self.batch.messages) {
            *fate = match *fate {
                Fate::InFlight => Fate::Unknown,
                Fate::Repeating => Fate::Repeat,
                other => other,
            };
            let begins = matches!(fate, Fate::Unknown | Fate::Repeat);
            if begun(message, begins) && *fate == Fate::Settled {
                *fate = Fate::Repeat;
            }
        }
        self.count_open();
    }

    /// Appends the batch that follows, where neither was published and the result stays within
    /// the limits. A gap that directly follows a gap joins it.
    pub(super) fn join(&mut self, later: Entry, limits: &BatchLimits) -> Result<(), Entry> {
        // What is sent again keeps apart: it has no checkpoint to give or to take.
        if self.is_replay() || later.is_replay() {
            return Err(later);
        }
        let fits = self.len() + later.len() <= limits.messages
            && self.bytes.saturating_add(later.bytes) <= limits.bytes;
        if self.published || !(fits || later.len() == 0 || self.absorbs_all_of(&later)) {
            return Err(later);
        }
        let batch = Arc::make_mut(&mut self.batch);
        let later = Arc::unwrap_or_clone(later.batch);
        batch.end = later.end;
        for message in later.messages {
            if let Some(message) = absorb(batch.messages.last_mut(), message) {
                batch.messages.push(message);
            }
        }
        self.fates.resize(batch.messages.len(), Fate::Unsent);
        self.open = self.fates.len();
        self.bytes = batch.size();
        Ok(())
    }

    /// Whether `later` is one gap that becomes a part of the gap at the end: it takes no room, so no
    /// limit keeps the two apart.
    fn absorbs_all_of(&self, later: &Entry) -> bool {
        let is_joinable =
            |message: &Message| message.gap().is_some_and(|gap| gap.rejected.is_none());
        match (self.batch.messages.last(), &later.batch.messages[..]) {
            (Some(last), [only]) => is_joinable(last) && is_joinable(only),
            _ => false,
        }
    }

    /// Marks what is about to be published; returns the batch, and how many of the marked
    /// messages were sent before.
    pub(super) fn publish(&mut self, marks: &[bool]) -> (Arc<Batch>, usize) {
        let mut again = 0;
        for (fate, _) in self.fates.iter_mut().zip(marks).filter(|(_, mark)| **mark) {
            again += usize::from(*fate != Fate::Unsent);
            *fate = match *fate {
                Fate::Repeat | Fate::Repeating => Fate::Repeating,
                _ => Fate::InFlight,
            };
        }
        self.published = true;
        (Arc::clone(&self.batch), again)
    }

    pub(super) fn withhold(&mut self, from: usize) {
        self.change(from.., |fate| match fate {
            Fate::InFlight => Fate::Unsent,
            Fate::Repeating => Fate::Repeat,
            other => other,
        });
    }

    pub(super) fn resolve(
        &mut self,
        open: &[(u32, Open)],
        settled: &mut dyn FnMut(&Message),
    ) -> Resolved {
        let mut resolved = Resolved::default();
        let mut named = open.iter().peekable();
        for (place, fate) in self.fates.iter_mut().enumerate() {
            let word = named.next_if(|(named, _)| *named as usize == place).map(|(_, open)| open);
            *fate = match (*fate, word) {
                (Fate::InFlight, None) => {
                    settled(&self.batch.messages[place]);
                    resolved.settled += 1;
                    Fate::Settled
                }
                (Fate::InFlight, Some(Open::Unknown)) => Fate::Unknown,
                (Fate::InFlight, Some(Open::Unsent | Open::Rejected(_))) => Fate::Unsent,
                (Fate::Repeating, Some(Open::Unknown | Open::Unsent)) => Fate::Repeat,
                // It was confirmed before, so nobody needs to decide about it.
                (Fate::Repeating, None | Some(Open::Rejected(_))) => {
                    resolved.settled += 1;
                    Fate::Settled
                }
                (fate, _) => fate,
            };
            resolved.unknown += usize::from(matches!(fate, Fate::Unknown | Fate::Repeat));
            resolved.open +=
                usize::from(matches!(fate, Fate::Unknown | Fate::Unsent | Fate::Repeat));
        }
        self.count_open();
        resolved
    }

    pub(super) fn dispose(&mut self, place: usize) {
        self.change(place..=place, |_| Fate::Disposed);
    }

    pub(super) fn replace(&mut self, place: usize, message: Message) {
        let batch = Arc::make_mut(&mut self.batch);
        batch.messages[place] = message;
        self.bytes = batch.size();
        self.change(place..=place, |_| Fate::Unsent);
    }

    pub(super) fn settle(&mut self) {
        self.change(.., |_| Fate::Settled);
    }

    fn change(
        &mut self,
        places: impl std::slice::SliceIndex<[Fate], Output = [Fate]>,
        change: impl Fn(Fate) -> Fate,
    ) {
        self.fates[places].iter_mut().for_each(|fate| *fate = change(*fate));
        self.count_open();
    }

    fn count_open(&mut self) {
        self.open = self.fates.iter().filter(|fate| !fate.is_final()).count();
    }
}

/// Joins a gap with the gap right before it; anything else comes back.
fn absorb(last: Option<&mut Message>, mut message: Message) -> Option<Message> {
    use crate::Body::Gap;
    if let (Some(Message { body: Gap(earlier), channel, .. }), Gap(later)) =
        (last, &mut message.body)
    {
        let joined = earlier.absorb(later.clone());
        if joined.is_ok() && earlier.channels.len() != 1 {
            *channel = "".into();
        }
        return joined.is_err().then_some(message);
    }
    Some(message)
}
