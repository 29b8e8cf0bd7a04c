//! One sink of one pipeline, resolved: limits, policies, destination.

use std::{
    hash::{BuildHasher, RandomState},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use pgherald_core::{
    Backoff, BatchLimits, Budget, EventNames, FlowContext, FlowSettings, OnRejected, Problems,
    StringList,
};

use super::{
    defaults,
    key::Key,
    raw::{RawOnRejected, RawSink},
    report::Report,
    resolve::require,
    settings::FlowPlan,
};
use crate::{
    sinks::SinkSettings,
    sources::{Channels, SourceSettings},
};

/// The largest budget in messages: beyond it the bookkeeping alone costs gigabytes.
const MESSAGES_MAX: usize = 10_000_000;
/// The largest budget in bytes: 1 TiB.
const BYTES_MAX: usize = 1 << 40;
/// A batch that waits longer than this looks like a bridge that stands still.
const LINGER_MS_MAX: u64 = 60_000;

/// Resolves one sink of one pipeline.
pub(super) struct FlowResolver<'a> {
    pub(super) pipeline: &'a str,
    pub(super) sink: &'a str,
    pub(super) raw: &'a RawSink,
    pub(super) source: Option<&'a SourceSettings>,
    pub(super) source_key: &'a Key,
    pub(super) events: &'a EventNames,
    pub(super) key: &'a Key,
    pub(super) report: &'a Report,
    pub(super) problems: &'a mut Problems,
}

