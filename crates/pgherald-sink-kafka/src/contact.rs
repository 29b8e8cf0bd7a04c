//! First contact with a partition.
//!
//! A broker that has nothing of a producer in a partition takes any sequence number as its first one
//! (KIP-360). If the first request to a partition is refused for a moment (the topic is so new that
//! the broker does not know it yet, or too few replicas are in sync) and the second one, which is
//! under way already, is stored, then the first one comes too late for ever. librdkafka takes the
//! second one's confirmation for both and reports as delivered what is lost. So one record at a time
//! goes to a partition until one of this producer's is stored there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// A broker forgets a producer that a partition has not heard of for a day
/// (`producer.id.expiration.ms`).
const REMEMBERED: Duration = Duration::from_secs(12 * 3_600);
/// Keys of one topic that are remembered until every partition is met.
const KEYS_MAX: usize = 10_000;

/// The partitions that have stored a record of one producer's.
#[derive(Debug, Default)]
pub(crate) struct Contacts {
    topics: HashMap<Arc<str>, Topic>,
    /// A topic all of whose partitions are met, asked for last.
    all_met: Option<Arc<str>>,
    since: Option<Instant>,
}

#[derive(Debug)]
struct Topic {
    partitions: usize,
    met: HashSet<i32>,
    /// Keys whose partition is met: equal keys go to one partition, and so do messages without one.
    keys: HashSet<Option<Box<[u8]>>>,
}

impl Topic {
    fn is_met(&self) -> bool {
        self.met.len() >= self.partitions
    }
}

impl Contacts {
    /// Begins anew after half of the time for which brokers remember a producer.
    pub(crate) fn expire(&mut self, now: Instant) {
        match self.since {
            Some(since) if now.duration_since(since) < REMEMBERED => {}
            _ => *self = Self { since: Some(now), ..Self::default() },
        }
    }

    /// Whether the partition of this key is known to be met.
    pub(crate) fn has_met(&mut self, topic: &Arc<str>, key: Option<&[u8]>) -> bool {
        if self.all_met.as_ref().is_some_and(|all_met| Arc::ptr_eq(all_met, topic)) {
            return true;
        }
        let Some(known) = self.topics.get(topic) else { return false };
        if known.is_met() {
            self.all_met = Some(Arc::clone(topic));
            return true;
        }
        known.keys.contains(&key.map(Box::from))
    }

    /// Whether the number of the topic's partitions is known.
    pub(crate) fn knows(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// The topic has so many partitions.
    pub(crate) fn expect(&mut self, topic: &Arc<str>, partitions: usize) {
        let topic = Arc::clone(topic);
        self.topics.insert(topic, Topic { partitions, met: HashSet::new(), keys: HashSet::new() });
    }

    /// A record with this key is stored in that partition.
    pub(crate) fn meet(&mut self, topic: &str, key: Option<&[u8]>, partition: i32) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        known.met.insert(partition);
        if known.is_met() || known.keys.len() >= KEYS_MAX {
            known.keys.clear();
        }
        if !known.is_met() {
            known.keys.insert(key.map(Box::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_met_by_its_keys_and_all_of_them_at_once() {
        let (mut contacts, topic) = (Contacts::default(), Arc::from("t"));
        contacts.expire(Instant::now());
        assert!(!contacts.has_met(&topic, None) && !contacts.knows(&topic));
        contacts.expect(&topic, 2);
        contacts.meet(&topic, None, 1);
        contacts.meet(&topic, Some(b"a"), 1);
        assert!(contacts.has_met(&topic, None) && contacts.has_met(&topic, Some(b"a")));
        assert!(!contacts.has_met(&topic, Some(b"b")), "it may go to the other partition");
        assert!(!contacts.has_met(&Arc::from("u"), None), "another topic");
        contacts.meet(&topic, Some(b"b"), 0);
        assert!(contacts.has_met(&topic, Some(b"c")), "every partition is met");
        contacts.expire(Instant::now() + REMEMBERED / 2);
        assert!(contacts.has_met(&topic, None));
        contacts.expire(Instant::now() + REMEMBERED);
        assert!(!contacts.has_met(&topic, None), "the broker may have forgotten us");
    }

    #[test]
    fn keys_are_bounded() {
        let (mut contacts, topic) = (Contacts::default(), Arc::from("t"));
        contacts.expect(&topic, 2);
        for key in 0..=KEYS_MAX as u32 {
            contacts.meet(&topic, Some(&key.to_be_bytes()), 0);
        }
        assert!(contacts.has_met(&topic, Some(&(KEYS_MAX as u32).to_be_bytes())));
        assert!(!contacts.has_met(&topic, Some(&0u32.to_be_bytes())));
        assert!(contacts.topics[&topic].keys.len() <= KEYS_MAX);
    }
}
