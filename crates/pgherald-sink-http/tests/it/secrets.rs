//! Secrets in files: read again while requests are sent, so that a new one needs no restart.

use std::{fs, path::Path};

use pgherald_core::{Secret, Sink};
use pgherald_sink_http::HttpSink;
use pgherald_testkit::{Answer, HttpReceiver, Received, Scratch, eventually};
use serde_json::{Value, json};

use crate::rig::{SOON, ended, fate, message, open, publish, sink};

fn in_file(key: &str, path: &Path) -> Value {
    json!({ Secret::IN_FILE: [key, path] })
}

async fn one(sink: &HttpSink) -> (String, Option<(&'static str, String)>) {
    let mut writer = open(sink).await;
    let outcome = publish(&mut *writer, vec![message(1, None)]).await.await;
    (fate(&outcome), outcome.session.as_ref().map(ended))
}

async fn refused(sink: &HttpSink) -> String {
    let (class, why) = ended(&sink.open().await.err().expect("it cannot open"));
    assert_eq!(class, "blocked", "{why}");
    why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_replaced_is_used_at_once_after_a_refusal() {
    let hook = HttpReceiver::start().await.unwrap();
    let is_new = |it: &Received| it.header("authorization") == Some("Bearer new");
    hook.answer(move |it| Answer::Status(if is_new(it) { 204 } else { 401 }));
    let scratch = Scratch::new("http-secrets").unwrap();
    let path = scratch.path().join("token");
    let table = json!({ "bearer_token": in_file("http.bearer_token_file", &path) });
    let sink = sink(&hook, table);
    for (content, words) in
        [(None, "does not exist"), (Some("\n"), "is empty"), (Some("a\u{7f}"), "no header")]
    {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
            // At most a second old.
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        }
        let why = refused(&sink).await;
        assert!(why.starts_with("http.bearer_token_file: ") && why.contains(words), "{why}");
        assert!(why.contains("token\""), "the path: {why}");
    }
    assert_eq!(hook.count(), 0);
    fs::write(&path, "old\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let (fate, session) = one(&sink).await;
    assert_eq!((&*fate, session.map(|it| it.0)), ("0 unknown", Some("blocked")));
    fs::write(&path, "new\n").unwrap();
    assert_eq!(one(&sink).await, ("ok".to_owned(), None), "it was refused: it is read again");
}

/// No refusal tells that it was replaced: its file is looked at all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_and_a_signature_follow_their_files_while_connections_are_kept() {
    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSwx";
    const NEW: &str = "whsec_plJ3nmyCDGBKInavdOK15jslplJ3nmyC";
    let hook = HttpReceiver::start().await.unwrap();
    let scratch = Scratch::new("http-secrets").unwrap();
    let (url, secret) = (scratch.path().join("url"), scratch.path().join("secret"));
    fs::write(&url, hook.url("/old?sig=1")).unwrap();
    fs::write(&secret, OLD).unwrap();
    let table = json!({
        "url": in_file("http.url_file", &url), "secret": in_file("http.secret_file", &secret),
    });
    let sink = sink(&hook, table);
    let mut writer = open(&sink).await;
    let mut send = async || fate(&publish(&mut *writer, vec![message(1, None)]).await.await);
    assert_eq!(send().await, "ok");
    let first = hook.received().remove(0);
    assert_eq!(first.path, "/old?sig=1");
    fs::write(&url, hook.url("/new")).unwrap();
    fs::write(&secret, NEW).unwrap();
    let begun = std::time::Instant::now();
    loop {
        assert_eq!(send().await, "ok");
        let last = hook.received().pop().unwrap();
        let signed = last.header("webhook-signature") != first.header("webhook-signature");
        if last.path == "/new" && signed {
            break;
        }
        assert!(begun.elapsed() < SOON, "its file is looked at once a second");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let kept = || async { hook.connections() == 1 };
    eventually("one connection was kept", SOON, kept).await.unwrap();
}
