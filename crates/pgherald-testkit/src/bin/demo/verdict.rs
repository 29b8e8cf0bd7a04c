//! What one consumer saw, held against what PostgreSQL announced.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use pgherald_testkit::{Announcement, KafkaRecord, Observed, StoredMessage};

use crate::accident::Outage;
use crate::gaps::Gap;

/// What one consumer got, in its order.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<Arrived>,
    pub(crate) gaps: Vec<Gap>,
}

/// One message at a consumer.
#[derive(Debug)]
pub(crate) struct Arrived {
    channel: String,
    payload: String,
    at: SystemTime,
}

/// The comparison.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) received: usize,
    pub(crate) inside_gap: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) unordered: usize,
    pub(crate) unknown: usize,
    /// Of the messages that the outage did not disturb.
    pub(crate) latency: Latency,
    pub(crate) latency_all: Latency,
}

/// From just before a message's transaction to the consumer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Seen {
    /// Records of Kafka; topics are `demo.CHANNEL`.
    pub(crate) fn in_kafka(records: &[KafkaRecord]) -> Self {
        let mut seen = Self::default();
        for record in records {
            let place = format!("{}, offset {}", record.topic, record.offset);
            seen.add(&record.topic, &record.text(), record.is_gap(), record.at, place);
        }
        seen
    }

    /// Messages of JetStream; subjects are `demo.CHANNEL`.
    pub(crate) fn in_jetstream(messages: &[StoredMessage]) -> Self {
        let mut seen = Self::default();
        for message in messages {
            let place = format!("{}, sequence {}", message.subject, message.sequence);
            seen.add(&message.subject, &message.text(), message.is_gap(), message.at, place);
        }
        seen
    }

    fn add(&mut self, name: &str, text: &str, is_gap: bool, at: SystemTime, place: String) {
        if is_gap {
            self.gaps.extend(Gap::read(text, place));
        } else {
            let channel = name.trim_start_matches("demo.").to_owned();
            self.messages.push(Arrived { channel, payload: text.to_owned(), at });
        }
    }

    /// The gap that the accident made, if it was reported.
    pub(crate) fn accident(&self) -> Option<&Gap> {
        self.gaps.iter().find(|gap| gap.reason == "disconnect")
    }
}

impl Verdict {
    /// `observed` is the truth, in commit order.
    pub(crate) fn on(seen: &Seen, observed: &[Observed], outage: Outage) -> Self {
        let place: HashMap<&str, usize> =
            observed.iter().enumerate().map(|(at, it)| (it.payload.as_str(), at)).collect();
        let mut verdict = Self { received: seen.messages.len(), ..Self::default() };
        verdict.count_arrivals(seen, &place);
        verdict.count_missing(seen, observed);
        verdict.latency = Latency::of(seen, |sent| !outage.disturbs(sent));
        verdict.latency_all = Latency::of(seen, |_| true);
        verdict
    }

    fn count_arrivals(&mut self, seen: &Seen, place: &HashMap<&str, usize>) {
        let mut known = HashSet::new();
        let mut last: HashMap<&str, usize> = HashMap::new();
        for message in &seen.messages {
            let Some(&at) = place.get(message.payload.as_str()) else {
                self.unknown += 1;
                continue;
            };
            let before = last.insert(&message.channel, at);
            self.doubled += usize::from(!known.insert(at));
            self.unordered += usize::from(before.is_some_and(|before| before > at));
        }
    }

    fn count_missing(&mut self, seen: &Seen, observed: &[Observed]) {
        let got: HashSet<&str> = seen.messages.iter().map(|it| it.payload.as_str()).collect();
        for missing in observed.iter().filter(|it| !got.contains(it.payload.as_str())) {
            let sent = Announcement::sent_at(missing.payload.as_bytes()).unwrap_or(missing.at);
            let covers = |gap: &Gap| gap.covers(&missing.channel, sent, missing.at);
            match seen.gaps.iter().any(covers) {
                true => self.inside_gap += 1,
                false => self.lost += 1,
            }
        }
    }

    /// Everything that must not be, in words.
    pub(crate) fn problems(&self, who: &str) -> Vec<String> {
        let counts = [
            (self.lost, "lost outside every reported gap"),
            (self.doubled, "received twice"),
            (self.unordered, "out of commit order"),
            (self.unknown, "received but never announced"),
        ];
        let bad = counts.iter().filter(|(count, _)| *count > 0);
        let mut problems: Vec<_> =
            bad.map(|(count, what)| format!("{who}: {count} messages {what}")).collect();
        if self.received == 0 {
            problems.push(format!("{who}: nothing was received"));
        }
        problems
    }
}

impl Latency {
    fn of(seen: &Seen, counts: impl Fn(SystemTime) -> bool) -> Self {
        let taken = |it: &Arrived| {
            let sent = Announcement::sent_at(it.payload.as_bytes()).filter(|sent| counts(*sent))?;
            it.at.duration_since(sent).ok()
        };
        let mut all: Vec<Duration> = seen.messages.iter().filter_map(taken).collect();
        all.sort_unstable();
        let at = |percent: usize| {
            let last = all.len().saturating_sub(1);
            all.get(last * percent / 100).copied().unwrap_or_default()
        };
        Self { p50: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn observed(payloads: &[&str]) -> Vec<Observed> {
        let one = |payload: &&str| Observed {
            channel: "a".into(),
            payload: (*payload).into(),
            at: UNIX_EPOCH,
        };
        payloads.iter().map(one).collect()
    }

    fn seen(payloads: &[&str]) -> Seen {
        let one = |payload: &&str| Arrived {
            channel: "a".into(),
            payload: (*payload).into(),
            at: UNIX_EPOCH,
        };
        Seen { messages: payloads.iter().map(one).collect(), gaps: Vec::new() }
    }

    #[test]
    fn each_fault_is_counted_as_itself() {
        let truth = observed(&["1", "2", "3"]);
        let outage = Outage::none();
        let good = Verdict::on(&seen(&["1", "2", "3"]), &truth, outage);
        assert_eq!(good.problems("x"), Vec::<String>::new());
        let bad = Verdict::on(&seen(&["1", "3", "2", "1", "9"]), &truth, outage);
        assert_eq!((bad.lost, bad.doubled, bad.unordered, bad.unknown), (0, 1, 2, 1));
        assert_eq!(Verdict::on(&seen(&["2"]), &truth, outage).lost, 2);
    }
}
