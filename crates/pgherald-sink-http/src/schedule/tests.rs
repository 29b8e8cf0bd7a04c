//! The schedule against a plain account of what is under way and what was settled.

use std::time::SystemTime;

use pgherald_core::{Body, ContentType, Gap, GapReason, Headers, MessageId};
use proptest::prelude::*;

use super::*;

/// A message of the flow: a key, none, or a gap.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Key(u8),
    Keyless,
    Gap,
}

#[derive(Clone, Debug)]
enum Act {
    Push(Kind, bool),
    /// Starts what may be started.
    Next,
    /// One of the requests under way is answered.
    Settle(usize),
    /// One of them is refused as a whole, if it has several messages.
    Split(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![
        8 => (0u8..4).prop_map(Kind::Key),
        2 => Just(Kind::Keyless),
        1 => Just(Kind::Gap),
    ];
    prop_oneof![
        4 => (kind, prop::bool::weighted(0.1)).prop_map(|(kind, alone)| Act::Push(kind, alone)),
        3 => Just(Act::Next),
        2 => (0usize..4).prop_map(Act::Settle),
        1 => (0usize..4).prop_map(Act::Split),
    ]
}

fn item(number: u64, kind: Kind, alone: bool) -> Item {
    let gap = || Gap {
        channels: ["c".into()].into(),
        from: None,
        to: SystemTime::UNIX_EPOCH,
        reason: GapReason::Start,
        count: None,
        rejected: None,
    };
    let (key, body) = match kind {
        Kind::Key(key) => (Some(Bytes::copy_from_slice(&[key])), Body::Payload(Bytes::new())),
        Kind::Keyless => (None, Body::Payload(Bytes::new())),
        Kind::Gap => (None, Body::Gap(gap())),
    };
    let message = Message {
        id: MessageId::new(format_args!("m-{number}")),
        channel: "c".into(),
        key,
        headers: Headers::default(),
        content_type: ContentType::Text,
        body,
        since: SystemTime::UNIX_EPOCH,
    };
    Item { job: 0, place: 0, number, alone, message }
}

struct Model {
    schedule: Schedule,
    pushed: Vec<Item>,
    under_way: Vec<RequestBatch>,
    settled: Vec<u64>,
}

impl Model {
    fn new(messages: usize) -> Self {
        Self {
            schedule: Schedule::new(ParcelLimits { messages, bytes: 1 << 20 }),
            pushed: Vec::new(),
            under_way: Vec::new(),
            settled: Vec::new(),
        }
    }

    fn play(&mut self, act: Act) {
        match act {
            Act::Push(kind, alone) => {
                let item = item(self.pushed.len() as u64, kind, alone);
                self.pushed.push(item.clone());
                self.schedule.push(item);
            }
            Act::Next => {
                if let Some(request_batch) = self.schedule.next() {
                    self.start(request_batch);
                }
            }
            Act::Settle(which) if which < self.under_way.len() => {
                let request_batch = self.under_way.remove(which);
                self.settled.extend(request_batch.iter().map(|item| item.number));
                self.schedule.settle(&request_batch);
            }
            Act::Split(which) if self.under_way.get(which).is_some_and(|it| it.len() > 1) => {
                let request_batch = self.under_way.remove(which);
                self.schedule.split(request_batch);
            }
            Act::Settle(_) | Act::Split(_) => {}
        }
    }

    fn start(&mut self, request_batch: RequestBatch) {
        assert!(!request_batch.is_empty() && request_batch.len() <= self.schedule.limits.messages);
        assert!(request_batch.len() == 1 || request_batch.iter().all(|item| !item.alone));
        assert!(request_batch.is_sorted_by_key(|item| item.number));
        for item in &request_batch {
            let mine = |number: u64| request_batch.iter().any(|other| other.number == number);
            for earlier in &self.pushed[..item.number as usize] {
                let ordered = earlier.message.key == item.message.key
                    || earlier.message.gap().is_some()
                    || item.message.gap().is_some();
                let settled = self.settled.contains(&earlier.number);
                assert!(!ordered || settled || mine(earlier.number), "{item:?} past {earlier:?}");
            }
        }
        self.under_way.push(request_batch);
    }

    /// Everything is sent and answered in the end.
    fn finish(&mut self) {
        for _ in 0..=2 * self.pushed.len() {
            self.play(Act::Next);
            self.play(Act::Settle(0));
        }
        let mut settled = self.settled.clone();
        settled.sort_unstable();
        assert_eq!(settled, (0..self.pushed.len() as u64).collect::<Vec<_>>());
        assert!(self.schedule.lanes.is_empty() && self.schedule.busy.is_empty());
    }
}

proptest! {
    #[test]
    fn equal_keys_and_gaps_are_never_overtaken_and_nothing_is_left(
        acts in prop::collection::vec(act(), 1..120),
        messages in 1usize..5,
    ) {
        let mut model = Model::new(messages);
        acts.into_iter().for_each(|act| model.play(act));
        model.finish();
    }
}

#[test]
fn keys_go_side_by_side_and_a_refused_batch_goes_singly() {
    let mut schedule = Schedule::new(ParcelLimits { messages: 3, bytes: 1 << 20 });
    for (number, key) in [1, 1, 2, 1, 3].into_iter().enumerate() {
        schedule.push(item(number as u64, Kind::Key(key), false));
    }
    let numbers = |request_batch: &RequestBatch| {
        request_batch.iter().map(|item| item.number).collect::<Vec<_>>()
    };
    let first = schedule.next().unwrap();
    assert_eq!(numbers(&first), [0, 1, 3]);
    let second = schedule.next().unwrap();
    assert_eq!(numbers(&second), [2, 4]);
    assert!(schedule.next().is_none());
    schedule.split(first);
    for expected in [0, 1, 3] {
        let single = schedule.next().unwrap();
        assert_eq!(numbers(&single), [expected]);
        assert!(schedule.next().is_none(), "one at once of a key");
        schedule.settle(&single);
    }
    assert!(schedule.next().is_none());
}

#[test]
fn what_waits_comes_back_and_what_is_under_way_does_not() {
    let mut schedule = Schedule::new(ParcelLimits { messages: 1, bytes: 1 });
    for (number, kind) in [Kind::Key(1), Kind::Key(1), Kind::Gap, Kind::Key(2)].iter().enumerate() {
        schedule.push(item(number as u64, *kind, false));
    }
    let sent = schedule.next().unwrap();
    let mut waiting: Vec<u64> = schedule.take_waiting().iter().map(|item| item.number).collect();
    waiting.sort_unstable();
    assert_eq!(waiting, [1, 2, 3]);
    schedule.settle(&sent);
    assert!(schedule.next().is_none());
}
