//! The causal order: one snapshot after the other, each in id order.
//!
//! In one snapshot a row is visible only if every row that its writer could see is, and those have
//! smaller ids. What a snapshot does not show below the highest id it shows is *missing*: rolled
//! back, or not committed yet. Whoever owns a missing id was open when the next look at the writers
//! was taken, or has ended before it; once none of those is open any more, a later snapshot shows
//! the id or it never comes.

use std::{collections::BTreeSet, mem};

use super::{Held, Scan, Taken};
use crate::{
    position::Position,
    ranges::Ranges,
    writers::{OpenWriter, Writers},
};

/// With so many missing ranges nothing above them is read until some are settled, as in strict
/// order.
pub(crate) const MISSING_RANGES_MAX: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Causal {
    position: Position,
    /// Found since the latest look at the writers: bound by the next one.
    unbound: Ranges,
    /// The rest of what is missing, by the writers that may own it.
    bound: Vec<Bound>,
    /// The latest look at the writers, while the cap holds everything back.
    oldest: Option<Held>,
}

/// Missing ids, and the writers of which one may own each.
#[derive(Debug)]
struct Bound {
    owners: BTreeSet<OpenWriter>,
    ids: Ranges,
}

impl Causal {
    pub(super) fn new(position: Position) -> Self {
        let unbound = position.missing.clone();
        Self { position, unbound, bound: Vec::new(), oldest: None }
    }

    pub(super) fn wants_writers(&self) -> bool {
        !self.position.missing.is_empty()
    }

    pub(super) fn observe(&mut self, writers: &Writers) {
        for bound in &mut self.bound {
            bound.owners.retain(|owner| writers.open.contains_key(owner));
        }
        let ids = mem::take(&mut self.unbound);
        if !ids.is_empty() {
            let owners = writers.open.keys().copied().collect();
            self.bound.push(Bound { owners, ids });
        }
        self.join_equals();
        self.oldest = self.is_full().then(|| self.owner_of_most(writers)).flatten();
    }

    pub(super) fn scan(&self) -> Scan {
        Scan {
            missing: self.position.missing.clone(),
            above: (!self.is_full()).then_some(self.position.high),
            through: None,
        }
    }

    pub(super) fn take(&mut self, Taken { ids, complete }: Taken<'_>) {
        for &id in ids.iter().take_while(|id| **id <= self.position.high) {
            self.position.missing.remove(id, id);
            self.bound.iter_mut().for_each(|bound| bound.ids.remove(id, id));
        }
        // A partial page proves nothing about ids above its last row.
        let seen = if complete { Some(i64::MAX) } else { ids.last().copied() };
        if let Some(seen) = seen {
            self.forget_the_dead(seen);
        }
        self.go_up(ids);
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    pub(super) fn held(&self) -> Option<Held> {
        self.oldest
    }

    fn is_full(&self) -> bool {
        self.position.missing.len() >= MISSING_RANGES_MAX
    }

    /// No owner was open before the snapshot, and the snapshot does not show the id: rolled back.
    fn forget_the_dead(&mut self, seen: i64) {
        for bound in self.bound.iter_mut().filter(|bound| bound.owners.is_empty()) {
            let dead = bound.ids.through(seen);
            self.position.missing.remove_all(&dead);
            bound.ids.remove_all(&dead);
        }
        self.bound.retain(|bound| !bound.ids.is_empty());
    }

    fn go_up(&mut self, ids: &[i64]) {
        let above = ids.partition_point(|id| *id <= self.position.high);
        for &id in &ids[above..] {
            let (first, last) = (self.position.high + 1, id - 1);
            self.position.missing.insert(first, last);
            self.unbound.insert(first, last);
            self.position.high = id;
        }
    }

    /// A long writer leaves the same owners everywhere: there are no more groups than sets of them.
    fn join_equals(&mut self) {
        self.bound.sort_by(|a, b| a.owners.cmp(&b.owners));
        self.bound.dedup_by(|later, earlier| {
            let equal = later.owners == earlier.owners;
            if equal {
                earlier.ids.insert_all(&later.ids);
            }
            equal
        });
    }

    fn owner_of_most(&self, writers: &Writers) -> Option<Held> {
        let most = self.bound.iter().filter(|bound| !bound.owners.is_empty());
        let most = most.max_by_key(|bound| bound.ids.len())?;
        let writer = *most.owners.first()?;
        Some(Held { writer, pid: writers.open.get(&writer).copied().flatten() })
    }
}
