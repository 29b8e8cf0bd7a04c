//! Messages that will never be taken: by the receiver, and by HTTP itself.

use pgherald_core::{Envelope, Message, Writer};
use pgherald_testkit::{Answer, HttpReceiver, Received};
use serde_json::json;

use crate::rig::{context, fates, gap, ids, message, open, publish, publish_each, sink, sink_of};

fn is_poison(request: &Received) -> bool {
    request.text().contains("payload 2")
}

async fn one(writer: &mut dyn Writer, message: Message) -> String {
    let confirmation = publish(writer, vec![message]).await;
    fates(vec![confirmation]).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_behind_a_refusal_before_core_has_heard_of_it() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|it| Answer::Status(if is_poison(it) { 422 } else { 200 }));
    let mut writer = open(&sink(&hook, json!({}))).await;
    let messages = (0..6).map(|n| message(n, None)).collect();
    let fates_of = fates(publish_each(&mut *writer, messages).await).await;
    assert_eq!(fates_of, ["ok", "ok", "0 rejected", "0 unsent", "0 unsent", "0 unsent"]);
    assert_eq!(ids(&hook.received()), ["5e55-0", "5e55-1", "5e55-2"]);
    // Core has heard of it: the writer goes on.
    assert_eq!(one(&mut *writer, gap(2)).await, "ok");
    assert_eq!(one(&mut *writer, message(3, None)).await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_goes_singly_up_to_the_message_that_is_refused() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|it| Answer::Status(if is_poison(it) { 400 } else { 200 }));
    let sink = sink_of(&hook, json!({}), context(Envelope::Structured, 10));
    let mut writer = open(&sink).await;
    let messages = (0..5).map(|n| message(n, Some("k"))).collect();
    let confirmation = publish(&mut *writer, messages).await;
    assert_eq!(fates(vec![confirmation]).await, ["2 rejected, 3 unsent, 4 unsent"]);
    assert_eq!(ids(&hook.received()), ["5e55-0+5", "5e55-0", "5e55-1", "5e55-2"]);
    let confirmation = publish(&mut *writer, vec![message(3, Some("k")), message(4, None)]).await;
    assert_eq!(fates(vec![confirmation]).await, ["ok"]);
    assert_eq!(ids(&hook.received())[4..], ["5e55-3+2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_batch_sink_is_a_batch_whatever_it_holds() {
    let hook = HttpReceiver::start().await.unwrap();
    // It refuses batches of several, so that they are sent again.
    let several = |it: &Received| it.header("webhook-id").unwrap().contains('+');
    hook.answer(move |it| Answer::Status(if several(it) { 422 } else { 204 }));
    let sink = sink_of(&hook, json!({}), context(Envelope::Structured, 10));
    let mut writer = open(&sink).await;
    let mut messages: Vec<Message> = (0..4).map(|n| message(n, Some(["a", "b"][n % 2]))).collect();
    messages[1].headers = [("x-tenant".into(), "acme".into())].into_iter().collect();
    messages[2].body = pgherald_core::Body::Payload("x".repeat(2 << 20).into());
    let confirmation = publish(&mut *writer, messages).await;
    assert_eq!(fates(vec![confirmation]).await, ["ok"]);
    let received = hook.received();
    assert_eq!(received.iter().filter(|it| it.is_confirmed()).count(), 4);
    for request in &received {
        let said = request.header("content-type");
        assert_eq!(said, Some("application/cloudevents-batch+json"), "{request:?}");
        assert!(request.body.starts_with(b"["), "an array");
    }
    assert!(received.iter().any(|it| it.header("x-tenant") == Some("acme")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_http_does_not_take_is_refused_before_anything_is_sent() {
    let hook = HttpReceiver::start().await.unwrap();
    let mut writer = open(&sink(&hook, json!({}))).await;
    for name in ["a b", "transfer-encoding", "Upgrade", "webhook-signature", "über"] {
        let mut bad = message(1, None);
        bad.headers = [(name.into(), "x".into())].into_iter().collect();
        let confirmation =
            publish(&mut *writer, vec![message(0, None), bad, message(2, None)]).await;
        assert_eq!(fates(vec![confirmation]).await, ["1 rejected, 2 unsent"], "{name}");
    }
    assert_eq!(hook.count(), 5);
}
