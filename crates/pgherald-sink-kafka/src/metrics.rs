//! The metrics of this sink.

use metrics::{Unit, counter, describe_counter};

/// How often a broker refused a whole batch, so that its messages were published one at a time.
const BATCHES_REFUSED: &str = "pgherald_kafka_batches_refused_total";

/// Describes the metrics of this crate, once for each process.
pub fn describe_metrics() {
    describe_counter!(
        BATCHES_REFUSED,
        Unit::Count,
        "Batches that a broker refused as a whole; their messages were published one at a time."
    );
}

/// The counter of one flow.
pub(crate) fn batches_refused(pipeline: &str, sink: &str) -> metrics::Counter {
    counter!(BATCHES_REFUSED, "pipeline" => pipeline.to_owned(), "sink" => sink.to_owned())
}
