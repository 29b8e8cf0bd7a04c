//! Looks at what a broker stored and says what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use pgherald_core::Ordering;

use crate::broker::Stored;

/// The first arrivals of each unit are in source order, and a redelivery repeats a contiguous run
/// of the unit: after a message comes the next one, or an earlier one.
///
/// `writers`: with more than one process, what the former carrier had on the wire may arrive late: a
/// contiguous run, behind which the new carrier goes on.
///
/// `order`: every id in source order; messages that were replaced by a gap carry the gap's id.
pub(crate) fn order_is_kept(
    order: &[String],
    log: &[Stored],
    ordering: Ordering,
    writers: usize,
) -> Result<(), String> {
    let rank: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(rank, id)| (id.as_str(), rank)).collect();
    for (unit, arrivals) in units(log, ordering) {
        let ranks: Vec<usize> =
            arrivals.iter().filter_map(|id| rank.get(id.as_str()).copied()).collect();
        let distinct: BTreeSet<usize> = ranks.iter().copied().collect();
        let mut next_of = BTreeMap::new();
        for (a, b) in distinct.iter().zip(distinct.iter().skip(1)) {
            next_of.insert(*a, *b);
        }
        if ranks.first() != distinct.first() {
            return Err(format!("unit {unit:?} begins in the middle: {arrivals:?}"));
        }
        let mut furthest = 0;
        for pair in ranks.windows(2) {
            furthest = furthest.max(pair[0]);
            let forward = pair[1] > pair[0] && next_of.get(&pair[0]) != Some(&pair[1]);
            let carried_on =
                writers > 1 && (pair[1] <= furthest || next_of.get(&furthest) == Some(&pair[1]));
            if forward && !carried_on {
                return Err(format!("unit {unit:?} skips forward: {arrivals:?}"));
            }
        }
    }
    Ok(())
}

fn units(log: &[Stored], ordering: Ordering) -> BTreeMap<Option<Vec<u8>>, Vec<String>> {
    let mut units: BTreeMap<Option<Vec<u8>>, Vec<String>> = BTreeMap::new();
    for stored in log {
        let unit = match ordering {
            Ordering::Flow => None,
            Ordering::Key => stored.key.clone(),
        };
        units.entry(unit).or_default().push(stored.id.clone());
    }
    units
}

pub(crate) fn duplicates(log: &[Stored]) -> usize {
    log.len() - log.iter().map(|stored| &stored.id).collect::<BTreeSet<_>>().len()
}
