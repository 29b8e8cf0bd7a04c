//! Publishes batches to Kafka: idempotent, confirmed and in order.
//!
//! [`KafkaConfig`] is what a user writes, [`KafkaSettings`] what is left of it after every check,
//! [`KafkaSink`] opens writers from it and [`check`] looks at the cluster.

mod address;
mod check;
mod cluster;
mod config;
mod connection_monitor;
mod delivery;
mod dispatch;
mod error;
mod failures;
mod files;
mod first_produce;
mod metrics;
mod options;
mod outcome;
mod partitioner;
mod producer;
mod producer_events;
mod properties;
mod security;
mod settings;
mod sink;
mod sink_state;
mod timestamp;
mod topic;
mod writer;

pub use self::{
    check::check,
    config::{KafkaConfig, SaslConfig, TlsConfig},
    metrics::describe_metrics,
    options::Options,
    settings::KafkaSettings,
    sink::KafkaSink,
    timestamp::Timestamp,
};
