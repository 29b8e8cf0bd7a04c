//! What one topic promises: how many brokers hold it, and what it takes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pgherald_core::Finding;
use rdkafka::{
    admin::{AdminOptions, ConfigResource, ResourceSpecifier},
    config::ClientConfig,
    metadata::{Metadata, MetadataPartition},
};
use tokio::{runtime::Handle, task::spawn_blocking, time::timeout};

use super::age::Times;
use crate::{cluster, settings::KafkaSettings};

/// How long the topics' settings may take to come.
const SETTINGS_WAIT: Duration = Duration::from_secs(3);

/// Room for a key and an envelope.
const ENVELOPE_BYTES: usize = 65_536;

/// What the metadata says of a partition without a leader.
const NOBODY: i32 = -1;

/// A topic that is there, and how many brokers hold its weakest partitions.
pub(super) struct Found {
    /// The key that names it.
    pub(super) subject: String,
    pub(super) topic: Arc<str>,
    partitions: usize,
    leaderless: usize,
    replicas: usize,
    insync: usize,
    /// Partitions with fewer replicas in sync than they have.
    lagging: usize,
}

/// The topic's own settings, as far as the cluster tells them.
#[derive(Clone, Copy, Default)]
pub(super) struct Limits {
    bytes: Option<usize>,
    insync: Option<usize>,
    compacted: bool,
    pub(super) times: Times,
}

impl Found {
    pub(super) fn read(subject: String, topic: Arc<str>, metadata: &Metadata) -> Self {
        let described = metadata.topics().iter().find(|found| found.name() == &*topic);
        let partitions = described.map_or(&[][..], |found| found.partitions());
        let weakest = |count: fn(&MetadataPartition) -> usize| {
            partitions.iter().map(count).min().unwrap_or_default()
        };
        let many = |is: fn(&&MetadataPartition) -> bool| partitions.iter().filter(is).count();
        Self {
            subject,
            topic,
            partitions: partitions.len(),
            leaderless: many(|one| one.leader() == NOBODY),
            replicas: weakest(|one| one.replicas().len()),
            insync: weakest(|one| one.isr().len()),
            lagging: many(|one| one.isr().len() < one.replicas().len()),
        }
    }

    pub(super) fn exists(&self) -> Finding {
        let text = format!("topic {} exists, with {} partitions", self.topic, self.partitions);
        Finding::ok(&self.subject, text)
    }

    /// What is wrong or risky; `largest`: a message may have so many bytes.
    pub(super) fn findings(&self, limits: Limits, largest: usize) -> Vec<Finding> {
        let found = [
            self.availability(limits),
            self.single_replica(),
            self.confirmed_by_one(limits),
            self.size(limits, largest),
            self.compaction(limits),
        ];
        found.into_iter().flatten().collect()
    }

    /// Whether `acks=all` can be had, and by how far.
    fn availability(&self, limits: Limits) -> Option<Finding> {
        let (topic, needed) = (&self.topic, limits.insync.unwrap_or(1));
        let (replicas, insync) = (self.replicas, self.insync);
        if needed > replicas {
            return Some(Finding::error(
                &self.subject,
                format!(
                    "topic {topic} needs min.insync.replicas={needed} and has {replicas} replicas: it takes nothing"
                ),
                format!("{} min.insync.replicas={replicas}, or {}", alter(topic), reassign(topic)),
            ));
        }
        if self.leaderless > 0 || insync < needed {
            let text = match self.leaderless {
                0 => format!("topic {topic} has {insync} replicas in sync and needs {needed}"),
                n => format!("topic {topic} has {n} partitions without a leader"),
            };
            let text = format!("{text}: it takes nothing now");
            return Some(Finding::error(&self.subject, text, start(topic)));
        }
        (self.lagging > 0).then(|| {
            let text = format!(
                "topic {topic} has {} partitions with fewer replicas in sync than they have: {insync} of {replicas}",
                self.lagging
            );
            Finding::warning(&self.subject, text, start(topic))
        })
    }

    fn single_replica(&self) -> Option<Finding> {
        let topic = &self.topic;
        (self.replicas == 1).then(|| {
            Finding::warning(
                &self.subject,
                format!("topic {topic} has one replica: its messages are lost with that broker"),
                format!("create it with --replication-factor 3, or {}", reassign(topic)),
            )
        })
    }

    fn confirmed_by_one(&self, limits: Limits) -> Option<Finding> {
        let topic = &self.topic;
        (self.replicas > 1 && limits.insync == Some(1)).then(|| {
            Finding::warning(
                &self.subject,
                format!("topic {topic} has min.insync.replicas=1: one broker alone confirms"),
                format!("{} min.insync.replicas=2", alter(topic)),
            )
        })
    }

    fn size(&self, limits: Limits, largest: usize) -> Option<Finding> {
        let (topic, enough) = (&self.topic, largest + ENVELOPE_BYTES);
        let bytes = limits.bytes.filter(|bytes| *bytes < largest)?;
        Some(Finding::warning(
            &self.subject,
            format!("topic {topic} takes {bytes} bytes, less than a message may have ({largest})"),
            format!("{} max.message.bytes={enough}, or lower message_bytes_max", alter(topic)),
        ))
    }

