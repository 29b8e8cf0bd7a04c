//! What an operator wants to know about an outbox, as last measured.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use pgherald_core::rfc3339;

/// How one flow stands, as the process that carries it last measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutboxReport {
    /// Rows that this sink has not settled; an estimate above 100,000.
    pub backlog_messages: u64,
    /// How old the oldest of them is.
    pub oldest_age: Duration,
    /// Channels of the outbox that no sink takes, and how many rows each has, the first ten named.
    pub unrouted: Vec<(String, u64)>,
    /// Rows that came in below the cursor.
    pub late: Option<Late>,
    /// Why nothing was deleted or measured for too long, and when that was found.
    pub neglected: Option<(Arc<str>, SystemTime)>,
}

/// Rows that came in below a cursor: neither sent nor deleted until somebody decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// How many; 100,000 are counted.
    pub messages: u64,
    /// When the first of them was found.
    pub since: SystemTime,
}

impl OutboxReport {
    /// Why the flow is not ready, although it may run; `None`: nothing speaks against it.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        let late = self.late.as_ref().map(Late::told);
        let neglected = self.neglected.as_ref().map(|(reason, _)| reason.to_string());
        let reasons: Vec<String> = late.into_iter().chain(neglected).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Since when.
    #[must_use]
    pub fn not_ready_since(&self) -> SystemTime {
        let late = self.late.as_ref().map(|late| late.since);
        let neglected = self.neglected.as_ref().map(|(_, since)| *since);
        late.into_iter().chain(neglected).min().unwrap_or_else(SystemTime::now)
    }
}

impl Late {
    pub(crate) fn told(&self) -> String {
        let Self { messages, since } = self;
        format!(
            "{} below the cursor since {}: neither sent nor deleted until someone decides; look with \
             `pgherald outbox late list`, then `pgherald outbox late send` or `drop`",
            came_in(*messages),
            rfc3339(*since)
        )
    }
}

/// `20 rows came in`.
pub(crate) fn came_in(rows: u64) -> String {
    if rows == 1 { "1 row came in".to_owned() } else { format!("{rows} rows came in") }
}
