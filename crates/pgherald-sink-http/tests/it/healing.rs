//! Every class of trouble ends with its repair, and no restart.

use std::time::Duration;

use pgherald_core::{Sink, Writer};
use pgherald_sink_http::HttpSink;
use pgherald_testkit::{Answer, Certificates, HttpReceiver, Scratch};
use serde_json::json;

use crate::rig::{ended, fate, ids, message, open, publish, sink};

/// What becomes of one message in a writer of its own: its fate, and how the session ended.
async fn one(sink: &HttpSink) -> (String, Option<(&'static str, String)>) {
    let mut writer = open(sink).await;
    let outcome = publish(&mut *writer, vec![message(1, None)]).await.await;
    (fate(&outcome), outcome.session.as_ref().map(ended))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_mended_gets_what_waited() {
    for (answer, class) in [
        (Answer::Status(401), "blocked"),
        (Answer::Status(403), "blocked"),
        (Answer::Status(404), "blocked"),
        (Answer::With(301, "location", "/".into()), "blocked"),
        (Answer::Status(503), "transient"),
        (Answer::With(429, "retry-after", "1".into()), "later"),
        (Answer::Close, "transient"),
    ] {
        let hook = HttpReceiver::start().await.unwrap();
        let said = answer.clone();
        hook.answer(move |_| said.clone());
        let sink = sink(&hook, json!({}));
        let (fate, session) = one(&sink).await;
        let (ended, why) = session.expect("the session is over");
        assert_eq!((&*fate, ended), ("0 unknown", class), "{answer:?}");
        assert!(why.contains("(message 5e55-1)"), "which message: {why}");
        hook.answer(|_| Answer::Status(204));
        assert_eq!(one(&sink).await, ("ok".to_owned(), None), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_is_asked_about_again_by_the_same_writer() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|_| Answer::Status(413));
    let sink = sink(&hook, json!({}));
    let mut writer = open(&sink).await;
    let refused = publish(&mut *writer, vec![message(1, None)]).await.await;
    assert_eq!(fate(&refused), "0 rejected");
    hook.answer(|_| Answer::Status(204));
    let mended = publish(&mut *writer, vec![message(1, None)]).await.await;
    assert_eq!(fate(&mended), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_late_blocks_until_it_is_right() {
    let made = Certificates::new().unwrap();
    let scratch = Scratch::new("http-healing").unwrap();
    let path = scratch.path().join("ca.pem");
    let hook = HttpReceiver::start_tls(made.certificate_pem(), made.key_pem(), None).await.unwrap();
    let sink = sink(&hook, json!({ "tls": { "ca_file": path } }));
    let key = made.key_pem().to_owned();
    let marked = format!("\u{feff}{}", made.authority_pem());
    for (content, words) in [
        (None, "No such file"),
        (Some(String::new()), "it is empty"),
        (Some(key), "it holds a private key"),
        (Some(marked), "byte order mark"),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let (class, why) = ended(&sink.open().await.err().expect("it cannot open"));
        assert_eq!(class, "blocked");
        assert!(why.contains("tls.ca_file: ") && why.contains(words), "{why}");
        assert!(why.contains(path.to_str().unwrap()), "{why}");
    }
    std::fs::write(&path, made.authority_pem()).unwrap();
    assert_eq!(one(&sink).await, ("ok".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_to_a_port_for_tls_is_the_addresss_fault() {
    let made = Certificates::new().unwrap();
    let hook = HttpReceiver::start_tls(made.certificate_pem(), made.key_pem(), None).await.unwrap();
    let plain = HttpReceiver::start().await.unwrap();
    plain.answer(|_| {
        Answer::Says(400, "<center>The plain HTTP request was sent to HTTPS port</center>")
    });
    let ports = [hook.port(), plain.port()];
    for port in ports {
        let url = format!("http://127.0.0.1:{port}/events");
        let sink = sink(&plain, json!({ "url": url }));
        let (fate, session) = one(&sink).await;
        let (class, why) = session.expect("the session is over");
        assert_eq!((&*fate, class), ("0 unknown", "blocked"), "{why}");
        assert!(why.contains("write https:// in url"), "{why}");
    }
}

/// A fault of one key leaves the requests of others under way: they have their whole time.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_gets_no_lasting_answer_is_given_up_while_others_are_taken() {
    for answer in [Answer::Status(500), Answer::Close, Answer::Hang] {
        let hook = HttpReceiver::start().await.unwrap();
        let said = answer.clone();
        hook.answer(move |it| match it.header("ce-partitionkey") {
            Some("bad") => said.clone(),
            _ => Answer::Status(204),
        });
        let more = json!({ "retry_max_seconds": 1, "timeout_ms": 300 });
        let (skipping, halting) = (sink(&hook, more.clone()), sink(&hook, more).halting());
        assert_eq!(
            until_rejected(&skipping, Duration::from_secs(20)).await.as_deref(),
            Some("yes")
        );
        assert_eq!(until_rejected(&halting, Duration::from_secs(2)).await, None, "{answer:?}");
        let last = halting.last_answer(&message(0, None).id).expect("it is shown");
        assert!(last.contains("http://127.0.0.1"), "{last}");
    }
}

/// Offers message 0 again and again beside others, as core does.
async fn until_rejected(sink: &HttpSink, within: Duration) -> Option<String> {
    let begun = std::time::Instant::now();
    let mut n = 1;
    while begun.elapsed() < within {
        let mut writer = open(sink).await;
        let beside = publish(&mut *writer, vec![message(n, Some("good"))]).await;
        let bad = publish(&mut *writer, vec![message(0, Some("bad"))]).await;
        assert_eq!(fate(&beside.await), "ok");
        if fate(&bad.await) == "0 rejected" {
            return Some("yes".to_owned());
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_for_everybody_rejects_nothing() {
    let mut hook = HttpReceiver::start().await.unwrap();
    hook.answer(|_| Answer::Close);
    let sink = sink(&hook, json!({ "retry_max_seconds": 1 }));
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(one(&sink).await.0, "0 unknown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    hook.stop().await;
    assert_eq!(one(&sink).await.0, "0 unsent");
    hook.start_again().await.unwrap();
    hook.answer(|_| Answer::Status(204));
    assert_eq!(one(&sink).await.0, "ok");
    assert!(ids(&hook.received()).iter().all(|id| *id == "5e55-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_has_a_length() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|it| Answer::Status(if it.header("content-length").is_some() { 204 } else { 411 }));
    let mut writer: Box<dyn Writer> = open(&sink(&hook, json!({}))).await;
    let empty = pgherald_core::Message {
        body: pgherald_core::Body::Payload(bytes::Bytes::new()),
        ..message(0, None)
    };
    assert_eq!(fate(&publish(&mut *writer, vec![empty]).await.await), "ok");
    assert_eq!(hook.received()[0].header("content-length"), Some("0"));
}
