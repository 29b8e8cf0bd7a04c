//! The window against a plain model: what was pushed, what is settled, what may be outstanding.

use std::{
    collections::BTreeSet,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Body, ContentType, Gap, GapReason, Headers, MessageId};

#[derive(Clone, Debug)]
enum Act {
    /// The source reads: up to so many messages, of these sizes.
    Push(Vec<u8>),
    Take,
    /// The outcome of one outstanding turn: it names every message whose bit is set.
    Resolve {
        turn: usize,
        open: u16,
        unknown: bool,
    },
    /// The writer fails.
    Rewind,
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => prop::collection::vec(1u8..30, 0..6).prop_map(Act::Push),
        3 => Just(Act::Take),
        3 => (0usize..4, any::<u16>(), any::<bool>())
            .prop_map(|(turn, open, unknown)| Act::Resolve { turn, open: open & open << 3, unknown }),
        1 => Just(Act::Rewind),
        2 => Just(Act::Release),
    ]
}

fn message(number: u64, size: u8) -> Message {
    Message {
        id: MessageId::new(format_args!("m-{number}")),
        channel: "c".into(),
        key: Some(Bytes::copy_from_slice(&[(number % 3) as u8])),
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(vec![0; usize::from(size)].into()),
        since: UNIX_EPOCH + Duration::from_secs(number),
    }
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint(Bytes::copy_from_slice(&number.to_be_bytes()))
}

const BUDGET: Budget = Budget { messages: 12, bytes: 200 };
const LIMITS: BatchLimits = BatchLimits { messages: 4, bytes: 60, linger: Duration::ZERO };

#[derive(Default)]
struct Model {
    pushed: u64,
    settled: BTreeSet<u64>,
    released: u64,
    outstanding: Vec<Turn>,
}

impl Model {
    fn number(message: &Message) -> u64 {
        message.id.as_str()[2..].parse().unwrap()
    }

    fn push(&mut self, window: &mut Window, sizes: &[u8], now: Instant) {
        let Some(room) = window.room() else { return };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for size in sizes {
            let message = message(self.pushed, *size);
            if !room.admits(messages.len(), bytes, message.size()) {
                break;
            }
            bytes += message.size();
            messages.push(message);
            self.pushed += 1;
        }
        window.push(Batch { messages, end: Some(checkpoint(self.pushed)) }, now);
    }

    fn take(&mut self, window: &mut Window) {
        let Some(turn) = window.take() else { return };
        assert!(turn.batch.messages.len() <= LIMITS.messages || turn.batch.messages.len() == 1);
        assert!(turn.only.places(turn.batch.messages.len()).next().is_some(), "an empty turn");
        self.outstanding.push(turn);
    }

    fn resolve(&mut self, window: &mut Window, turn: usize, open: u16, unknown: bool) {
        if turn >= self.outstanding.len() {
            return;
        }
        let turn = self.outstanding.remove(turn);
        let mut named = Vec::new();
        for place in turn.only.places(turn.batch.messages.len()) {
            if open >> place & 1 == 1 {
                named.push((place as u32, if unknown { Open::Unknown } else { Open::Unsent }));
            } else {
                self.settled.insert(Self::number(&turn.batch.messages[place]));
            }
        }
        window.resolve(turn.sequence, &named, &mut |_| ());
    }

    fn release(&mut self, window: &mut Window) {
        if let Some(checkpoint) = window.release().newest {
            let through = u64::from_be_bytes(checkpoint.0[..].try_into().unwrap());
            assert!(through >= self.released, "checkpoints go forward");
            assert!((0..through).all(|n| self.settled.contains(&n)), "acked before it settled");
            self.released = through;
        }
    }

