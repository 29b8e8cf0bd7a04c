//! What every sink crate is told about the flow that it serves.

use std::sync::Arc;

use crate::{BatchLimits, Budget, Envelope, EventNames};

/// The flow that a sink serves: names for labels and envelopes, limits for its queues.
#[derive(Clone, Debug)]
pub struct FlowContext {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// The kind of its source: `notify`, `outbox`, `wal`.
    pub source: &'static str,
    /// The sink's name.
    pub sink: Arc<str>,
    /// The channels that this sink takes, by name; `None`: every channel (`"*"`).
    pub channels: Option<Arc<[Arc<str>]>>,
    /// How messages are wrapped.
    pub envelope: Envelope,
    /// The CloudEvents `source` and `type` of messages that bring none along.
    pub events: EventNames,
    /// What the flow may hold: a sink's own queue must hold at least as much.
    pub budget: Budget,
    /// How large a batch is.
    pub batch: BatchLimits,
    /// Larger payloads never reach the sink.
    pub message_bytes_max: usize,
}
