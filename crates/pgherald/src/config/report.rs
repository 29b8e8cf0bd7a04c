//! Everything that is wrong with a configuration, without the noise that follows from it.

use pgherald_core::{Problem, Problems};

use super::key::Key;

/// Collects problems; what follows from one that is already reported is left out.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: Vec<(Key, Problem)>,
    /// Keys of which nothing more is to be said: those reported, and those that a reported one
    /// was probably meant to be.
    settled: Vec<Key>,
}

impl Report {
    /// Adds one problem.
    pub(crate) fn add(&mut self, key: Key, text: impl Into<String>) {
        let problem = Problem { key: key.to_string(), text: text.into() };
        self.settled.push(key.clone());
        self.problems.push((key, problem));
    }

    /// Says nothing more about that key.
    pub(crate) fn settle(&mut self, key: Key) {
        self.settled.push(key);
    }

    /// Whether something is already said about that key, or about a table that holds it.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        self.settled.iter().any(|settled| settled.covers(key))
    }

    /// Adds what resolving found, except what follows from problems that are already reported.
    pub(crate) fn pour(&mut self, found: &Problems) {
        for problem in found.iter() {
            let key = Key::dotted(&problem.key);
            if !self.covers(&key) {
                self.problems.push((key, problem.clone()));
            }
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Every problem, ordered by key.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}
