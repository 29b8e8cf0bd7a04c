//! What a Kafka error means for the flow.

mod class;
mod connection;

use std::sync::Arc;

use pgherald_core::{FileFault, SinkError};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use self::connection::refused_certificate;
pub(crate) use self::{
    class::Class,
    connection::{hung_up, plain},
};
use crate::options::is_secret;

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
    #[error("topic {0} could not be created: {1}; {remedy}", remedy = to_create(.0, *.1))]
    NotCreated(Arc<str>, Code),
    #[error("topic {0} was created and no broker shows it yet")]
    NotVisible(Arc<str>),
    #[error(
        "topic {0} refuses the time of a record: a clock is wrong, or the record waited for long; compare the clocks of the brokers, of PostgreSQL and of this machine, or set kafka.timestamp = \"send\", or raise the topic's message.timestamp.before.max.ms or message.timestamp.after.max.ms"
    )]
    Clock(Arc<str>),
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
    #[error(
        "the brokers do not speak TLS there: {0}; name their TLS port, or remove the tls table"
    )]
    NoTls(Arc<str>),
    #[error("the broker refuses this client: {0}")]
    Cluster(Code),
    #[error(
        "the brokers let this client write to no topic ({1}); allow it: kafka-acls.sh --bootstrap-server BROKER --add --allow-principal User:NAME --operation Describe --operation Write --topic {0}"
    )]
    NoWrite(Arc<str>, Code),
    #[error(
        "the broker at {address}, which leads partitions of topic {topic}, is out of reach: {reason}; start it, or let this machine reach that address; if the address is wrong, correct advertised.listeners of the broker"
    )]
    OutOfReach { address: Arc<str>, topic: Arc<str>, reason: Arc<str> },
    #[error("the broker refused a batch: {0}; its messages are published again, one at a time")]
    BatchRefused(Code),
    #[error("the delivery failed: {0}")]
    Delivery(Code),
    #[error(
        "topic {0} acknowledged a message without an offset; it is published again, and so is what follows it"
    )]
    Implied(Arc<str>),
    #[error("the producer failed for good: {0}")]
    Fatal(Arc<str>),
    #[error("the brokers give no producer id: {0}")]
    NoId(Arc<str>),
    #[error("{0}")]
    File(Arc<str>),
    #[error("the certificates or the key are of no use: {0}; check the files of the tls table")]
    Certificates(Arc<str>),
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
            Code::SSL if reason.contains("PLAINTEXT broker") => {
                Some(Self::NoTls(plain(reason).into()))
            }
            Code::SSL => Some(Self::Untrusted(plain(reason).into())),
            _ => None,
        }
    }

    /// Why a producer came to its end. `writes_to`: a topic that it is for.
    pub(crate) fn of_end(code: Code, reason: &str, writes_to: &Arc<str>) -> Self {
        match code {
            Code::ClusterAuthorizationFailed | Code::TopicAuthorizationFailed => {
                Self::NoWrite(writes_to.clone(), code)
            }
            code if Class::of(code) == Class::Blocked => Self::Cluster(code),
            code => Self::Fatal(format!("{code}: {reason}").into()),
        }
    }

    /// Why librdkafka did not make a client.
    pub(crate) fn of_client(error: &KafkaError) -> Self {
        let text = creation_text(error);
        let lower = text.to_ascii_lowercase();
        match ["ssl", "certificate", "private key"].iter().any(|word| lower.contains(word)) {
            true => Self::Certificates(text.into()),
            false => Self::Create(text.into()),
        }
    }

    /// The fault behind a failed delivery. `dynamic`: data names the topic.
    pub(crate) fn of_delivery(code: Code, topic: &str, dynamic: bool) -> Self {
        match (Class::of(code), code) {
            (Class::Rejected | Class::Batch, _) => Self::BatchRefused(code),
            (Class::Clock, _) => Self::Clock(topic.into()),
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
            Code::UnknownTopic | Code::UnknownTopicOrPartition => Self::MissingTopic(topic),
            Code::TopicAuthorizationFailed => Self::DeniedTopic(topic),
            _ => Self::Topic(topic, code),
        }
    }

    /// Whether it stays until an operator changes something.
    pub(crate) fn is_blocked(&self) -> bool {
        match self {
            Self::MissingTopic(_)
            | Self::DeniedTopic(_)
            | Self::Clock(_)
            | Self::Refused(_)
            | Self::Untrusted(_)
            | Self::Stranger(_)
            | Self::NoTls(_)
            | Self::File(_)
            | Self::Certificates(_)
            | Self::NoWrite(..)
            | Self::Cluster(_) => true,
            Self::Topic(_, code) => Class::of(*code) != Class::Transient,
            Self::NotCreated(_, code) => Class::of_creation(*code) != Class::Transient,
            Self::NotVisible(_)
            | Self::Unreachable(_)
            | Self::OutOfReach { .. }
            | Self::NoId(_)
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
            Self::MissingTopic(_) | Self::DeniedTopic(_) => true,
            Self::Topic(_, code) => Class::of(*code) == Class::Topic,
            Self::NotCreated(_, code) => Class::of_creation(*code) == Class::Topic,
            _ => false,
        }
    }
}

/// What to do about a topic that could not be created.
fn to_create(topic: &str, code: Code) -> String {
    let create = format!("kafka-topics.sh --bootstrap-server BROKER --create --topic {topic}");
    match code {
        Code::InvalidReplicationFactor | Code::InvalidReplicaAssignment => {
            "start more brokers, or lower replication_factor".to_owned()
        }
        Code::InvalidPartitions => "correct partitions".to_owned(),
        Code::InvalidTopic => {
            "Kafka takes no such name beside those that it has: . and _ count as the same"
                .to_owned()
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => format!(
            "create it: {create}, or allow it: kafka-acls.sh --bootstrap-server BROKER --add --allow-principal User:NAME --operation Create --topic {topic}"
        ),
        code if Class::of_creation(code) == Class::Transient => "it is tried again".to_owned(),
        _ => format!("create it: {create}"),
    }
}

impl From<FileFault> for Fault {
    fn from(fault: FileFault) -> Self {
        Self::File(fault.to_string().into())
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
