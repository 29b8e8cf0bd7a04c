//! What an error code says: is it the message, the destination, or the moment?

use rdkafka::types::RDKafkaErrorCode as Code;

/// What an error says about the future. In doubt it is not the message: a message is given up only
/// for what the broker says of this record, or of a topic that its own data names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The message: the broker will never take this record.
    Rejected,
    /// Another record of the same request, or all of them together: alone this one may be taken.
    Batch,
    /// The topic takes nothing: blocked if the configuration names it, rejected if data does.
    Topic,
    /// The clocks: the broker refuses the record's time, whatever the record says.
    Clock,
    /// The destination: the cluster takes nothing from us until an operator changes something.
    Blocked,
    /// The moment: it may work the next time.
    Transient,
}

impl Class {
    /// The class of an error that a broker or librdkafka reports for a record.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidRecord => {
                Self::Rejected
            }
            Code::InvalidDifferentRecord => Self::Batch,
            Code::InvalidTimestamp => Self::Clock,
            Code::UnknownTopic
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
            | Code::InvalidReplicaAssignment
            | Code::InvalidConfig
            | Code::PolicyViolation => Self::Blocked,
            // Everything else, known or not: publishing again loses nothing.
            _ => Self::Transient,
        }
    }

    /// The class of an error that ended the creation of a topic. Only an illegal name and a denied
    /// one are the topic's own.
    pub(crate) fn of_creation(code: Code) -> Self {
        match (Self::of(code), code) {
            (_, Code::InvalidTopic | Code::TopicAuthorizationFailed) => Self::Topic,
            (Self::Blocked, _) => Self::Blocked,
            _ => Self::Transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use Class::{Batch, Blocked, Clock, Rejected, Topic, Transient};

    use super::*;

    /// Each code, its class, and why.
    const TABLE: &[(Code, Class, &str)] = &[
        (Code::MessageSizeTooLarge, Rejected, "the message: larger than topic or client take"),
        (Code::MessageBatchTooLarge, Rejected, "the message: alone, it exceeds a segment"),
        (Code::InvalidRecord, Rejected, "the message: the broker validated this record"),
        (Code::InvalidDifferentRecord, Batch, "another record of the request was refused"),
        (Code::InvalidTimestamp, Clock, "a clock is wrong, or the record waited for long"),
        (Code::UnknownTopic, Topic, "the destination is missing"),
        (Code::UnknownTopicOrPartition, Topic, "the destination is missing"),
        (Code::InvalidTopic, Topic, "the destination's name"),
        (Code::TopicAuthorizationFailed, Topic, "the destination is denied"),
        (Code::UnknownPartition, Transient, "the topic was made anew: look it up again"),
        (Code::Authentication, Blocked, "the credentials"),
        (Code::SaslAuthenticationFailed, Blocked, "the credentials"),
        (Code::UnsupportedSASLMechanism, Blocked, "the mechanism"),
        (Code::IllegalSASLState, Blocked, "the mechanism"),
        (Code::SSL, Blocked, "the certificates"),
        (Code::ClusterAuthorizationFailed, Blocked, "the principal may write nowhere"),
        (Code::TransactionalIdAuthorizationFailed, Blocked, "the principal"),
        (Code::SecurityDisabled, Blocked, "the cluster's settings"),
        (Code::InvalidRequiredAcks, Blocked, "the cluster does not know acks=all"),
        (Code::UnsupportedFeature, Blocked, "the cluster's version"),
        (Code::UnsupportedVersion, Blocked, "the cluster's version"),
        (Code::UnsupportedForMessageFormat, Blocked, "the topic's message format"),
        (Code::UnsupportedCompressionType, Blocked, "the option compression.type"),
        (Code::InvalidPartitions, Blocked, "the setting partitions"),
        (Code::InvalidReplicationFactor, Blocked, "too few brokers, or replication_factor"),
        (Code::InvalidReplicaAssignment, Blocked, "the cluster's brokers"),
        (Code::InvalidConfig, Blocked, "the cluster's settings"),
        (Code::PolicyViolation, Blocked, "a policy of the cluster, about no record that it names"),
        (Code::BrokerTransportFailure, Transient, "the moment: a connection"),
        (Code::AllBrokersDown, Transient, "the moment: the brokers"),
        (Code::Resolve, Transient, "the moment: DNS"),
        (Code::OperationTimedOut, Transient, "the moment: no answer"),
        (Code::MessageTimedOut, Transient, "the moment: no answer"),
        (Code::RequestTimedOut, Transient, "the moment: the broker's own time-out"),
        (Code::QueueFull, Transient, "the moment: the queue here"),
        (Code::PurgeQueue, Transient, "taken back by us"),
        (Code::PurgeInflight, Transient, "taken back by us"),
        (Code::Fatal, Transient, "the producer's end: its own code says why"),
        (Code::GaplessGuarantee, Transient, "a message before it failed"),
        (Code::Fenced, Transient, "the producer's id: the next one has its own"),
        (Code::NotController, Transient, "the moment: the controller moves"),
        (Code::NotLeaderForPartition, Transient, "the moment: the leader moves"),
        (Code::LeaderNotAvailable, Transient, "the moment: an election"),
        (Code::NotEnoughReplicas, Transient, "the moment: replicas fell behind"),
        (Code::NotEnoughReplicasAfterAppend, Transient, "the moment: replicas fell behind"),
        (Code::KafkaStorageError, Transient, "the broker's disk"),
        (Code::InvalidMessage, Transient, "the transport: the checksum is not ours"),
        (Code::OutOfOrderSequenceNumber, Transient, "the producer's state at the broker"),
        (Code::UnknownProducerId, Transient, "the producer's state at the broker"),
        (Code::InvalidProducerEpoch, Transient, "the producer's state at the broker"),
        (Code::ThrottlingQuotaExceeded, Transient, "the moment: a quota"),
        (Code::InvalidArgument, Transient, "not said by a broker: in doubt not the message"),
        (Code::Unknown, Transient, "not known: in doubt not the message"),
    ];

    #[test]
    fn every_error_has_its_class() {
        for (code, class, reason) in TABLE {
            assert_eq!(Class::of(*code), *class, "{code:?}: {reason}");
        }
    }

    #[test]
    fn a_topic_that_could_not_be_created_is_seldom_its_own_fault() {
        for (code, class, reason) in [
            (Code::InvalidTopic, Topic, "an illegal name"),
            (Code::TopicAuthorizationFailed, Topic, "a denied name"),
            (Code::ClusterAuthorizationFailed, Blocked, "whatever the name"),
            (Code::InvalidReplicationFactor, Blocked, "too few brokers now"),
            (Code::InvalidPartitions, Blocked, "our setting"),
            (Code::PolicyViolation, Blocked, "in doubt not the message"),
            (Code::NotController, Transient, "the controller moves"),
            (Code::OperationTimedOut, Transient, "no answer"),
            (Code::RequestTimedOut, Transient, "no answer"),
            (Code::BrokerTransportFailure, Transient, "a connection"),
            (Code::ThrottlingQuotaExceeded, Transient, "a quota"),
            (Code::UnknownTopicOrPartition, Transient, "not visible yet"),
            (Code::InvalidTimestamp, Transient, "nothing that a topic can have"),
            (Code::Unknown, Transient, "not known"),
        ] {
            assert_eq!(Class::of_creation(code), class, "{code:?}: {reason}");
        }
    }
}
