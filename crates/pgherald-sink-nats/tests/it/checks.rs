//! What `check` says.

use std::sync::Arc;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use pgherald_core::{Finding, FlowContext, Level};
use pgherald_sink_nats::check;
use pgherald_testkit::{Nats, free_port};
use serde_json::{Value, json};

use crate::{
    bridge::{context, resolve, settings},
    stored::{app, create_stream},
};

async fn findings(url: &str, more: Value) -> Vec<Finding> {
    check(&settings(url, more), &context(), "k").await
}

fn of_level(found: &[Finding], level: Level) -> Vec<String> {
    let of_level = found.iter().filter(|finding| finding.level == level);
    of_level.map(|it| format!("{}: {}; {}", it.subject, it.text, it.fix)).collect()
}

fn says(found: &[Finding], level: Level, words: &[&str]) {
    let lines = of_level(found, level);
    let told = lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(told, "{words:?} not in {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_stream_has_no_findings() {
    let nats = Nats::builder().config("max_payload: 2MB").start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let found = findings(&nats.url(), json!({})).await;
    assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_is_an_error_unless_it_will_be_created() {
    let nats = Nats::start().await.unwrap();
    let found = findings(&nats.url(), json!({})).await;
    says(&found, Level::Error, &["k.stream", "does not exist", "--allow-atomic", "create_stream"]);
    let found = findings(&nats.url(), json!({ "create_stream": true })).await;
    assert_eq!(of_level(&found, Level::Error), [""; 0]);
    says(&found, Level::Ok, &["will be created for app.>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_risky_stream_is_explained() {
    let nats = Nats::builder().config("max_payload: 64KB").start().await.unwrap();
    let risky = Config {
        subjects: vec!["app.a".into()],
        max_messages: 100,
        discard: DiscardPolicy::New,
        duplicate_window: std::time::Duration::from_secs(10),
        max_age: std::time::Duration::from_secs(60),
        ..app(false)
    };
    create_stream(&nats.url(), risky).await;
    let found = findings(&nats.url(), json!({})).await;
    says(&found, Level::Error, &["does not take app.b", "--subjects"]);
    says(&found, Level::Warning, &["allow_atomic", "chain", "nats stream edit APP --allow-atomic"]);
    says(&found, Level::Warning, &["duplicate_window", "--dupe-window"]);
    says(&found, Level::Warning, &["discard new"]);
    says(&found, Level::Warning, &["max_age"]);
    says(&found, Level::Warning, &["message_bytes_max", "max_payload"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_stored_messages_is_explained() {
    let nats = Nats::start().await.unwrap();
    let fleeting = Config {
        storage: StorageType::Memory,
        retention: RetentionPolicy::Interest,
        max_messages_per_subject: 1,
        ..app(true)
    };
    create_stream(&nats.url(), fleeting).await;
    let found = findings(&nats.url(), json!({})).await;
    assert_eq!(of_level(&found, Level::Error), [""; 0]);
    says(&found, Level::Warning, &["in memory", "file storage"]);
    says(&found, Level::Warning, &["only what a consumer waits for", "retention limits"]);
    says(&found, Level::Warning, &["only the newest 1", "--max-msgs-per-subject"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_another_stream_takes_is_an_error_that_names_it() {
    let nats = Nats::start().await.unwrap();
    let other = Config { name: "OTHER".into(), subjects: vec!["app.b".into()], ..app(true) };
    create_stream(&nats.url(), other).await;
    for more in [json!({}), json!({ "create_stream": true })] {
        let found = findings(&nats.url(), more).await;
        says(&found, Level::Error, &["APP does not exist", "stream OTHER takes", "k.stream"]);
    }
    create_stream(&nats.url(), Config { subjects: vec!["app.a".into()], ..app(true) }).await;
    let found = findings(&nats.url(), json!({})).await;
    says(&found, Level::Error, &["APP does not take app.b: stream OTHER does", "correct subject"]);
    let gaps = json!({ "subject": "app.a", "gap_subject": "gaps" });
    let found = findings(&nats.url(), gaps).await;
    says(&found, Level::Error, &["APP does not take gaps", "--subjects"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_an_error() {
    let nats = Nats::start().await.unwrap();
    let full = Config { max_messages: 1, discard: DiscardPolicy::New, ..app(true) };
    create_stream(&nats.url(), full).await;
    let found = findings(&nats.url(), json!({})).await;
    assert_eq!(of_level(&found, Level::Error), [""; 0], "not yet");
    let writer = async_nats::jetstream::new(crate::stored::client(&nats.url()).await);
    writer.publish("app.a", "x".into()).await.unwrap().await.unwrap();
    let found = findings(&nats.url(), json!({})).await;
    says(&found, Level::Error, &["APP is full", "nats stream purge APP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_for_the_stream_is_told_so() {
    let allowed = r#"authorization { users = [ { user: "bridge", password: "s3cr3t",
        permissions: { publish: { allow: ["app.>"] }, subscribe: ">" } } ] }"#;
    let nats = Nats::builder().config(allowed).start().await.unwrap();
    let login = json!({ "user": "bridge", "password": "s3cr3t" });
    let found = findings(&nats.url(), login).await;
    says(&found, Level::Error, &["no permission to publish to $JS.API.STREAM.INFO.APP", "grant"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_and_refused_are_errors_with_a_fix() {
    let nowhere = format!("nats://127.0.0.1:{}", free_port());
    let found = findings(&nowhere, json!({})).await;
    says(&found, Level::Error, &["k.servers", "no connection", "start the server"]);
    let nats = Nats::builder().user("bridge", "s3cr3t").start().await.unwrap();
    let found = findings(&nats.url(), json!({ "user": "bridge", "password": "hunter2" })).await;
    says(&found, Level::Error, &["refused the credentials"]);
    assert!(!format!("{found:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn core_mode_and_gaps_without_a_place_are_warnings() {
    let nats = Nats::start().await.unwrap();
    let core = json!({ "mode": "core", "stream": null, "subject": "app.{key}" });
    let found = findings(&nats.url(), core).await;
    says(&found, Level::Warning, &["at most once"]);
    says(&found, Level::Warning, &["gap", "k.gap_subject"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_makes_no_subject_is_a_warning() {
    let config = json!({
        "servers": format!("127.0.0.1:{}", free_port()), "subject": "app.{channel}", "stream": "APP",
    });
    let channels = ["a", "b..c"].map(Arc::from).into();
    let context = FlowContext { channels: Some(channels), ..context() };
    let found = check(&resolve(&config, &context).unwrap(), &context, "k").await;
    says(&found, Level::Warning, &["k.subject", "rejected", "empty token", "rename the channel"]);
}
