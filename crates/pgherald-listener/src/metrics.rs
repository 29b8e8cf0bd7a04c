//! The metrics of the LISTEN session.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

/// LISTEN sessions that took the place of one that ended.
pub const RECONNECTS: &str = "pgherald_reconnects_total";
/// How full the cluster's notification queue is, 0 to 1.
pub const QUEUE_USAGE: &str = "pgherald_notification_queue_usage_ratio";

/// Describes the metrics of this crate, and lets them exist at zero.
pub fn describe_metrics() {
    describe_counter!(RECONNECTS, "Sessions that took the place of one that ended.");
    describe_gauge!(
        QUEUE_USAGE,
        Unit::Count,
        "How full the notification queue of the PostgreSQL cluster is, 0 to 1."
    );
    let _ = HubMetrics::new();
}

/// The handles of one hub.
#[derive(Clone)]
pub(crate) struct HubMetrics {
    pub(crate) reconnects: Counter,
    pub(crate) queue_usage: Gauge,
}

impl HubMetrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            reconnects: counter!(RECONNECTS, "source" => "notify"),
            queue_usage: gauge!(QUEUE_USAGE, "source" => "notify"),
        };
        metrics.reconnects.increment(0);
        metrics.queue_usage.increment(0.0);
        metrics
    }
}
