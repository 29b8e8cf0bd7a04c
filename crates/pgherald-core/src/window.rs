//! What a flow holds: read, and not yet settled. Pure: no clock, no IO.

mod entry;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use self::entry::Entry;
use crate::{
    Batch, BatchLimits, Budget, Checkpoint, Message, MessageId, Only, Open, Ordering, Room,
};

/// Names an entry for as long as the window lives; never reused.
pub(crate) type Sequence = u64;

/// The messages of one flow between the read and the settle, in source order.
///
/// Entries are published from the front; after a fault [`Window::rewind`] goes back to the first
/// open message. Whole entries leave at the front, each with its checkpoint.
#[derive(Debug)]
pub(crate) struct Window {
    budget: Budget,
    limits: BatchLimits,
    ordering: Ordering,
    entries: VecDeque<Entry>,
    first: Sequence,
    next: Sequence,
    messages: usize,
    bytes: usize,
    /// Messages and bytes that the source must leave for dead letters that are sent again.
    reserved: Option<(usize, usize)>,
}

/// One message of the window.
pub(crate) type MessageIndex = (Sequence, usize);

/// What is to be published next.
pub(crate) struct Turn {
    pub(crate) sequence: Sequence,
    pub(crate) batch: Arc<Batch>,
    pub(crate) only: Only,
    /// How many of these messages were sent before.
    pub(crate) again: usize,
}

/// What left the window.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    /// The newest checkpoint among it.
    pub(crate) newest: Option<Checkpoint>,
    /// Dead letters that were sent again, if any were.
    pub(crate) replayed: Option<Vec<MessageId>>,
}

/// What an outcome changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Messages that are settled now and were not before.
    pub(crate) settled: usize,
    /// Messages that are still open although their outcome has come.
    pub(crate) open: usize,
    /// Those of them that may have arrived.
    pub(crate) unknown: usize,
}

impl Window {
    pub(crate) fn new(budget: Budget, limits: BatchLimits, ordering: Ordering) -> Self {
        Self {
            budget,
            limits,
            ordering,
            entries: VecDeque::new(),
            first: 0,
            next: 0,
            messages: 0,
            bytes: 0,
            reserved: None,
        }
    }

    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages held that are not gaps: what a process that ends now would drop.
    pub(crate) fn undelivered(&self) -> usize {
        self.entries.iter().map(Entry::undelivered).sum()
    }

