//! The one observable value that logs, metrics and health all read.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use crate::{Gap, Message, MessageId};

/// What a flow is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// Connecting to its source, or opening its sink for the first time.
    Attaching,
    /// Another process runs the flow.
    Standby,
    /// Messages flow, or would if there were any.
    Running,
    /// The oldest unconfirmed message is older than 5 s, or the sink has no connection.
    Stalled,
    /// The configured destination takes nothing now; an operator has to do something.
    Blocked,
    /// A message was rejected, and nothing behind it is sent.
    Halted,
    /// The process is stopping, or hands the flow over to another one.
    Draining,
}

impl FlowState {
    /// Every state, so that every series exists from the start.
    pub const ALL: [Self; 7] = [
        Self::Attaching,
        Self::Standby,
        Self::Running,
        Self::Stalled,
        Self::Blocked,
        Self::Halted,
        Self::Draining,
    ];

    /// The state as it stands in metrics, logs and `/status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Standby => "standby",
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Blocked => "blocked",
            Self::Halted => "halted",
            Self::Draining => "draining",
        }
    }
}

/// Where the reason of a state lies, and with it who has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// This process: it starts, stops, or hands the flow over.
    Process,
    /// PostgreSQL: its connection, its objects, its privileges.
    Source,
    /// The destination.
    Sink,
}

impl Owner {
    /// The owner as it stands in `/readyz` and `/status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }
}

/// How many of a flow's latest gaps its status remembers.
pub const GAPS_REMEMBERED: usize = 16;

/// The message that holds the front of a flow. Its key is shown as a hash: it may be a customer's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldestMessage {
    /// Its id.
    pub id: MessageId,
    /// A hash of its key, if it has one: equal for equal keys, here and after a restart.
    pub key_hash: Option<u64>,
    /// When it was inserted or heard.
    pub since: SystemTime,
    /// What the destination said of it last, if it said anything.
    pub last_answer: Option<Arc<str>>,
}

impl OldestMessage {
    /// A message of which nothing was said.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        Self {
            id: message.id,
            key_hash: message.key.as_deref().map(fnv_1a),
            since: message.since,
            last_answer: None,
        }
    }
}

/// FNV-1a, 64 bits.
fn fnv_1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A flow at one moment.
#[derive(Clone, Debug)]
pub struct FlowStatus {
    /// What it is doing.
    pub state: FlowState,
    /// Since when.
    pub since: SystemTime,
    /// Whether it counts as ready: `running` with a sink that confirms, or `standby`.
    pub ready: bool,
    /// Why it is not running, or not ready, in words for an operator.
    pub reason: Option<Arc<str>>,
    /// Where that reason lies.
    pub owner: Owner,
    /// Since when the flow has been in this state for a reason of this owner.
    pub reason_since: SystemTime,
    /// Messages between the read and the settle.
    pub in_flight_messages: usize,
    /// Their bytes.
    pub in_flight_bytes: usize,
    /// The oldest message that is not settled.
    pub oldest: Option<OldestMessage>,
    /// The latest gaps, oldest first, at most [`GAPS_REMEMBERED`].
    pub gaps: VecDeque<Gap>,
}

impl FlowStatus {
    /// A flow that has not begun.
    #[must_use]
    pub fn new() -> Self {
        let now = SystemTime::now();
        Self {
            state: FlowState::Attaching,
            since: now,
            ready: false,
            reason: Some("starting".into()),
            owner: Owner::Process,
            reason_since: now,
            in_flight_messages: 0,
            in_flight_bytes: 0,
            oldest: None,
            gaps: VecDeque::new(),
        }
    }
}

impl Default for FlowStatus {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_of_a_key_is_the_one_that_everybody_knows() {
        assert_eq!(super::fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(super::fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
