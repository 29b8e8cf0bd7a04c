//! The configuration as it is written: everything optional, nothing believed yet.

use std::collections::BTreeMap;

use pgherald_core::{Envelope, EventNamesConfig, Secret, StringList};
use pgherald_listener::NotifyConfig;
use pgherald_outbox::OutboxConfig;
use pgherald_postgres::PostgresConfig;
use serde::{Deserialize, Serialize};

#[cfg(not(feature = "http"))]
type HttpConfig = serde_json::Value;
#[cfg(not(feature = "kafka"))]
type KafkaConfig = serde_json::Value;
#[cfg(not(feature = "nats"))]
type NatsConfig = serde_json::Value;
#[cfg(feature = "http")]
use pgherald_sink_http::HttpConfig;
#[cfg(feature = "kafka")]
use pgherald_sink_kafka::KafkaConfig;
#[cfg(feature = "nats")]
use pgherald_sink_nats::NatsConfig;

/// The whole file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawConfig {
    pub(crate) postgres: PostgresConfig,
    pub(crate) admin: RawAdmin,
    pub(crate) shutdown: RawShutdown,
    pub(crate) pipelines: BTreeMap<String, RawPipeline>,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawAdmin {
    pub(crate) listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Secret>,
    pub(crate) show_payloads: Option<bool>,
}

/// `[shutdown]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawShutdown {
    pub(crate) drain_deadline_ms: Option<u64>,
}

/// `[pipelines.<name>]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawPipeline {
    pub(crate) source: RawSource,
    pub(crate) cloudevents: EventNamesConfig,
    pub(crate) sinks: BTreeMap<String, RawSink>,
}

/// `[pipelines.<name>.source]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawSource {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notify: Option<NotifyConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outbox: Option<OutboxConfig>,
}

/// `[pipelines.<name>.sinks.<name>]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawSink {
    pub(crate) channels: Option<StringList>,
    pub(crate) envelope: Option<Envelope>,
    pub(crate) on_rejected: Option<RawOnRejected>,
    pub(crate) message_bytes_max: Option<usize>,
    pub(crate) budget_messages_max: Option<usize>,
    pub(crate) budget_bytes_max: Option<usize>,
    pub(crate) batch: RawBatch,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kafka: Option<KafkaConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nats: Option<NatsConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<HttpConfig>,
}

/// `[pipelines.<name>.sinks.<name>.batch]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawBatch {
    pub(crate) messages_max: Option<usize>,
    pub(crate) bytes_max: Option<usize>,
    pub(crate) linger_ms: Option<u64>,
}

/// What to do with a message that its destination will never take.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawOnRejected {
    Halt,
    DeadLetter,
    Skip,
}
