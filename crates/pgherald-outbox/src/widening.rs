//! A sink that takes other channels than before: which rows below its cursor it gets, and what it
//! had settled of the channels that it no longer takes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pgherald_postgres::literal;
use serde::{Deserialize, Serialize};

use crate::position::Position;

/// Every channel that has no entry of its own.
const OTHERS: &str = "*";

/// How far a sink had come when it let go of a channel.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct LeftAt {
    high: i64,
    missing: String,
}

/// Channels that a sink no longer takes: `left_channels` of its cursor.
pub(crate) type Left = BTreeMap<String, LeftAt>;

/// What becomes of a cursor whose sink takes other channels now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Widening {
    /// The condition on a row of a channel that is new, and that the sink never settled; `None`: no
    /// channel is new.
    pub(crate) added: Option<String>,
    pub(crate) left: Left,
}

/// From `before` to `now`; `None`: every channel.
pub(crate) fn widening(
    before: Option<&BTreeSet<String>>,
    now: Option<&BTreeSet<String>>,
    left: &Left,
    position: &Position,
) -> Widening {
    let added = before.and_then(|before| added(before, now, left));
    Widening { added, left: still_left(before, now, left, position) }
}

fn added(before: &BTreeSet<String>, now: Option<&BTreeSet<String>>, left: &Left) -> Option<String> {
    // A channel that is new, or (all of them are) was left by name.
    let named: BTreeSet<&String> = match now {
        Some(now) => now.difference(before).collect(),
        None => left.keys().filter(|name| *name != OTHERS && !before.contains(*name)).collect(),
    };
    let mut any: Vec<String> = named
        .iter()
        .map(|name| {
            let at = left.get(*name).or_else(|| left.get(OTHERS));
            format!("channel = {}{}", literal(name), behind(at))
        })
        .collect();
    if now.is_none() {
        let names = before.iter().chain(named.iter().copied()).map(|name| literal(name));
        let names: Vec<_> = names.collect();
        any.push(format!(
            "channel <> ALL (ARRAY[{}]::text[]){}",
            names.join(", "),
            behind(left.get(OTHERS))
        ));
    }
    (!any.is_empty()).then(|| format!("({})", any.join(") OR (")))
}

/// What was settled up to there is not sent again.
fn behind(at: Option<&LeftAt>) -> String {
    at.map_or_else(String::new, |LeftAt { high, missing }| {
        format!(" AND (id > {high} OR id <@ {}::int8multirange)", literal(missing))
    })
}

fn still_left(
    before: Option<&BTreeSet<String>>,
    now: Option<&BTreeSet<String>>,
    left: &Left,
    position: &Position,
) -> Left {
    let Some(now) = now else { return Left::new() };
    let here = LeftAt { high: position.high, missing: position.missing.to_multirange() };
    let mut left = left.clone();
    match before {
        // What was left by name before belongs to a life in which all were taken since.
        None => left = [(OTHERS.to_owned(), here)].into(),
        Some(before) => {
            left.extend(before.difference(now).map(|name| (name.clone(), here.clone())));
        }
    }
    left.retain(|name, _| !now.contains(name));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> Option<BTreeSet<String>> {
        (names != "*").then(|| names.split_whitespace().map(str::to_owned).collect())
    }

    /// Plays changes of configuration, each at a position, and says what the last one adds.
    fn play(steps: &[(&str, i64)]) -> (Option<String>, Vec<String>) {
        let mut left = Left::new();
        let mut added = None;
        for pair in steps.windows(2) {
            let position = Position { high: pair[1].1, ..Position::default() };
            let (before, now) = (names(pair[0].0), names(pair[1].0));
            let step = widening(before.as_ref(), now.as_ref(), &left, &position);
            (left, added) = (step.left, step.added);
        }
        (added, left.into_iter().map(|(name, at)| format!("{name}@{}", at.high)).collect())
    }

    #[test]
    fn what_was_never_taken_is_added_whole() {
        let (added, left) = play(&[("a", 0), ("a b it's", 5)]);
        assert_eq!(added.unwrap(), "(channel = 'b') OR (channel = 'it''s')");
        assert!(left.is_empty());
        let (added, _) = play(&[("a", 0), ("*", 5)]);
        assert_eq!(added.unwrap(), "(channel <> ALL (ARRAY['a']::text[]))");
        assert_eq!(play(&[("a", 0), ("a", 5)]), (None, vec![]));
        assert_eq!(play(&[("*", 0), ("*", 5)]), (None, vec![]));
    }

    #[test]
    fn what_was_taken_before_is_added_from_where_it_was_left() {
        let b = " AND (id > 5 OR id <@ '{}'::int8multirange)";
        let (added, left) = play(&[("a b", 0), ("a", 5), ("a b", 9)]);
        assert_eq!(added.unwrap(), format!("(channel = 'b'{b})"));
        assert!(left.is_empty());
        let (added, left) = play(&[("*", 0), ("a", 5), ("a b", 9)]);
        assert_eq!(added.unwrap(), format!("(channel = 'b'{b})"), "it was one of all");
        assert_eq!(left, ["*@5"]);
        let (added, left) = play(&[("*", 0), ("a", 5), ("a b", 7), ("a", 8), ("*", 9)]);
        let b8 = b.replace('5', "8");
        let others = format!("(channel <> ALL (ARRAY['a', 'b']::text[]){b})");
        assert_eq!(added.unwrap(), format!("(channel = 'b'{b8}) OR {others}"));
        assert!(left.is_empty(), "all are taken");
        assert_eq!(play(&[("a b", 0), ("b c", 5), ("c", 6)]).1, ["a@5", "b@6"]);
    }
}
