//! What one transaction of a producer does, drawn from a seed.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

/// Longest pause of a slow transaction, and of a prepared one before it is finished.
const SLOW_MS_MAX: u64 = 500;
const PREPARED_MS_MAX: u64 = 800;
/// What stays open for long holds few keys, or everybody waits for it.
const HELD_ROWS_MAX: usize = 5;

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// How long it takes besides its statements, spread over them.
    pub(crate) slow: Duration,
    pub(crate) ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next version of this key, as a row.
    Row(usize, Way),
    Savepoint,
    /// Takes back what came since the savepoint.
    RollBack,
}

/// How a row gets into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `pgherald.send`, in the statement that takes the version.
    Send,
    /// A plain `INSERT`, in the statement that takes the version.
    Insert,
    /// A plain `INSERT` after the statement that takes the version.
    Apart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Commit,
    RollBack,
    /// `PREPARE`; another connection commits it (or rolls it back) after this time.
    Prepare {
        commits: bool,
        after: Duration,
    },
}

impl Script {
    /// The next transaction. Keys come in ascending order, so that no two transactions deadlock.
    pub(crate) fn draw(random: &mut SmallRng, keys: usize, rows_max: usize) -> Self {
        let slow = if random.random_bool(0.06) { random.random_range(20..=SLOW_MS_MAX) } else { 0 };
        let ending = ending(random);
        let held = slow > 0 || matches!(ending, Ending::Prepare { .. });
        let rows = rows(random, if held { rows_max.min(HELD_ROWS_MAX) } else { rows_max });
        let mut keys: Vec<usize> = (0..rows).map(|_| random.random_range(0..keys)).collect();
        keys.sort_unstable();
        let mut steps: Vec<Step> = keys.iter().map(|&key| Step::Row(key, way(random))).collect();
        if random.random_bool(0.15) {
            take_back_some(random, &mut steps);
        }
        Self { steps, slow: Duration::from_millis(slow), ending }
    }

    /// How many rows it inserts, kept or not.
    pub(crate) fn rows(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Row(..))).count()
    }

    /// The pause before each step and before the end.
    pub(crate) fn pause(&self) -> Duration {
        self.slow / u32::try_from(self.steps.len() + 1).unwrap_or(u32::MAX)
    }
}

/// Mostly short, some long.
fn rows(random: &mut SmallRng, max: usize) -> usize {
    let upper = match random.random_range(0..10) {
        0..6 => 3,
        6..9 => 10,
        _ => max,
    };
    random.random_range(1..=upper.min(max))
}

fn way(random: &mut SmallRng) -> Way {
    match random.random_range(0..4) {
        0 | 1 => Way::Send,
        2 => Way::Insert,
        _ => Way::Apart,
    }
}

fn ending(random: &mut SmallRng) -> Ending {
    let after = Duration::from_millis(random.random_range(0..=PREPARED_MS_MAX));
    match random.random_range(0..20) {
        0..15 => Ending::Commit,
        15..17 => Ending::RollBack,
        _ => Ending::Prepare { commits: random.random_bool(0.8), after },
    }
}

/// A savepoint somewhere, and the way back to it somewhere later.
fn take_back_some(random: &mut SmallRng, steps: &mut Vec<Step>) {
    let from = random.random_range(0..=steps.len());
    let to = random.random_range(from..=steps.len());
    steps.insert(to, Step::RollBack);
    steps.insert(from, Step::Savepoint);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    fn scripts(seed: u64) -> Vec<Script> {
        let mut random = SmallRng::seed_from_u64(seed);
        (0..1000).map(|_| Script::draw(&mut random, 1000, 50)).collect()
    }

    #[test]
    fn a_seed_is_repeated_and_another_one_is_another() {
        assert_eq!(scripts(1), scripts(1));
        assert_ne!(scripts(1), scripts(2));
    }

    #[test]
    fn every_kind_of_transaction_comes() {
        let scripts = scripts(3);
        let count = |wanted: fn(&Script) -> bool| scripts.iter().filter(|it| wanted(it)).count();
        assert!(count(|it| it.ending == Ending::Commit) > 600);
        assert!(count(|it| it.ending == Ending::RollBack) > 50);
        assert!(count(|it| matches!(it.ending, Ending::Prepare { commits: true, .. })) > 50);
        assert!(count(|it| matches!(it.ending, Ending::Prepare { commits: false, .. })) > 5);
        assert!(count(|it| it.steps.contains(&Step::RollBack)) > 100);
        assert!(count(|it| it.slow > Duration::from_millis(250)) > 20);
        let sizes: BTreeSet<usize> = scripts.iter().map(Script::rows).collect();
        assert!(sizes.contains(&1) && sizes.contains(&50) && !sizes.contains(&51));
    }
}
