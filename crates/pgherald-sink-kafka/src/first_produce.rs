//! The first record of a producer in a partition.
//!
//! If a broker has no record of a producer in a partition, it accepts any sequence number as the first one
//! (KIP-360). Suppose that it refuses the first request to a partition for a moment (the topic is so new that
//! the broker does not know it yet, or too few replicas are in sync), and stores the second one, which is in
//! flight already. Then the broker will never accept the first one. librdkafka takes the confirmation of the
//! second one for both, and reports the lost record as delivered. So only one record is in flight to a
//! partition until a record of this producer is stored there.

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

/// The topics that were found, and their partitions that have stored a record of one producer's.
#[derive(Debug)]
pub(crate) struct FirstProduce {
    topics: HashMap<Arc<str>, Topic>,
    since: Instant,
    /// How long the number of a topic's partitions counts as known.
    refresh: Duration,
}

#[derive(Debug)]
struct Topic {
    partitions: usize,
    met: HashSet<i32>,
    found: Instant,
}

impl FirstProduce {
    /// For a producer that has sent nothing yet. `refresh`: how long the number of a topic's partitions counts
    /// as known.
    pub(crate) fn new(refresh: Duration, now: Instant) -> Self {
        Self { topics: HashMap::new(), since: now, refresh }
    }

    /// The same for another producer.
    pub(crate) fn begin_anew(&mut self, now: Instant) {
        *self = Self::new(self.refresh, now);
    }

    /// Begins anew after half of the time for which brokers remember a producer.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now.duration_since(self.since) >= REMEMBERED {
            self.begin_anew(now);
        }
    }

    /// How many partitions a topic has, if it was found; and whether that is old.
    pub(crate) fn partitions(&self, topic: &str, now: Instant) -> Option<(usize, bool)> {
        let known = self.topics.get(topic)?;
        Some((known.partitions, now.duration_since(known.found) >= self.refresh))
    }

    /// The topic exists and has this many partitions. New ones have no record of this producer yet.
    pub(crate) fn found(&mut self, topic: &Arc<str>, partitions: usize, now: Instant) {
        // With fewer it is another topic of that name.
        if let Some(known) = self.topics.get_mut(topic).filter(|it| it.partitions <= partitions) {
            (known.partitions, known.found) = (partitions, now);
            return;
        }
        if self.topics.len() >= TOPICS_MAX {
            self.topics.clear();
        }
        let new = Topic { partitions, met: HashSet::new(), found: now };
        self.topics.insert(Arc::clone(topic), new);
    }

    /// Whether a partition has stored a record of this producer's.
    pub(crate) fn has_met(&self, topic: &str, partition: i32) -> bool {
        self.topics.get(topic).is_some_and(|known| known.met.contains(&partition))
    }

    /// A record is stored in that partition.
    pub(crate) fn meet(&mut self, topic: &str, partition: i32) {
        if let Some(known) = self.topics.get_mut(topic) {
            known.met.insert(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_met_by_itself_and_a_new_one_is_not() {
        let (began, topic) = (Instant::now(), Arc::from("t"));
        let mut first_produce = FirstProduce::new(REFRESH, began);
        assert_eq!(first_produce.partitions("t", began), None);
        first_produce.found(&topic, 2, began);
        assert_eq!(first_produce.partitions("t", began), Some((2, false)));
        assert!(!first_produce.has_met("t", 1));
        first_produce.meet("t", 1);
        assert!(
            first_produce.has_met("t", 1)
                && !first_produce.has_met("t", 0)
                && !first_produce.has_met("u", 1)
        );
        let later = began + REFRESH;
        assert_eq!(first_produce.partitions("t", later), Some((2, true)));
        first_produce.found(&topic, 3, later);
        assert_eq!(first_produce.partitions("t", later), Some((3, false)));
        assert!(first_produce.has_met("t", 1), "what was met stays met");
        assert!(!first_produce.has_met("t", 2), "what was added has met nobody");
        first_produce.found(&topic, 1, later);
        assert!(!first_produce.has_met("t", 0), "another topic of that name");
        first_produce.meet("t", 0);
        first_produce.expire(began + REMEMBERED / 2);
        assert!(first_produce.has_met("t", 0));
        first_produce.expire(began + REMEMBERED);
        assert!(!first_produce.has_met("t", 0), "the broker may have forgotten us");
    }

    #[tokio::test(start_paused = true)]
    async fn topics_are_bounded() {
        let now = Instant::now();
        let mut first_produce = FirstProduce::new(REFRESH, now);
        for topic in 0..=TOPICS_MAX {
            first_produce.found(&topic.to_string().into(), 1, now);
        }
        assert!(first_produce.topics.len() <= TOPICS_MAX);
        assert!(first_produce.partitions(&TOPICS_MAX.to_string(), now).is_some());
    }
}
