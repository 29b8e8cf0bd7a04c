//! Compares what was announced with what arrived.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use pgherald_testkit::{Announcement, KafkaRecord, Received, StoredMessage};
use serde_json::Value;

/// One message or gap at a consumer, in the order of its arrival.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The id in the announcement's payload; none for a gap.
    pub(crate) announced: Option<String>,
    /// The envelope's id.
    pub(crate) id: String,
    pub(crate) channel: String,
    pub(crate) gap: bool,
    /// The gap's document.
    pub(crate) gap_json: Option<Value>,
    /// The envelope's time, as it stands there.
    pub(crate) time: String,
    /// When it was announced; none for a gap.
    pub(crate) sent: Option<SystemTime>,
    /// When the consumer got it.
    pub(crate) at: SystemTime,
}

impl Arrival {
    /// From just before its transaction to the consumer; none for a gap.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.at.duration_since(self.sent?).ok()
    }
}

pub(crate) fn from_kafka(records: &[KafkaRecord]) -> Vec<Arrival> {
    let arrival = |record: &KafkaRecord| Arrival {
        announced: record.value.as_deref().and_then(Announcement::id_of),
        id: record.header("ce_id").unwrap_or_default().to_owned(),
        channel: record.header("ce_subject").unwrap_or_default().to_owned(),
        gap: record.is_gap(),
        gap_json: record.is_gap().then(|| gap_json(record.value.as_deref().unwrap_or_default())),
        time: record.header("ce_time").unwrap_or_default().to_owned(),
        sent: record.value.as_deref().and_then(Announcement::sent_at),
        at: record.at,
    };
    records.iter().map(arrival).collect()
}

pub(crate) fn from_jetstream(messages: &[StoredMessage]) -> Vec<Arrival> {
    let arrival = |message: &StoredMessage| Arrival {
        announced: Announcement::id_of(&message.payload),
        id: message.header("ce-id").unwrap_or_default().to_owned(),
        channel: message.header("ce-subject").unwrap_or_default().to_owned(),
        gap: message.is_gap(),
        gap_json: message.is_gap().then(|| gap_json(&message.payload)),
        time: message.header("ce-time").unwrap_or_default().to_owned(),
        sent: Announcement::sent_at(&message.payload),
        at: message.at,
    };
    messages.iter().map(arrival).collect()
}

/// Of the requests that were confirmed.
pub(crate) fn from_http(requests: &[Received]) -> Vec<Arrival> {
    let arrival = |request: &Received| Arrival {
        announced: Announcement::id_of(&request.body),
        id: request.header("ce-id").unwrap_or_default().to_owned(),
        channel: request.header("ce-subject").unwrap_or_default().to_owned(),
        gap: request.is_gap(),
        gap_json: request.is_gap().then(|| gap_json(&request.body)),
        time: request.header("ce-time").unwrap_or_default().to_owned(),
        sent: Announcement::sent_at(&request.body),
        at: request.at,
    };
    requests.iter().filter(|request| request.is_confirmed()).map(arrival).collect()
}

fn gap_json(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).expect("a gap is JSON")
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

/// What arrives again arrives as a run: the stream may go back, and never skips on its way forward.
pub(crate) fn assert_repeats_are_runs(truth: &[String], arrivals: &[Arrival]) {
    let rank: BTreeMap<&str, usize> =
        truth.iter().enumerate().map(|(rank, id)| (id.as_str(), rank)).collect();
    let announced = arrivals.iter().filter_map(|arrival| arrival.announced.as_deref());
    let mut next = 0;
    for id in announced {
        let now = rank[id];
        assert!(
            now <= next,
            "{id} arrived right after {:?}",
            next.checked_sub(1).map(|n| &truth[n])
        );
        next = now + 1;
    }
}
