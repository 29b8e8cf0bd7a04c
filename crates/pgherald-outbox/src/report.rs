//! What an operator wants to know about an outbox, as last measured.

use std::time::Duration;

/// How one flow stands, as the process that carries it last measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutboxReport {
    /// Rows that this sink has not settled; an estimate above 100,000.
    pub backlog_messages: u64,
    /// How old the oldest of them is.
    pub oldest_age: Duration,
    /// Channels of the outbox that no sink takes, and how many rows each has (100,000 are counted
    /// together, and the first ten named).
    pub unrouted: Vec<(String, u64)>,
}