    fn compaction(&self, limits: Limits) -> Option<Finding> {
        let topic = &self.topic;
        limits.compacted.then(|| {
            Finding::warning(
                &self.subject,
                format!(
                    "topic {topic} is compacted: it rejects messages without a key, gaps too, and keeps only the newest of each key"
                ),
                format!(
                    "{} cleanup.policy=delete, or give every message a key and set gap_topic",
                    alter(topic)
                ),
            )
        })
    }
}

/// A topic that is missing and that the sink creates.
pub(super) fn to_be_created(
    settings: &KafkaSettings,
    subject: &str,
    topic: &str,
    metadata: &Metadata,
) -> Finding {
    let brokers = metadata.brokers().len();
    let wanted = settings.create.map_or(-1, |shape| shape.replication_factor);
    let text = format!("topic {topic} does not exist and will be created");
    match usize::try_from(wanted) {
        Ok(wanted) if wanted > brokers => Finding::error(
            subject,
            format!("topic {topic} cannot be created with {wanted} replicas on {brokers} brokers"),
            format!("lower replication_factor to {brokers}, or start more brokers"),
        ),
        Ok(1) => Finding::warning(
            subject,
            format!("{text} with one replica: its messages are lost with that broker"),
            "set replication_factor = 3",
        ),
        _ => Finding::ok(subject, text),
    }
}

pub(super) fn alter(topic: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name {topic} --add-config"
    )
}

fn reassign(topic: &str) -> String {
    format!(
        "give it replicas: kafka-reassign-partitions.sh --bootstrap-server BROKER --execute --reassignment-json-file FILE (topic {topic})"
    )
}

fn start(topic: &str) -> String {
    format!(
        "start the missing brokers: kafka-topics.sh --bootstrap-server BROKER --describe --under-replicated-partitions --topic {topic}"
    )
}

/// The settings of these topics.
pub(super) async fn limits_of(
    settings: &KafkaSettings,
    found: &[Found],
) -> HashMap<Arc<str>, Limits> {
    let (Ok(config), handle) = (settings.client(), Handle::current()) else {
        return HashMap::new();
    };
    let topics: Vec<_> = found.iter().map(|found| found.topic.clone()).collect();
    let asked = spawn_blocking(move || handle.block_on(describe(&config, &topics)));
    asked.await.unwrap_or_default()
}

async fn describe(config: &ClientConfig, topics: &[Arc<str>]) -> HashMap<Arc<str>, Limits> {
    let Ok(admin) = cluster::admin(config) else { return HashMap::new() };
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(SETTINGS_WAIT));
    let asked = timeout(SETTINGS_WAIT, admin.describe_configs(&resources, &options)).await;
    let Ok(Ok(answers)) = asked else { return HashMap::new() };
    let answers = topics.iter().zip(answers);
    answers.filter_map(|(topic, answer)| Some((topic.clone(), limits(&answer.ok()?)))).collect()
}

fn limits(described: &ConfigResource) -> Limits {
    let value = |name: &str| described.get(name).and_then(|entry| entry.value.as_deref());
    Limits {
        bytes: value("max.message.bytes").and_then(|text| text.parse().ok()),
        insync: value("min.insync.replicas").and_then(|text| text.parse().ok()),
        compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        times: Times::read(value),
    }
}

#[cfg(test)]
mod tests {
    use pgherald_core::Level;

    use super::*;

    fn found(replicas: usize, insync: usize) -> Found {
        let (subject, topic) = ("k.topic".to_owned(), "t".into());
        let lagging = usize::from(insync < replicas);
        Found { subject, topic, partitions: 1, leaderless: 0, replicas, insync, lagging }
    }

    fn said(found: &Found, insync: usize) -> Vec<(Level, String)> {
        let limits = Limits {
            bytes: Some(2_000_000),
            insync: Some(insync),
            compacted: false,
            ..Limits::default()
        };
        let findings = found.findings(limits, 1 << 20);
        findings.into_iter().map(|finding| (finding.level, finding.text)).collect()
    }

    #[test]
    fn what_acks_all_is_worth() {
        assert_eq!(said(&found(3, 3), 2), []);
        for (replicas, insync, needed, level, words) in [
            (3, 2, 2, Level::Warning, "2 of 3"),
            (3, 1, 2, Level::Error, "1 replicas in sync and needs 2: it takes nothing now"),
            (3, 3, 1, Level::Warning, "one broker alone confirms"),
            (1, 1, 1, Level::Warning, "one replica"),
            (1, 1, 2, Level::Error, "min.insync.replicas=2 and has 1 replicas: it takes nothing"),
        ] {
            let said = said(&found(replicas, insync), needed);
            let told = said.iter().any(|(at, text)| *at == level && text.contains(words));
            assert!(told, "{words}: {said:?}");
        }
        let leaderless = Found { leaderless: 1, ..found(3, 3) };
        assert!(said(&leaderless, 2)[0].1.contains("without a leader"));
    }
}
