//! Looks at the cluster and says what is wrong.

mod age;
mod topic;

use std::{collections::HashSet, sync::Arc, time::Duration};

use metrics::Counter;
use pgherald_core::{Finding, FlowContext, is_loopback};
use rdkafka::metadata::Metadata;

use self::topic::{Found, limits_of};
use crate::{
    cluster, error::Fault, producer::Producer, settings::KafkaSettings, sink_state::SinkState,
};

/// Connects and looks at everything that the configuration names: brokers, topics and their
/// settings, and where gaps go. `oldest`: how long the oldest message has waited, where that is known.
/// Takes at most about ten seconds.
pub async fn check(
    settings: &KafkaSettings,
    context: &FlowContext,
    key: &str,
    oldest: Option<Duration>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_encryption(settings, key, &mut findings);
    check_verification(settings, key, &mut findings);
    check_gaps(settings, key, &mut findings);
    check_names(settings, key, &mut findings);
    match Producer::start(settings, &Arc::new(SinkState::new(Counter::noop())), false).await {
        Ok(producer) => {
            let found = check_cluster(settings, key, &producer, &mut findings).await;
            // A cluster that does not tell its topics' settings is no fault.
            let limits = limits_of(settings, &found).await;
            for found in found {
                let limits = limits.get(&found.topic).copied().unwrap_or_default();
                findings.extend(found.findings(limits, context.message_bytes_max));
                findings.extend(age::findings(&found, limits, settings.timestamp, oldest));
            }
        }
        Err(fault) => findings.push(broken(key, &fault)),
    }
    findings
}

fn check_encryption(settings: &KafkaSettings, key: &str, findings: &mut Vec<Finding>) {
    let (name, text) = match settings.property("security.protocol") {
        Some("sasl_plaintext") => ("sasl", "the password and every message travel unencrypted"),
        Some("plaintext") if leaves_this_machine(settings) => {
            ("brokers", "every message travels unencrypted")
        }
        _ => return,
    };
    let fix = format!("add a [{key}.tls] table");
    findings.push(Finding::warning(format!("{key}.{name}"), text, fix));
}

/// Options that make the encryption worth little.
fn check_verification(settings: &KafkaSettings, key: &str, findings: &mut Vec<Finding>) {
    for (name, off, text) in [
        (
            "enable.ssl.certificate.verification",
            &["false", "f", "0"][..],
            "the brokers' certificates are not verified",
        ),
        ("ssl.endpoint.identification.algorithm", &["none"], "the brokers' names are not verified"),
    ] {
        if settings.property(name).is_some_and(|value| off.contains(&&*value.to_lowercase())) {
            findings.push(Finding::warning(
                format!("{key}.options.\"{name}\""),
                format!("{text}: whoever sits between may read and change everything"),
                "remove it, and set tls.ca_file to the authority of the brokers",
            ));
        }
    }
}

fn leaves_this_machine(settings: &KafkaSettings) -> bool {
    let brokers = settings.property("bootstrap.servers").unwrap_or_default();
    brokers.split(',').any(|broker| !is_loopback(host(broker)))
}

/// The host of `host[:port]`.
fn host(broker: &str) -> &str {
    broker.rsplit_once(':').map_or(broker, |(host, _)| host)
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

/// Looks at brokers and topics; says which topics are there.
async fn check_cluster(
    settings: &KafkaSettings,
    key: &str,
    producer: &Producer,
    findings: &mut Vec<Finding>,
) -> Vec<Found> {
    let topics = settings.configured_topics();
    if topics.is_empty() {
        findings.push(match cluster::metadata_of(producer, &settings.probe()).await {
            Ok(metadata) => answers(key, &metadata),
            Err(fault) => broken(key, &fault),
        });
    }
    let (mut found, mut reached) = (Vec::new(), HashSet::new());
    for (n, topic) in topics.into_iter().map(Arc::<str>::from).enumerate() {
        match cluster::metadata_of(producer, &topic).await {
            Ok(metadata) => {
                if n == 0 {
                    findings.push(answers(key, &metadata));
                }
                let mut leaders = cluster::leaders(&metadata, &topic);
                leaders.retain(|leader| reached.insert(leader.address.clone()));
                if let Err(fault) = cluster::reach(producer, &topic, leaders).await {
                    findings.push(broken(key, &fault));
                    return found;
                }
                found.extend(look_at(settings, key, topic, &metadata, findings));
            }
            Err(fault) => {
                findings.push(broken(key, &fault));
                return found;
            }
        }
    }
    if let Err(fault) = cluster::identified(producer).await {
        findings.push(broken(key, &fault));
    }
    found
}

fn answers(key: &str, metadata: &Metadata) -> Finding {
    let text = format!("the cluster answers, with {} brokers", metadata.brokers().len());
    Finding::ok(format!("{key}.brokers"), text)
}

/// What is there of a topic, after what is wrong with it at first sight.
fn look_at(
    settings: &KafkaSettings,
    key: &str,
    topic: Arc<str>,
    metadata: &Metadata,
    findings: &mut Vec<Finding>,
) -> Option<Found> {
    let subject = subject(settings, key, &topic);
    match cluster::topic_error(metadata, &topic).map(|code| Fault::of_topic(code, topic.clone())) {
        Some(Fault::MissingTopic(_)) if settings.create.is_some() => {
            findings.push(topic::to_be_created(settings, &subject, &topic, metadata));
            None
        }
        Some(fault) => {
            findings.push(Finding { subject, ..broken(key, &fault) });
            None
        }
        None => {
            let found = Found::read(subject, topic, metadata);
            findings.push(found.exists());
            Some(found)
        }
    }
}

/// The key that names a topic.
fn subject(settings: &KafkaSettings, key: &str, topic: &str) -> String {
    let mut named = settings.topic.configured().unwrap_or_default().iter().flatten();
    let by_template = named.any(|name| name == topic);
    format!("{key}.{}", if by_template { "topic" } else { "gap_topic" })
}

/// The finding behind a fault, whose text already says what to do.
fn broken(key: &str, fault: &Fault) -> Finding {
    let text = fault.to_string();
    if let (Fault::File(_), Some((key, text))) = (fault, text.split_once(": ")) {
        let (text, fix) = text.rsplit_once("; ").unwrap_or((text, "name another file"));
        return Finding::error(key, text, fix);
    }
    let (text, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    let (name, otherwise) = match fault {
        Fault::Refused(_) => ("sasl", "correct mechanism, username and password"),
        Fault::Untrusted(_) => ("tls", "correct tls.ca_file"),
        Fault::Certificates(_) => ("tls", "correct the files of the tls table"),
        Fault::NoTls(_) => ("tls", "name the brokers' TLS port"),
        Fault::NoWrite(..) => ("topic", "allow this client to write"),
        Fault::Stranger(_) => ("tls", "correct tls.cert_file and tls.key_file"),
        fault if fault.is_of_topic() => ("topic", "create the topic or grant access to it"),
        _ => ("brokers", "check that the addresses are right, reachable from here and listening"),
    };
    let fix = if remedy.is_empty() { otherwise } else { remedy };
    Finding::error(format!("{key}.{name}"), text, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_broker() {
        for (broker, found) in
            [("kafka1:9092", "kafka1"), ("kafka1", "kafka1"), ("[::1]:9092", "[::1]")]
        {
            assert_eq!(host(broker), found);
        }
    }
}
