//! Looks at the cluster and says what is wrong.

use std::{collections::HashMap, sync::Arc, time::Duration};

use metrics::Counter;
use pgherald_core::{Finding, FlowContext};
use rdkafka::{
    admin::{AdminOptions, ResourceSpecifier},
    config::ClientConfig,
    metadata::{Metadata, MetadataPartition},
};
use tokio::{runtime::Handle, task::spawn_blocking, time::timeout};

use crate::{cluster, error::Fault, memory::Memory, producer::Producer, settings::KafkaSettings};

/// How long the topics' settings may take to come.
const SETTINGS_WAIT: Duration = Duration::from_secs(3);

/// Room for a key and an envelope.
const ENVELOPE_BYTES: usize = 65_536;

/// Connects and looks at everything that the configuration names: brokers, topics and their
/// settings, and where gaps go. Takes at most about ten seconds.
pub async fn check(settings: &KafkaSettings, context: &FlowContext, key: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_encryption(settings, key, &mut findings);
    check_gaps(settings, key, &mut findings);
    check_names(settings, key, &mut findings);
    match Producer::start(settings, &Arc::new(Memory::new(Counter::noop())), false).await {
        Ok(producer) => check_cluster(settings, context, key, &producer, &mut findings).await,
        Err(fault) => findings.push(broken(key, &fault)),
    }
    findings
}

fn check_encryption(settings: &KafkaSettings, key: &str, findings: &mut Vec<Finding>) {
    if settings.property("security.protocol") == Some("sasl_plaintext") {
        findings.push(Finding::warning(
            format!("{key}.sasl"),
            "the password and every message travel unencrypted",
            format!("add a [{key}.tls] table"),
        ));
    }
}

fn check_gaps(settings: &KafkaSettings, key: &str, findings: &mut Vec<Finding>) {
    if settings.gap_topic.is_none() && !settings.topic.names_gaps() {
        findings.push(Finding::warning(
            format!("{key}.gap_topic"),
            "the topic needs a key or a header, which a gap has not: gaps reach the log and the metric only",
            "set gap_topic",
        ));
    }
}

fn check_names(settings: &KafkaSettings, key: &str, findings: &mut Vec<Finding>) {
    let topics = settings.topic.configured().unwrap_or_default();
    for reason in topics.iter().filter_map(|topic| topic.as_ref().err()) {
        findings.push(Finding::warning(
            format!("{key}.topic"),
            format!("a channel of this sink makes no legal topic, its messages are rejected: {reason}"),
            "rename the channel, leave it out of the sink's channels, or use a topic without {channel}",
        ));
    }
}

async fn check_cluster(
    settings: &KafkaSettings,
    context: &FlowContext,
    key: &str,
    producer: &Producer,
    findings: &mut Vec<Finding>,
) {
    let topics = settings.configured_topics();
    if topics.is_empty() {
        findings.push(match cluster::reach(producer).await {
            Ok(()) => Finding::ok(format!("{key}.brokers"), "the cluster answers"),
            Err(fault) => broken(key, &fault),
        });
        return;
    }
    let mut found = Vec::new();
    for (n, topic) in topics.into_iter().map(Arc::<str>::from).enumerate() {
        match cluster::metadata_of(producer, &topic).await {
            Ok(metadata) => {
                if n == 0 {
                    let brokers = metadata.brokers().len();
                    let text = format!("the cluster answers, with {brokers} brokers");
                    findings.push(Finding::ok(format!("{key}.brokers"), text));
                }
                found.extend(look_at(settings, key, &topic, &metadata, findings));
            }
            Err(fault) => return findings.push(broken(key, &fault)),
        }
    }
    check_limits(settings, context, key, found, findings).await;
}

/// A topic that is there, and how many brokers hold its weakest partition.
struct Found {
    topic: Arc<str>,
    replicas: usize,
    insync: usize,
}

fn look_at(
    settings: &KafkaSettings,
    key: &str,
    topic: &Arc<str>,
    metadata: &Metadata,
    findings: &mut Vec<Finding>,
) -> Option<Found> {
    let subject = format!("{key}.topic");
    match cluster::topic_error(metadata, topic).map(|code| Fault::of_topic(code, topic.clone())) {
        Some(Fault::MissingTopic(_)) if settings.create.is_some() => {
            let text = format!("topic {topic} does not exist and will be created");
            findings.push(Finding::ok(subject, text));
            return None;
        }
        Some(fault) => {
            findings.push(broken(key, &fault));
            return None;
        }
        None => {}
    }
    let partitions = metadata.topics().iter().find(|found| found.name() == &**topic);
    let partitions = partitions.map_or(&[][..], |found| found.partitions());
    let text = format!("topic {topic} exists, with {} partitions", partitions.len());
    findings.push(Finding::ok(subject, text));
    let weakest = |count: fn(&MetadataPartition) -> usize| partitions.iter().map(count).min();
    let replicas = weakest(|one| one.replicas().len()).unwrap_or(0);
    let insync = weakest(|one| one.isr().len()).unwrap_or(0);
    Some(Found { topic: topic.clone(), replicas, insync })
}

