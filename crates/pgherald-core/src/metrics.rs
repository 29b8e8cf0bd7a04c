//! The metrics of a flow: names, descriptions, and one set of handles for each flow.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use metrics::{
    Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};

use crate::{FlowContext, FlowState, Gap, GapReason, Message};

const RECEIVED: &str = "pgherald_messages_received_total";
const PUBLISHED: &str = "pgherald_messages_published_total";
const REJECTED: &str = "pgherald_messages_rejected_total";
const DEAD_LETTERED: &str = "pgherald_messages_dead_lettered_total";
const BROKER_DUPLICATES: &str = "pgherald_broker_duplicates_total";
const RETRIES: &str = "pgherald_publish_retries_total";
const DROPPED: &str = "pgherald_messages_dropped_total";
const PUBLISH_SECONDS: &str = "pgherald_publish_duration_seconds";
const LATENCY_SECONDS: &str = "pgherald_delivery_latency_seconds";
const IN_FLIGHT: &str = "pgherald_in_flight_messages";
const IN_FLIGHT_BYTES: &str = "pgherald_in_flight_bytes";
const GAPS: &str = "pgherald_gaps_total";
const GAP_SECONDS: &str = "pgherald_gap_seconds_total";
const STATE: &str = "pgherald_flow_state";
pub(crate) const CLOCK_OFFSET_SECONDS: &str = "pgherald_clock_offset_seconds";

/// Describes every metric of a flow to the installed recorder. Call it once, before any flow.
pub fn describe_metrics() {
    describe_counter!(RECEIVED, "Messages read from the source, without gaps.");
    describe_counter!(PUBLISHED, "Messages that the sink confirmed, without gaps.");
    describe_counter!(REJECTED, "Messages that the sink will never take.");
    describe_counter!(DEAD_LETTERED, "Rejected messages that were kept as dead letters.");
    describe_counter!(BROKER_DUPLICATES, "Messages that the broker recognised as stored already.");
    describe_counter!(RETRIES, "Messages that were published again after a fault.");
    describe_counter!(DROPPED, "Messages that an unfinished shutdown left undelivered.");
    describe_histogram!(PUBLISH_SECONDS, "From publishing a batch to the broker's word on it.");
    describe_histogram!(LATENCY_SECONDS, "From commit, insert or arrival to confirmation.");
    describe_gauge!(CLOCK_OFFSET_SECONDS, "The database's clock minus this machine's.");
    gauge!(CLOCK_OFFSET_SECONDS).set(0.0);
    describe_gauge!(IN_FLIGHT, "Messages between the read and the settle.");
    describe_gauge!(IN_FLIGHT_BYTES, "Bytes between the read and the settle.");
    describe_counter!(GAPS, "Windows in which messages may have been missed.");
    describe_counter!(GAP_SECONDS, "Length of the gaps whose beginning is known.");
    describe_gauge!(STATE, "1 for the state that the flow is in, 0 for every other one.");
}

/// The handles of one flow. Making them brings every series to life at zero.
pub(crate) struct FlowMetrics {
    pub(crate) received: Counter,
    pub(crate) published: Counter,
    pub(crate) rejected: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) retries: Counter,
    pub(crate) dropped: Counter,
    pub(crate) publish_seconds: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) in_flight_bytes: Gauge,
    latency_seconds: Histogram,
    gaps: [(GapReason, Counter, Seconds); GapReason::ALL.len()],
    states: [(FlowState, Gauge); FlowState::ALL.len()],
}