impl FlowResolver<'_> {
    /// The flow; `None`: problems were added, or the source is unknown.
    pub(super) fn resolve(&mut self) -> Option<FlowPlan> {
        let budget = self.budget();
        let batch = self.batch(budget);
        let message_bytes_max =
            self.limit("message_bytes_max", self.raw.message_bytes_max, 1..=BYTES_MAX);
        let on_rejected = self.on_rejected();
        let channels = self.channels();
        let context = FlowContext {
            pipeline: self.pipeline.into(),
            source: self.source.map_or("", SourceSettings::kind),
            sink: self.sink.into(),
            channels,
            envelope: self.raw.envelope.unwrap_or(defaults::ENVELOPE),
            events: self.events.clone(),
            budget,
            batch,
            message_bytes_max: message_bytes_max
                .unwrap_or(defaults::MESSAGE_BYTES_MAX)
                .min(self.source.map_or(usize::MAX, SourceSettings::payload_bytes_max)),
        };
        let sink = self.destination(&context);
        let flow = FlowSettings {
            context,
            on_rejected: on_rejected.unwrap_or(OnRejected::Halt),
            backoff: Backoff::default(),
            jitter_seed: RandomState::new().hash_one(self.key.to_string()),
        };
        Some(FlowPlan {
            key: self.key.to_string(),
            flow,
            source: self.source?.clone(),
            sink: sink?,
        })
    }

    fn add(&mut self, name: &str, text: impl Into<String>) {
        let key = name.split('.').fold(self.key.clone(), |key, part| key.child(part));
        self.problems.add(key.to_string(), text);
    }

    /// A number inside its range; a problem if it is written and outside.
    fn limit<N>(&mut self, name: &str, written: Option<N>, range: RangeInclusive<N>) -> Option<N>
    where
        N: PartialOrd + Copy + std::fmt::Display,
    {
        let number = written?;
        if range.contains(&number) {
            return Some(number);
        }
        self.add(name, format!("must lie between {} and {}", range.start(), range.end()));
        None
    }

    fn budget(&mut self) -> Budget {
        let messages =
            self.limit("budget_messages_max", self.raw.budget_messages_max, 1..=MESSAGES_MAX);
        let bytes = self.limit("budget_bytes_max", self.raw.budget_bytes_max, 1..=BYTES_MAX);
        Budget {
            messages: messages.unwrap_or(defaults::BUDGET_MESSAGES_MAX),
            bytes: bytes.unwrap_or(defaults::BUDGET_BYTES_MAX),
        }
    }

    fn batch(&mut self, budget: Budget) -> BatchLimits {
        let raw = &self.raw.batch;
        let messages = self.part("messages_max", raw.messages_max, budget.messages);
        let bytes = self.part("bytes_max", raw.bytes_max, budget.bytes);
        let linger_ms = self.limit("batch.linger_ms", raw.linger_ms, 0..=LINGER_MS_MAX);
        BatchLimits {
            messages: messages.unwrap_or(self.raw.batch_messages_max().min(budget.messages)),
            bytes: bytes.unwrap_or(defaults::BATCH_BYTES_MAX.min(budget.bytes)),
            linger: Duration::from_millis(linger_ms.unwrap_or(defaults::LINGER_MS)),
        }
    }

    /// A limit of a batch, which must fit into the budget.
    fn part(&mut self, name: &str, written: Option<usize>, budget: usize) -> Option<usize> {
        let key = format!("batch.{name}");
        let number = self.limit(&key, written, 1..=BYTES_MAX)?;
        if number <= budget {
            return Some(number);
        }
        let text = format!(
            "{number} does not fit into budget_{name}, which is {budget}; lower this or raise that"
        );
        self.add(&key, text);
        None
    }

    fn on_rejected(&self) -> Option<OnRejected> {
        let Some(written) = self.raw.on_rejected else {
            return self.source.map(SourceSettings::on_rejected);
        };
        Some(match written {
            RawOnRejected::Halt => OnRejected::Halt,
            RawOnRejected::DeadLetter => OnRejected::DeadLetter,
            RawOnRejected::Skip => OnRejected::Skip,
        })
    }

    /// The channels that this sink takes: its own, which the source must have, or the source's.
    fn channels(&mut self) -> Channels {
        let carried = self.source.map(SourceSettings::channels);
        let wanted = match &self.raw.channels {
            None => return carried.flatten(),
            Some(StringList(names)) if carried == Some(None) && *names == ["*"] => return None,
            Some(wanted) => wanted,
        };
        let heard = carried.flatten();
        if wanted.0.is_empty() {
            self.add("channels", "is empty; name a channel, or remove the key to take them all");
        }
        let mut taken: Vec<Arc<str>> = Vec::new();
        for name in &wanted.0 {
            if taken.iter().any(|known| **known == **name) {
                self.add("channels", format!("names {name:?} twice; remove one"));
            } else if heard
                .as_ref()
                .is_some_and(|heard| heard.iter().all(|known| **known != **name))
            {
                let kind = self.source.map_or("notify", SourceSettings::kind);
                let key = self.source_key.child(kind).child("channels");
                let text = format!("{name:?} is not a channel of the source; add it to {key}");
                self.add("channels", text);
            }
            taken.push(name.as_str().into());
        }
        Some(taken.into())
    }

    fn destination(&mut self, context: &FlowContext) -> Option<SinkSettings> {
        let raw = self.raw;
        let kinds = [
            ("kafka", raw.kafka.as_ref().map(|_| self.kafka(context))),
            ("nats", raw.nats.as_ref().map(|_| self.nats(context))),
            ("http", raw.http.as_ref().map(|_| self.http(context))),
        ];
        let names: Vec<&str> =
            kinds.iter().filter(|(_, found)| found.is_some()).map(|(name, _)| *name).collect();
        if names.is_empty() {
            require(self.key, &["kafka", "nats", "http"], &[], self.report, self.problems);
        } else if names.len() > 1 {
            let text = format!(
                "has more than one kind: `{}`; make it as many sinks, one for each",
                names.join("`, `")
            );
            self.problems.add(self.key.to_string(), text);
            return None;
        }
        kinds.into_iter().find_map(|(_, found)| found).flatten()
    }

    #[cfg(feature = "http")]
    fn http(&mut self, context: &FlowContext) -> Option<SinkSettings> {
        let key = self.key.child("http").to_string();
        let raw = self.raw.http.as_ref()?;
        let settings = raw.resolve(&key, context, self.problems)?;
        Some(SinkSettings::Http(Box::new(settings)))
    }

    #[cfg(feature = "kafka")]
    fn kafka(&mut self, context: &FlowContext) -> Option<SinkSettings> {
        let key = self.key.child("kafka").to_string();
        let raw = self.raw.kafka.as_ref()?;
        raw.resolve(&key, context, self.problems).map(SinkSettings::Kafka)
    }

    #[cfg(feature = "nats")]
    fn nats(&mut self, context: &FlowContext) -> Option<SinkSettings> {
        let key = self.key.child("nats").to_string();
        let raw = self.raw.nats.as_ref()?;
        raw.resolve(&key, context, self.problems).map(SinkSettings::Nats)
    }

    #[cfg(not(feature = "http"))]
    fn http(&mut self, _: &FlowContext) -> Option<SinkSettings> {
        self.add(
            "http",
            "this pgherald was built without the `http` feature; use a build that has it",
        );
        None
    }

    #[cfg(not(feature = "kafka"))]
    fn kafka(&mut self, _: &FlowContext) -> Option<SinkSettings> {
        self.add(
            "kafka",
            "this pgherald was built without the `kafka` feature; use a build that has it",
        );
        None
    }

    #[cfg(not(feature = "nats"))]
    fn nats(&mut self, _: &FlowContext) -> Option<SinkSettings> {
        self.add(
            "nats",
            "this pgherald was built without the `nats` feature; use a build that has it",
        );
        None
    }
}
