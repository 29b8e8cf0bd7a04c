//! From the configuration and the command line to what is read. Pure.

use std::sync::Arc;

use pgherald_listener::NotifySettings;
use pgherald_outbox::{OutboxSettings, TailOptions};

use super::{
    entry::{Taker, union},
    listening::Listening,
    reading::Reading,
};
use crate::{
    cli::TailArguments,
    config::{FlowPlan, nearest},
    sources::SourceSettings,
};

/// What is read.
#[derive(Debug)]
pub(super) enum Plan {
    Notify(Listening),
    /// One for each table and order.
    Outbox(Vec<Reading>),
}

impl Plan {
    /// # Errors
    /// What is wrong with the command line, and what to write instead.
    pub(super) fn of(flows: &[FlowPlan], arguments: &TailArguments) -> Result<Self, String> {
        let flows = chosen(flows, arguments)?;
        let kind = kind(&flows, arguments)?;
        let flows = flows.into_iter().filter(|plan| plan.source.kind() == kind);
        let mut takers = takers(flows);
        narrow(&mut takers, &arguments.channels)?;
        match kind {
            "notify" if arguments.last.is_some() => Err(
                "--last is for an outbox: PostgreSQL keeps no notification, so there is none to \
                     show that was announced before"
                    .to_owned(),
            ),
            "notify" => Ok(Self::Notify(Listening { takers: of_kind(&takers, notify) })),
            _ => Ok(Self::Outbox(readings(of_kind(&takers, outbox), arguments))),
        }
    }
}

/// The flows of the pipeline and the sink that are asked for.
fn chosen<'a>(
    flows: &'a [FlowPlan],
    arguments: &TailArguments,
) -> Result<Vec<&'a FlowPlan>, String> {
    let mut flows: Vec<&FlowPlan> = flows.iter().collect();
    let pipeline = |plan: &FlowPlan| Arc::clone(&plan.flow.context.pipeline);
    let sink = |plan: &FlowPlan| Arc::clone(&plan.flow.context.sink);
    only(&mut flows, "pipeline", arguments.pipeline.as_deref(), pipeline)?;
    only(&mut flows, "sink", arguments.sink.as_deref(), sink)?;
    Ok(flows)
}

fn only(
    flows: &mut Vec<&FlowPlan>,
    what: &str,
    wanted: Option<&str>,
    name: impl Fn(&FlowPlan) -> Arc<str>,
) -> Result<(), String> {
    let Some(wanted) = wanted else { return Ok(()) };
    let known: Vec<Arc<str>> = flows.iter().map(|plan| name(plan)).collect();
    require(what, wanted, &known)?;
    flows.retain(|plan| *name(plan) == *wanted);
    Ok(())
}

/// The name is one of these; otherwise says which one was probably meant.
fn require(what: &str, wanted: &str, known: &[Arc<str>]) -> Result<(), String> {
    if known.iter().any(|name| **name == *wanted) {
        return Ok(());
    }
    let mut known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    known.sort_unstable();
    known.dedup();
    let meant = match nearest(wanted, &known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there is: {}", known.join(", ")),
    };
    Err(format!("--{what}: there is no {what} {wanted:?} here; {meant}"))
}

/// The kind of source: the one that is asked for, or the only one that is there.
fn kind(flows: &[&FlowPlan], arguments: &TailArguments) -> Result<&'static str, String> {
    let has = |kind: &str| flows.iter().any(|plan| plan.source.kind() == kind);
    match arguments.source.map(|source| source.kind()) {
        Some(wanted) if has(wanted) => Ok(wanted),
        Some(wanted) => {
            let of = match &arguments.pipeline {
                Some(name) => format!("pipeline {name:?} has no {wanted} source"),
                None => format!("no pipeline that is asked for has a {wanted} source"),
            };
            let other = if wanted == "notify" { "outbox" } else { "notify" };
            Err(format!("--source: {of}; use --source {other}"))
        }
        None if has("notify") && has("outbox") => {
            Err("the configuration has notify and outbox pipelines: choose with --source notify, \
                 --source outbox or --pipeline NAME"
                .to_owned())
        }
        None => Ok(if has("outbox") { "outbox" } else { "notify" }),
    }
}

/// One for each pipeline, with the channels of its flows.
fn takers<'a>(flows: impl Iterator<Item = &'a FlowPlan>) -> Vec<Taker<&'a SourceSettings>> {
    let mut takers: Vec<Taker<&SourceSettings>> = Vec::new();
    for plan in flows {
        let context = &plan.flow.context;
        let taker = Taker {
            pipeline: Arc::clone(&context.pipeline),
            channels: context.channels.as_ref().map(|names| names.to_vec()),
            settings: &plan.source,
        };
        match takers.iter_mut().find(|known| known.pipeline == taker.pipeline) {
            Some(known) => known.channels = union(&[known.clone(), taker]),
            None => takers.push(taker),
        }
    }
    takers
}

/// Only these channels, if any are named.
fn narrow(takers: &mut Vec<Taker<&SourceSettings>>, wanted: &[String]) -> Result<(), String> {
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(known) = union(takers) {
        wanted.iter().try_for_each(|name| require("channel", name, &known))?;
    }
    for taker in takers.iter_mut() {
        let mut names: Vec<Arc<str>> = Vec::new();
        for name in wanted.iter().filter(|name| taker.takes(name)) {
            if !names.iter().any(|known| **known == **name) {
                names.push(name.as_str().into());
            }
        }
        taker.channels = Some(names);
    }
    takers.retain(|taker| taker.channels.as_ref().is_some_and(|names| !names.is_empty()));
    Ok(())
}

fn of_kind<S>(
    takers: &[Taker<&SourceSettings>],
    settings: impl Fn(&SourceSettings) -> Option<S>,
) -> Vec<Taker<S>> {
    let of_kind = |taker: &Taker<&SourceSettings>| {
        let (pipeline, channels) = (Arc::clone(&taker.pipeline), taker.channels.clone());
        Some(Taker { pipeline, channels, settings: settings(taker.settings)? })
    };
    takers.iter().filter_map(of_kind).collect()
}

fn notify(source: &SourceSettings) -> Option<NotifySettings> {
    match source {
        SourceSettings::Notify(settings) => Some(settings.clone()),
        SourceSettings::Outbox(_) => None,
    }
}

fn outbox(source: &SourceSettings) -> Option<OutboxSettings> {
    match source {
        SourceSettings::Outbox(settings) => Some(settings.clone()),
        SourceSettings::Notify(_) => None,
    }
}

/// Pipelines that read one table in one order share a session.
fn readings(takers: Vec<Taker<OutboxSettings>>, arguments: &TailArguments) -> Vec<Reading> {
    let mut groups: Vec<Vec<Taker<OutboxSettings>>> = Vec::new();
    for taker in takers {
        let place = |settings: &OutboxSettings| (settings.table.clone(), settings.order);
        let same = |group: &&mut Vec<Taker<OutboxSettings>>| {
            place(&group[0].settings) == place(&taker.settings)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(taker),
            None => groups.push(vec![taker]),
        }
    }
    let reading = |takers: Vec<Taker<OutboxSettings>>| {
        let options = TailOptions {
            table: takers[0].settings.table.clone(),
            order: takers[0].settings.order,
            channels: union(&takers).map(Into::into),
            last: arguments.last,
        };
        Reading { options, follow: arguments.follow, takers }
    };
    groups.into_iter().map(reading).collect()
}

#[cfg(all(test, feature = "nats"))]
mod tests;
