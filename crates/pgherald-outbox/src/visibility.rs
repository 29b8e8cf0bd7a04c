//! Which rows may be read now: the decision that keeps an outbox free of loss. Pure: no clock, no
//! IO.
//!
//! Ids are taken at INSERT and become visible at COMMIT, so a reader that goes on from the highest
//! id it saw loses rows. Both orders know better from one fact: a writer holds its lock on the
//! table from before it takes an id until it is visible or gone.
//!
//! A poll is [`Visibility::observe`] if [`Visibility::wants_writers`], then one read of [`Visibility::scan`] in
//! one snapshot, taken later than the look at the writers, then [`Visibility::take`] with what it
//! brought.

mod causal;
mod strict;

use self::{causal::Causal, strict::Strict};
use crate::{
    Order,
    position::Position,
    ranges::Ranges,
    writers::{OpenWriter, Writers},
};

/// What one poll reads, in id order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Ids that were passed over and may be visible now.
    pub(crate) missing: Ranges,
    /// And everything above this; `None`: nothing else.
    pub(crate) above: Option<i64>,
    /// Nothing above this; `None`: no limit.
    pub(crate) through: Option<i64>,
}

/// What a read brought: ids in ascending order, and whether that was everything visible in its
/// scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken<'a> {
    pub(crate) ids: &'a [i64],
    pub(crate) complete: bool,
}

/// A writer that holds back every row behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) writer: OpenWriter,
    /// Its server process; `None`: it is prepared.
    pub(crate) pid: Option<i32>,
}

/// The decision structure of one flow.
#[derive(Debug)]
pub(crate) enum Visibility {
    /// Never waits for a long writer; a row comes after every row that its writer could see.
    Causal(Causal),
    /// In id order; waits for the oldest open writer.
    Strict(Strict),
}

impl Visibility {
    /// Begins at `position`. Every open writer may own every missing id.
    pub(crate) fn new(order: Order, position: Position) -> Self {
        match order {
            Order::Causal => Self::Causal(Causal::new(position)),
            Order::Strict => Self::Strict(Strict::new(position)),
        }
    }

    /// Whether the next scan needs a look at the writers first.
    pub(crate) fn wants_writers(&self) -> bool {
        match self {
            Self::Causal(causal) => causal.wants_writers(),
            Self::Strict(strict) => strict.wants_writers(),
        }
    }

    pub(crate) fn observe(&mut self, writers: &Writers) {
        match self {
            Self::Causal(causal) => causal.observe(writers),
            Self::Strict(strict) => strict.observe(writers),
        }
    }

    /// What to read now; `None`: nothing can be there.
    pub(crate) fn scan(&self) -> Option<Scan> {
        match self {
            Self::Causal(causal) => Some(causal.scan()),
            Self::Strict(strict) => strict.scan(),
        }
    }

    /// Takes in what the read of the latest scan brought.
    pub(crate) fn take(&mut self, taken: Taken<'_>) {
        match self {
            Self::Causal(causal) => causal.take(taken),
            Self::Strict(strict) => strict.take(taken),
        }
    }

    /// Where the flow stands after everything that was taken.
    pub(crate) fn position(&self) -> &Position {
        match self {
            Self::Causal(causal) => causal.position(),
            Self::Strict(strict) => strict.position(),
        }
    }

    /// Whether an id below the highest one may still appear: the reader stays awake.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.position().missing.is_empty() || self.held().is_some()
    }

    /// The writer that holds everything behind it back, if one does.
    pub(crate) fn held(&self) -> Option<Held> {
        match self {
            Self::Causal(causal) => causal.held(),
            Self::Strict(strict) => strict.held(),
        }
    }
}

#[cfg(test)]
mod tests;
