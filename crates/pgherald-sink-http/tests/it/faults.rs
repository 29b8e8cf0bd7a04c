//! Receivers that do not answer, answer half, or want to be left alone.

use std::time::{Duration, Instant};

use pgherald_core::{Event, Writer};
use pgherald_testkit::{Answer, HttpReceiver};
use serde_json::json;

use crate::rig::{SOON, ended, fates, ids, message, open, publish_each, sink};

/// How the writer ends.
async fn end(writer: &mut dyn Writer) -> (&'static str, String) {
    match tokio::time::timeout(SOON, writer.event()).await.expect("the writer ends") {
        Event::Ended(error) => ended(&error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_stops_its_key_and_what_was_not_started_is_unsent() {
    for (answer, class, text) in [
        (Answer::Status(500), "transient", "answered 500"),
        (Answer::Status(408), "transient", "answered 408"),
        (Answer::With(429, "retry-after", "7".into()), "later", "answered 429"),
        (Answer::Status(404), "blocked", "correct url"),
        (
            Answer::With(302, "location", "/elsewhere".into()),
            "blocked",
            "redirects are not followed",
        ),
        (Answer::Reset, "transient", "ended before the answer"),
        (Answer::Close, "transient", "ended before the answer"),
        (Answer::Hang, "transient", "did not answer within 1000 ms"),
    ] {
        let hook = HttpReceiver::start().await.unwrap();
        // Not before the others are under way.
        let said = Answer::After(Duration::from_millis(200), Box::new(answer.clone()));
        let slow = Answer::After(Duration::from_millis(400), Box::new(Answer::Status(200)));
        hook.answer(move |it| match it.header("ce-partitionkey") {
            Some("bad") => said.clone(),
            _ => slow.clone(),
        });
        let mut writer = open(&sink(&hook, json!({ "timeout_ms": 1_000, "concurrency": 3 }))).await;
        let keys = ["bad", "good", "bad", "fine", "late", "bad"];
        let messages = keys.iter().enumerate().map(|(n, key)| message(n, Some(key))).collect();
        let fates = fates(publish_each(&mut *writer, messages).await).await;
        assert_eq!((&*fates[0], &*fates[2], &*fates[5]), ("0 unknown", "0 unsent", "0 unsent"));
        assert_eq!((&*fates[1], &*fates[3]), ("ok", "ok"), "{answer:?}: what is under way ends");
        let ended = end(&mut *writer).await;
        assert!(ended.0 == class && ended.1.contains(text), "{answer:?}: {ended:?}");
        let received = hook.received();
        let bad = received.iter().filter(|it| it.header("ce-partitionkey") == Some("bad"));
        assert_eq!(bad.count(), 1, "{answer:?}: no later message of the key was sent");
        assert!(received.iter().all(|it| it.path == "/events"), "no redirect is followed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_an_answer_whatever_becomes_of_its_body() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|_| Answer::Torn(202));
    let mut writer = open(&sink(&hook, json!({}))).await;
    let messages = (0..3).map(|n| message(n, None)).collect();
    assert_eq!(fates(publish_each(&mut *writer, messages).await).await, ["ok"; 3]);
    assert_eq!(ids(&hook.received()), ["5e55-0", "5e55-1", "5e55-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_gets_nothing_and_the_next_writer_goes_on() {
    let mut hook = HttpReceiver::start().await.unwrap();
    hook.stop().await;
    let sink = sink(&hook, json!({}));
    let mut writer = open(&sink).await;
    let fates_then = fates(publish_each(&mut *writer, vec![message(0, None)]).await).await;
    assert_eq!(fates_then, ["0 unsent"]);
    let (class, text) = end(&mut *writer).await;
    assert!(class == "transient" && text.contains("no connection to http://127.0.0.1:"), "{text}");
    hook.start_again().await.unwrap();
    let mut writer = open(&sink).await;
    assert_eq!(fates(publish_each(&mut *writer, vec![message(0, None)]).await).await, ["ok"]);
    assert_eq!(ids(&hook.received()), ["5e55-0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_receiver_closed_at_rest_costs_nothing() {
    let mut hook = HttpReceiver::start().await.unwrap();
    let mut writer = open(&sink(&hook, json!({}))).await;
    for n in 0..3 {
        let fates = fates(publish_each(&mut *writer, vec![message(n, None)]).await).await;
        assert_eq!(fates, ["ok"]);
        hook.stop().await;
        hook.start_again().await.unwrap();
        // The end of the connection is on its way through the kernel.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(hook.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_ends_its_requests() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|_| Answer::Hang);
    let mut writer = open(&sink(&hook, json!({ "timeout_ms": 60_000 }))).await;
    let confirmations = publish_each(&mut *writer, vec![message(0, None), message(1, None)]).await;
    hook.until(SOON, |received| received.len() == 1).await.unwrap();
    let begun = Instant::now();
    drop(writer);
    assert_eq!(fates(confirmations).await, ["0 unknown", "0 unknown"]);
    assert!(begun.elapsed() < Duration::from_secs(30));
}
