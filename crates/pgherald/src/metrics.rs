//! What `/metrics` shows: one recorder for every crate, and the process itself.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// Upper bounds in seconds, from half a millisecond to a minute.
const SECONDS_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];
const BUILD_INFO: &str = "pgherald_build_info";
const LOG_LINES_DROPPED: &str = "pgherald_log_lines_dropped_total";

/// Renders what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    handle: PrometheusHandle,
    process: Collector,
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsError {
    #[error("the metrics cannot be set up")]
    Build(#[from] BuildError),
    #[error("the metrics are set up already")]
    Installed,
}

impl Exporter {
    /// Takes in everything that is measured from now on.
    pub(crate) fn install() -> Result<Self, MetricsError> {
        let exporter = Self::build(|recorder| {
            metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)
        })?;
        exporter.describe();
        Ok(exporter)
    }

    fn build(
        install: impl FnOnce(
            metrics_exporter_prometheus::PrometheusRecorder,
        ) -> Result<(), MetricsError>,
    ) -> Result<Self, MetricsError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
            .build_recorder();
        let handle = recorder.handle();
        install(recorder)?;
        Ok(Self { handle, process: Collector::default() })
    }

    fn describe(&self) {
        self.process.describe();
        describe_gauge!(BUILD_INFO, Unit::Count, "The running version, as labels; always 1.");
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        describe_counter!(LOG_LINES_DROPPED, "Log lines that could not be written.");
        counter!(LOG_LINES_DROPPED).absolute(0);
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.process.collect();
        counter!(LOG_LINES_DROPPED).absolute(crate::logs::lines_dropped());
        self.handle.render()
    }

    /// Moves what histograms hold to where rendering finds it; to be called every few seconds,
    /// so that they stay small while nobody asks.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// For tests: renders what `measure` measures, whatever else the process does.
    #[cfg(test)]
    pub(crate) fn of(measure: impl FnOnce(&Self)) -> Self {
        let mut kept = None;
        let exporter = Self::build(|recorder| {
            kept = Some(recorder);
            Ok(())
        });
        let exporter = exporter.expect("buckets are not empty");
        metrics::with_local_recorder(&kept.expect("was built"), || {
            exporter.describe();
            measure(&exporter);
        });
        exporter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_and_the_build_is_named() {
        let exporter = Exporter::of(|_| {
            metrics::histogram!("pgherald_delivery_latency_seconds").record(0.0007);
        });
        let text = exporter.handle.render();
        assert!(
            text.contains("pgherald_delivery_latency_seconds_bucket{le=\"0.001\"} 1"),
            "{text}"
        );
        assert!(text.contains("pgherald_delivery_latency_seconds_bucket{le=\"60\"} 1"), "{text}");
        assert!(text.contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")), "{text}");
    }

    #[test]
    fn the_process_shows_itself() {
        let mut text = String::new();
        Exporter::of(|exporter| text = exporter.render());
        for family in ["process_resident_memory_bytes", "process_cpu_seconds_total"] {
            assert!(text.contains(&format!("\n{family} ")), "{text}");
        }
    }
}
