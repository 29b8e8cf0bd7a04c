//! What one flow has heard and not settled: bounded, in order, overflow as one gap.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use bytes::Bytes;
use pgherald_core::{
    Batch, Body, Budget, Checkpoint, ContentType, Gap, GapReason, Headers, Message, MessageId, Room,
};

use crate::watermarks::Watermarks;

/// The queue of one flow. Pure: no clock, no IO.
///
/// The budget counts messages from arrival until they are settled, so queue and window together
/// never hold more. A message that does not fit is dropped, and so is everything behind it until
/// at most half of the budget is held; then one gap of reason `overflow` stands in their place.
/// Gaps cost nothing and are always admitted.
#[derive(Debug)]
pub(crate) struct FlowQueue {
    budget: Budget,
    channels: Arc<[Arc<str>]>,
    unread: VecDeque<Message>,
    unread_messages: usize,
    held: Cost,
    handed: VecDeque<Handed>,
    /// Entries since the flow began: that came in, that were handed out, that are settled.
    entered: u64,
    handed_out: u64,
    settled: u64,
    overflow: Option<Overflow>,
    watermarks: Watermarks,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    messages: usize,
    bytes: usize,
}

/// One batch on its way to be settled.
#[derive(Debug)]
struct Handed {
    through: u64,
    cost: Cost,
}

/// An overflow under way.
#[derive(Debug)]
struct Overflow {
    gap: MessageId,
    from: SystemTime,
    to: SystemTime,
    count: u64,
    watermark: Option<SystemTime>,
}

impl FlowQueue {
    pub(crate) fn new(budget: Budget, channels: Arc<[Arc<str>]>) -> Self {
        Self {
            budget,
            channels,
            unread: VecDeque::new(),
            unread_messages: 0,
            held: Cost::default(),
            handed: VecDeque::new(),
            entered: 0,
            handed_out: 0,
            settled: 0,
            overflow: None,
            watermarks: Watermarks::default(),
        }
    }

    /// A message was heard.
    pub(crate) fn push(&mut self, message: Message) {
        let size = message.size();
        if let Some(overflow) = &mut self.overflow {
            overflow.to = message.since;
            overflow.count += 1;
        } else if self.fits(size) {
            self.held.messages += 1;
            self.held.bytes += size;
            self.unread_messages += 1;
            self.watermarks.enter(self.entered, self.watermarks.current());
            self.append(message);
        } else {
            self.overflow = Some(Overflow {
                gap: message.id.of_gap(),
                from: message.since,
                to: message.since,
                count: 1,
                watermark: self.watermarks.current(),
            });
        }
    }

    /// The flow may have missed messages: `gap` stands behind what was heard. Directly behind an
    /// unread gap it is merged with that one.
    pub(crate) fn push_gap(&mut self, id: MessageId, gap: Gap) {
        self.end_overflow();
        let watermark = gap.from;
        self.enter_gap(id, gap, watermark);
    }

    /// A nonce that was sent at `at` came back: whatever was committed before has been pushed.
    pub(crate) fn echo(&mut self, at: SystemTime) {
        self.watermarks.echo(at);
    }

    /// Hands out what is unread and fits into `room`; `None`: nothing is unread, or nothing fits.
    pub(crate) fn take(&mut self, room: Room) -> Option<Batch> {
        let mut messages = Vec::new();
        let mut cost = Cost::default();
        let mut bytes = 0;
        while let Some(next) = self.unread.front() {
            let size = next.size();
            if !room.admits(messages.len(), bytes, size) {
                break;
            }
            if next.gap().is_none() {
                cost.messages += 1;
                cost.bytes += size;
            }
            bytes += size;
            messages.extend(self.unread.pop_front());
        }
        if messages.is_empty() {
            return None;
        }
        self.unread_messages -= cost.messages;
        self.handed_out += messages.len() as u64;
        self.handed.push_back(Handed { through: self.handed_out, cost });
        Some(Batch { messages, end: Some(self.end()) })
    }

    /// Where the flow stands: what the next batch, if it were empty, would end with.
    pub(crate) fn end(&self) -> Checkpoint {
        Checkpoint(Bytes::copy_from_slice(&self.handed_out.to_be_bytes()))
    }

    /// Everything through `checkpoint` is settled: its budget is free again.
    pub(crate) fn settle(&mut self, checkpoint: &Checkpoint) {
        let Ok(bytes) = <[u8; 8]>::try_from(&*checkpoint.0) else { return };
        let through = u64::from_be_bytes(bytes).min(self.handed_out);
        while let Some(batch) = self.handed.pop_front_if(|batch| batch.through <= through) {
            self.held.messages -= batch.cost.messages;
            self.held.bytes -= batch.cost.bytes;
            self.settled = batch.through;
        }
        if self.at_most_half() {
            self.end_overflow();
        }
    }

    /// An overflow under way ends now: its gap takes the place of what was dropped.
    pub(crate) fn end_overflow(&mut self) {
        let Some(overflow) = self.overflow.take() else { return };
        let gap = Gap {
            channels: Arc::clone(&self.channels),
            from: Some(overflow.from),
            to: overflow.to,
            reason: GapReason::Overflow,
            count: Some(overflow.count),
            rejected: None,
        };
        self.enter_gap(overflow.gap, gap, overflow.watermark);
    }

    /// Messages, without gaps, that no batch has handed out.
    pub(crate) fn unread_messages(&self) -> usize {
        self.unread_messages
    }

    /// Whether there is nothing to hand out.
    pub(crate) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    /// The time before which nothing of this flow is missing at its destination.
    pub(crate) fn settled_until(&mut self) -> Option<SystemTime> {
        self.watermarks.settled_until(self.settled, self.entered)
    }

    fn fits(&self, size: usize) -> bool {
        self.held.messages == 0
            || (self.held.messages < self.budget.messages
                && self.held.bytes.saturating_add(size) <= self.budget.bytes)
    }

    fn at_most_half(&self) -> bool {
        self.held.messages <= self.budget.messages / 2 && self.held.bytes <= self.budget.bytes / 2
    }

    fn append(&mut self, entry: Message) {
        self.entered += 1;
        self.unread.push_back(entry);
    }

    fn enter_gap(&mut self, id: MessageId, gap: Gap, watermark: Option<SystemTime>) {
        match self.unread.back_mut().map(|last| (&mut last.body, &mut last.since)) {
            Some((Body::Gap(last), since)) => {
                last.absorb(gap).expect("a source makes no gap of reason rejected");
                *since = last.to;
                self.watermarks.widen(self.entered - 1, watermark);
            }
            _ => {
                self.watermarks.enter(self.entered, watermark);
                self.append(gap_message(id, gap));
            }
        }
    }
}

fn gap_message(id: MessageId, gap: Gap) -> Message {
    let channel = match &*gap.channels {
        [only] => Arc::clone(only),
        _ => Arc::from(""),
    };
    Message {
        id,
        channel,
        key: None,
        headers: Headers::default(),
        content_type: ContentType::Json,
        since: gap.to,
        body: Body::Gap(gap),
    }
}

#[cfg(test)]
mod tests;
