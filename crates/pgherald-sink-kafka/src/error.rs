//! What a Kafka error means for the flow.

use std::sync::Arc;

use pgherald_core::SinkError;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use crate::options::is_secret;

/// What an error says about the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The broker will never take this record, or the batch that it was part of.
    Rejected,
    /// The topic takes nothing: blocked if the configuration names it, rejected if data does.
    Topic,
    /// The cluster takes nothing from us until an operator changes something.
    Blocked,
    /// It may work the next time.
    Transient,
}

impl Class {
    /// The class of an error that a broker or librdkafka reports.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidDifferentRecord
            | Code::InvalidTimestamp => Self::Rejected,
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed => Self::Topic,
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SSL
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SecurityDisabled
            | Code::InvalidRequiredAcks
            | Code::UnsupportedFeature
            | Code::UnsupportedVersion
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::PolicyViolation => Self::Blocked,
            // Everything else, known or not: publishing again loses nothing.
            _ => Self::Transient,
        }
    }
}

/// Why this sink cannot go on, in words for an operator.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(
        "topic {0} does not exist; create it: kafka-topics.sh --bootstrap-server BROKER --create --topic {0}, or set create_topics = true"
    )]
    MissingTopic(Arc<str>),
    #[error(
        "topic {0} may not be used; allow it: kafka-acls.sh --bootstrap-server BROKER --add --allow-principal User:NAME --operation Describe --operation Write --topic {0}"
    )]
    DeniedTopic(Arc<str>),
    #[error(
        "topic {0} could not be created ({1}); create it: kafka-topics.sh --bootstrap-server BROKER --create --topic {0}"
    )]
    NotCreated(Arc<str>, Arc<str>),
    #[error("topic {0} cannot be used now: {1}")]
    Topic(Arc<str>, Code),
    #[error(
        "the brokers refuse the credentials: {0}; check mechanism, username and password of the sasl table"
    )]
    Refused(Arc<str>),
    #[error(
        "no TLS session with the brokers: {0}; check tls.ca_file, and that the brokers' certificates name their hosts and have not expired"
    )]
    Untrusted(Arc<str>),
    #[error(
        "the brokers refuse the client's certificate: {0}; set tls.cert_file and tls.key_file to one that they trust"
    )]
    Stranger(Arc<str>),
    #[error("no broker answers: {0}")]
    Unreachable(Arc<str>),
    #[error("the broker takes nothing of this flow: {0}")]
    Cluster(Code),
    #[error("the broker refused a batch: {0}; its messages are published again, one at a time")]
    BatchRefused(Code),
    #[error("the delivery failed: {0}")]
    Delivery(Code),
    #[error(
        "topic {0} took a message without saying where; it is published again, and so is what follows it"
    )]
    Implied(Arc<str>),
    #[error("the producer failed for good: {0}")]
    Fatal(Arc<str>),
    #[error("the producer could not be created: {0}")]
    Create(Arc<str>),
    #[error("the former producer of this flow has not ended yet")]
    Lingering,
    #[error("the writer was dropped before the broker answered")]
    Dropped,
}

impl Fault {
    /// The fault behind a failed connection, if only an operator can mend it.
    pub(crate) fn of_connection(code: Code, reason: &str) -> Option<Self> {
        if let Some(alert) = refused_certificate(reason) {
            return Some(Self::Stranger(alert.into()));
        }
        match code {
            Code::Authentication => Some(Self::Refused(plain(reason).into())),
            Code::SSL => Some(Self::Untrusted(plain(reason).into())),
            _ => None,
        }
    }

    /// The fault behind a failed delivery. `dynamic`: data names the topic.
    pub(crate) fn of_delivery(code: Code, topic: &str, dynamic: bool) -> Self {
        match (Class::of(code), code) {
            (Class::Rejected, _) => Self::BatchRefused(code),
            // The next writer looks the topic up and rejects the message.
            (Class::Topic, _) if dynamic => Self::Delivery(code),
            (Class::Topic, _) => Self::of_topic(code, topic.into()),
            (Class::Blocked, _) => Self::Cluster(code),
            (Class::Transient, _) => Self::Delivery(code),
        }
    }

