//! Puts the parts together: one hub, and one flow for each sink of each pipeline.

use std::sync::Arc;

use pgherald_core::{Flow, FlowEnd};
use pgherald_outbox::OutboxReport;
use pgherald_postgres::DeadLetterStore;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::FlowView,
    config::{FlowPlan, Settings},
    sinks,
    sources::{self, Flowing, Sources},
};

/// The tasks of a running bridge.
pub(crate) type Work = JoinSet<End>;

/// How a task ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The shared LISTEN connection.
    Hub,
    /// The keeper of an outbox.
    Outbox,
    /// What assigns pipelines to processes.
    Balancer,
    /// A flow, and whether it could deliver everything.
    Flow { pipeline: Arc<str>, sink: Arc<str>, end: FlowEnd },
}

/// Starts everything; all of it ends after `stop`.
pub(crate) fn wire(settings: &Settings, stop: &CancellationToken) -> (Work, Vec<FlowView>) {
    describe_metrics();
    let mut work = Work::new();
    let mut views = Vec::new();
    let mut sources = Sources::new(settings, stop.clone());
    let letters = DeadLetterStore::new(settings.postgres.clone());
    for plan in &settings.flows {
        let context = &plan.flow.context;
        let Flowing { source, outbox } = sources.flow(context, &plan.source);
        let (table, identity) = (plan.source.table(), plan.source.identity());
        let letters = letters.of_flow(context, table, identity);
        let flow = Flow::new(plan.flow.clone(), source, plan.sink.factory(&plan.flow))
            .with_dead_letters(Arc::new(letters));
        views.push(view(plan, &flow, outbox));
        let (pipeline, sink) = (context.pipeline.clone(), context.sink.clone());
        let (stop, drain) = (stop.clone(), settings.drain);
        work.spawn(async move {
            let end = flow.run(stop, drain).await;
            End::Flow { pipeline, sink, end }
        });
    }
    share(sources, stop, &mut work);
    (work, views)
}

/// Starts what the flows share.
fn share(sources: Sources, stop: &CancellationToken, work: &mut Work) {
    if let Some(hub) = sources.hub {
        let stop = stop.clone();
        work.spawn(async move {
            hub.run(stop).await;
            End::Hub
        });
    }
    if let Some(balancer) = sources.balancer {
        work.spawn(async move {
            balancer.run().await;
            End::Balancer
        });
    }
    for outbox in sources.outboxes.into_values() {
        work.spawn(async move {
            outbox.run().await;
            End::Outbox
        });
    }
}

fn view(plan: &FlowPlan, flow: &Flow, outbox: Option<watch::Receiver<OutboxReport>>) -> FlowView {
    let context = &plan.flow.context;
    FlowView {
        pipeline: context.pipeline.clone(),
        source: context.source,
        sink: context.sink.clone(),
        kind: plan.sink.kind(),
        channels: context.channels.clone().unwrap_or_else(|| ["*".into()].into()),
        status: flow.status(),
        tap: flow.tap(),
        outbox,
    }
}

fn describe_metrics() {
    pgherald_core::describe_metrics();
    sources::describe_metrics();
    sinks::describe_metrics();
}