impl FlowMetrics {
    pub(crate) fn new(context: &FlowContext) -> Self {
        let labels = labels(context);
        // Counted by the sinks whose brokers tell; the family exists whatever the sinks are.
        counter!(BROKER_DUPLICATES, labels.iter()).increment(0);
        let with = |key: &'static str, value: &'static str| {
            let mut all = labels.clone();
            all.push(Label::from_static_parts(key, value));
            all
        };
        Self {
            received: counter!(RECEIVED, labels.iter()),
            published: counter!(PUBLISHED, labels.iter()),
            rejected: counter!(REJECTED, labels.iter()),
            dead_lettered: counter!(DEAD_LETTERED, labels.iter()),
            retries: counter!(RETRIES, labels.iter()),
            dropped: counter!(DROPPED, labels.iter()),
            publish_seconds: histogram!(PUBLISH_SECONDS, labels.iter()),
            in_flight: gauge!(IN_FLIGHT, labels.iter()),
            in_flight_bytes: gauge!(IN_FLIGHT_BYTES, labels.iter()),
            latency_seconds: histogram!(LATENCY_SECONDS, labels.iter()),
            gaps: GapReason::ALL.map(|reason| {
                let labels = with("reason", reason.as_str());
                let seconds = Seconds::new(counter!(GAP_SECONDS, labels.iter()));
                (reason, counter!(GAPS, labels.iter()), seconds)
            }),
            states: FlowState::ALL
                .map(|state| (state, gauge!(STATE, with("state", state.as_str()).iter()))),
        }
    }

    pub(crate) fn gap(&self, gap: &Gap) {
        if let Some((_, count, seconds)) = self.gaps.iter().find(|(r, ..)| *r == gap.reason) {
            count.increment(1);
            seconds.add(gap.seconds());
        }
    }

    pub(crate) fn state(&self, now: FlowState) {
        for (state, gauge) in &self.states {
            gauge.set(if *state == now { 1.0 } else { 0.0 });
        }
    }
}

/// A counter of seconds. Counters hold whole numbers: this one keeps the exact sum beside it and
/// shows it rounded up, so that many short gaps add up to what they are.
struct Seconds {
    shown: Counter,
    micros: AtomicU64,
}

impl Seconds {
    fn new(shown: Counter) -> Self {
        shown.absolute(0);
        Self { shown, micros: AtomicU64::new(0) }
    }

    fn add(&self, seconds: f64) {
        let micros = (seconds * 1e6) as u64;
        let sum = self.micros.fetch_add(micros, Relaxed) + micros;
        self.shown.absolute(sum.div_ceil(1_000_000));
    }
}

fn labels(context: &FlowContext) -> Vec<Label> {
    vec![
        Label::new("pipeline", context.pipeline.to_string()),
        Label::new("source", context.source),
        Label::new("sink", context.sink.to_string()),
    ]
}

/// Collects the latencies of one outcome: messages that came in together are recorded together,
/// so that a batch costs a few records and not one for each message.
pub(crate) struct Latencies<'a> {
    metrics: &'a FlowMetrics,
    now: SystemTime,
    run: Option<(SystemTime, usize)>,
    published: u64,
}

impl<'a> Latencies<'a> {
    pub(crate) fn new(metrics: &'a FlowMetrics, now: SystemTime) -> Self {
        Self { metrics, now, run: None, published: 0 }
    }

    pub(crate) fn settled(&mut self, message: &Message) {
        if message.gap().is_some() {
            return;
        }
        self.published += 1;
        match &mut self.run {
            Some((since, count)) if *since == message.since => *count += 1,
            _ => {
                self.record_run();
                self.run = Some((message.since, 1));
            }
        }
    }

    /// One that was sent again: the time since it was announced says nothing.
    pub(crate) fn replayed(&mut self) {
        self.published += 1;
    }

    /// Records what is left; returns how many messages were published.
    pub(crate) fn finish(mut self) -> u64 {
        self.record_run();
        self.metrics.published.increment(self.published);
        self.published
    }

    fn record_run(&mut self) {
        if let Some((since, count)) = self.run.take() {
            let latency = self.now.duration_since(since).unwrap_or(Duration::ZERO);
            self.metrics.latency_seconds.record_many(latency, count);
        }
    }
}
