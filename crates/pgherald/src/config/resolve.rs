//! From what is written to what is meant: required keys, ranges, contradictions.

use std::{net::SocketAddr, time::Duration};

use pgherald_core::{Problems, Secret};

use super::{
    defaults,
    flow::FlowResolver,
    key::{Key, is_name},
    raw::{RawAdmin, RawConfig, RawPipeline, RawSource},
    report::Report,
    settings::{AdminAccess, FlowPlan, Settings},
};
use crate::sources::SourceSettings;

/// The longest drain that still counts as a shutdown.
const DRAIN_DEADLINE_MS_MAX: u64 = 600_000;

/// Resolves everything, and adds what is wrong to the report.
pub(super) fn resolve(raw: &RawConfig, report: &mut Report) -> Option<Settings> {
    let mut problems = Problems::default();
    let postgres = raw.postgres.resolve("postgres", &mut problems);
    let listen =
        listen(raw.admin.listen.as_deref().unwrap_or(defaults::ADMIN_LISTEN), &mut problems);
    let access = access(&raw.admin, &mut problems);
    let drain = drain(raw, &mut problems);
    let mut flows = Vec::new();
    if raw.pipelines.is_empty() {
        problems.add(
            "pipelines",
            "there is none; add one, for example [pipelines.orders.source.notify] with \
             [pipelines.orders.sinks.bus.nats]",
        );
    }
    for (name, pipeline) in &raw.pipelines {
        flows.extend(resolve_pipeline(name, pipeline, report, &mut problems));
    }
    report.pour(&problems);
    match report.is_empty() {
        true => {
            let (postgres, listen, drain) = (postgres?, listen?, drain?);
            Some(Settings { postgres, listen, access, drain, flows })
        }
        false => None,
    }
}

/// The address that `admin.listen` names.
pub(super) fn listen(text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            problems.add("admin.listen", "port 0 would be another one at each start; name a port");
            None
        }
        Ok(address) => Some(address),
        Err(_) => {
            let wanted =
                "an address with a port is needed here, such as 127.0.0.1:9947 or [::]:9947";
            problems.add("admin.listen", wanted);
            None
        }
    }
}

/// A token that can be guessed protects nothing.
const TOKEN_BYTES_MIN: usize = 16;

fn access(admin: &RawAdmin, problems: &mut Problems) -> AdminAccess {
    let show_payloads = admin.show_payloads.unwrap_or(false);
    if show_payloads && admin.token.is_none() {
        let text = "needs admin.token_file: only who has the token sees keys, headers and payloads";
        problems.add("admin.show_payloads", text);
    }
    let written = admin.token.as_ref().and_then(Secret::literal);
    if written.is_some_and(|token| token.len() < TOKEN_BYTES_MIN) {
        let text =
            format!("is shorter than {TOKEN_BYTES_MIN} bytes: openssl rand -hex 32 makes one");
        problems.add("admin.token", text);
    }
    AdminAccess { token: admin.token.clone(), show_payloads }
}

fn drain(raw: &RawConfig, problems: &mut Problems) -> Option<Duration> {
    let deadline_ms = raw.shutdown.drain_deadline_ms.unwrap_or(defaults::DRAIN_DEADLINE_MS);
    if (1..=DRAIN_DEADLINE_MS_MAX).contains(&deadline_ms) {
        return Some(Duration::from_millis(deadline_ms));
    }
    let text = format!("must lie between 1 and {DRAIN_DEADLINE_MS_MAX}");
    problems.add("shutdown.drain_deadline_ms", text);
    None
}

fn resolve_pipeline(
    name: &str,
    pipeline: &RawPipeline,
    report: &Report,
    problems: &mut Problems,
) -> Vec<FlowPlan> {
    let key = Key::dotted("pipelines").child(name);
    check_name(name, &key, "pipeline", problems);
    let source_key = key.child("source");
    let source = resolve_source(&pipeline.source, &source_key, report, problems);
    let events = pipeline.cloudevents.resolve(&key.child("cloudevents").to_string(), problems);
    // What is wrong is a problem by now: nothing runs with these.
    let events = events.unwrap_or_default();
    let sinks_key = key.child("sinks");
    if pipeline.sinks.is_empty() {
        let text = "there is none; add one, for example [pipelines.orders.sinks.bus.nats]";
        problems.add(sinks_key.to_string(), text.replace("orders", name));
    }
    let mut flows = Vec::new();
    for (sink_name, sink) in &pipeline.sinks {
        let sink_key = sinks_key.child(sink_name);
        check_name(sink_name, &sink_key, "sink", problems);
        let mut resolver = FlowResolver {
            pipeline: name,
            sink: sink_name,
            raw: sink,
            source: source.as_ref(),
            source_key: &source_key,
            events: &events,
            key: &sink_key,
            report,
            problems,
        };
        flows.extend(resolver.resolve());
    }
    flows
}

fn resolve_source(
    source: &RawSource,
    key: &Key,
    report: &Report,
    problems: &mut Problems,
) -> Option<SourceSettings> {
    let notify_key = key.child("notify").to_string();
    let outbox_key = key.child("outbox").to_string();
    let notify = source.notify.as_ref().map(|notify| notify.resolve(&notify_key, problems));
    let outbox = source.outbox.as_ref().map(|outbox| outbox.resolve(&outbox_key, problems));
    match (notify, outbox) {
        (None, None) => {
            require(key, &["notify", "outbox"], &["wal"], report, problems);
            None
        }
        (Some(_), Some(_)) => {
            let text = "has both `notify` and `outbox`; make it two pipelines, one for each";
            problems.add(key.to_string(), text);
            None
        }
        (Some(notify), None) => notify.map(SourceSettings::Notify),
        (None, Some(outbox)) => outbox.map(SourceSettings::Outbox),
    }
}

fn check_name(name: &str, key: &Key, what: &str, problems: &mut Problems) {
    if !is_name(name) {
        let text = format!(
            "the name of a {what} begins with a lower-case letter and goes on with lower-case \
             letters and digits, with single underscores between them"
        );
        problems.add(key.to_string(), text);
    }
}

/// Says that one of some tables is required, unless something is already said about one of them,
/// or about one that is not built yet.
pub(super) fn require(
    key: &Key,
    tables: &[&str],
    later: &[&str],
    report: &Report,
    problems: &mut Problems,
) {
    if tables.iter().chain(later).any(|table| report.covers(&key.child(table))) {
        return;
    }
    let example: Vec<String> =
        tables.iter().map(|table| format!("[{}]", key.child(table))).collect();
    let text = format!("its kind is missing; add {}", example.join(" or "));
    problems.add(key.to_string(), text);
}
