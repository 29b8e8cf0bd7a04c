//! The flows as `/readyz` and `/status` tell of them: one truth, in text and in JSON.

use std::{fmt::Write, sync::Arc, time::SystemTime};

use pgherald_core::{FlowStatus, Gap, rfc3339};
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
    pub(super) in_flight_messages: usize,
    pub(super) in_flight_bytes: usize,
    pub(super) gaps: Vec<Gap>,
}

impl FlowView {
    pub(super) fn document(&self) -> FlowDocument<'_> {
        let status = self.status.borrow().clone();
        FlowDocument {
            pipeline: &self.pipeline,
            source: self.source,
            sink: &self.sink,
            kind: self.kind,
            channels: &self.channels,
            state: status.state.as_str(),
            since: rfc3339(status.since).to_string(),
            since_time: status.since,
            ready: status.ready,
            reason: status.reason,
            in_flight_messages: status.in_flight_messages,
            in_flight_bytes: status.in_flight_bytes,
            gaps: status.gaps.into(),
        }
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
                "{}/{}: {}: {}",
                flow.pipeline,
                flow.sink,
                flow.state,
                reason.replace(['\n', '\r'], " ")
            );
        }
    }
    match text.is_empty() {
        true => (true, "ready\n".to_owned()),
        false => (false, text),
    }
}
