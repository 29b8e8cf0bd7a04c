//! What was heard and is not printed yet: bounded, overflow as one gap. Pure.

use std::{mem, sync::Arc, time::SystemTime};

use pgherald_core::{Gap, GapReason, Message};

use super::entry::Entry;

const ENTRIES_MAX: usize = 8_192;
const BYTES_MAX: usize = 16 << 20;

/// Entries that wait for the printer. What does not fit is dropped until it takes them all; then one
/// gap stands in the place of what was dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    channels: Arc<[Arc<str>]>,
    entries: Vec<Entry>,
    bytes: usize,
    overflow: Option<Gap>,
}

impl Buffer {
    /// For messages of these channels.
    pub(super) fn new(channels: Arc<[Arc<str>]>) -> Self {
        Self { channels, entries: Vec::new(), bytes: 0, overflow: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A message was heard, which each of these pipelines prints.
    pub(super) fn push(&mut self, heard: Vec<(Arc<str>, Message)>, at: SystemTime) {
        let bytes: usize = heard.iter().map(|(_, message)| message.size()).sum();
        if let Some(Gap { to, count: Some(count), .. }) = &mut self.overflow {
            (*to, *count) = (at, *count + 1);
        } else if self.entries.len() < ENTRIES_MAX && self.bytes + bytes <= BYTES_MAX {
            self.bytes += bytes;
            let entry = |(pipeline, message)| Entry::Message { pipeline, message };
            self.entries.extend(heard.into_iter().map(entry));
        } else {
            self.overflow = Some(Gap {
                channels: Arc::clone(&self.channels),
                from: Some(at),
                to: at,
                reason: GapReason::Overflow,
                count: Some(1),
                rejected: None,
            });
        }
    }

    /// Nothing was heard for a while.
    pub(super) fn push_gap(&mut self, gap: Gap) {
        self.end_overflow();
        self.entries.push(Entry::Gap(gap));
    }

    /// All of it.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.end_overflow();
        self.bytes = 0;
        mem::take(&mut self.entries)
    }

    fn end_overflow(&mut self) {
        self.entries.extend(self.overflow.take().map(Entry::Gap));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use pgherald_core::{Body, ContentType, Headers, MessageId};

    use super::*;

    fn heard(n: u64) -> (Vec<(Arc<str>, Message)>, SystemTime) {
        let at = UNIX_EPOCH + Duration::from_secs(n);
        let message = Message {
            id: MessageId::new(format_args!("s-{n}")),
            channel: "a".into(),
            key: None,
            headers: Headers::default(),
            content_type: ContentType::Text,
            body: Body::Payload("x".into()),
            since: at,
        };
        (vec![("p".into(), message)], at)
    }

    #[test]
    fn what_does_not_fit_is_counted_in_its_place() {
        let mut buffer = Buffer::new(["a".into()].into());
        let more = 7;
        let all = ENTRIES_MAX as u64 + more;
        for n in 0..all {
            let (messages, at) = heard(n);
            buffer.push(messages, at);
        }
        let taken = buffer.take();
        assert_eq!(taken.len(), ENTRIES_MAX + 1);
        let Some(Entry::Gap(gap)) = taken.last() else { panic!("{:?}", taken.last()) };
        let at = |n| UNIX_EPOCH + Duration::from_secs(n);
        assert_eq!((gap.reason, gap.count), (GapReason::Overflow, Some(more)));
        assert_eq!((gap.from, gap.to), (Some(at(ENTRIES_MAX as u64)), at(all - 1)));
        let (messages, at) = heard(all);
        buffer.push(messages, at);
        assert!(matches!(&buffer.take()[..], [Entry::Message { .. }]), "there is room again");
        assert!(buffer.is_empty());
    }
}
