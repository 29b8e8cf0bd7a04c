//! Puts the parts together: one hub, and one flow for each sink of each pipeline.

use std::sync::Arc;

use pgherald_core::{Flow, FlowEnd};
use pgherald_listener::{Hub, HubOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::FlowView,
    config::{FlowPlan, Settings},
    sinks,
};

/// The tasks of a running bridge.
pub(crate) type Work = JoinSet<End>;

/// How a task ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The shared LISTEN connection.
    Hub,
    /// A flow, and whether it could deliver everything.
    Flow { pipeline: Arc<str>, sink: Arc<str>, end: FlowEnd },
}

/// Starts everything; all of it ends after `stop`.
pub(crate) fn wire(settings: &Settings, stop: &CancellationToken) -> (Work, Vec<FlowView>) {
    describe_metrics();
    let mut work = Work::new();
    let mut views = Vec::new();
    let mut hub = Hub::new(settings.postgres.clone(), HubOptions::default());
    for plan in &settings.flows {
        let context = &plan.flow.context;
        let source = Arc::new(hub.flow(context, &plan.source));
        let flow = Flow::new(plan.flow.clone(), source, plan.sink.factory(context));
        views.push(view(plan, &flow));
        let (pipeline, sink) = (context.pipeline.clone(), context.sink.clone());
        let (stop, drain) = (stop.clone(), settings.drain);
        work.spawn(async move {
            let end = flow.run(stop, drain).await;
            End::Flow { pipeline, sink, end }
        });
    }
    let stop = stop.clone();
    work.spawn(async move {
        hub.run(stop).await;
        End::Hub
    });
    (work, views)
}

fn view(plan: &FlowPlan, flow: &Flow) -> FlowView {
    let context = &plan.flow.context;
    FlowView {
        pipeline: context.pipeline.clone(),
        source: context.source,
        sink: context.sink.clone(),
        kind: plan.sink.kind(),
        channels: context.channels.clone().unwrap_or_default(),
        status: flow.status(),
    }
}

fn describe_metrics() {
    pgherald_core::describe_metrics();
    pgherald_listener::describe_metrics();
    sinks::describe_metrics();
}