    /// The fault behind a topic's error.
    pub(crate) fn of_topic(code: Code, topic: Arc<str>) -> Self {
        match code {
            Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => {
                Self::MissingTopic(topic)
            }
            Code::TopicAuthorizationFailed => Self::DeniedTopic(topic),
            _ => Self::Topic(topic, code),
        }
    }

    /// Whether it stays until an operator changes something.
    pub(crate) fn is_blocked(&self) -> bool {
        match self {
            Self::MissingTopic(_)
            | Self::DeniedTopic(_)
            | Self::NotCreated(..)
            | Self::Refused(_)
            | Self::Untrusted(_)
            | Self::Stranger(_)
            | Self::Cluster(_) => true,
            Self::Topic(_, code) => Class::of(*code) != Class::Transient,
            Self::Unreachable(_)
            | Self::BatchRefused(_)
            | Self::Delivery(_)
            | Self::Implied(_)
            | Self::Fatal(_)
            | Self::Create(_)
            | Self::Lingering
            | Self::Dropped => false,
        }
    }

    /// Whether a topic that data names makes its message one that will never be accepted.
    pub(crate) fn is_of_topic(&self) -> bool {
        match self {
            Self::MissingTopic(_) | Self::DeniedTopic(_) | Self::NotCreated(..) => true,
            Self::Topic(_, code) => Class::of(*code) == Class::Topic,
            _ => false,
        }
    }
}

impl From<Fault> for SinkError {
    fn from(fault: Fault) -> Self {
        if fault.is_blocked() { Self::Blocked(fault.into()) } else { Self::Transient(fault.into()) }
    }
}

/// Why one message will never be accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is larger than message.max.bytes of the sink's options")]
    TooLarge,
    #[error("the broker refuses it: {0}")]
    Broker(Code),
}

/// What the brokers' TLS says of the client's certificate, if that is the trouble: librdkafka takes
/// it for a lost connection.
fn refused_certificate(reason: &str) -> Option<&str> {
    /// Bad, unsupported, revoked, expired, unknown, of an unknown authority, missing.
    const ALERTS: [&str; 7] = ["42", "43", "44", "45", "46", "48", "116"];
    let (before, number) = reason.split_once(": SSL alert number ")?;
    let number = number.split(|c: char| !c.is_ascii_digit()).next()?;
    let said = before.rsplit("::").next().unwrap_or(before);
    ALERTS.contains(&number).then_some(said)
}

/// librdkafka's sentence without its advice, which names properties that are tables here, and without
/// how long it took, which makes each one different.
pub(crate) fn plain(reason: &str) -> &str {
    let end = [", verify that ssl.ca.location", " (after "].map(|tail| reason.find(tail));
    &reason[..end.into_iter().flatten().min().unwrap_or(reason.len())]
}

