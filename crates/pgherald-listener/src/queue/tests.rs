use std::time::Duration;

use proptest::prelude::*;

use super::*;

const BUDGET: Budget = Budget { messages: 4, bytes: 100 };
const ROOM: Room = Room {
    messages: 100,
    bytes: 1_000,
    first_bytes: usize::MAX,
    budget: pgherald_core::Budget { messages: 100, bytes: 1_000 },
};

fn at(n: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(n)
}

fn message(n: u64, size: usize) -> Message {
    Message {
        id: MessageId::new(format_args!("s-{n}")),
        channel: Arc::from("a"),
        key: None,
        headers: Headers::default(),
        content_type: ContentType::Text,
        body: Body::Payload(vec![b'x'; size].into()),
        since: at(n),
    }
}

fn gap(n: u64, reason: GapReason, from: Option<u64>) -> (MessageId, Gap) {
    let channels = Arc::from([Arc::from("a")]);
    let gap = Gap { channels, from: from.map(at), to: at(n), reason, count: None, rejected: None };
    (MessageId::new(format_args!("s-gap-{n}")), gap)
}

fn queue() -> FlowQueue {
    FlowQueue::new(BUDGET, Arc::from([Arc::from("a")]))
}

fn ids(batch: &Batch) -> Vec<&str> {
    batch.messages.iter().map(|message| message.id.as_str()).collect()
}

#[test]
fn overflow_is_one_gap_with_exact_edges_also_without_another_message() {
    let mut queue = queue();
    (0..7).for_each(|n| queue.push(message(n, 1)));
    let first = queue.take(Room { messages: 1, ..ROOM }).unwrap();
    let second = queue.take(Room { messages: 1, ..ROOM }).unwrap();
    queue.settle(first.end.as_ref().unwrap());
    queue.push(message(7, 1));
    assert_eq!(queue.unread_messages(), 2, "three held is more than half");
    queue.settle(second.end.as_ref().unwrap());
    let rest = queue.take(ROOM).unwrap();
    assert_eq!(ids(&rest), ["s-2", "s-3", "s-gap-4"]);
    let overflow = rest.messages[2].gap().unwrap();
    assert_eq!((overflow.from, overflow.to, overflow.count), (Some(at(4)), at(7), Some(4)));
    assert_eq!(overflow.reason, GapReason::Overflow);
    queue.push(message(8, 1));
    assert_eq!(ids(&queue.take(ROOM).unwrap()), ["s-8"]);
}

#[test]
fn a_message_above_the_budget_travels_alone() {
    let mut queue = queue();
    queue.push(message(0, 1_000));
    queue.push(message(1, 1));
    let batch = queue
        .take(Room {
            messages: 10,
            bytes: 100,
            first_bytes: usize::MAX,
            budget: pgherald_core::Budget { messages: 10, bytes: 100 },
        })
        .unwrap();
    assert_eq!(ids(&batch), ["s-0"]);
    queue.settle(batch.end.as_ref().unwrap());
    assert_eq!(ids(&queue.take(ROOM).unwrap()), ["s-gap-1"]);
}

#[test]
fn neighbouring_gaps_are_one_until_they_are_read() {
    let mut queue = queue();
    for (n, reason, from) in [
        (1, GapReason::Start, None),
        (5, GapReason::Disconnect, Some(3)),
        (9, GapReason::Deaf, Some(8)),
    ] {
        let (id, gap) = gap(n, reason, from);
        queue.push_gap(id, gap);
        if n == 5 {
            let batch = queue.take(ROOM).unwrap();
            assert_eq!(ids(&batch), ["s-gap-1"]);
            let merged = batch.messages[0].gap().unwrap();
            assert_eq!((merged.from, merged.to, merged.reason), (None, at(5), GapReason::Start));
        }
    }
    assert_eq!(ids(&queue.take(ROOM).unwrap()), ["s-gap-9"]);
}

#[test]
fn a_new_session_ends_an_overflow() {
    let mut queue = queue();
    (0..6).for_each(|n| queue.push(message(n, 1)));
    let (id, gap) = gap(20, GapReason::Disconnect, Some(10));
    queue.push_gap(id, gap);
    let batch = queue.take(ROOM).unwrap();
    assert_eq!(ids(&batch)[4..], ["s-gap-4"]);
    let merged = batch.messages[4].gap().unwrap();
    assert_eq!((merged.from, merged.to), (Some(at(4)), at(20)));
}

#[test]
fn nothing_that_is_not_settled_counts_as_settled() {
    let mut queue = queue();
    queue.echo(at(1));
    assert_eq!(queue.settled_until(), Some(at(1)));
    (2..8).for_each(|n| queue.push(message(n, 1)));
    queue.echo(at(9));
    let batch = queue.take(ROOM).unwrap();
    assert_eq!(queue.settled_until(), Some(at(1)));
    queue.settle(batch.end.as_ref().unwrap());
    assert_eq!(queue.settled_until(), Some(at(1)), "the overflow is not delivered");
    let batch = queue.take(ROOM).unwrap();
    queue.settle(batch.end.as_ref().unwrap());
    assert_eq!(queue.settled_until(), Some(at(9)));
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Gap,
    Take(Room),
    Settle(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let room = (1..6usize, 0..120usize, 0..200usize);
    let room = room.prop_map(|(messages, bytes, first)| Room {
        messages,
        bytes,
        first_bytes: first.max(bytes),
        budget: pgherald_core::Budget { messages, bytes },
    });
    let step = prop_oneof![
        4 => (0..120usize).prop_map(Step::Push),
        1 => Just(Step::Gap),
        3 => room.prop_map(Step::Take),
        2 => (0..4usize).prop_map(Step::Settle),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Every number that was pushed comes out, in order, as itself or inside a gap; the budget holds.
    #[test]
    fn nothing_is_lost_silently(steps in steps()) {
        let mut queue = queue();
        let mut open: Vec<(Checkpoint, usize, usize)> = Vec::new();
        let (mut next, mut out) = (0u64, Vec::new());
        for step in steps.into_iter().chain([Step::Settle(usize::MAX)]) {
            match step {
                Step::Push(size) => queue.push(message({ next += 1; next - 1 }, size)),
                Step::Gap => {
                    let (id, gap) = gap({ next += 1; next - 1 }, GapReason::Deaf, Some(0));
                    queue.push_gap(id, gap);
                }
                Step::Take(room) => if let Some(batch) = queue.take(room) {
                    let real = batch.messages.iter().filter(|message| message.gap().is_none());
                    open.push((batch.end.clone().unwrap(), real.count(), batch.size()));
                    out.extend(batch.messages);
                },
                Step::Settle(count) => for _ in 0..count.min(open.len()) {
                    queue.settle(&open.remove(0).0);
                },
            }
            let window: usize = open.iter().map(|(_, messages, _)| messages).sum();
            prop_assert!(queue.unread_messages() + window <= BUDGET.messages);
        }
        queue.end_overflow();
        while let Some(batch) = queue.take(ROOM) {
            out.extend(batch.messages);
        }
        let mut expected = 0;
        for message in &out {
            let n: u64 = message.id.as_str().rsplit_once('-').unwrap().1.parse().unwrap();
            prop_assert_eq!(n, expected);
            expected = match message.gap() {
                Some(gap) => gap.to.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 1,
                None => n + 1,
            };
        }
        prop_assert_eq!(expected, next);
    }
}