    /// When the oldest message that is not settled came in.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.arrived)
    }

    /// The oldest message that is not settled.
    pub(crate) fn oldest_message(&self) -> Option<&Message> {
        let open = |entry: &Entry| entry.fates().iter().position(|fate| !fate.is_final());
        self.entries.iter().find_map(|entry| Some(&entry.batch.messages[open(entry)?]))
    }

    /// What the next read may bring; `None` while the budget is spent.
    pub(crate) fn room(&self) -> Option<Room> {
        let (reserved_messages, reserved_bytes) = self.reserved.unwrap_or_default();
        let messages = self.budget.messages.saturating_sub(self.messages + reserved_messages);
        let bytes = self.budget.bytes.saturating_sub(self.bytes + reserved_bytes);
        if self.messages == 0 && self.reserved.is_none() {
            let messages = self.limits.messages.min(self.budget.messages).max(1);
            let bytes = self.limits.bytes.min(self.budget.bytes);
            return Some(Room { messages, bytes, first_bytes: usize::MAX, budget: self.budget });
        }
        (messages > 0).then(|| Room {
            messages: messages.min(self.limits.messages),
            bytes: bytes.min(self.limits.bytes),
            first_bytes: bytes,
            budget: Budget { messages, bytes },
        })
    }

    /// Whether a batch of dead letters may come in now.
    pub(crate) fn fits(&self, batch: &Batch) -> bool {
        self.messages == 0
            || (self.messages + batch.messages.len() <= self.budget.messages
                && self.bytes.saturating_add(batch.size()) <= self.budget.bytes)
    }

    /// Leaves room for a batch of dead letters that does not fit yet; `None`: no longer.
    pub(crate) fn reserve(&mut self, batch: Option<&Batch>) {
        self.reserved = batch.map(|batch| (batch.messages.len(), batch.size()));
    }

    /// Whether an entry holds dead letters that are sent again.
    pub(crate) fn is_replay(&self, sequence: Sequence) -> bool {
        self.entry(sequence).is_some_and(Entry::is_replay)
    }

    /// Takes a batch in behind everything else, joining the one before where neither was
    /// published and the limits allow.
    pub(crate) fn push(&mut self, batch: Batch, now: Instant) {
        let entry = Entry::new(batch, now);
        let entry = match self.entries.back_mut() {
            Some(tail) => {
                let (messages, bytes) = (tail.len(), tail.bytes);
                let apart = tail.join(entry, &self.limits).err();
                self.messages += tail.len() - messages;
                self.bytes = self.bytes + tail.bytes - bytes;
                if apart.is_none() {
                    // `next` had skipped the empty entry, and now it has messages to publish.
                    self.next = self.next.min(self.end() - 1);
                }
                apart
            }
            None => Some(entry),
        };
        if let Some(entry) = entry {
            self.messages += entry.len();
            self.bytes += entry.bytes;
            self.entries.push_back(entry);
        }
        self.skip_settled();
    }

    /// When the batch that is next to be published was begun, and whether it is full.
    pub(crate) fn waiting(&self) -> Option<(Instant, bool)> {
        let entry = self.entry(self.next)?;
        let full = self.end() > self.next + 1
            || entry.len() >= self.limits.messages
            || entry.bytes >= self.limits.bytes
            || entry.was_published();
        Some((entry.arrived, full))
    }

    /// The batch that is next to be published. It counts as in flight from now on.
    pub(crate) fn take(&mut self) -> Option<Turn> {
        let sequence = self.next;
        let marks = self.marks(sequence)?;
        let index = self.index(sequence)?;
        let (batch, again) = self.entries[index].publish(&marks);
        self.next += 1;
        self.skip_settled();
        let only = if marks.iter().all(|mark| *mark) { Only::All } else { Only::Marked(marks) };
        Some(Turn { sequence, batch, only, again })
    }

    /// Takes messages of a turn back that were not offered to the sink after all.
    pub(crate) fn withhold(&mut self, sequence: Sequence, from: usize) {
        if let Some(index) = self.index(sequence) {
            self.entries[index].withhold(from);
        }
    }

    /// Applies an outcome: what it does not name, and was in flight, is settled.
    pub(crate) fn resolve(
        &mut self,
        sequence: Sequence,
        open: &[(u32, Open)],
        settled: &mut dyn FnMut(&Message),
    ) -> Resolved {
        match self.index(sequence) {
            Some(index) => self.entries[index].resolve(open, settled),
            None => Resolved::default(),
        }
    }

    /// Settles one message without a broker's word: disposed of by policy.
    pub(crate) fn dispose(&mut self, (sequence, place): MessageIndex) {
        if let Some(index) = self.index(sequence) {
            self.entries[index].dispose(place);
        }
    }

    /// Puts another message in the place of one that was rejected; it is open and unsent.
    pub(crate) fn replace(&mut self, (sequence, place): MessageIndex, message: Message) {
        if let Some(index) = self.index(sequence) {
            let entry = &mut self.entries[index];
            self.bytes -= entry.bytes;
            entry.replace(place, message);
            self.bytes += entry.bytes;
        }
    }

    /// The message at a place, if it is open.
    pub(crate) fn open_message(&self, (sequence, place): MessageIndex) -> Option<&Message> {
        let entry = self.entry(sequence)?;
        let open = !entry.fates().get(place)?.is_final();
        open.then(|| &entry.batch.messages[place])
    }

    /// Settles everything through the batch that ends at `checkpoint`, because the destination
    /// says that it has it. Unknown checkpoints change nothing.
    pub(crate) fn settle_through(&mut self, checkpoint: &Checkpoint) {
        if let Some(last) =
            self.entries.iter().position(|entry| entry.batch.end.as_ref() == Some(checkpoint))
        {
            self.entries.iter_mut().take(last + 1).for_each(Entry::settle);
        }
    }

    /// Lets go of the settled entries at the front.
    pub(crate) fn release(&mut self) -> Released {
        let mut released = Released::default();
        while self.entries.front().is_some_and(Entry::is_settled) {
            let entry = self.entries.pop_front().expect("there is a front");
            self.messages -= entry.len();
            self.bytes -= entry.bytes;
            self.first += 1;
            match &entry.batch.end {
                Some(end) => released.newest = Some(end.clone()),
                None => {
                    let ids = entry.batch.messages.iter().map(|message| message.id);
                    released.replayed.get_or_insert_default().extend(ids);
                }
            }
        }
        self.next = self.next.max(self.first);
        released
    }

    /// Goes back to the first open message, after the writer has ended or a rejection was dealt with. What
    /// was in flight is unknown now: it may have arrived. Such a message is published again, together with
    /// everything after it in its ordering unit, even if that was confirmed.
    pub(crate) fn rewind(&mut self) {
        // Where a unit's first unknown message stands, its replay begins, and everything of the unit behind it
        // is open again until it is confirmed once more. Sent alone, the unknown message would arrive after its
        // successors, and a consumer that keeps the last message of a key would keep an old one.
        let mut units = HashSet::new();
        let by_key = self.ordering == Ordering::Key;
        let mut begun = |message: &Message, begins: bool| {
            let unit = if by_key { message.key.clone() } else { None };
            if begins {
                units.insert(unit);
                return true;
            }
            units.contains(&unit)
        };
        self.entries.iter_mut().for_each(|entry| entry.rewind(&mut begun));
        self.next = self.first;
        self.skip_settled();
    }

    /// Forgets everything: the session that read it has ended, and it will be read again.
    pub(crate) fn clear(&mut self) {
        self.first = self.end();
        self.next = self.first;
        self.entries.clear();
        (self.messages, self.bytes) = (0, 0);
    }

    fn marks(&self, sequence: Sequence) -> Option<Box<[bool]>> {
        Some(self.entry(sequence)?.fates().iter().map(|fate| !fate.is_final()).collect())
    }

    /// Entries that need not be published are passed over, so that `next` always names work.
    fn skip_settled(&mut self) {
        while self.entry(self.next).is_some_and(Entry::is_settled) {
            self.next += 1;
        }
    }

    fn end(&self) -> Sequence {
        self.first + self.entries.len() as u64
    }

    fn index(&self, sequence: Sequence) -> Option<usize> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        (index < self.entries.len()).then_some(index)
    }

    fn entry(&self, sequence: Sequence) -> Option<&Entry> {
        self.entries.get(self.index(sequence)?)
    }
}

#[cfg(test)]
mod tests;
