//! Destinations that take nothing, and messages that nobody takes.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use bytes::Bytes;
use pgherald_core::{Body, Headers, Message, Only, Open, Outcome, Sink, SinkError};
use pgherald_sink_nats::NatsSink;
use pgherald_testkit::Nats;
use serde_json::{Value, json};

use crate::{
    bridge::{any_channel, batch, context, fates, message, open, publish, resolve, sink},
    stored::{CLEAN, all, app, create_stream, seen},
};

async fn blocked(sink: &NatsSink) -> String {
    match sink.open().await {
        Err(SinkError::Blocked(why)) => why.to_string(),
        Err(error) => panic!("not blocked but {error:?}"),
        Ok(_) => panic!("it opened"),
    }
}

fn sized(n: usize, bytes: usize) -> Message {
    Message { body: Body::Payload(Bytes::from(vec![b'x'; bytes])), ..message(n, "a") }
}

fn session_blocked(outcome: &Outcome) -> String {
    match &outcome.session {
        Some(SinkError::Blocked(why)) => why.to_string(),
        other => panic!("not blocked but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_blocks_and_names_the_remedy() {
    let nats = Nats::start().await.unwrap();
    let why = blocked(&sink(&nats.url(), json!({}))).await;
    assert!(why.contains("stream APP does not exist") && why.contains("create_stream"), "{why}");
    let sink = sink(&nats.url(), json!({ "create_stream": true, "gap_subject": "gaps.app" }));
    let mut writer = open(&sink).await;
    // More than go as a chain.
    let many = (0..100).map(|n| message(n, if n % 2 == 0 { "a" } else { "b" })).collect();
    assert_eq!(fates(&publish(&mut *writer, many).await), [""; 0]);
    let stored = all(&nats.url()).await;
    assert_ne!(stored[0].header("Nats-Batch-Id"), "", "a stream of ours allows atomic batches");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_the_stream_does_not_take_blocks() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), Config { subjects: vec!["app.a".into()], ..app(true) }).await;
    let why = blocked(&sink(&nats.url(), json!({}))).await;
    assert!(why.contains("does not take app.b"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_data_names_and_nobody_takes_is_rejected() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), Config { subjects: vec!["app.a".into()], ..app(true) }).await;
    let config = json!({ "servers": nats.url(), "subject": "app.{channel}", "stream": "APP" });
    let sink = NatsSink::new(resolve(&config, &any_channel()).unwrap(), any_channel());
    let mut writer = open(&sink).await;
    let messages = vec![message(0, "a"), message(1, "nowhere"), message(2, "a")];
    let published = writer.publish(&batch(messages), &Only::All).await.unwrap();
    assert!(published.stopped);
    assert_eq!(fates(&published.confirmation.await), ["1 rejected", "2 unsent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_jetstream_blocks() {
    let nats = Nats::builder().without_jetstream().start().await.unwrap();
    let why = blocked(&sink(&nats.url(), json!({}))).await;
    assert!(why.contains("enable jetstream"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_blocks_and_a_right_one_works() {
    let nats = Nats::builder().user("bridge", "s3cr3t").start().await.unwrap();
    let with = |user: &str, password: &str| {
        sink(&nats.url(), json!({ "user": user, "password": password, "create_stream": true }))
    };
    let why = blocked(&with("bridge", "hunter2")).await;
    assert!(why.contains("refused the credentials") && !why.contains("hunter2"), "{why}");
    open(&with("bridge", "s3cr3t")).await;
    let in_url = format!("nats://bridge:s3cr3t@127.0.0.1:{}", nats.port());
    open(&sink(&in_url, json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works() {
    let nats = Nats::builder().token("t0k3n").start().await.unwrap();
    open(&sink(&nats.url(), json!({ "token": "t0k3n", "create_stream": true }))).await;
    blocked(&sink(&nats.url(), json!({ "token": "wrong" }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_blocks_and_takes_what_fits() {
    for atomic in [true, false] {
        let nats = Nats::start().await.unwrap();
        let full = Config { max_messages: 5, discard: DiscardPolicy::New, ..app(atomic) };
        create_stream(&nats.url(), full).await;
        let sink = sink(&nats.url(), json!({}));
        let mut writer = open(&sink).await;
        let outcome = publish(&mut *writer, (0..10).map(|n| message(n, "a")).collect()).await;
        let why = session_blocked(&outcome);
        assert!(why.contains("the stream is full"), "{why}");
        let stored = all(&nats.url()).await.len();
        assert_eq!(outcome.open.len(), 10 - stored, "{:?}", fates(&outcome));
        assert!(!outcome.open.iter().any(|(_, open)| matches!(open, Open::Rejected(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_messages_are_rejected_before_they_are_sent() {
    let nats = Nats::builder().config("max_payload: 8KB").start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let sink = sink(&nats.url(), json!({}));
    let mut writer = open(&sink).await;
    let messages = vec![sized(0, 10), sized(1, 8_192), sized(2, 10)];
    assert_eq!(fates(&publish(&mut *writer, messages).await), ["1 rejected", "2 unsent"]);
    assert_eq!(fates(&publish(&mut *writer, vec![sized(2, 10)]).await), [""; 0]);
    let header = |name: &str, bytes: usize| -> Headers {
        [(Box::from(name), "v".repeat(bytes).into_boxed_str())].into_iter().collect()
    };
    let heavy = Message { headers: header("x", 70_000), ..message(3, "a") };
    assert_eq!(fates(&publish(&mut *writer, vec![heavy]).await), ["0 rejected"]);
    for name in ["a b", "a:b", "", "ü", "a\r\nb"] {
        let illegal = Message { headers: header(name, 1), ..message(4, "a") };
        assert_eq!(fates(&publish(&mut *writer, vec![illegal]).await), ["0 rejected"], "{name:?}");
    }
    let unreadable = Message { body: Body::Unreadable("bad row".into()), ..message(5, "a") };
    assert_eq!(fates(&publish(&mut *writer, vec![unreadable]).await), ["0 rejected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_became_stricter_rejects_one_message_and_nothing_overtakes_it() {
    for atomic in [true, false] {
        let nats = Nats::start().await.unwrap();
        create_stream(&nats.url(), app(atomic)).await;
        let sink = sink(&nats.url(), json!({}));
        let mut writer = open(&sink).await;
        let client = crate::stored::client(&nats.url()).await;
        let stricter = Config { max_message_size: 2_000, ..app(atomic) };
        async_nats::jetstream::new(client).update_stream(stricter).await.unwrap();
        let first = batch(vec![sized(0, 10), sized(1, 3_000), sized(2, 10)]);
        let second = batch(vec![sized(3, 10)]);
        let first = writer.publish(&first, &Only::All).await.unwrap();
        let second = writer.publish(&second, &Only::All).await.unwrap();
        assert_eq!(fates(&first.confirmation.await), ["1 rejected", "2 unsent"]);
        // Core has not heard of the second outcome yet: nothing may go before it has.
        let early = writer.publish(&batch(vec![sized(2, 10)]), &Only::All).await.unwrap();
        assert_eq!(fates(&second.confirmation.await), ["0 unsent"]);
        assert_eq!(fates(&early.confirmation.await), ["0 unsent"]);
        let rest = vec![sized(1, 10), sized(2, 10), sized(3, 10)];
        assert_eq!(fates(&publish(&mut *writer, rest).await), [""; 0]);
        assert_eq!(seen(&all(&nats.url()).await, 4), CLEAN);
    }
}

/// The message is in the batch that the server stores, or in the one that is staged behind it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_overtakes_a_message_that_refuses_an_atomic_batch() {
    const COUNT: usize = 3_000;
    for poison in [600, 1_600] {
        let nats = Nats::start().await.unwrap();
        create_stream(&nats.url(), app(true)).await;
        let sink = sink(&nats.url(), json!({}));
        let mut writer = open(&sink).await;
        let client = crate::stored::client(&nats.url()).await;
        let stricter = Config { max_message_size: 2_000, ..app(true) };
        async_nats::jetstream::new(client).update_stream(stricter).await.unwrap();
        let bytes = |n| if n == poison { 3_000 } else { 10 };
        let messages = (0..COUNT).map(|n| sized(n, bytes(n))).collect();
        let outcome = publish(&mut *writer, messages).await;
        let fates = fates(&outcome);
        assert_eq!(fates.len(), COUNT - poison, "{:?} ...", &fates[..3]);
        assert_eq!(fates[..2], [format!("{poison} rejected"), format!("{} unsent", poison + 1)]);
        assert_eq!(seen(&all(&nats.url()).await, poison), CLEAN);
        let rest = (poison..COUNT).map(|n| sized(n, 10)).collect();
        assert_eq!(publish(&mut *writer, rest).await.open.len(), 0);
        assert_eq!(seen(&all(&nats.url()).await, COUNT), CLEAN);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_marked_messages_go() {
    let nats = Nats::start().await.unwrap();
    create_stream(&nats.url(), app(true)).await;
    let sink = sink(&nats.url(), json!({}));
    let mut writer = open(&sink).await;
    let three = batch((0..3).map(|n| message(n, "a")).collect());
    let marked = Only::Marked([true, false, true].into());
    let published = writer.publish(&three, &marked).await.unwrap();
    assert_eq!(fates(&published.confirmation.await), [""; 0]);
    assert_eq!(all(&nats.url()).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_subject_blocks_if_configured_and_rejects_if_data_names_it() {
    let allowed = r#"authorization { users = [
        { user: "bridge", password: "s3cr3t", permissions: {
            publish: { allow: [">"], deny: ["app.b"] }, subscribe: ">" } } ] }"#;
    for (atomic, channels) in [(true, true), (false, true), (true, false), (false, false)] {
        let nats = Nats::builder().config(allowed).start().await.unwrap();
        let url = format!("nats://bridge:s3cr3t@127.0.0.1:{}", nats.port());
        let created = async_nats::ConnectOptions::new()
            .user_and_password("bridge".into(), "s3cr3t".into())
            .connect(nats.url())
            .await
            .unwrap();
        async_nats::jetstream::new(created).create_stream(app(atomic)).await.unwrap();
        let context = if channels { context() } else { any_channel() };
        let config: Value = json!({ "servers": url, "subject": "app.{channel}", "stream": "APP" });
        let sink = NatsSink::new(resolve(&config, &context).unwrap(), context);
        let mut writer = open(&sink).await;
        let messages = ["a", "b", "b", "a"].iter().enumerate().map(|(n, c)| message(n, c));
        let outcome = publish(&mut *writer, messages.collect()).await;
        if channels {
            let why = session_blocked(&outcome);
            assert!(why.contains("no permission to publish to app.b"), "{why}");
        } else {
            assert_eq!(fates(&outcome), ["1 rejected", "2 unsent", "3 unsent"]);
        }
    }
}