    fn check(&self, window: &Window) {
        let held = window.entries.iter().map(Entry::len).sum::<usize>();
        assert_eq!(window.messages(), held);
        assert!(held <= BUDGET.messages, "{held} held");
        assert!(window.bytes() <= BUDGET.bytes || held == 1, "{} bytes held", window.bytes());
        assert_eq!(window.bytes(), window.entries.iter().map(|entry| entry.bytes).sum::<usize>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_forgotten_and_nothing_acked_early(
        acts in prop::collection::vec(act(), 1..80),
        by_key in any::<bool>(),
    ) {
        let ordering = if by_key { Ordering::Key } else { Ordering::Flow };
        let mut window = Window::new(BUDGET, LIMITS, ordering);
        let mut model = Model::default();
        let now = Instant::now();
        for act in acts {
            match act {
                Act::Push(sizes) => model.push(&mut window, &sizes, now),
                Act::Take => model.take(&mut window),
                Act::Resolve { turn, open, unknown } => {
                    model.resolve(&mut window, turn, open, unknown);
                }
                Act::Rewind => {
                    model.outstanding.clear();
                    window.rewind();
                }
                Act::Release => model.release(&mut window),
            }
            model.check(&window);
        }
        // Calm: one more writer, and everything settles in order.
        window.rewind();
        model.outstanding.clear();
        let mut last = None;
        while let Some(turn) = window.take() {
            for place in turn.only.places(turn.batch.messages.len()) {
                let number = Model::number(&turn.batch.messages[place]);
                prop_assert!(by_key || last < Some(number), "published out of order");
                last = Some(number);
                model.settled.insert(number);
            }
            window.resolve(turn.sequence, &[], &mut |_| ());
        }
        model.release(&mut window);
        prop_assert!(window.is_empty());
        prop_assert_eq!((window.messages(), window.bytes()), (0, 0));
        prop_assert_eq!(model.released, model.pushed);
    }
}

fn window(ordering: Ordering) -> Window {
    let mut window = Window::new(BUDGET, LIMITS, ordering);
    let messages = (0..4).map(|number| message(number, 1)).collect();
    window.push(Batch { messages, end: Some(checkpoint(4)) }, Instant::now());
    window
}

fn places(turn: &Turn) -> Vec<usize> {
    turn.only.places(turn.batch.messages.len()).collect()
}

#[test]
fn a_replay_repeats_what_was_confirmed_behind_an_unknown() {
    let mut window = window(Ordering::Flow);
    let turn = window.take().unwrap();
    window.resolve(turn.sequence, &[(1, Open::Unknown)], &mut |_| ());
    window.rewind();
    assert_eq!(places(&window.take().unwrap()), [1, 2, 3]);
}

/// A second fault interrupts the replay: what was repeated in vain is repeated again. Otherwise message 1
/// would be the last one of its unit that arrived, though 2 is newer.
#[test]
fn a_replay_that_is_interrupted_goes_on_where_it_was() {
    let mut window = window(Ordering::Flow);
    let turn = window.take().unwrap();
    let mut settled = 0;
    window.resolve(turn.sequence, &[(1, Open::Unknown), (3, Open::Unknown)], &mut |_| settled += 1);
    window.rewind();
    let turn = window.take().unwrap();
    assert_eq!(places(&turn), [1, 2, 3]);
    let open = [(2, Open::Unknown), (3, Open::Unknown)];
    let resolved = window.resolve(turn.sequence, &open, &mut |_| settled += 1);
    assert_eq!((resolved.settled, resolved.open, resolved.unknown), (1, 2, 2));
    window.rewind();
    let turn = window.take().unwrap();
    assert_eq!((places(&turn), turn.again), (vec![2, 3], 2));
    window.resolve(turn.sequence, &[], &mut |_| settled += 1);
    assert_eq!(settled, 4, "each counts once");
    assert_eq!(window.release().newest, Some(checkpoint(4)));
}

/// A batch that is to be repeated stays until it was, though everything before it is settled.
#[test]
fn what_is_to_be_repeated_is_not_released() {
    let mut window = window(Ordering::Flow);
    window.push(Batch { messages: vec![message(4, 1)], end: Some(checkpoint(5)) }, Instant::now());
    let turns: Vec<Turn> = std::iter::from_fn(|| window.take()).collect();
    assert_eq!(turns.len(), 2);
    window.resolve(turns[1].sequence, &[], &mut |_| ());
    window.resolve(turns[0].sequence, &[(3, Open::Unknown)], &mut |_| ());
    window.rewind();
    let turn = window.take().unwrap();
    assert_eq!(places(&turn), [3]);
    window.resolve(turn.sequence, &[], &mut |_| ());
    assert_eq!(window.release().newest, Some(checkpoint(4)));
    let turn = window.take().expect("message 4 is repeated behind message 3");
    assert_eq!(Model::number(&turn.batch.messages[0]), 4);
    window.resolve(turn.sequence, &[], &mut |_| ());
    assert_eq!(window.release().newest, Some(checkpoint(5)));
    assert!(window.is_empty());
}

#[test]
fn what_the_policy_disposed_of_is_not_repeated() {
    let mut window = window(Ordering::Flow);
    let turn = window.take().unwrap();
    window.dispose((turn.sequence, 2));
    window.resolve(turn.sequence, &[(1, Open::Unknown)], &mut |_| ());
    window.rewind();
    assert_eq!(places(&window.take().unwrap()), [1, 3]);
}

#[test]
fn a_replay_by_key_repeats_that_key_only() {
    let mut window = window(Ordering::Key);
    let turn = window.take().unwrap();
    window.resolve(turn.sequence, &[(0, Open::Unknown)], &mut |_| ());
    window.rewind();
    // Keys are number % 3: message 3 follows message 0.
    assert_eq!(places(&window.take().unwrap()), [0, 3]);
}

#[test]
fn what_was_certainly_not_sent_makes_nobody_repeat() {
    let mut window = window(Ordering::Flow);
    let turn = window.take().unwrap();
    window.resolve(turn.sequence, &[(2, Open::Unsent)], &mut |_| ());
    window.rewind();
    assert_eq!(places(&window.take().unwrap()), [2]);
}

#[test]
fn a_message_above_the_budget_travels_alone() {
    let mut window = Window::new(BUDGET, LIMITS, Ordering::Flow);
    assert!(window.room().unwrap().admits(0, 0, BUDGET.bytes * 2));
    let large = Batch { messages: vec![message(0, 255)], end: Some(checkpoint(1)) };
    window.push(large, Instant::now());
    let room = window.room().unwrap();
    assert!(!room.admits(0, 0, 1), "nothing joins it: {room:?}");
    let turn = window.take().unwrap();
    window.resolve(turn.sequence, &[], &mut |_| ());
    assert_eq!(window.release().newest, Some(checkpoint(1)));
}

#[test]
fn what_joins_an_empty_batch_is_published() {
    let mut window = window(Ordering::Flow);
    let first = window.take().unwrap();
    window.push(Batch { messages: Vec::new(), end: Some(checkpoint(4)) }, Instant::now());
    assert!(window.take().is_none());
    let later = Batch { messages: vec![message(4, 1)], end: Some(checkpoint(5)) };
    window.push(later, Instant::now());
    assert!(window.waiting().is_some());
    let second = window.take().expect("the message behind the empty batch is next");
    assert_eq!(Model::number(&second.batch.messages[0]), 4);
    for turn in [first, second] {
        window.resolve(turn.sequence, &[], &mut |_| ());
    }
    assert_eq!(window.release().newest, Some(checkpoint(5)));
    assert!(window.is_empty());
}

#[test]
fn gaps_with_no_message_between_them_become_one() {
    let gap = |number| {
        let at = UNIX_EPOCH + Duration::from_secs(number);
        let mut message = message(number, 0);
        message.body = Body::Gap(Gap {
            channels: ["c".into()].into(),
            from: Some(at),
            to: at,
            reason: GapReason::Deaf,
            count: None,
            rejected: None,
        });
        message
    };
    for limits in [LIMITS, BatchLimits { messages: 1, ..LIMITS }] {
        let mut window = Window::new(BUDGET, limits, Ordering::Flow);
        for number in [1, 2] {
            let batch = Batch { messages: vec![gap(number)], end: Some(checkpoint(number)) };
            window.push(batch, Instant::now());
        }
        assert_eq!(window.messages(), 1, "{limits:?}");
        let turn = window.take().unwrap();
        assert_eq!(turn.batch.end, Some(checkpoint(2)));
        assert_eq!(turn.batch.messages[0].gap().unwrap().seconds(), 1.0);
    }
}

#[test]
fn what_is_sent_again_keeps_apart_and_moves_no_checkpoint() {
    let mut window = Window::new(BUDGET, LIMITS, Ordering::Flow);
    let batch = |number, end| Batch { messages: vec![message(number, 1)], end };
    for (number, end) in [(0, Some(checkpoint(1))), (7, None), (1, Some(checkpoint(2)))] {
        window.push(batch(number, end), Instant::now());
    }
    window.push(Batch { messages: Vec::new(), end: Some(checkpoint(3)) }, Instant::now());
    assert_eq!(window.undelivered(), 2, "what is kept elsewhere is not lost");
    let turns: Vec<Turn> = std::iter::from_fn(|| window.take()).collect();
    assert_eq!(turns.len(), 3);
    assert!(window.is_replay(turns[1].sequence) && !window.is_replay(turns[2].sequence));
    let settle = |window: &mut Window, turn: usize| {
        window.resolve(turns[turn].sequence, &[], &mut |_| ());
        window.release()
    };
    let nothing = Released::default();
    assert_eq!(settle(&mut window, 1), nothing, "something before it is open");
    let both = settle(&mut window, 0);
    assert_eq!(both.newest, Some(checkpoint(1)));
    assert_eq!(both.replayed.unwrap(), [message(7, 1).id]);
    let last = settle(&mut window, 2);
    assert_eq!((last.newest, last.replayed), (Some(checkpoint(3)), None));
}

#[test]
fn the_source_leaves_room_for_what_is_sent_again() {
    let mut window = Window::new(BUDGET, LIMITS, Ordering::Flow);
    let messages: Vec<Message> = (0..12).map(|number| message(number, 1)).collect();
    for chunk in messages.chunks(4) {
        let batch = Batch { messages: chunk.to_vec(), end: Some(checkpoint(1)) };
        window.push(batch, Instant::now());
    }
    let again = Batch { messages: messages[..3].to_vec(), end: None };
    assert!(!window.fits(&again));
    window.reserve(Some(&again));
    let turn = window.take().unwrap();
    window.resolve(turn.sequence, &[], &mut |_| ());
    window.release();
    assert_eq!(window.room().unwrap().messages, 1);
    assert!(window.fits(&again));
    window.reserve(None);
    assert_eq!(window.room().unwrap().messages, 4);
}
