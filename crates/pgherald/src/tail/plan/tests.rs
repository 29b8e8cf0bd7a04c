//! What a command line means for a configuration.

use super::*;
use crate::{
    cli::tail::TailSource,
    config::{Environment, load_text},
};

const TWO_KINDS: &str = r#"
[postgres]
url = "postgres://app@localhost/app"
[pipelines.orders.source.notify]
channels = ["orders", "payments", "refunds"]
[pipelines.orders.sinks.bus]
channels = ["orders"]
[pipelines.orders.sinks.bus.nats]
servers = "nats://localhost:4222"
subject = "app.{channel}"
stream = "APP"
[pipelines.orders.sinks.live]
channels = ["payments", "orders"]
[pipelines.orders.sinks.live.nats]
servers = "nats://localhost:4222"
subject = "live.{channel}"
stream = "LIVE"
[pipelines.billing.source.outbox]
channels = ["*"]
[pipelines.billing.sinks.ledger.nats]
servers = "nats://localhost:4222"
subject = "ledger.{channel}"
stream = "LEDGER"
[pipelines.audit.source.outbox]
channels = ["a", "b"]
[pipelines.audit.sinks.log.nats]
servers = "nats://localhost:4222"
subject = "audit.{channel}"
stream = "AUDIT"
[pipelines.strict.source.outbox]
order = "strict"
[pipelines.strict.sinks.log.nats]
servers = "nats://localhost:4222"
subject = "strict.{channel}"
stream = "STRICT"
"#;

fn plan(arguments: &TailArguments) -> Result<Plan, String> {
    let loaded = load_text(TWO_KINDS, &Environment::of(Vec::new()));
    Plan::of(&loaded.unwrap().settings.flows, arguments)
}

fn of(pipeline: &str) -> TailArguments {
    TailArguments { pipeline: Some(pipeline.into()), ..TailArguments::default() }
}

/// Each pipeline with its channels.
fn read(arguments: &TailArguments) -> Vec<String> {
    fn shown<S>(taker: &Taker<S>) -> String {
        let names = taker.channels.as_ref().map(|names| names.join(","));
        format!("{}:{}", taker.pipeline, names.unwrap_or_else(|| "*".into()))
    }
    match plan(arguments).unwrap() {
        Plan::Notify(listening) => listening.takers.iter().map(shown).collect(),
        Plan::Outbox(readings) => {
            let group = |reading: &Reading| {
                let takers: Vec<_> = reading.takers.iter().map(shown).collect();
                takers.join(" ")
            };
            readings.iter().map(group).collect()
        }
    }
}

#[test]
fn a_pipeline_is_read_as_its_sinks_take_it() {
    assert_eq!(read(&of("orders")), ["orders:orders,payments"], "nobody takes refunds");
    assert_eq!(read(&of("billing")), ["billing:*"]);
    let sink = TailArguments { sink: Some("bus".into()), ..of("orders") };
    assert_eq!(read(&sink), ["orders:orders"]);
    let channel = TailArguments { channels: vec!["payments".into()], ..of("orders") };
    assert_eq!(read(&channel), ["orders:payments"]);
    let any = TailArguments { channels: vec!["x y".into()], ..of("billing") };
    assert_eq!(read(&any), ["billing:x y"]);
}

#[test]
fn pipelines_of_one_table_and_order_share_a_session() {
    let outbox = TailArguments { source: Some(TailSource::Outbox), ..TailArguments::default() };
    assert_eq!(read(&outbox), ["audit:a,b billing:*", "strict:*"]);
    let channels = vec!["a".to_owned(), "c".to_owned(), "a".to_owned()];
    assert_eq!(read(&TailArguments { channels, ..outbox }), ["audit:a billing:a,c", "strict:a,c"]);
}

#[test]
fn what_is_wrong_is_named_with_the_nearest_name() {
    let refused = |arguments: TailArguments| plan(&arguments).unwrap_err();
    let text = refused(of("oders"));
    assert_eq!(text, "--pipeline: there is no pipeline \"oders\" here; did you mean \"orders\"?");
    assert!(refused(of("xyz")).ends_with("there is: audit, billing, orders, strict"));
    let sink = TailArguments { sink: Some("buss".into()), ..of("orders") };
    assert!(refused(sink).ends_with("did you mean \"bus\"?"));
    let elsewhere = TailArguments { sink: Some("ledger".into()), ..of("orders") };
    assert!(refused(elsewhere).contains("there is no sink \"ledger\" here; there is: bus, live"));
    let channel = TailArguments { channels: vec!["order".into()], ..of("orders") };
    assert!(refused(channel).ends_with("did you mean \"orders\"?"));
    let untaken = TailArguments { channels: vec!["refunds".into()], ..of("orders") };
    assert!(refused(untaken).starts_with("--channel: there is no channel \"refunds\" here"));
    assert!(refused(TailArguments::default()).contains("--source notify, --source outbox or"));
    let other = TailArguments { source: Some(TailSource::Outbox), ..of("orders") };
    assert!(refused(other).ends_with("has no outbox source; use --source notify"));
    let last = TailArguments { last: Some(3), ..of("orders") };
    assert!(refused(last).contains("PostgreSQL keeps no notification"));
}
