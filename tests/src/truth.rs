//! Compares what was announced with what arrived.

use std::collections::{BTreeMap, BTreeSet};

use pgherald_testkit::{Announcement, KafkaRecord, StoredMessage};

/// One message or gap at a consumer, in the order of its arrival.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The id in the announcement's payload; none for a gap.
    pub(crate) announced: Option<String>,
    /// The envelope's id.
    pub(crate) id: String,
    pub(crate) channel: String,
    pub(crate) gap: bool,
}

pub(crate) fn from_kafka(records: &[KafkaRecord]) -> Vec<Arrival> {
    let arrival = |record: &KafkaRecord| Arrival {
        announced: record.value.as_deref().and_then(Announcement::id_of),
        id: record.header("ce_id").unwrap_or_default().to_owned(),
        channel: record.header("ce_subject").unwrap_or_default().to_owned(),
        gap: record.is_gap(),
    };
    records.iter().map(arrival).collect()
}

pub(crate) fn from_jetstream(messages: &[StoredMessage]) -> Vec<Arrival> {
    let arrival = |message: &StoredMessage| Arrival {
        announced: Announcement::id_of(&message.payload),
        id: message.header("ce-id").unwrap_or_default().to_owned(),
        channel: message.header("ce-subject").unwrap_or_default().to_owned(),
        gap: message.is_gap(),
    };
    messages.iter().map(arrival).collect()
}

/// The announced ids in the order of their first arrival.
pub(crate) fn first_arrivals(arrivals: &[Arrival]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let announced = arrivals.iter().filter_map(|arrival| arrival.announced.clone());
    announced.filter(|id| seen.insert(id.clone())).collect()
}

/// Every announcement has one envelope id in all its arrivals, and no two share one.
pub(crate) fn assert_ids_are_stable(arrivals: &[Arrival]) {
    let mut by_announcement: BTreeMap<&str, &str> = BTreeMap::new();
    let mut by_id: BTreeMap<&str, &str> = BTreeMap::new();
    for arrival in arrivals {
        let Some(announced) = arrival.announced.as_deref() else { continue };
        assert!(!arrival.id.is_empty(), "{announced} has no id");
        let id = by_announcement.entry(announced).or_insert(&arrival.id);
        assert_eq!(*id, arrival.id, "{announced} arrived under two ids");
        let owner = by_id.entry(&arrival.id).or_insert(announced);
        assert_eq!(*owner, announced, "two messages share the id {}", arrival.id);
    }
}

/// What is missing from `arrived`, and asserts that what did arrive keeps the order of `truth`.
pub(crate) fn missing_in_order(truth: &[String], arrived: &[String]) -> Vec<String> {
    let rank: BTreeMap<&str, usize> =
        truth.iter().enumerate().map(|(rank, id)| (id.as_str(), rank)).collect();
    let mut last = None;
    for id in arrived {
        let now = *rank.get(id.as_str()).unwrap_or_else(|| panic!("{id} was never announced"));
        assert!(last < Some(now), "{id} arrived after a later one");
        last = Some(now);
    }
    let arrived: BTreeSet<&str> = arrived.iter().map(String::as_str).collect();
    truth.iter().filter(|id| !arrived.contains(id.as_str())).cloned().collect()
}
