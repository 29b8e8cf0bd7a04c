//! Transactions as PostgreSQL runs them, as far as an outbox can tell.

use std::collections::{BTreeMap, BTreeSet};

use crate::{visibility::Scan, writers::OpenWriter};

/// A finite row of numbers that decides everything, so that a failure shrinks.
pub(super) struct Dice<'a> {
    numbers: std::slice::Iter<'a, u16>,
}

impl<'a> Dice<'a> {
    pub(super) fn new(numbers: &'a [u16]) -> Self {
        Self { numbers: numbers.iter() }
    }

    pub(super) fn left(&self) -> bool {
        !self.numbers.as_slice().is_empty()
    }

    /// 0 when there are none left.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.numbers.next().copied().unwrap_or(0)) % end
    }
}

/// What a transaction does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Holds no lock yet.
    Begun,
    /// Holds the lock, and is about to take an id.
    Locked,
    /// Has an id, and is about to write the row.
    Numbered(i64),
    /// Between statements, with the lock.
    Writing,
    /// Visible, and still in the locks.
    Visible,
}

#[derive(Debug)]
struct Transaction {
    writer: OpenWriter,
    /// `None`: prepared.
    pid: Option<i32>,
    phase: Phase,
    rows: Vec<i64>,
    /// Where a savepoint stands in `rows`. One that was set before the first row gives the lock
    /// back when it is rolled back to.
    savepoint: Option<usize>,
}

/// An ALTER TABLE that rewrites the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Alter {
    #[default]
    None,
    /// In the lock's queue behind those who write; whoever comes later waits behind it.
    Waits,
    Holds,
}

/// What a statement sees: what was committed when it was taken. Behind a rewrite every row is the
/// rewriter's: a snapshot from before sees none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    rewrites: usize,
}

#[derive(Debug, Default)]
pub(super) struct Database {
    alter: Alter,
    rewrites: usize,
    newest: i64,
    transactions: Vec<Transaction>,
    begun: u32,
    /// Visible rows, in the order in which they became so.
    visible: BTreeMap<i64, usize>,
    /// How many rows the writer of a row could see when it wrote it.
    seen: BTreeMap<i64, usize>,
}

const AT_ONCE: usize = 6;

impl Database {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    pub(super) fn open_writers(&self) -> BTreeMap<OpenWriter, Option<i32>> {
        let locked = self.transactions.iter().filter(|it| it.phase != Phase::Begun);
        locked.map(|it| (it.writer, it.pid)).collect()
    }

    /// A reader waits for the table's lock.
    pub(super) fn keeps_readers_out(&self) -> bool {
        self.alter != Alter::None
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { rewrites: self.rewrites }
    }

    /// One read. The model's snapshots differ in what a rewrite hides alone: without one, rows that
    /// appear between the snapshot and the read are as those of a later snapshot.
    pub(super) fn visible(&self, scan: &Scan, snapshot: Snapshot) -> Vec<i64> {
        if snapshot.rewrites < self.rewrites {
            return Vec::new();
        }
        let wanted = |id: &i64| {
            let above = scan.above.is_some_and(|above| *id > above);
            (above || scan.missing.contains(*id)) && scan.through.is_none_or(|end| *id <= end)
        };
        self.visible.keys().copied().filter(wanted).collect()
    }

    pub(super) fn committed(&self) -> BTreeSet<i64> {
        self.visible.keys().copied().collect()
    }

    /// One transaction does one step.
    pub(super) fn act(&mut self, dice: &mut Dice<'_>) {
        let odds = if self.alter == Alter::None { 60 } else { 4 };
        if dice.below(odds) == 1 {
            return self.alter();
        }
        if self.transactions.len() < AT_ONCE && dice.below(4) == 0 {
            return self.begin();
        }
        if !self.transactions.is_empty() {
            let place = dice.below(self.transactions.len());
            self.step(place, dice);
        }
    }

    /// Every transaction ends.
    pub(super) fn finish(&mut self, dice: &mut Dice<'_>) {
        while !self.transactions.is_empty() {
            self.end(0, dice.below(3) != 0);
        }
        while self.alter != Alter::None {
            self.alter();
        }
    }

    fn alter(&mut self) {
        self.alter = match self.alter {
            Alter::None => Alter::Waits,
            Alter::Waits if self.open_writers().is_empty() => Alter::Holds,
            Alter::Waits => Alter::Waits,
            Alter::Holds => {
                self.rewrites += 1;
                Alter::None
            }
        };
    }

    fn begin(&mut self) {
        self.begun += 1;
        let slot = i32::try_from(self.transactions.len()).unwrap();
        self.transactions.push(Transaction {
            writer: OpenWriter::new(slot, self.begun),
            pid: Some(slot + 100),
            phase: Phase::Begun,
            rows: Vec::new(),
            savepoint: None,
        });
    }

    fn step(&mut self, place: usize, dice: &mut Dice<'_>) {
        let seen = self.visible.len();
        let waits = self.alter != Alter::None;
        let it = &mut self.transactions[place];
        match it.phase {
            Phase::Begun if waits => {}
            Phase::Begun => it.phase = Phase::Locked,
            Phase::Locked => {
                // A statement's snapshot is older than the id that it takes.
                self.newest += 1;
                self.seen.insert(self.newest, seen);
                it.phase = Phase::Numbered(self.newest);
            }
            Phase::Numbered(id) => {
                it.rows.push(id);
                it.phase = Phase::Writing;
            }
            Phase::Visible => drop(self.transactions.remove(place)),
            Phase::Writing if it.pid.is_none() => self.end(place, dice.below(3) != 0),
            Phase::Writing => match dice.below(9) {
                0..=2 => it.phase = Phase::Locked,
                3 => it.pid = None,
                4 => it.savepoint = Some(it.rows.len()),
                5 => self.roll_back_to_savepoint(place, dice),
                6 => self.end(place, false),
                _ => self.become_visible(place),
            },
        }
    }

    fn roll_back_to_savepoint(&mut self, place: usize, dice: &mut Dice<'_>) {
        let it = &mut self.transactions[place];
        if let Some(rows) = it.savepoint {
            it.rows.truncate(rows);
        } else if dice.below(2) == 0 {
            it.rows.clear();
            it.phase = Phase::Begun;
        }
    }

    fn become_visible(&mut self, place: usize) {
        let it = &mut self.transactions[place];
        it.phase = Phase::Visible;
        for id in it.rows.drain(..) {
            let number = self.visible.len();
            self.visible.insert(id, number);
        }
    }

    fn end(&mut self, place: usize, commits: bool) {
        if commits {
            self.become_visible(place);
        }
        self.transactions.remove(place);
    }

    /// Every row comes after every row that its writer could see.
    pub(super) fn check_causality(&self, delivered: &[i64]) -> Result<(), String> {
        let mut missing: BTreeSet<usize> = self.visible.values().copied().collect();
        for id in delivered {
            missing.remove(&self.visible[id]);
            let first_missing = missing.first().copied().unwrap_or(usize::MAX);
            if first_missing < self.seen[id] {
                return Err(format!("{id} came before something its writer had seen"));
            }
        }
        Ok(())
    }
}