/// Why a client could not be created, without the value of any secret.
pub(crate) fn creation_text(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientCreation(text) => text.clone(),
        KafkaError::ClientConfig(_, text, name, _) if !is_secret(name) => format!("{name}: {text}"),
        _ => "librdkafka does not take this configuration".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_class() {
        use Class::{Blocked, Rejected, Topic, Transient};
        for (code, class) in [
            (Code::MessageSizeTooLarge, Rejected),
            (Code::MessageBatchTooLarge, Rejected),
            (Code::InvalidRecord, Rejected),
            (Code::InvalidDifferentRecord, Rejected),
            (Code::InvalidTimestamp, Rejected),
            (Code::UnknownTopic, Topic),
            (Code::UnknownPartition, Topic),
            (Code::UnknownTopicOrPartition, Topic),
            (Code::InvalidTopic, Topic),
            (Code::TopicAuthorizationFailed, Topic),
            (Code::Authentication, Blocked),
            (Code::SaslAuthenticationFailed, Blocked),
            (Code::UnsupportedSASLMechanism, Blocked),
            (Code::IllegalSASLState, Blocked),
            (Code::SSL, Blocked),
            (Code::ClusterAuthorizationFailed, Blocked),
            (Code::TransactionalIdAuthorizationFailed, Blocked),
            (Code::SecurityDisabled, Blocked),
            (Code::InvalidRequiredAcks, Blocked),
            (Code::UnsupportedFeature, Blocked),
            (Code::UnsupportedVersion, Blocked),
            (Code::UnsupportedForMessageFormat, Blocked),
            (Code::UnsupportedCompressionType, Blocked),
            (Code::InvalidPartitions, Blocked),
            (Code::InvalidReplicationFactor, Blocked),
            (Code::InvalidConfig, Blocked),
            (Code::PolicyViolation, Blocked),
            (Code::BrokerTransportFailure, Transient),
            (Code::AllBrokersDown, Transient),
            (Code::Resolve, Transient),
            (Code::OperationTimedOut, Transient),
            (Code::MessageTimedOut, Transient),
            (Code::RequestTimedOut, Transient),
            (Code::QueueFull, Transient),
            (Code::PurgeQueue, Transient),
            (Code::PurgeInflight, Transient),
            (Code::Fatal, Transient),
            (Code::GaplessGuarantee, Transient),
            (Code::Fenced, Transient),
            (Code::NotLeaderForPartition, Transient),
            (Code::LeaderNotAvailable, Transient),
            (Code::NotEnoughReplicas, Transient),
            (Code::NotEnoughReplicasAfterAppend, Transient),
            (Code::KafkaStorageError, Transient),
            (Code::InvalidMessage, Transient),
            (Code::OutOfOrderSequenceNumber, Transient),
            (Code::UnknownProducerId, Transient),
            (Code::InvalidProducerEpoch, Transient),
            (Code::ThrottlingQuotaExceeded, Transient),
            (Code::Unknown, Transient),
        ] {
            assert_eq!(Class::of(code), class, "{code:?}");
        }
    }

    #[test]
    fn a_refused_connection_names_its_table() {
        let reason = "ssl://a:1/1: SSL handshake failed: certificate verify failed: broker \
            certificate could not be verified, verify that ssl.ca.location is correct (after 3ms in \
            state SSL_HANDSHAKE)";
        let text = Fault::of_connection(Code::SSL, reason).unwrap().to_string();
        assert!(text.contains("could not be verified; check tls.ca_file"), "{text}");
        let reason =
            "sasl_ssl://a:1/1: SASL authentication error: invalid (after 3ms in state AUTH)";
        let text = Fault::of_connection(Code::Authentication, reason).unwrap().to_string();
        assert!(text.contains("invalid; check mechanism, username and password"), "{text}");
        assert!(Fault::of_connection(Code::AllBrokersDown, reason).is_none());
        let reason = "ssl://a:1/bootstrap: Receive failed: error:0A000412:SSL routines::sslv3 alert \
            bad certificate: SSL alert number 42: brokers=1";
        let stranger = Fault::of_connection(Code::BrokerTransportFailure, reason).unwrap();
        let text = stranger.to_string();
        assert!(stranger.is_blocked() && text.contains("tls.cert_file"), "{text}");
        assert!(text.contains("certificate: sslv3 alert bad certificate; set"), "{text}");
        let other = reason.replace("number 42", "number 40");
        assert!(Fault::of_connection(Code::BrokerTransportFailure, &other).is_none());
    }

    #[test]
    fn a_topic_blocks_where_the_configuration_names_it() {
        let blocked = SinkError::from(Fault::of_delivery(Code::UnknownTopic, "t", false));
        assert!(matches!(blocked, SinkError::Blocked(_)));
        let again = SinkError::from(Fault::of_delivery(Code::UnknownTopic, "t", true));
        assert!(matches!(again, SinkError::Transient(_)));
    }
}
