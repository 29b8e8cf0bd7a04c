//! What may be deleted: rows that every cursor which takes their channel has settled. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pgherald_postgres::literal;

use crate::{cursors::Baseline, flow::FlowFacts, position::Position, ranges::Ranges};

/// A row of `pgherald.cursor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) pipeline: String,
    pub(crate) sink: String,
    pub(crate) position: Position,
    /// `None`: it takes every channel.
    pub(crate) channels: Option<Vec<String>>,
    pub(crate) baseline: Baseline,
    /// As its latest write put it; empty: 0.1.0 wrote it.
    pub(crate) token: String,
}

impl Cursor {
    pub(crate) fn is_of(&self, flow: &FlowFacts) -> bool {
        self.pipeline == flow.pipeline() && self.sink == flow.sink()
    }

    /// `pipeline/sink`: neither has a slash.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.pipeline, self.sink)
    }

    /// The condition on a row that it takes.
    pub(crate) fn takes_sql(&self) -> String {
        match &self.channels {
            None => "true".to_owned(),
            Some(names) => Channels::Named(names.iter().cloned().collect()).sql(),
        }
    }

    fn takes(&self, channel: &str) -> bool {
        self.channels.as_ref().is_none_or(|names| names.iter().any(|name| name == channel))
    }
}

/// Some channels of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channels {
    /// These.
    Named(BTreeSet<String>),
    /// All but these.
    Others(BTreeSet<String>),
}

impl Channels {
    /// The condition on a row.
    pub(crate) fn sql(&self) -> String {
        match self {
            Self::Others(names) if names.is_empty() => "true".to_owned(),
            Self::Named(names) if names.is_empty() => "false".to_owned(),
            Self::Named(names) => format!("channel IN ({})", list(names)),
            Self::Others(names) => format!("channel NOT IN ({})", list(names)),
        }
    }

    /// The condition on a cursor that takes some of them, and the one that it takes all of them.
    pub(crate) fn takers_sql(&self) -> [String; 2] {
        match self {
            Self::Named(names) => {
                let names = format!("ARRAY[{}]::text[]", list(names));
                [
                    format!("(channels IS NULL OR channels && {names})"),
                    format!("(channels IS NULL OR channels @> {names})"),
                ]
            }
            Self::Others(names) => [
                format!("(channels IS NULL OR NOT channels <@ ARRAY[{}]::text[])", list(names)),
                "channels IS NULL".to_owned(),
            ],
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
}

/// Channels that the same cursors take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) channels: Channels,
    /// What all of them have settled; `None`: nobody takes these channels.
    pub(crate) settled: Option<Position>,
    /// The names of those cursors.
    pub(crate) takers: Vec<String>,
}

/// Every channel is in one of these.
pub(crate) fn groups(cursors: &[Cursor]) -> Vec<Group> {
    let named: BTreeSet<&String> =
        cursors.iter().filter_map(|cursor| cursor.channels.as_ref()).flatten().collect();
    let mut by_takers: BTreeMap<Vec<usize>, BTreeSet<String>> = BTreeMap::new();
    for name in &named {
        let takers = places(cursors, |cursor| cursor.takes(name));
        by_takers.entry(takers).or_default().insert((*name).clone());
    }
    let mut groups: Vec<Group> = by_takers
        .into_iter()
        .map(|(takers, names)| group(Channels::Named(names), cursors, &takers))
        .collect();
    let takers = places(cursors, |cursor| cursor.channels.is_none());
    let names = named.into_iter().cloned().collect();
    groups.push(group(Channels::Others(names), cursors, &takers));
    groups
}

fn places(cursors: &[Cursor], takes: impl Fn(&Cursor) -> bool) -> Vec<usize> {
    (0..cursors.len()).filter(|place| takes(&cursors[*place])).collect()
}

fn group(channels: Channels, cursors: &[Cursor], takers: &[usize]) -> Group {
    let positions = takers.iter().map(|place| &cursors[*place].position);
    let high = positions.clone().map(|position| position.high).min();
    let settled = high.map(|high| {
        let mut missing = Ranges::default();
        positions.for_each(|position| missing.insert_all(&position.missing.through(high)));
        Position { high, missing }
    });
    let takers = takers.iter().map(|place| cursors[*place].name()).collect();
    Group { channels, settled, takers }
}

/// What of a group has been deleted. It says only where to look next: what may go is decided by the
/// statement that deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    done: Ranges,
}

