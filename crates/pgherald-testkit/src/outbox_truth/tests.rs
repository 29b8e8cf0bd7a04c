//! Every fault is found, and nothing else is.

use super::*;

fn row(id: i64, key: &str, version: i64) -> OutboxRow {
    OutboxRow { id, key: key.into(), version, tag: format!("t{id}") }
}

fn truth() -> OutboxTruth {
    let committed = vec![row(1, "a", 1), row(2, "b", 1), row(3, "a", 2), row(4, "a", 3)];
    OutboxTruth { committed, unsure: vec![row(5, "b", 2)], restarts: 0 }
}

fn arrival(row: OutboxRow) -> OutboxArrival {
    OutboxArrival { unit: 0, message_id: format!("1000-{}", row.id), row }
}

/// The rows of these ids, in this order.
fn arrivals(ids: &[i64]) -> Vec<OutboxArrival> {
    let truth = truth();
    let all: Vec<OutboxRow> = truth.committed.into_iter().chain(truth.unsure).collect();
    ids.iter().map(|id| arrival(all[usize::try_from(*id).unwrap() - 1].clone())).collect()
}

fn verdict(ids: &[i64]) -> OutboxVerdict {
    truth().judge(&arrivals(ids))
}

#[test]
fn everything_in_order_is_flawless_with_and_without_the_unsure_one() {
    for ids in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5]] {
        assert_eq!(verdict(ids), OutboxVerdict::default());
    }
}

#[test]
fn another_key_may_overtake_in_causal_order_alone() {
    let verdict = verdict(&[1, 3, 2, 4]);
    assert!(verdict.is_exact() && !verdict.is_strict(), "{verdict}");
}

#[test]
fn units_have_an_order_each() {
    let mut arrivals = arrivals(&[1, 3, 2, 4]);
    arrivals[2].unit = 1;
    assert_eq!(truth().judge(&arrivals), OutboxVerdict::default());
}

#[test]
fn ids_fall_only_as_often_as_they_began_anew() {
    let again = |restarts| OutboxTruth { restarts, ..truth() };
    let (once, twice) = (arrivals(&[1, 3, 2, 4]), arrivals(&[3, 4, 2, 1]));
    assert!(again(1).judge(&once).is_strict() && again(2).judge(&twice).is_strict());
    assert_eq!(again(1).judge(&twice).backwards.len(), 1);
}

#[test]
fn a_lost_row_is_found() {
    let verdict = verdict(&[1, 2, 4]);
    assert!(!verdict.is_at_least_once() && verdict.lost.len() == 1, "{verdict}");
}

#[test]
fn a_row_that_was_rolled_back_or_changed_is_found() {
    let rolled_back = row(9, "c", 1);
    let changed = OutboxRow { id: 77, ..row(5, "b", 2) };
    for stranger in [rolled_back, changed] {
        let arrivals: Vec<_> =
            arrivals(&[1, 2, 3, 4]).into_iter().chain([arrival(stranger)]).collect();
        let verdict = truth().judge(&arrivals);
        assert!(!verdict.is_at_least_once() && verdict.invented.len() == 1, "{verdict}");
    }
}

#[test]
fn a_newer_version_in_front_of_an_older_one_is_found() {
    let verdict = verdict(&[1, 2, 4, 3]);
    assert!(!verdict.is_at_least_once() && verdict.inverted.len() == 1, "{verdict}");
}

#[test]
fn a_repeat_counts_and_is_no_inversion() {
    let verdict = verdict(&[1, 2, 3, 4, 1, 2]);
    assert!(verdict.is_at_least_once() && !verdict.is_exact(), "{verdict}");
    assert_eq!(verdict.repeated, 2);
}

#[test]
fn a_repeat_under_another_id_and_an_id_of_two_rows_are_found() {
    let mut renamed = arrivals(&[1, 2, 3, 4, 1]);
    renamed[4].message_id = "2000-1".into();
    let mut shared = arrivals(&[1, 2, 3, 4]);
    shared[3].message_id = shared[2].message_id.clone();
    for arrivals in [renamed, shared] {
        let verdict = truth().judge(&arrivals);
        assert!(!verdict.is_at_least_once() && verdict.misnamed.len() == 1, "{verdict}");
    }
}

#[test]
fn a_verdict_says_what_is_wrong() {
    let text = verdict(&[1, 4, 3]).to_string();
    assert!(text.starts_with("1 lost, 0 invented, 0 misnamed, 1 inverted"), "{text}");
    assert!(text.contains("row 2 (b version 1, t2) is committed and did not arrive"), "{text}");
}
