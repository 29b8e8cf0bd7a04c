//! Holds what arrived against what was announced: whatever is missing lies inside a gap, and the
//! gap stands in its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use pgherald_testkit::{Announcement, StoredMessage};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::ticker::Tick;

/// One gap at a consumer, in all its copies (one for each destination).
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) id: String,
    pub(crate) reason: String,
    /// `None`: everything before `to`.
    pub(crate) from: Option<SystemTime>,
    pub(crate) to: SystemTime,
    /// The destinations that got it, in order.
    pub(crate) subjects: Vec<String>,
    pub(crate) json: Value,
    /// What it stands for, at its place: committed and not arrived.
    pub(crate) missing: Vec<Tick>,
}

impl Window {
    fn of(message: &StoredMessage) -> Self {
        let json: Value = serde_json::from_slice(&message.payload).expect("a gap is JSON");
        let id = message.header("ce-id").expect("a gap has an id").to_owned();
        assert_eq!(id.split_once("-gap-").map(|(session, _)| session.len()), Some(16), "{id}");
        Self {
            id,
            reason: json["reason"].as_str().expect("a reason").to_owned(),
            from: json["from"].as_str().map(instant),
            to: instant(json["to"].as_str().expect("an end")),
            subjects: vec![message.subject.clone()],
            missing: Vec::new(),
            json,
        }
    }

    /// Whether what was committed between these two times may be missing because of this gap.
    fn covers(&self, tick: &Tick) -> bool {
        self.from.is_none_or(|from| from <= tick.answered) && tick.sent <= self.to
    }

    pub(crate) fn length(&self) -> Duration {
        let from = self.from.unwrap_or(self.to);
        self.to.duration_since(from).expect("a gap ends after it begins")
    }
}

fn instant(text: &str) -> SystemTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|_| panic!("no time: {text}")).into()
}

/// Goes through a stream from its beginning and returns its gaps, each with what it stands for.
///
/// Asserts that nothing is doubled or reordered, that the last announcement arrived, that ids are
/// unique, and that whatever is missing lies inside a gap that stands between the last message
/// before and the first message after it.
pub(crate) fn account(ticks: &[Tick], stored: &[StoredMessage]) -> Vec<Window> {
    let ranks: BTreeMap<&str, usize> =
        ticks.iter().enumerate().map(|(rank, tick)| (tick.id.as_str(), rank)).collect();
    let (mut windows, mut next, mut since) = (Vec::<Window>::new(), 0, 0);
    for message in stored {
        if message.is_gap() {
            note(&mut windows, message);
            continue;
        }
        let id = Announcement::id_of(&message.payload).expect("an announcement");
        let rank = *ranks.get(id.as_str()).unwrap_or_else(|| panic!("{id} was never announced"));
        assert!(rank >= next, "{id} arrived again, or after a later one");
        explain(&ticks[next..rank], &mut windows[since..]);
        (next, since) = (rank + 1, windows.len());
    }
    assert_eq!(next, ticks.len(), "the last announcement arrived");
    assert_unique_ids(stored);
    windows
}

fn note(windows: &mut Vec<Window>, message: &StoredMessage) {
    let window = Window::of(message);
    match windows.last_mut().filter(|last| last.id == window.id) {
        Some(last) => {
            assert_eq!(last.json, window.json, "the copies of one gap are equal");
            last.subjects.push(message.subject.clone());
        }
        None => windows.push(window),
    }
}

fn explain(skipped: &[Tick], windows: &mut [Window]) {
    for tick in skipped.iter().filter(|tick| tick.committed) {
        let Some(window) = windows.iter_mut().find(|window| window.covers(tick)) else {
            panic!("{tick:?} is missing, and none of these gaps covers it: {windows:#?}");
        };
        window.missing.push(tick.clone());
    }
}

fn assert_unique_ids(stored: &[StoredMessage]) {
    let mut ids = BTreeSet::new();
    for message in stored.iter().filter(|message| !message.is_gap()) {
        let id = message.header("ce-id").expect("every message has an id");
        assert!(ids.insert(id), "two messages have the id {id}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn ticks(count: u64) -> Vec<Tick> {
        let tick = |n| Tick {
            id: format!("0-{n}"),
            sent: UNIX_EPOCH + Duration::from_secs(n),
            answered: UNIX_EPOCH + Duration::from_millis(n * 1_000 + 1),
            committed: true,
        };
        (0..count).map(tick).collect()
    }

    fn stored(kind: &str, id: String, payload: String) -> StoredMessage {
        StoredMessage {
            sequence: 0,
            subject: "s".into(),
            headers: vec![("ce-type".into(), kind.into()), ("ce-id".into(), id)],
            payload: payload.into_bytes(),
            at: UNIX_EPOCH,
        }
    }

    fn told(n: u64) -> StoredMessage {
        let payload = format!("{{\"writer\":0,\"n\":{n}}}");
        stored("pgherald.message", format!("0123456789abcdef-{n}"), payload)
    }

    fn gap(from: u64, to: u64) -> StoredMessage {
        let at = |second| format!("1970-01-01T00:00:{second:02}.000000Z");
        let (from, to) = (at(from), at(to));
        let payload = format!("{{\"from\":\"{from}\",\"to\":\"{to}\",\"reason\":\"deaf\"}}");
        stored("pgherald.gap", "0123456789abcdef-gap-7".into(), payload)
    }

    #[test]
    fn a_gap_in_its_place_explains_what_is_missing() {
        let windows = account(&ticks(5), &[told(0), gap(1, 3), gap(1, 3), told(3), told(4)]);
        assert_eq!((windows.len(), windows[0].missing.len()), (1, 2));
        assert_eq!(windows[0].subjects, ["s", "s"]);
    }

    #[test]
    #[should_panic(expected = "none of these gaps covers it")]
    fn a_gap_that_begins_too_late_explains_nothing() {
        account(&ticks(5), &[told(0), gap(2, 3), told(3), told(4)]);
    }

    #[test]
    #[should_panic(expected = "none of these gaps covers it")]
    fn a_gap_behind_a_later_message_explains_nothing() {
        account(&ticks(5), &[told(0), told(3), gap(1, 3), told(4)]);
    }

    #[test]
    #[should_panic(expected = "0-1 arrived again, or after a later one")]
    fn a_doubled_message_is_found() {
        account(&ticks(2), &[told(0), told(1), told(1)]);
    }

    #[test]
    #[should_panic(expected = "0-1 arrived again, or after a later one")]
    fn a_message_behind_a_later_one_is_found() {
        account(&ticks(3), &[told(0), gap(0, 2), told(2), told(1)]);
    }
}
