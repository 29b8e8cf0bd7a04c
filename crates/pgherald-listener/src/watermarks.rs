//! Until when a flow is settled: what a heartbeat tells standbys.
//!
//! A message's own time will not do, since it was committed before it was heard. What is certain
//! is the last echo before it: whatever was committed before that nonce had arrived by then.

use std::{collections::VecDeque, time::SystemTime};

/// For each entry of a flow (by its place since the flow began) the time before which nothing can
/// be missing as long as every entry before it is settled. `None`: unknown.
#[derive(Debug, Default)]
pub(crate) struct Watermarks {
    echoed: Option<SystemTime>,
    /// Where the watermark changes: the place of the first entry with this watermark.
    marks: VecDeque<(u64, Option<SystemTime>)>,
}

impl Watermarks {
    /// A nonce sent at `at` came back.
    pub(crate) fn echo(&mut self, at: SystemTime) {
        self.echoed = Some(at);
    }

    /// The watermark of a message that arrives now.
    pub(crate) fn current(&self) -> Option<SystemTime> {
        self.echoed
    }

    /// The next entry, at that place, begins at `watermark`.
    pub(crate) fn enter(&mut self, place: u64, watermark: Option<SystemTime>) {
        if self.marks.back().is_none_or(|(_, known)| *known != watermark) {
            self.marks.push_back((place, watermark));
        }
    }

    /// The last entry, at that place, now also stands for a window that begins at `watermark`.
    pub(crate) fn widen(&mut self, place: u64, watermark: Option<SystemTime>) {
        match self.marks.back_mut() {
            Some((_, known)) if *known <= watermark => {}
            Some((last, known)) if *last == place => *known = watermark,
            _ => self.marks.push_back((place, watermark)),
        }
    }

    /// Before when nothing is missing; the entry at `oldest` is the first that is not settled, and
    /// there are `entered` in all.
    pub(crate) fn settled_until(&mut self, oldest: u64, entered: u64) -> Option<SystemTime> {
        if oldest == entered {
            self.marks.clear();
            return self.echoed;
        }
        while self.marks.get(1).is_some_and(|(place, _)| *place <= oldest) {
            self.marks.pop_front();
        }
        self.marks.front().and_then(|(_, watermark)| *watermark)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn the_oldest_open_entry_decides() {
        let mut watermarks = Watermarks::default();
        watermarks.enter(0, None);
        watermarks.echo(at(10).unwrap());
        watermarks.enter(1, watermarks.current());
        watermarks.enter(2, watermarks.current());
        watermarks.echo(at(15).unwrap());
        watermarks.enter(3, watermarks.current());
        assert_eq!(watermarks.settled_until(0, 4), None, "the start gap is not delivered");
        assert_eq!(watermarks.settled_until(2, 4), at(10));
        assert_eq!(watermarks.settled_until(3, 4), at(15));
        assert_eq!(watermarks.settled_until(4, 4), at(15));
        watermarks.echo(at(20).unwrap());
        assert_eq!(watermarks.settled_until(4, 4), at(20));
    }

    #[test]
    fn a_merged_gap_keeps_the_older_floor() {
        let mut watermarks = Watermarks::default();
        watermarks.enter(0, at(9));
        watermarks.enter(1, at(9));
        watermarks.widen(1, at(12));
        assert_eq!(watermarks.settled_until(1, 2), at(9));
        watermarks.widen(1, at(5));
        assert_eq!(watermarks.settled_until(0, 2), at(9));
        assert_eq!(watermarks.settled_until(1, 2), at(5));
        watermarks.widen(1, None);
        assert_eq!(watermarks.settled_until(1, 2), None);
    }
}
