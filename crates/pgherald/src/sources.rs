//! The kinds of sources: the one place that knows them all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pgherald_core::{FlowContext, OnRejected, Source};
use pgherald_listener::{Hub, HubOptions, NotifySettings};
use pgherald_outbox::{Outbox, OutboxReport, OutboxSettings, TableName};
use pgherald_postgres::{Balancer, Identity, PostgresSettings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;

/// Channels by name; `None`: every channel.
pub(crate) type Channels = Option<Arc<[Arc<str>]>>;

/// The source of a flow.
#[derive(Clone, Debug)]
pub(crate) enum SourceSettings {
    Notify(NotifySettings),
    Outbox(OutboxSettings),
}

impl SourceSettings {
    /// The kind, as its table is called.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Notify(_) => "notify",
            Self::Outbox(_) => "outbox",
        }
    }

    /// The channels that it carries.
    pub(crate) fn channels(&self) -> Channels {
        match self {
            Self::Notify(notify) => Some(notify.channels.clone()),
            Self::Outbox(outbox) => outbox.channels.clone(),
        }
    }

    /// The table, as SQL, that its messages lie in.
    pub(crate) fn table(&self) -> Option<String> {
        match self {
            Self::Notify(_) => None,
            Self::Outbox(outbox) => Some(outbox.table.sql()),
        }
    }

    /// How long the oldest message of a flow has waited, where that is known before it is read.
    pub(crate) async fn oldest_waiting(
        &self,
        postgres: &PostgresSettings,
        context: &FlowContext,
    ) -> Option<Duration> {
        match self {
            Self::Notify(_) => None,
            Self::Outbox(outbox) => {
                pgherald_outbox::oldest_waiting(postgres, outbox, context).await
            }
        }
    }

    /// Whether a copy of the database may carry what lies in it.
    pub(crate) fn identity(&self) -> Identity {
        match self {
            // Of its own it keeps nothing in the database but dead letters.
            Self::Notify(_) => Identity::This,
            Self::Outbox(outbox) => outbox.identity,
        }
    }

    /// The largest payload that can come from it.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        match self {
            Self::Notify(_) => pgherald_listener::PAYLOAD_BYTES_MAX,
            Self::Outbox(_) => usize::MAX,
        }
    }

    /// What happens to a message that its destination will never take, where nothing is set.
    pub(crate) fn on_rejected(&self) -> OnRejected {
        match self {
            // Its messages cannot be read again.
            Self::Notify(_) => OnRejected::Skip,
            Self::Outbox(_) => OnRejected::Halt,
        }
    }
}

/// A flow's source, and how it stands in its outbox.
pub(crate) struct Flowing {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) outbox: Option<watch::Receiver<OutboxReport>>,
}

/// What the flows of one process share: one LISTEN connection, one keeper for each outbox, and one
/// session that assigns pipelines to processes.
pub(crate) struct Sources {
    postgres: PostgresSettings,
    stop: CancellationToken,
    pub(crate) hub: Option<Hub>,
    pub(crate) outboxes: BTreeMap<TableName, Outbox>,
    pub(crate) balancer: Option<Balancer>,
    /// The sinks of each pipeline.
    sinks: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Sources {
    pub(crate) fn new(settings: &Settings, stop: CancellationToken) -> Self {
        let mut sinks: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for plan in &settings.flows {
            let context = &plan.flow.context;
            sinks.entry(context.pipeline.clone()).or_default().insert(context.sink.clone());
        }
        let postgres = settings.postgres.clone();
        Self { postgres, stop, hub: None, outboxes: BTreeMap::new(), balancer: None, sinks }
    }

    /// Adds a flow.
    pub(crate) fn flow(&mut self, context: &FlowContext, settings: &SourceSettings) -> Flowing {
        match settings {
            SourceSettings::Notify(notify) => {
                let new = || Hub::new(self.postgres.clone(), HubOptions::default());
                let source = self.hub.get_or_insert_with(new).flow(context, notify);
                Flowing { source: Arc::new(source), outbox: None }
            }
            SourceSettings::Outbox(settings) => {
                let table = &settings.table;
                let new = || Outbox::new(self.postgres.clone(), table.clone(), self.stop.clone());
                let outbox = self.outboxes.entry(table.clone()).or_insert_with(new);
                let new = || Balancer::new(self.postgres.clone(), self.stop.clone());
                let sinks = self.sinks.get(&context.pipeline).into_iter().flatten();
                let sinks = sinks.map(AsRef::as_ref).collect();
                let assignment =
                    self.balancer.get_or_insert_with(new).assignment(&context.pipeline, &sinks);
                let source = outbox.flow(context, settings, assignment);
                Flowing { outbox: Some(source.report()), source: Arc::new(source) }
            }
        }
    }
}

/// Registers what the sources measure.
pub(crate) fn describe_metrics() {
    pgherald_listener::describe_metrics();
    pgherald_outbox::describe_metrics();
}