/// What the topics' own settings allow. A cluster that does not tell is no fault.
async fn check_limits(
    settings: &KafkaSettings,
    context: &FlowContext,
    key: &str,
    found: Vec<Found>,
    findings: &mut Vec<Finding>,
) {
    let (config, handle) = (settings.client(), Handle::current());
    let topics: Vec<_> = found.iter().map(|found| found.topic.clone()).collect();
    let asked = spawn_blocking(move || handle.block_on(topic_settings(&config, &topics)));
    let limits = asked.await.unwrap_or_default();
    let largest = context.message_bytes_max;
    for found in found {
        let limits = limits.get(&found.topic).copied().unwrap_or_default();
        let subject = format!("{key}.topic");
        findings.extend(size_warning(&subject, &found.topic, limits, largest));
        findings.extend(safety_warning(&subject, &found, limits));
    }
}

fn size_warning(subject: &str, topic: &str, limits: Limits, largest: usize) -> Option<Finding> {
    let bytes = limits.bytes.filter(|bytes| *bytes < largest)?;
    let enough = largest + ENVELOPE_BYTES;
    Some(Finding::warning(
        subject,
        format!("topic {topic} takes {bytes} bytes, less than a message may have ({largest})"),
        format!("{} max.message.bytes={enough}, or lower message_bytes_max", alter(topic)),
    ))
}

fn safety_warning(subject: &str, found: &Found, limits: Limits) -> Option<Finding> {
    let topic = &found.topic;
    let needed = limits.insync.unwrap_or(1);
    let (text, fix) = if found.replicas == 1 {
        let text = format!("topic {topic} has one replica: its messages are lost with that broker");
        (
            text,
            format!(
                "create it with --replication-factor 3, or give it replicas: kafka-reassign-partitions.sh --bootstrap-server BROKER --execute --reassignment-json-file FILE (topic {topic})"
            ),
        )
    } else if found.insync < needed {
        let text = format!(
            "topic {topic} has {} replicas in sync and needs {needed}: it takes nothing now",
            found.insync
        );
        (
            text,
            format!(
                "start the missing brokers: kafka-topics.sh --bootstrap-server BROKER --describe --under-min-isr-partitions --topic {topic}"
            ),
        )
    } else if limits.insync == Some(1) {
        let text = format!("topic {topic} has min.insync.replicas=1: one broker alone confirms");
        (text, format!("{} min.insync.replicas=2", alter(topic)))
    } else {
        return None;
    };
    Some(Finding::warning(subject, text, fix))
}

fn alter(topic: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name {topic} --add-config"
    )
}

#[derive(Clone, Copy, Default)]
struct Limits {
    bytes: Option<usize>,
    insync: Option<usize>,
}

async fn topic_settings(config: &ClientConfig, topics: &[Arc<str>]) -> HashMap<Arc<str>, Limits> {
    let Ok(admin) = cluster::admin(config) else { return HashMap::new() };
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(SETTINGS_WAIT));
    let asked = timeout(SETTINGS_WAIT, admin.describe_configs(&resources, &options)).await;
    let Ok(Ok(answers)) = asked else { return HashMap::new() };
    let answers = topics.iter().zip(answers).filter_map(|(topic, answer)| {
        let answer = answer.ok()?;
        let value = |name: &str| answer.get(name).and_then(|entry| entry.value.as_deref());
        let bytes = value("max.message.bytes").and_then(|text| text.parse().ok());
        let insync = value("min.insync.replicas").and_then(|text| text.parse().ok());
        Some((topic.clone(), Limits { bytes, insync }))
    });
    answers.collect()
}

/// The finding behind a fault, whose text already says what to do.
fn broken(key: &str, fault: &Fault) -> Finding {
    let text = fault.to_string();
    let (text, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    let (name, otherwise) = match fault {
        Fault::Refused(_) => ("sasl", "correct mechanism, username and password"),
        Fault::Untrusted(_) => ("tls", "correct tls.ca_file"),
        fault if fault.is_of_topic() => ("topic", "create the topic or grant access to it"),
        _ => ("brokers", "check that the addresses are right, reachable from here and listening"),
    };
    let fix = if remedy.is_empty() { otherwise } else { remedy };
    Finding::error(format!("{key}.{name}"), text, fix)
}
