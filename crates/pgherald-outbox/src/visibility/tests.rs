//! Both orders against a model of PostgreSQL's transactions, with wrong readers that must fail.

mod model;

use std::collections::BTreeSet;

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use self::model::{Database, Dice, Snapshot};
use super::*;

/// A reader, right or deliberately wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Right,
    /// Takes a hole for rolled back as soon as it sees it.
    DeadAtOnce,
    /// Takes PREPARE for the end of a writer, because the process is no longer the same.
    ByProcess,
    /// Binds holes by a look at the writers that is older than the snapshot that showed them.
    BoundTooEarly,
    /// Reads the newest id after the locks.
    NewestIdLast,
    /// Takes its snapshot before it waits for the table's lock, as `COPY (SELECT …)` does.
    SnapshotBeforeLock,
}

/// One poll, step by step, so that writers can do anything in between.
enum Step {
    Newest,
    Locks,
    Read,
}

struct Run {
    database: Database,
    visibility: Visibility,
    order: Order,
    reader: Reader,
    step: Step,
    writers: Writers,
    /// What the read that waits for the table's lock would have seen when it began to wait.
    before_lock: Option<Snapshot>,
    delivered: Vec<i64>,
    /// Attaches begin anew at the latest position, as after a lost session.
    attaches: usize,
}

impl Run {
    fn new(order: Order, reader: Reader) -> Self {
        Self {
            database: Database::new(),
            visibility: Visibility::new(order, Position::default()),
            order,
            reader,
            step: Step::Newest,
            writers: Writers::default(),
            before_lock: None,
            delivered: Vec::new(),
            attaches: 0,
        }
    }

    fn read_on(&mut self, dice: &mut Dice) {
        match self.step {
            Step::Newest if !self.visibility.wants_writers() => self.step = Step::Read,
            Step::Newest => {
                match self.reader {
                    Reader::NewestIdLast => self.writers.open = self.open_writers(),
                    _ => self.writers.last = self.database.newest(),
                }
                self.step = Step::Locks;
            }
            Step::Locks => {
                match self.reader {
                    Reader::NewestIdLast => self.writers.last = self.database.newest(),
                    _ => self.writers.open = self.open_writers(),
                }
                self.visibility.observe(&self.writers);
                self.step = Step::Read;
            }
            Step::Read => {
                let before = *self.before_lock.get_or_insert(self.database.snapshot());
                if !self.database.keeps_readers_out() {
                    let snapshot = match self.reader {
                        Reader::SnapshotBeforeLock => before,
                        _ => self.database.snapshot(),
                    };
                    self.read(snapshot, dice);
                    (self.step, self.before_lock) = (Step::Newest, None);
                }
            }
        }
    }

    fn open_writers(&self) -> std::collections::BTreeMap<OpenWriter, Option<i32>> {
        let open = self.database.open_writers();
        match self.reader {
            Reader::ByProcess => {
                let other = |(writer, pid): (OpenWriter, Option<i32>)| match pid {
                    Some(pid) => (writer, Some(pid)),
                    None => (writer.of_another_process(), None),
                };
                open.into_iter().map(other).collect()
            }
            _ => open,
        }
    }

    fn read(&mut self, snapshot: Snapshot, dice: &mut Dice) {
        let Some(scan) = self.visibility.scan() else { return };
        let mut ids = self.database.visible(&scan, snapshot);
        let room = dice.below(6) + 1;
        let complete = ids.len() <= room;
        ids.truncate(room);
        self.delivered.extend(&ids);
        self.visibility.take(Taken { ids: &ids, complete });
        match self.reader {
            Reader::DeadAtOnce => {
                let high = self.visibility.position().high;
                let position = Position { high, missing: Ranges::default() };
                self.visibility = Visibility::new(self.order, position);
            }
            Reader::BoundTooEarly => self.visibility.observe(&self.writers),
            _ => {}
        }
    }

    /// The session is lost: a new one reads on from the position, which the database kept.
    fn attach_again(&mut self) {
        let checkpoint = self.visibility.position().to_checkpoint();
        let position = Position::from_checkpoint(&checkpoint).unwrap();
        self.visibility = Visibility::new(self.order, position);
        (self.step, self.writers) = (Step::Newest, Writers::default());
        self.before_lock = None;
        self.attaches += 1;
    }

    fn verdict(&self) -> Result<(), String> {
        let delivered: BTreeSet<i64> = self.delivered.iter().copied().collect();
        if delivered.len() != self.delivered.len() {
            return Err(format!("doubled: {:?}", self.delivered));
        }
        let committed = self.database.committed();
        if delivered != committed {
            let lost: Vec<_> = committed.difference(&delivered).collect();
            return Err(format!("lost {lost:?} of {committed:?}"));
        }
        if self.order == Order::Strict && !self.delivered.is_sorted() {
            return Err(format!("not in id order: {:?}", self.delivered));
        }
        self.database.check_causality(&self.delivered)
    }
}

/// Plays a race; the dice decide everything.
fn race(order: Order, reader: Reader, dice: &[u16]) -> Result<(), String> {
    let mut run = Run::new(order, reader);
    let mut dice = Dice::new(dice);
    while dice.left() {
        match dice.below(40) {
            0 => run.attach_again(),
            1..=17 => run.read_on(&mut dice),
            _ => run.database.act(&mut dice),
        }
    }
    run.database.finish(&mut dice);
    for _ in 0..600 {
        run.read_on(&mut dice);
    }
    if run.visibility.is_waiting() {
        return Err(format!("never settles: {:?}", run.visibility));
    }
    run.verdict()
}

