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
/// Topics that are remembered: data may name them.
const TOPICS_MAX: usize = 10_000;
/// Keys of one topic that are remembered until every partition is met.
const KEYS_MAX: usize = 10_000;

/// The topics that were found, and their partitions that have stored a record of one producer's.
#[derive(Debug)]
pub(crate) struct Contacts {
    topics: HashMap<Arc<str>, Topic>,
    since: Instant,
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
    /// Of a producer that has sent nothing yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { topics: HashMap::new(), since: now }
    }

    /// Begins anew after half of the time for which brokers remember a producer.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now.duration_since(self.since) >= REMEMBERED {
            *self = Self::new(now);
        }
    }

    /// Whether the topic was found.
    pub(crate) fn knows(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// The topic is there and has so many partitions.
    pub(crate) fn found(&mut self, topic: &Arc<str>, partitions: usize) {
        if self.topics.len() >= TOPICS_MAX {
            self.topics.clear();
        }
        let topic = Arc::clone(topic);
        self.topics.insert(topic, Topic { partitions, met: HashSet::new(), keys: HashSet::new() });
    }

    /// Whether the partition of this key is known to be met.
    pub(crate) fn has_met(&self, topic: &str, key: Option<&[u8]>) -> bool {
        let Some(known) = self.topics.get(topic) else { return false };
        known.is_met() || known.keys.contains(&key.map(Box::from))
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
        let (began, topic) = (Instant::now(), Arc::from("t"));
        let mut contacts = Contacts::new(began);
        assert!(!contacts.has_met("t", None) && !contacts.knows("t"));
        contacts.found(&topic, 2);
        assert!(contacts.knows("t") && !contacts.has_met("t", None));
        contacts.meet("t", None, 1);
        contacts.meet("t", Some(b"a"), 1);
        assert!(contacts.has_met("t", None) && contacts.has_met("t", Some(b"a")));
        assert!(!contacts.has_met("t", Some(b"b")), "it may go to the other partition");
        assert!(!contacts.has_met("u", None), "another topic");
        contacts.meet("t", Some(b"b"), 0);
        assert!(contacts.has_met("t", Some(b"c")), "every partition is met");
        contacts.expire(began + REMEMBERED / 2);
        assert!(contacts.has_met("t", None));
        contacts.expire(began + REMEMBERED);
        assert!(!contacts.has_met("t", None), "the broker may have forgotten us");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_and_topics_are_bounded() {
        let mut contacts = Contacts::new(Instant::now());
        contacts.found(&Arc::from("t"), 2);
        for key in 0..=KEYS_MAX as u32 {
            contacts.meet("t", Some(&key.to_be_bytes()), 0);
        }
        assert!(contacts.has_met("t", Some(&(KEYS_MAX as u32).to_be_bytes())));
        assert!(!contacts.has_met("t", Some(&0u32.to_be_bytes())));
        assert!(contacts.topics["t"].keys.len() <= KEYS_MAX);
        for topic in 0..TOPICS_MAX {
            contacts.found(&topic.to_string().into(), 1);
        }
        assert!(contacts.topics.len() <= TOPICS_MAX && contacts.knows("9999"));
    }
}
