//! Holds what arrived at one sink against what was announced.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{
    KEYS,
    producer::{Transaction, Truth},
};

/// A gap: from, to.
type Window = (Option<SystemTime>, SystemTime);

/// An overflow begins when its first dropped message arrives, which is after its commit was answered.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// One arrival, in the order in which the sink got it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// The announcement with this number.
    Message(u32),
    /// A window in which messages may have been missed.
    Gap { from: Option<SystemTime>, to: SystemTime },
}

/// The order that a sink promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Everything, and a gap stands where its messages are missing.
    Total,
    /// Equal keys.
    ByKey,
}

/// What came out.
#[derive(Debug)]
pub(super) struct Verdict {
    sink: &'static str,
    announced: usize,
    arrived: usize,
    again: usize,
    missing: usize,
    gaps: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sink, announced, arrived, again, missing, gaps } = self;
        write!(
            f,
            "{sink}: {arrived} of {announced} arrived, {again} of them again, {missing} missing \
             inside {gaps} gaps"
        )
    }
}

/// Asserts order, and that whatever is missing lies inside a gap.
pub(super) fn judge(
    sink: &'static str,
    order: Order,
    arrivals: &[Arrival],
    truth: &Truth,
) -> Verdict {
    let mut seen = vec![false; truth.len()];
    let mut last_of = vec![None; if order == Order::Total { 1 } else { KEYS }];
    let mut again = 0;
    for arrival in arrivals {
        let Arrival::Message(number) = *arrival else { continue };
        let unit = if order == Order::Total { 0 } else { number as usize % KEYS };
        if std::mem::replace(&mut seen[number as usize], true) {
            again += 1;
            continue;
        }
        assert!(last_of[unit] < Some(number), "{sink}: {number} came first after {last_of:?}");
        last_of[unit] = Some(number);
    }
    let gaps: Vec<Window> = arrivals
        .iter()
        .filter_map(|arrival| match arrival {
            Arrival::Gap { from, to } => Some((*from, *to)),
            Arrival::Message(_) => None,
        })
        .collect();
    let missing = |number: &usize| !seen[*number] && truth.transaction(*number).committed;
    let missing: Vec<usize> = (0..truth.len()).filter(missing).collect();
    let lost: Vec<String> = missing
        .iter()
        .filter(|number| !is_explained(truth.transaction(**number), &gaps))
        .map(|number| format!("{number} {}", beside(truth.transaction(*number), &gaps)))
        .collect();
    let first = &lost[..lost.len().min(5)];
    assert!(lost.is_empty(), "{sink}: {} are missing outside every gap: {first:#?}", lost.len());
    let arrived = seen.iter().filter(|seen| **seen).count();
    let (announced, missing, gaps) = (truth.len(), missing.len(), gaps.len());
    Verdict { sink, announced, arrived, again, missing, gaps }
}

/// The gap of the start covers everything before it: it explains nothing here.
fn is_explained(transaction: &Transaction, gaps: &[Window]) -> bool {
    let arrived_by = transaction.answered + ON_ITS_WAY;
    gaps.iter()
        .any(|(from, to)| from.is_some_and(|from| from <= arrived_by) && transaction.sent <= *to)
}

/// Where the transaction lies between the gaps around it, in words.
fn beside(transaction: &Transaction, gaps: &[Window]) -> String {
    let ends = gaps.iter().filter_map(|(_, to)| transaction.sent.duration_since(*to).ok());
    let begins = gaps.iter().filter_map(|(from, _)| from.as_ref());
    let begins = begins.filter_map(|from| from.duration_since(transaction.answered).ok());
    format!("{:?} behind one gap, {:?} before another", ends.min(), begins.min())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::soak::producer::PER_TRANSACTION;

    fn truth() -> Truth {
        let at = |n| UNIX_EPOCH + Duration::from_secs(n);
        let transaction =
            |n: u64| Transaction { sent: at(10 * n), answered: at(10 * n + 1), committed: true };
        Truth { transactions: (0..3).map(transaction).collect() }
    }

    fn run(numbers: std::ops::Range<usize>) -> Vec<Arrival> {
        numbers.map(|n| Arrival::Message(n as u32)).collect()
    }

    fn gap(from: u64, to: u64) -> Arrival {
        let at = |n| UNIX_EPOCH + Duration::from_secs(n);
        Arrival::Gap { from: Some(at(from)), to: at(to) }
    }

    #[test]
    fn what_is_missing_inside_a_gap_is_explained() {
        let mut arrivals = run(0..PER_TRANSACTION);
        arrivals.push(gap(8, 15));
        arrivals.extend(run(2 * PER_TRANSACTION..3 * PER_TRANSACTION));
        arrivals.extend(run(2 * PER_TRANSACTION..3 * PER_TRANSACTION));
        let verdict = judge("s", Order::Total, &arrivals, &truth());
        assert_eq!((verdict.missing, verdict.again), (PER_TRANSACTION, PER_TRANSACTION));
    }

    #[test]
    #[should_panic(expected = "are missing outside every gap")]
    fn what_is_missing_outside_is_found() {
        let mut arrivals = run(0..PER_TRANSACTION);
        arrivals.push(gap(15, 30));
        arrivals.extend(run(2 * PER_TRANSACTION..3 * PER_TRANSACTION));
        judge("s", Order::Total, &arrivals, &truth());
    }

    #[test]
    #[should_panic(expected = "came first after")]
    fn a_late_first_arrival_is_found() {
        let mut arrivals = run(1..3 * PER_TRANSACTION);
        arrivals.extend(run(0..1));
        judge("s", Order::Total, &arrivals, &truth());
    }
}