fn dice() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 0..400)
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn causal_loses_nothing_and_keeps_causes_before_effects(dice in dice()) {
        race(Order::Causal, Reader::Right, &dice).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn strict_loses_nothing_and_keeps_the_order_of_ids(dice in dice()) {
        race(Order::Strict, Reader::Right, &dice).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn wrong_readers_fail_the_same_race() {
    for (order, reader) in [
        (Order::Causal, Reader::DeadAtOnce),
        (Order::Causal, Reader::ByProcess),
        (Order::Causal, Reader::BoundTooEarly),
        (Order::Strict, Reader::NewestIdLast),
        (Order::Causal, Reader::SnapshotBeforeLock),
        (Order::Strict, Reader::SnapshotBeforeLock),
    ] {
        let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let config = Config { max_shrink_iters: 0, ..config(20_000) };
        let mut runner = TestRunner::new_with_rng(config, random);
        let found =
            runner.run(&dice(), |dice| race(order, reader, &dice).map_err(TestCaseError::fail));
        assert!(found.is_err(), "{order:?} with {reader:?} must lose rows");
    }
}

fn writers(last: i64, open: &[(OpenWriter, Option<i32>)]) -> Writers {
    Writers { last, open: open.iter().copied().collect() }
}

#[test]
fn causal_does_not_wait_for_a_long_writer_and_forgets_what_was_rolled_back() {
    let mut visibility = Visibility::new(Order::Causal, Position::default());
    assert!(!visibility.wants_writers(), "nothing is missing: one statement a poll");
    visibility.take(Taken { ids: &[2, 4], complete: true });
    assert_eq!(visibility.position().missing.to_multirange(), "{[1,2),[3,4)}");
    let (long, short) = (OpenWriter::new(3, 7), OpenWriter::new(4, 9));
    visibility.observe(&writers(4, &[(long, Some(1)), (short, Some(2))]));
    visibility.take(Taken { ids: &[5], complete: true });
    assert_eq!(visibility.position().missing.len(), 2, "either may own either");
    visibility.observe(&writers(5, &[(long, None)]));
    visibility.take(Taken { ids: &[1], complete: true });
    assert_eq!(visibility.position().missing.to_multirange(), "{[3,4)}", "prepared is not gone");
    visibility.observe(&writers(5, &[]));
    visibility.take(Taken { ids: &[], complete: true });
    assert_eq!(visibility.position(), &Position { high: 5, missing: Ranges::default() });
    assert!(!visibility.is_waiting());
}

#[test]
fn causal_behaves_as_strict_past_its_cap() {
    let mut visibility = Visibility::new(Order::Causal, Position::default());
    let ids: Vec<i64> = (1..=causal::MISSING_RANGES_MAX as i64).map(|n| n * 2).collect();
    visibility.take(Taken { ids: &ids, complete: true });
    let long = OpenWriter::new(3, 7);
    visibility.observe(&writers(30_000, &[(long, Some(41))]));
    let scan = visibility.scan().unwrap();
    assert_eq!((scan.above, scan.missing.len()), (None, causal::MISSING_RANGES_MAX));
    assert_eq!(visibility.held(), Some(Held { writer: long, pid: Some(41) }));
    visibility.observe(&writers(30_000, &[]));
    visibility.take(Taken { ids: &[1, 3], complete: true });
    assert!(visibility.position().missing.is_empty() && visibility.scan().unwrap().above.is_some());
}

#[test]
fn strict_waits_for_the_oldest_writer_and_names_it() {
    let mut visibility =
        Visibility::new(Order::Strict, Position { high: 10, missing: Ranges::default() });
    let old = OpenWriter::new(3, 7);
    visibility.observe(&writers(20, &[(old, Some(5))]));
    assert_eq!(visibility.scan(), None, "it may own everything above the cursor");
    assert_eq!(visibility.held(), Some(Held { writer: old, pid: Some(5) }));
    visibility.observe(&writers(22, &[(OpenWriter::new(4, 1), Some(6))]));
    assert_eq!(
        visibility.scan().unwrap().through,
        Some(20),
        "new ones took ids above the last look's"
    );
    visibility.take(Taken { ids: &[11, 15], complete: true });
    assert_eq!(visibility.position().high, 20);
    visibility.observe(&writers(22, &[]));
    visibility.take(Taken { ids: &[], complete: true });
    assert_eq!((visibility.position().high, visibility.held()), (22, None));
}

#[test]
fn the_order_can_be_changed_between_attachments() {
    let missing = [(3, 3), (7, 8)].into_iter().collect();
    let mut visibility = Visibility::new(Order::Strict, Position { high: 10, missing });
    let old = OpenWriter::new(3, 7);
    visibility.observe(&writers(12, &[(old, Some(5))]));
    assert_eq!(visibility.scan(), None);
    visibility.observe(&writers(12, &[]));
    let scan = visibility.scan().unwrap();
    assert_eq!((scan.missing.len(), scan.above, scan.through), (2, Some(10), Some(12)));
    visibility.take(Taken { ids: &[7], complete: false });
    assert_eq!(visibility.position().missing.to_multirange(), "{[8,9)}");
    visibility.take(Taken { ids: &[12], complete: true });
    assert_eq!(visibility.position(), &Position { high: 12, missing: Ranges::default() });
}
