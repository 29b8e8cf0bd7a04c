//! What the sink counts.

use metrics::{Counter, counter, describe_counter};
use pgherald_core::FlowContext;

/// Messages that the broker already had: a replay that it recognised.
const BROKER_DUPLICATES: &str = "pgherald_broker_duplicates_total";

/// Describes every metric of this crate, once, when the recorder is in place.
pub fn describe_metrics() {
    describe_counter!(
        BROKER_DUPLICATES,
        "Messages that the broker recognised as already stored and did not store again."
    );
}

/// The flow's counter of broker duplicates; it exists at zero from now on.
pub(crate) fn broker_duplicates(context: &FlowContext) -> Counter {
    let duplicates = counter!(
        BROKER_DUPLICATES,
        "pipeline" => context.pipeline.to_string(),
        "source" => context.source,
        "sink" => context.sink.to_string(),
    );
    duplicates.increment(0);
    duplicates
}
