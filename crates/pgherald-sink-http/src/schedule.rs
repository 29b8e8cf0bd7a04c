//! What may be sent next: equal keys one after the other, keys side by side, nothing past a gap.
//! Pure: no clock, no IO.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use pgherald_core::Message;

use crate::settings::ParcelLimits;

/// One message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Which job it belongs to, and its place there.
    pub(crate) job: u64,
    pub(crate) place: u32,
    /// Its place in the flow.
    pub(crate) number: u64,
    /// Shares its request with no other one.
    pub(crate) alone: bool,
    pub(crate) message: Message,
}

/// The messages of one request, in the order of the flow; at least one.
pub(crate) type RequestBatch = Vec<Item>;

/// Messages without a key share one order.
type Key = Option<Bytes>;

/// Everything that was taken in and is not answered.
///
/// Of one key at most one request batch is under way, and the others wait in their order. From the first
/// gap on everything waits behind it: it goes when nothing is under way, and what follows it goes
/// when it is settled.
pub(crate) struct Schedule {
    limits: ParcelLimits,
    /// What waits, by key; no lane is empty.
    lanes: HashMap<Key, VecDeque<Item>>,
    /// Keys that have a request batch under way.
    busy: HashSet<Key>,
    /// Keys with waiting messages that are not busy, in the order in which they became so.
    ready: VecDeque<Key>,
    /// The first gap that waits, and everything behind it.
    behind: VecDeque<Item>,
    /// A gap is under way.
    gap_under_way: bool,
}

impl Schedule {
    pub(crate) fn new(limits: ParcelLimits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            busy: HashSet::new(),
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            gap_under_way: false,
        }
    }

    /// Takes a message in behind all others.
    pub(crate) fn push(&mut self, item: Item) {
        if self.gap_under_way || !self.behind.is_empty() || item.message.gap().is_some() {
            self.behind.push_back(item);
        } else {
            self.admit(item);
        }
    }

    /// What may be sent now; it counts as under way until [`settle`](Self::settle) or
    /// [`split`](Self::split).
    pub(crate) fn next(&mut self) -> Option<RequestBatch> {
        if !self.ready.is_empty() {
            return Some(self.gather());
        }
        if self.gap_under_way || !self.busy.is_empty() {
            return None;
        }
        let gap = self.behind.pop_front()?;
        self.gap_under_way = true;
        Some(vec![gap])
    }

    /// The request is answered: its keys are free again.
    pub(crate) fn settle(&mut self, request_batch: &[Item]) {
        if request_batch.iter().any(|item| item.message.gap().is_some()) {
            self.gap_under_way = false;
            self.admit_up_to_the_next_gap();
            return;
        }
        for item in request_batch {
            let key = &item.message.key;
            if self.busy.remove(key) && self.lanes.contains_key(key) {
                self.ready.push_back(key.clone());
            }
        }
    }

    /// The request was refused as a whole: its messages go again, each alone, before everything else
    /// of their keys.
    pub(crate) fn split(&mut self, request_batch: RequestBatch) {
        for item in request_batch.iter().rev() {
            let again = Item { alone: true, ..item.clone() };
            self.lanes.entry(item.message.key.clone()).or_default().push_front(again);
        }
        self.settle(&request_batch);
    }

    /// Everything that is not under way, in no order.
    pub(crate) fn take_waiting(&mut self) -> Vec<Item> {
        self.ready.clear();
        let waiting = self.lanes.drain().flat_map(|(_, lane)| lane);
        waiting.chain(self.behind.drain(..)).collect()
    }

    fn admit(&mut self, item: Item) {
        let key = &item.message.key;
        if !self.lanes.contains_key(key) && !self.busy.contains(key) {
            self.ready.push_back(key.clone());
        }
        self.lanes.entry(key.clone()).or_default().push_back(item);
    }

    fn admit_up_to_the_next_gap(&mut self) {
        while let Some(item) = self.behind.pop_front_if(|item| item.message.gap().is_none()) {
            self.admit(item);
        }
    }

    /// Fills a request batch from the keys that are ready, up to the limits.
    fn gather(&mut self) -> RequestBatch {
        let (mut request_batch, mut bytes) = (RequestBatch::new(), 0);
        while let Some(key) = self.ready.front() {
            let lane = self.lanes.get_mut(key).expect("a key that is ready has a lane");
            let before = request_batch.len();
            while let Some(item) =
                lane.pop_front_if(|item| self.limits.admit(&request_batch, bytes, item))
            {
                bytes += item.message.size();
                request_batch.push(item);
            }
            if request_batch.len() == before {
                break;
            }
            let key = self.ready.pop_front().expect("there is a front");
            if self.lanes[&key].is_empty() {
                self.lanes.remove(&key);
            }
            self.busy.insert(key);
        }
        request_batch.sort_by_key(|item| item.number);
        request_batch
    }
}

impl ParcelLimits {
    fn admit(&self, request_batch: &[Item], bytes: usize, item: &Item) -> bool {
        let Some(first) = request_batch.first() else { return true };
        !first.alone
            && !item.alone
            && request_batch.len() < self.messages
            && bytes.saturating_add(item.message.size()) <= self.bytes
    }
}

#[cfg(test)]
mod tests;
