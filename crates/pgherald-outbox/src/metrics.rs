//! The metrics of an outbox and of the flows that read it.

use metrics::{Gauge, Label, Unit, describe_gauge, gauge};
use pgherald_core::FlowContext;

const BACKLOG: &str = "pgherald_outbox_backlog_messages";
const OLDEST_AGE: &str = "pgherald_outbox_oldest_age_seconds";
const HELD: &str = "pgherald_outbox_held_seconds";
const UNROUTED: &str = "pgherald_outbox_unrouted_messages";
const LATE: &str = "pgherald_outbox_late_messages";

/// Describes the metrics of this crate.
pub fn describe_metrics() {
    describe_gauge!(BACKLOG, "Rows that this sink has not settled; an estimate above 100000.");
    describe_gauge!(OLDEST_AGE, Unit::Seconds, "Age of the oldest row that is not settled.");
    describe_gauge!(HELD, Unit::Seconds, "How long an open writer has held rows back.");
    describe_gauge!(UNROUTED, "Rows of the outbox whose channel no sink takes.");
    describe_gauge!(
        LATE,
        "Rows that came in below the cursor and wait for `pgherald outbox late`."
    );
}

/// The handles of one flow. Making them brings every series to life at zero.
pub(crate) struct FlowMetrics {
    pub(crate) backlog: Gauge,
    pub(crate) oldest_age: Gauge,
    pub(crate) held: Gauge,
    pub(crate) unrouted: Gauge,
    pub(crate) late: Gauge,
}

impl FlowMetrics {
    pub(crate) fn new(context: &FlowContext) -> Self {
        let labels = [
            Label::new("pipeline", context.pipeline.to_string()),
            Label::new("source", context.source),
            Label::new("sink", context.sink.to_string()),
        ];
        let at_zero = |name: &'static str| {
            let gauge = gauge!(name, labels.iter());
            gauge.set(0.0);
            gauge
        };
        Self {
            backlog: at_zero(BACKLOG),
            oldest_age: at_zero(OLDEST_AGE),
            held: at_zero(HELD),
            unrouted: at_zero(UNROUTED),
            late: at_zero(LATE),
        }
    }
}
