//! The kinds of sinks: the one place that knows them all.

#[cfg(not(any(feature = "http", feature = "kafka", feature = "nats")))]
compile_error!("pgherald without any sink carries nothing: enable `http`, `kafka` or `nats`");

use std::{sync::Arc, time::Duration};

#[cfg(feature = "http")]
use pgherald_core::OnRejected;
use pgherald_core::{Finding, FlowContext, FlowSettings, Sink};

/// The destination of a flow.
#[derive(Clone, Debug)]
pub(crate) enum SinkSettings {
    #[cfg(feature = "http")]
    Http(Box<pgherald_sink_http::HttpSettings>),
    #[cfg(feature = "kafka")]
    Kafka(pgherald_sink_kafka::KafkaSettings),
    #[cfg(feature = "nats")]
    Nats(pgherald_sink_nats::NatsSettings),
}

impl SinkSettings {
    /// The kind, as its table is called.
    pub(crate) fn kind(&self) -> &'static str {
        match *self {
            #[cfg(feature = "http")]
            Self::Http(_) => "http",
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => "kafka",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "nats",
        }
    }

    /// What opens writers to this destination.
    pub(crate) fn factory(&self, flow: &FlowSettings) -> Arc<dyn Sink> {
        let context = flow.context.clone();
        match *self {
            #[cfg(feature = "http")]
            Self::Http(ref settings) => {
                let sink = pgherald_sink_http::HttpSink::new((**settings).clone(), context);
                Arc::new(if flow.on_rejected == OnRejected::Halt { sink.halting() } else { sink })
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(ref settings) => {
                Arc::new(pgherald_sink_kafka::KafkaSink::new(settings.clone(), context))
            }
            #[cfg(feature = "nats")]
            Self::Nats(ref settings) => {
                Arc::new(pgherald_sink_nats::NatsSink::new(settings.clone(), context))
            }
        }
    }

    /// Tests the destination; `key` is the sink's. `oldest`: how long the oldest message has waited.
    pub(crate) async fn check(
        &self,
        context: &FlowContext,
        key: &str,
        oldest: impl Future<Output = Option<Duration>>,
    ) -> Vec<Finding> {
        let key = format!("{key}.{}", self.kind());
        match *self {
            #[cfg(feature = "http")]
            Self::Http(ref settings) => pgherald_sink_http::check(settings, context, &key).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(ref settings) => {
                pgherald_sink_kafka::check(settings, context, &key, oldest.await).await
            }
            #[cfg(feature = "nats")]
            Self::Nats(ref settings) => pgherald_sink_nats::check(settings, context, &key).await,
        }
    }
}

/// Registers what the sinks measure.
pub(crate) fn describe_metrics() {
    #[cfg(feature = "kafka")]
    pgherald_sink_kafka::describe_metrics();
    #[cfg(feature = "nats")]
    pgherald_sink_nats::describe_metrics();
}
