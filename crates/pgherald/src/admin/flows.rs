//! The flows as `/readyz` and `/status` tell of them: one truth, in text and in JSON.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use pgherald_core::{FlowStatus, Gap, OldestMessage, Owner, Tap, rfc3339};
use pgherald_outbox::OutboxReport;
use serde::Serialize;
use tokio::sync::watch;

/// One flow, as the admin pages see it.
#[derive(Clone, Debug)]
pub(crate) struct FlowView {
    pub(crate) pipeline: Arc<str>,
    pub(crate) source: &'static str,
    pub(crate) sink: Arc<str>,
    /// The kind of the sink.
    pub(crate) kind: &'static str,
    pub(crate) channels: Arc<[Arc<str>]>,
    pub(crate) status: watch::Receiver<FlowStatus>,
    pub(crate) tap: Tap,
    /// How it stands in its outbox, if that is its source.
    pub(crate) outbox: Option<watch::Receiver<OutboxReport>>,
}

/// A flow at one moment, as `/status` shows it.
#[derive(Debug, Serialize)]
pub(super) struct FlowDocument<'a> {
    pub(super) pipeline: &'a str,
    pub(super) source: &'a str,
    pub(super) sink: &'a str,
    pub(super) kind: &'a str,
    pub(super) channels: &'a [Arc<str>],
    pub(super) state: &'static str,
    pub(super) since: String,
    #[serde(skip)]
    pub(super) since_time: SystemTime,
    pub(super) ready: bool,
    pub(super) reason: Option<Arc<str>>,
    /// Where the reason lies: `source`, `sink` or `process`.
    pub(super) reason_owner: Option<&'static str>,
    pub(super) reason_since: Option<String>,
    #[serde(skip)]
    pub(super) reason_age: Duration,
    pub(super) in_flight_messages: usize,
    pub(super) in_flight_bytes: usize,
    /// What holds the front of the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oldest_message: Option<OldestDocument>,
    pub(super) gaps: Vec<Gap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outbox: Option<OutboxDocument>,
}

/// The oldest message that is not settled. No key is shown, only its hash.
#[derive(Debug, Serialize)]
pub(super) struct OldestDocument {
    id: String,
    key_hash: Option<String>,
    since: String,
    last_answer: Option<Arc<str>>,
}

impl From<OldestMessage> for OldestDocument {
    fn from(oldest: OldestMessage) -> Self {
        Self {
            id: oldest.id.to_string(),
            key_hash: oldest.key_hash.map(|hash| format!("{hash:016x}")),
            since: rfc3339(oldest.since).to_string(),
            last_answer: oldest.last_answer,
        }
    }
}

/// How a flow stands in its outbox.
#[derive(Debug, Serialize)]
pub(super) struct OutboxDocument {
    backlog_messages: u64,
    oldest_age_seconds: f64,
    /// Channels that no sink takes.
    unrouted: Vec<UnroutedDocument>,
    /// Rows that came in below the cursor.
    late_messages: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_since: Option<String>,
}

#[derive(Debug, Serialize)]
struct UnroutedDocument {
    channel: String,
    messages: u64,
}

impl From<OutboxReport> for OutboxDocument {
    fn from(report: OutboxReport) -> Self {
        let unrouted = report.unrouted.into_iter();
        Self {
            backlog_messages: report.backlog_messages,
            oldest_age_seconds: report.oldest_age.as_secs_f64(),
            unrouted: unrouted
                .map(|(channel, messages)| UnroutedDocument { channel, messages })
                .collect(),
            late_messages: report.late.as_ref().map_or(0, |late| late.messages),
            late_since: report.late.map(|late| rfc3339(late.since).to_string()),
        }
    }
}

impl FlowView {
    pub(super) fn document(&self) -> FlowDocument<'_> {
        let status = self.status.borrow().clone();
        let report = self.outbox.as_ref().map(|report| report.borrow().clone());
        let unready = report.as_ref().and_then(OutboxReport::not_ready);
        let ready = status.ready && unready.is_none();
        let (owner, since) = match (&status.reason, &report) {
            (None, Some(report)) => (Owner::Source, report.not_ready_since()),
            _ => (status.owner, status.reason_since),
        };
        let reason = joined(status.reason, unready);
        let has_reason = reason.is_some();
        FlowDocument {
            pipeline: &self.pipeline,
            source: self.source,
            sink: &self.sink,
            kind: self.kind,
            channels: &self.channels,
            state: status.state.as_str(),
            since: rfc3339(status.since).to_string(),
            since_time: status.since,
            ready,
            reason,
            reason_owner: has_reason.then(|| owner.as_str()),
            reason_since: has_reason.then(|| rfc3339(since).to_string()),
            reason_age: since.elapsed().unwrap_or_default(),
            in_flight_messages: status.in_flight_messages,
            in_flight_bytes: status.in_flight_bytes,
            oldest_message: status.oldest.map(Into::into),
            gaps: status.gaps.into(),
            outbox: report.map(OutboxDocument::from),
        }
    }
}

/// Why the flow itself is not ready, and then why its outbox is not.
fn joined(flow: Option<Arc<str>>, outbox: Option<String>) -> Option<Arc<str>> {
    match (flow, outbox) {
        (Some(flow), Some(outbox)) => Some(format!("{flow}; {outbox}").into()),
        (flow, outbox) => flow.or(outbox.map(Arc::from)),
    }
}

/// Whether every flow is ready, and one line for each that is not.
pub(super) fn readiness(flows: &[FlowView]) -> (bool, String) {
    let mut text = String::new();
    for flow in flows {
        let flow = flow.document();
        if !flow.ready {
            let reason = flow.reason.as_deref().unwrap_or("no reason given");
            let _ = writeln!(
                text,
                "{}/{}: {}: {} ({}, for {} s)",
                flow.pipeline,
                flow.sink,
                flow.state,
                reason.replace(['\n', '\r'], " "),
                flow.reason_owner.unwrap_or("process"),
                flow.reason_age.as_secs()
            );
        }
    }
    match text.is_empty() {
        true => (true, "ready\n".to_owned()),
        false => (false, text),
    }
}
