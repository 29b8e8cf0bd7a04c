//! The NATS sink: JetStream with confirmed, order-safe publishing, and core NATS at most once.
//!
//! A [`NatsSink`] opens writers. A writer encodes messages on the flow's task and hands them to one
//! task of its own, which owns the connection:
//!
//! ```text
//! publish ──▶ encoder ──outgoing messages──▶ delivery ──▶ atomic batches | a chain | core NATS
//!                                    └── acknowledgements settle the oldest job first
//! ```
//!
//! Order is never left to chance: an atomic batch is stored as a whole or not at all, behind the one
//! before, and in a
//! chain the server stores a message only directly behind its predecessor.

mod acks;
mod check;
mod config;
mod connection;
mod delivery;
mod encoder;
mod error;
mod headers;
mod jobs;
mod limits;
mod metrics;
mod servers;
mod settings;
mod sink;
mod stream;
mod subject;

pub use self::{
    check::check,
    config::{Mode, NatsConfig, TlsConfig},
    metrics::describe_metrics,
    servers::Servers,
    settings::NatsSettings,
    sink::NatsSink,
};
