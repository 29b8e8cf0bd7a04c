//! The strict order: by id, behind every open writer.
//!
//! The newest id handed out is read before the locks. A writer that is new in this look took its
//! lock after the one before it, so its ids lie above the newest one of then; a writer that was
//! there before keeps its bound. Below the lowest bound everything is decided.

use std::collections::BTreeMap;

use super::{Held, Scan, Taken};
use crate::{
    position::Position,
    writers::{OpenWriter, Writers},
};

#[derive(Debug)]
pub(crate) struct Strict {
    position: Position,
    /// Everything through this id is decided.
    visibility: i64,
    /// The newest id handed out at the latest look at the writers.
    last: i64,
    /// Ids of an open writer lie above its bound.
    bounds: BTreeMap<OpenWriter, i64>,
    held: Option<Held>,
}

impl Strict {
    pub(super) fn new(position: Position) -> Self {
        let floor = position.floor();
        Self { position, visibility: floor, last: floor, bounds: BTreeMap::new(), held: None }
    }

    pub(super) fn wants_writers(&self) -> bool {
        self.scan().is_none()
    }

    pub(super) fn observe(&mut self, writers: &Writers) {
        let bound = |(writer, pid): (&OpenWriter, &Option<i32>)| {
            // A prepared one that was never seen with its process: it may be older than it looks.
            let fresh = if pid.is_some() { self.last } else { self.visibility };
            (*writer, self.bounds.get(writer).copied().unwrap_or(fresh))
        };
        self.bounds = writers.open.iter().map(bound).collect();
        // A sequence that was set back is the attach's to find: here nothing goes back.
        self.last = writers.last.max(self.last);
        let lowest = self.bounds.iter().min_by_key(|(_, bound)| **bound);
        let (visibility, holder) = match lowest {
            Some((writer, bound)) => (*bound, Some(*writer)),
            None => (self.last, None),
        };
        self.visibility = visibility.max(self.visibility);
        self.held = holder
            .filter(|_| self.visibility < self.last)
            .map(|writer| Held { writer, pid: writers.open.get(&writer).copied().flatten() });
    }

    pub(super) fn scan(&self) -> Option<Scan> {
        let missing = self.position.missing.through(self.visibility);
        let above = (self.position.high < self.visibility).then_some(self.position.high);
        (above.is_some() || !missing.is_empty()).then_some(Scan {
            missing,
            above,
            through: Some(self.visibility),
        })
    }

    pub(super) fn take(&mut self, Taken { ids, complete }: Taken<'_>) {
        let seen = if complete { Some(self.visibility) } else { ids.last().copied() };
        if let Some(seen) = seen {
            self.position.missing.remove(i64::MIN, seen);
            self.position.high = self.position.high.max(seen);
        }
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    pub(super) fn held(&self) -> Option<Held> {
        self.held
    }
}
