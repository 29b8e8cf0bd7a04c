//! What a receiver saw, held against what webhooks promise.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use pgherald_testkit::Received;
use serde_json::Value;

use super::KEYS;

/// One request with one message.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) number: usize,
    pub(super) id: String,
    pub(super) began: Instant,
    pub(super) ended: Option<Instant>,
    pub(super) confirmed: bool,
    pub(super) status: Option<u16>,
}

impl Visit {
    /// As `announce` makes it.
    fn key(&self) -> usize {
        self.number * 7 % KEYS
    }
}

/// Every request with a message in binary mode, in the order of arrival.
pub(super) struct History {
    pub(super) visits: Vec<Visit>,
}

/// The number in a payload; none in a gap's.
pub(super) fn number(received: &Received) -> Option<usize> {
    let payload: Value = serde_json::from_slice(&received.body).ok()?;
    payload["n"].as_u64().map(|number| number as usize)
}

impl History {
    pub(super) fn new(received: &[Received]) -> Self {
        let visit = |received: &Received| {
            Some(Visit {
                number: number(received)?,
                id: received.header("webhook-id")?.to_owned(),
                began: received.began,
                ended: received.ended,
                confirmed: received.is_confirmed(),
                status: received.answer.status(),
            })
        };
        Self { visits: received.iter().filter_map(visit).collect() }
    }

    pub(super) fn confirmed(&self) -> BTreeSet<usize> {
        self.visits.iter().filter(|it| it.confirmed).map(|it| it.number).collect()
    }

    /// How many requests repeated a message.
    pub(super) fn again(&self) -> usize {
        let first: BTreeSet<usize> = self.visits.iter().map(|it| it.number).collect();
        self.visits.len() - first.len()
    }

    /// Every message of `announced` was confirmed or is in `refused`, in the order of its key, one
    /// request of a key at once, under one id. Returns the most requests that were under way.
    pub(super) fn assert_kept(&self, announced: usize, refused: &BTreeSet<usize>) -> usize {
        let mut known = self.confirmed();
        assert!(known.is_disjoint(refused), "a refused message was confirmed");
        known.extend(refused);
        let missing: Vec<usize> = (0..announced).filter(|number| !known.contains(number)).collect();
        assert_eq!(missing, [0; 0], "lost");
        self.assert_ids_are_stable();
        self.assert_keys_go_forward(announced);
        self.assert_no_overlap()
    }

    fn assert_ids_are_stable(&self) {
        let (mut ids, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        for visit in &self.visits {
            assert_eq!(*ids.entry(visit.number).or_insert(&visit.id), &visit.id);
            assert_eq!(*numbers.entry(&visit.id).or_insert(visit.number), visit.number);
        }
    }

    /// A key may go back to what was not confirmed, and never skips on its way forward.
    fn assert_keys_go_forward(&self, announced: usize) {
        let mut of_key: BTreeMap<usize, Vec<&Visit>> = BTreeMap::new();
        self.visits.iter().for_each(|visit| of_key.entry(visit.key()).or_default().push(visit));
        for (key, visits) in of_key {
            let truth: Vec<usize> = (0..announced).filter(|n| n * 7 % KEYS == key).collect();
            let mut next = 0;
            for visit in visits {
                let place = truth.iter().position(|number| *number == visit.number).unwrap();
                assert!(place <= next, "k{key} skipped to {visit:?}");
                assert!(place + 1 >= next, "k{key} went back behind a confirmed one: {visit:?}");
                next = place + 1;
            }
        }
    }

    fn assert_no_overlap(&self) -> usize {
        let mut most = 0;
        let mut under_way: Vec<&Visit> = Vec::new();
        let mut answered: Vec<&Visit> =
            self.visits.iter().filter(|it| it.ended.is_some()).collect();
        answered.sort_by_key(|visit| visit.began);
        for visit in answered {
            under_way.retain(|other| other.ended > Some(visit.began));
            let twin = under_way.iter().find(|other| other.key() == visit.key());
            assert!(twin.is_none(), "{visit:?} overlaps {twin:?}");
            under_way.push(visit);
            most = most.max(under_way.len());
        }
        most
    }
}
