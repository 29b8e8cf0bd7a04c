//! Sets of row ids, kept as ranges.

use std::{collections::BTreeMap, fmt::Write};

/// A set of ids as disjoint ranges that do not touch, by their first id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every range as (first, last), ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    pub(crate) fn first(&self) -> Option<i64> {
        self.0.first_key_value().map(|(first, _)| *first)
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.0.range(..=id).next_back().is_some_and(|(_, last)| *last >= id)
    }

    /// Adds `first..=last`; ranges that overlap it or touch it become one.
    pub(crate) fn insert(&mut self, first: i64, last: i64) {
        if first > last {
            return;
        }
        let (mut low, mut high) = (first, last);
        while let Some((&near, &end)) = self.0.range(..=high.saturating_add(1)).next_back() {
            if end < low.saturating_sub(1) {
                break;
            }
            (low, high) = (low.min(near), high.max(end));
            self.0.remove(&near);
        }
        self.0.insert(low, high);
    }

    /// Takes `first..=last` out.
    pub(crate) fn remove(&mut self, first: i64, last: i64) {
        if first > last {
            return;
        }
        while let Some((&near, &end)) = self.0.range(..=last).next_back() {
            if end < first {
                break;
            }
            self.0.remove(&near);
            if end > last {
                self.0.insert(last + 1, end);
            }
            if near < first {
                self.0.insert(near, first - 1);
                break;
            }
        }
    }

    pub(crate) fn insert_all(&mut self, other: &Self) {
        other.iter().for_each(|(first, last)| self.insert(first, last));
    }

    pub(crate) fn remove_all(&mut self, other: &Self) {
        other.iter().for_each(|(first, last)| self.remove(first, last));
    }

    /// What lies in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let mut outside: Self = [(i64::MIN, i64::MAX)].into_iter().collect();
        outside.remove_all(other);
        let mut common = self.clone();
        common.remove_all(&outside);
        common
    }

    /// What of it lies at or below `id`.
    pub(crate) fn through(&self, id: i64) -> Self {
        let parts = self.0.range(..=id).map(|(first, last)| (*first, (*last).min(id)));
        Self(parts.collect())
    }

    /// As PostgreSQL writes an `int8multirange`: `{[5,6),[9,12)}`.
    pub(crate) fn to_multirange(&self) -> String {
        let mut text = String::from("{");
        for (place, (first, last)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            // The largest id has no successor: an unbounded end means the same.
            let _ = match last.checked_add(1) {
                Some(end) => write!(text, "{comma}[{first},{end})"),
                None => write!(text, "{comma}[{first},)"),
            };
        }
        text.push('}');
        text
    }

    /// Reads what PostgreSQL writes; `None`: it is something else.
    pub(crate) fn from_multirange(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('{')?.strip_suffix('}')?;
        let mut ranges = Self::default();
        for part in inner.split_inclusive(')').filter(|part| !part.is_empty()) {
            let part = part.trim_start_matches(',').strip_prefix('[')?.strip_suffix(')')?;
            let (first, end) = part.split_once(',')?;
            let last = match end {
                "" => i64::MAX,
                end => end.parse::<i64>().ok()?.checked_sub(1)?,
            };
            ranges.insert(first.parse().ok()?, last);
        }
        Some(ranges)
    }
}

impl FromIterator<(i64, i64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (i64, i64)>>(ranges: I) -> Self {
        let mut all = Self::default();
        ranges.into_iter().for_each(|(first, last)| all.insert(first, last));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), -20i64..20, 0i64..6), 0..40)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (insert, first, length) in steps {
                let last = first + length;
                if insert {
                    ranges.insert(first, last);
                    model.extend(first..=last);
                } else {
                    ranges.remove(first, last);
                    model.retain(|id| !(first..=last).contains(id));
                }
                let odd: Ranges = (-20..20).filter(|id| id % 3 == 0).map(|id| (id, id)).collect();
                let common: BTreeSet<i64> = ranges.common(&odd).iter().flat_map(|(a, b)| a..=b).collect();
                prop_assert!(common.iter().all(|id| id % 3 == 0 && model.contains(id)));
                prop_assert_eq!(common.len(), model.iter().filter(|id| (-20..20).contains(*id) && *id % 3 == 0).count());
                let all: BTreeSet<i64> = ranges.iter().flat_map(|(a, b)| a..=b).collect();
                prop_assert_eq!(&all, &model);
                let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.1 + 1 < b.0);
                prop_assert!(apart, "{:?}", ranges);
                prop_assert!((-30..30).all(|id| ranges.contains(id) == model.contains(&id)));
                let text = ranges.to_multirange();
                prop_assert_eq!(Ranges::from_multirange(&text), Some(ranges.clone()));
            }
        }
    }

    #[test]
    fn the_text_is_postgresqls() {
        let ranges: Ranges = [(5, 5), (9, 11), (i64::MAX, i64::MAX)].into_iter().collect();
        assert_eq!(ranges.to_multirange(), format!("{{[5,6),[9,12),[{},)}}", i64::MAX));
        assert_eq!(Ranges::from_multirange("{}"), Some(Ranges::default()));
        assert_eq!(Ranges::from_multirange("{(1,2]}"), None);
        assert_eq!(ranges.through(10).to_multirange(), "{[5,6),[9,11)}");
    }
}
