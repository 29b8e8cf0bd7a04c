//! Every class of trouble ends with its repair, and no restart of the bridge.

use async_nats::jetstream::{
    self,
    stream::{Config, DiscardPolicy},
};
use bytes::Bytes;
use pgherald_core::{Body, Message, Only, Sink, SinkError};
use pgherald_sink_nats::NatsSink;
use pgherald_testkit::Nats;
use serde_json::json;

use crate::{
    bridge::{any_channel, batch, fates, message, open, publish, resolve, sink},
    stored::{all, app, client, create_stream},
};

/// One that takes any channel: data names the subjects.
fn for_any_channel(url: &str) -> NatsSink {
    let config = json!({ "servers": url, "subject": "app.{channel}", "stream": "APP" });
    NatsSink::new(resolve(&config, &any_channel()).unwrap(), any_channel())
}

fn sized(n: usize, bytes: usize) -> Message {
    Message { body: Body::Payload(Bytes::from(vec![b'x'; bytes])), ..message(n, "a") }
}

async fn update(url: &str, config: Config) {
    jetstream::new(client(url).await).update_stream(config).await.expect("it takes the change");
}

async fn blocked(sink: &NatsSink) -> String {
    match sink.open().await {
        Err(SinkError::Blocked(why)) => why.to_string(),
        other => panic!("not blocked but {:?}", other.err()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_the_stream_takes_now_is_no_longer_refused() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), Config { subjects: vec!["app.a".into()], ..app(true) }).await;
    let mut writer = open(&for_any_channel(&nats.url())).await;
    let refused = publish(&mut *writer, vec![message(0, "new")]).await;
    assert_eq!(fates(&refused), ["0 rejected"]);
    let why = format!("{:?}", refused.open);
    assert!(why.contains("stream APP does not take app.new"), "which stream, which subject: {why}");
    update(&nats.url(), app(true)).await;
    assert_eq!(fates(&publish(&mut *writer, vec![message(0, "new")]).await), [""; 0]);
    assert_eq!(all(&nats.url()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_too_large_any_more_is_no_longer_refused() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), Config { max_message_size: 2_000, ..app(true) }).await;
    let mut writer = open(&sink(&nats.url(), json!({}))).await;
    let refused = publish(&mut *writer, vec![sized(0, 10), sized(1, 3_000), sized(2, 10)]).await;
    assert_eq!(fates(&refused), ["1 rejected", "2 unsent"]);
    update(&nats.url(), Config { max_message_size: 5_000, ..app(true) }).await;
    let rest = vec![sized(1, 3_000), sized(2, 10)];
    assert_eq!(fates(&publish(&mut *writer, rest).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_larger_messages_is_asked_again() {
    let nats = Nats::builder().config("max_payload: 8KB").start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let sink = sink(&nats.url(), json!({}));
    let mut writer = open(&sink).await;
    nats.write_config(&nats.config_text().replace("8KB", "64KB")).unwrap();
    nats.reload().await.unwrap();
    let large = crate::bridge::batch(vec![sized(0, 10_000)]);
    let ended = writer.publish(&large, &pgherald_core::Only::All).await.err();
    assert!(matches!(ended, Some(SinkError::Transient(_))), "{ended:?}");
    drop(writer);
    let mut writer = open(&sink).await;
    assert_eq!(fates(&publish(&mut *writer, vec![sized(0, 10_000)]).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_or_emptied_takes_messages() {
    let nats = Nats::start().await.unwrap();
    let sink = sink(&nats.url(), json!({}));
    assert!(blocked(&sink).await.contains("stream APP does not exist"));
    let small = Config { max_messages: 2, discard: DiscardPolicy::New, ..app(true) };
    create_stream(&nats.url(), small).await;
    let mut writer = open(&sink).await;
    let outcome = publish(&mut *writer, (0..3).map(|n| message(n, "a")).collect()).await;
    let why = match &outcome.session {
        Some(SinkError::Blocked(why)) => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(why.contains("is full") && why.contains("(message orders/live/5e55-2)"), "{why}");
    let context = jetstream::new(client(&nats.url()).await);
    context.get_stream("APP").await.unwrap().purge().await.unwrap();
    let mut writer = open(&sink).await;
    assert_eq!(fates(&publish(&mut *writer, vec![message(2, "a")]).await), [""; 0]);
}

/// A user that may not do everything, until the server's configuration is read again.
fn restricted(publish: &str, subscribe: &str) -> String {
    format!(
        r#"authorization {{ users = [ {{ user: "admin", password: "s3cr3t" }}, {{
            user: "bridge", password: "s3cr3t",
            permissions: {{ publish: {publish}, subscribe: {subscribe} }} }} ] }}"#
    )
}

fn login(nats: &Nats, user: &str) -> String {
    format!("nats://{user}:s3cr3t@127.0.0.1:{}", nats.port())
}

async fn with_stream(permissions: &str) -> Nats {
    let nats = Nats::builder().config(permissions).start().await.unwrap();
    create_stream(&login(&nats, "admin"), app(true)).await;
    nats
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_granted_ends_the_block() {
    let denied = r#"{ deny: ["app.b"] }"#;
    let nats = with_stream(&restricted(denied, "\">\"")).await;
    let sink = sink(&login(&nats, "bridge"), json!({}));
    let mut writer = open(&sink).await;
    let outcome = publish(&mut *writer, vec![message(0, "b")]).await;
    assert!(matches!(outcome.session, Some(SinkError::Blocked(_))), "{outcome:?}");
    nats.write_config(&nats.config_text().replace(denied, "\">\"")).unwrap();
    nats.reload().await.unwrap();
    let mut writer = open(&sink).await;
    assert_eq!(fates(&publish(&mut *writer, vec![message(0, "b")]).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_denied_is_named_and_another_prefix_works() {
    let nats = with_stream(&restricted("\">\"", r#"["bridge.inbox.>"]"#)).await;
    let url = login(&nats, "bridge");
    let begun = std::time::Instant::now();
    let why = blocked(&sink(&url, json!({}))).await;
    assert!(why.contains("subscribe to the inbox _INBOX."), "{why}");
    assert!(why.contains("inbox_prefix") && !why.contains("enable"), "{why}");
    assert!(begun.elapsed().as_secs() < 5, "it is told at once");
    let core = json!({ "mode": "core", "stream": null });
    let mut writer = open(&sink(&url, core)).await;
    // The server's refusal comes before the message is published, or with its outcome.
    let refused = match writer.publish(&batch(vec![message(0, "a")]), &Only::All).await {
        Ok(published) => published.confirmation.await.session,
        Err(error) => Some(error),
    };
    assert!(format!("{refused:?}").contains("InboxDenied"), "{refused:?}");
    for more in [json!({}), json!({ "mode": "core", "stream": null })] {
        let mut more = more;
        more["inbox_prefix"] = "bridge.inbox".into();
        let mut writer = open(&sink(&url, more)).await;
        assert_eq!(fates(&publish(&mut *writer, vec![message(0, "a")]).await), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_asked_for_its_streams() {
    let nats = Nats::builder().jetstream_config("domain: hub").start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let mut writer = open(&sink(&nats.url(), json!({ "domain": "hub" }))).await;
    assert_eq!(fates(&publish(&mut *writer, vec![message(0, "a")]).await), [""; 0]);
    let why = blocked(&sink(&nats.url(), json!({ "domain": "spoke" }))).await;
    assert!(why.contains("domain"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_created_beside_another_one_blocks() {
    let nats = Nats::start().await.unwrap();
    let other = Config { name: "OTHER".into(), ..app(true) };
    create_stream(&nats.url(), other).await;
    let sink = sink(&nats.url(), json!({ "create_stream": true }));
    let why = blocked(&sink).await;
    assert!(why.contains("10065") && why.contains("another stream takes"), "{why}");
    let context = jetstream::new(client(&nats.url()).await);
    context.delete_stream("OTHER").await.unwrap();
    open(&sink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_file_is_read_at_every_connect() {
    let nats = Nats::builder().user("bridge", "s3cr3t").start().await.unwrap();
    create_stream(&login(&nats, "bridge"), app(true)).await;
    let scratch = pgherald_testkit::Scratch::new("nats-secrets").unwrap();
    let path = scratch.path().join("password");
    let password = json!({ pgherald_core::Secret::IN_FILE: ["nats.password_file", path] });
    let sink = sink(&nats.url(), json!({ "user": "bridge", "password": password }));
    let why = blocked(&sink).await;
    assert!(why.starts_with("nats.password_file: ") && why.contains("does not exist"), "{why}");
    std::fs::write(&path, "hunter2").unwrap();
    let why = blocked(&sink).await;
    assert!(why.contains("refused the credentials") && !why.contains("hunter2"), "{why}");
    std::fs::write(&path, "s3cr3t\n").unwrap();
    open(&sink).await;
}
