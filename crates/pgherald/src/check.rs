//! `pgherald check`: tests everything that a run would need, all at once, within bounded time.

mod watch;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use pgherald_core::{Finding, OnRejected};
use pgherald_outbox::OutboxSettings;
use pgherald_postgres::{DeadLetterAdmin, Identity, PostgresSettings};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    config::{FlowPlan, Settings},
    health,
    instance::InstanceAnswer,
    sources::SourceSettings,
};

pub(crate) use self::watch::{Changes, watch};

/// How long one part may take; black holes answer never.
const PART_TIMEOUT: Duration = Duration::from_secs(10);

/// One part of the check, and the key to name if it does not end.
type Part<'a> = (String, BoxFuture<'a, Vec<Finding>>);

/// Tests everything, concurrently; findings come in the configuration's order.
pub(crate) async fn check(settings: &Settings) -> Vec<Finding> {
    let mut parts: Vec<Part<'_>> = vec![
        (
            "postgres.url".to_owned(),
            Box::pin(pgherald_listener::check(&settings.postgres, "postgres")),
        ),
        ("admin.listen".to_owned(), Box::pin(listen(settings.listen))),
    ];
    if let Some(identity) = rests_on_the_schema(settings) {
        let part = pgherald_postgres::check_schema(&settings.postgres, identity);
        parts.push(("schema pgherald".to_owned(), Box::pin(part)));
    }
    for (key, outbox) in outboxes(settings) {
        let (postgres, name) = (&settings.postgres, key.clone());
        let part = async move { pgherald_outbox::check(postgres, outbox, &name).await };
        parts.push((key, Box::pin(part)));
    }
    if let Some(plan) = settings.flows.iter().find(|plan| keeps_dead_letters(plan)) {
        let key = format!("{}.on_rejected", plan.key);
        parts.push((key.clone(), Box::pin(dead_letters(&settings.postgres, key))));
    }
    for plan in &settings.flows {
        let (context, key) = (&plan.flow.context, &plan.key);
        let oldest = plan.source.oldest_waiting(&settings.postgres, context);
        parts.push((key.clone(), Box::pin(plan.sink.check(context, key, oldest))));
    }
    let mut findings: Vec<Finding> =
        join_all(parts.into_iter().map(bounded)).await.into_iter().flatten().collect();
    findings.extend(unrouted(settings));
    findings.extend(folded(settings));
    findings
}

/// Whether anything needs schema `pgherald`, and whether one of those minds in which database.
fn rests_on_the_schema(settings: &Settings) -> Option<Identity> {
    let needs = |plan: &&FlowPlan| {
        matches!(plan.source, SourceSettings::Outbox(_)) || keeps_dead_letters(plan)
    };
    let identities = settings.flows.iter().filter(needs).map(|plan| plan.source.identity());
    identities.reduce(|one, other| if one == Identity::This { one } else { other })
}

/// The outbox of each pipeline that has one, by the dotted name of its table.
fn outboxes(settings: &Settings) -> BTreeMap<String, &OutboxSettings> {
    let outboxes = settings.flows.iter().filter_map(|plan| match &plan.source {
        SourceSettings::Outbox(outbox) => {
            let pipeline = &plan.flow.context.pipeline;
            Some((format!("pipelines.{pipeline}.source.outbox"), outbox))
        }
        SourceSettings::Notify(_) => None,
    });
    outboxes.collect()
}

async fn bounded((key, part): Part<'_>) -> Vec<Finding> {
    timeout(PART_TIMEOUT, part).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", PART_TIMEOUT.as_secs());
        let fix = "see that the server is up, and that no firewall drops what is sent to it";
        vec![Finding::error(key, text, fix)]
    })
}

fn keeps_dead_letters(plan: &FlowPlan) -> bool {
    plan.flow.on_rejected == OnRejected::DeadLetter
}

/// Whether rejected messages can be kept.
async fn dead_letters(postgres: &PostgresSettings, key: String) -> Vec<Finding> {
    vec![match DeadLetterAdmin::open(postgres).await {
        Ok(_) => Finding::ok(key, "there is a place for dead letters"),
        Err(error) => Finding::error(key, error.text, error.fix),
    }]
}

/// Whether the admin pages can be served; a running pgherald there is as it should be.
async fn listen(address: SocketAddr) -> Vec<Finding> {
    const KEY: &str = "admin.listen";
    let refused = match TcpListener::bind(address).await {
        Ok(_) => return vec![Finding::ok(KEY, format!("{address} is free"))],
        Err(refused) => refused,
    };
    vec![match health::ask(address).await {
        Ok(InstanceAnswer::Pgherald(reply)) => {
            let server = reply.server;
            Finding::ok(KEY, format!("{server} is running at {address} already"))
        }
        _ => Finding::error(
            KEY,
            format!("cannot bind {address}: {refused}"),
            "free the address, or name another one",
        ),
    }]
}

/// Channels that are heard and that no sink takes: what is announced there goes nowhere.
fn unrouted(settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for plan in &settings.flows {
        let pipeline = &plan.flow.context.pipeline;
        let kind = plan.source.kind();
        let subject = format!("pipelines.{pipeline}.source.{kind}.channels");
        let siblings = || settings.flows.iter().filter(|p| p.flow.context.pipeline == *pipeline);
        for channel in plan.source.channels().unwrap_or_default().iter() {
            let taken = siblings().any(|plan| {
                let channels = plan.flow.context.channels.as_deref();
                channels.is_none_or(|channels| channels.contains(channel))
            });
            let finding = Finding::warning(
                subject.clone(),
                format!("{channel:?} is heard, and no sink takes it"),
                "add it to the channels of a sink, or remove it here",
            );
            if !taken && !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// Channels that the statement `NOTIFY Name` does not reach: PostgreSQL folds a name without quotes to
/// lower case.
fn folded(settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for plan in &settings.flows {
        let SourceSettings::Notify(_) = plan.source else { continue };
        let pipeline = &plan.flow.context.pipeline;
        for channel in plan.source.channels().unwrap_or_default().iter() {
            findings.extend(fold(pipeline, channel).filter(|hint| !findings.contains(hint)));
        }
    }
    findings
}

fn fold(pipeline: &str, channel: &str) -> Option<Finding> {
    let lower = channel.to_lowercase();
    (lower != channel).then(|| {
        Finding::warning(
            format!("pipelines.{pipeline}.source.notify.channels"),
            format!(
                "{channel:?} has capitals: NOTIFY {channel} without quotes announces on {lower:?}, \
                 which is not this channel"
            ),
            format!(
                "write NOTIFY \"{channel}\" or pg_notify('{channel}', ...) in the application, or \
                 {lower:?} here"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_free_address_is_fine_and_a_taken_one_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let accept = async { drop(taken.accept().await) };
        let (findings, ()) = tokio::join!(listen(address), accept);
        assert_eq!(findings[0].level, pgherald_core::Level::Error);
        drop(taken);
        assert_eq!(listen(address).await[0].level, pgherald_core::Level::Ok);
    }

    #[test]
    fn a_channel_with_capitals_is_hinted_at() {
        let finding = fold("p", "Orders").unwrap();
        assert_eq!(finding.subject, "pipelines.p.source.notify.channels");
        assert!(finding.text.contains("announces on \"orders\""), "{}", finding.text);
        assert_eq!(fold("p", "orders.eu"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_never_ends_is_an_error_of_its_key() {
        let part: Part<'_> = ("a.b".to_owned(), Box::pin(std::future::pending()));
        let findings = bounded(part).await;
        assert_eq!((findings.len(), findings[0].subject.as_str()), (1, "a.b"));
    }
}