/// Ranges that one statement looks at.
const WINDOW_RANGES: usize = 1_000;

impl Progress {
    /// What is settled and was not looked at yet, from the lowest on; empty: nothing.
    pub(crate) fn window(&self, settled: &Position) -> Ranges {
        let mut ids: Ranges = [(i64::MIN, settled.high)].into_iter().collect();
        ids.remove_all(&settled.missing);
        self.window_in(&ids)
    }

    /// The same of these ids.
    pub(crate) fn window_in(&self, ids: &Ranges) -> Ranges {
        let mut window = ids.clone();
        window.remove_all(&self.done);
        window.iter().take(WINDOW_RANGES).collect()
    }

    /// The window was looked at, through `last` or (`None`) to its end.
    pub(crate) fn advance(&mut self, window: &Ranges, last: Option<i64>) {
        match last {
            Some(last) => self.done.insert_all(&window.through(last)),
            None => self.done.insert_all(window),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(sink: &str, high: i64, missing: &[(i64, i64)], channels: Option<&[&str]>) -> Cursor {
        let missing = missing.iter().copied().collect();
        Cursor {
            pipeline: "p".into(),
            sink: sink.into(),
            position: Position { high, missing },
            channels: channels.map(|names| names.iter().map(|name| (*name).into()).collect()),
            baseline: Baseline::default(),
            token: String::new(),
        }
    }

    #[test]
    fn the_slowest_of_those_who_take_a_channel_decides() {
        let all = cursor("all", 10, &[(3, 4)], None);
        let groups = groups(&[all, cursor("x", 7, &[(6, 6)], Some(&["x'"]))]);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].channels.sql(), "channel IN ('x''')");
        let settled = groups[0].settled.as_ref().unwrap();
        assert_eq!((settled.high, settled.missing.to_multirange().as_str()), (7, "{[3,5),[6,7)}"));
        assert_eq!(groups[1].channels.sql(), "channel NOT IN ('x''')");
        assert_eq!(groups[1].settled.as_ref().unwrap().high, 10);
    }

    #[test]
    fn what_nobody_takes_is_never_settled() {
        let groups = groups(&[cursor("x", 7, &[], Some(&["x"]))]);
        assert_eq!(groups[1].channels.sql(), "channel NOT IN ('x')");
        assert_eq!(groups[1].settled, None);
        let nobody = super::groups(&[]);
        assert_eq!((nobody[0].channels.sql().as_str(), &nobody[0].settled), ("true", &None));
    }

    proptest! {
        /// Step by step everything settled is deleted once, and nothing that is not.
        #[test]
        fn progress_reaches_everything_that_is_settled(
            steps in prop::collection::vec((0i64..8, prop::collection::vec(1i64..60, 0..6), 1usize..9), 1..12)
        ) {
            let mut progress = Progress::default();
            let mut deleted = BTreeSet::new();
            let mut position = Position::default();
            for (more, missing, piece) in steps {
                let new = position.high + 1;
                position.high += more;
                position.missing = position.missing.iter().flat_map(|(a, b)| a..=b)
                    .filter(|id| missing.contains(id)).map(|id| (id, id)).collect();
                for id in missing {
                    if (new..=position.high).contains(&id) {
                        position.missing.insert(id, id);
                    }
                }
                loop {
                    let window = progress.window(&position);
                    let ids: Vec<i64> = window.iter().flat_map(|(a, b)| a.max(1)..=b).collect();
                    let last = ids.get(piece).copied();
                    for id in ids.iter().take_while(|id| last.is_none_or(|last| **id <= last)) {
                        assert!(deleted.insert(*id));
                    }
                    progress.advance(&window, last);
                    if last.is_none() {
                        break;
                    }
                }
                let settled: BTreeSet<i64> = (1..=position.high)
                    .filter(|id| !position.missing.contains(*id)).collect();
                prop_assert_eq!(&deleted, &settled);
            }
        }
    }
}
