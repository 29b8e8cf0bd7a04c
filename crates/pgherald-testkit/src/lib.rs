//! Real servers, network faults and consumers for tests. Never shipped.
//!
//! Servers come as packages into a cache directory ([`packages`]), listen on loopback only, keep
//! their data in a temporary directory, and end with the test: on drop, and also when the test
//! process is killed.

mod account;
mod bridge;
mod cache;
mod debian;
mod error;
mod fault_proxy;
mod hostile;
mod http;
mod kafka;
mod kafka_acl;
mod kafka_classes;
mod kafka_member;
mod kafka_storage;
mod metrics_text;
mod nats;
pub mod packages;
mod pgbouncer;
mod ports;
mod postgres;
mod postgres_data;
mod process;
mod redis;
mod scratch;
#[cfg(feature = "sink-suite")]
pub mod sink_suite;
mod tool;
mod wait;

#[cfg(feature = "clients")]
mod certificates;
#[cfg(feature = "clients")]
mod event;
#[cfg(feature = "clients")]
mod http_receiver;
#[cfg(feature = "clients")]
mod jetstream_reader;
#[cfg(feature = "clients")]
mod kafka_admin;
#[cfg(feature = "clients")]
mod kafka_cluster;
#[cfg(feature = "clients")]
mod kafka_consumer;
#[cfg(feature = "clients")]
mod nats_cluster;
#[cfg(feature = "clients")]
mod notifier;
#[cfg(feature = "clients")]
mod observer;
#[cfg(feature = "clients")]
mod outbox_finisher;
#[cfg(feature = "clients")]
mod outbox_producers;
#[cfg(feature = "clients")]
mod outbox_script;
#[cfg(feature = "clients")]
mod outbox_truth;
#[cfg(feature = "clients")]
mod outbox_writer;

pub use bridge::{Bridge, BridgeBuilder, bridge_binary};
pub use cache::cache_dir;
pub use error::{Error, Result};
pub use fault_proxy::{Direction, FaultProxy};
pub use hostile::hostile_role;
pub use http::{Reply, get};
pub use kafka::{Kafka, KafkaBuilder};
pub use metrics_text::Metrics;
pub use nats::{Nats, NatsBuilder};
pub use pgbouncer::{Pgbouncer, PoolMode};
pub use ports::free_port;
pub use postgres::{Postgres, PostgresBuilder};
pub use process::Process;
pub use redis::Redis;
pub use scratch::Scratch;
pub use tool::workspace_root;
pub use wait::{eventually, eventually_some, full_length};

#[cfg(feature = "clients")]
pub use certificates::Certificates;
#[cfg(feature = "clients")]
pub use http_receiver::{Answer, HttpReceiver, Received};
#[cfg(feature = "clients")]
pub use jetstream_reader::{JetStreamReader, StoredMessage};
#[cfg(feature = "clients")]
pub use kafka_cluster::KafkaCluster;
#[cfg(feature = "clients")]
pub use kafka_consumer::{KafkaConsumer, KafkaRecord};
#[cfg(feature = "clients")]
pub use nats_cluster::NatsCluster;
#[cfg(feature = "clients")]
pub use notifier::{Announcement, Notifier, Sent};
#[cfg(feature = "clients")]
pub use observer::{Observed, Observer};
#[cfg(feature = "clients")]
pub use outbox_producers::{OutboxProducers, Producing};
#[cfg(feature = "clients")]
pub use outbox_truth::{OutboxArrival, OutboxRow, OutboxTruth, OutboxVerdict, RollCall};
