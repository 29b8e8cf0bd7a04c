//! CloudEvents in every mode by the rules of the specification, and signatures by somebody else's
//! library.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pgherald_testkit::{Answer, Bridge, HttpReceiver, Received, Scratch};
use serde_json::{Map, Value};
use standardwebhooks::Webhook;

use super::announce;
use crate::{
    envelope::assert_default_on_http,
    stage::{Config, SOON, postgres},
};

const COUNT: usize = 200;
const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NEW: &str = "whsec_plJ3nmyCDGBKInavdOK15jslplJ3nmyC";

/// A sink for each envelope, named like its path.
fn config(url: &str, hook: &HttpReceiver, secrets: &str) -> Config {
    let mut config = Config::new(url, &["orders"]).with("key = \"json:/key\"");
    for (name, envelope, batch) in [
        ("binary", "binary", 1),
        ("structured", "structured", 1),
        ("batch", "structured", 25),
        ("none", "none", 1),
    ] {
        let url = hook.url(&format!("/{name}"));
        config = config.with(&format!(
            "[pipelines.p.sinks.{name}]\nenvelope = \"{envelope}\"\nbatch.messages_max = {batch}\n\
             http.url = \"{url}\"\nhttp.secret_file = {secrets:?}"
        ));
    }
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn every_envelope_is_what_cloudevents_says_and_every_secret_signs() {
    let (postgres, hook) = (postgres().await, HttpReceiver::start().await.unwrap());
    hook.answer(|_| Answer::After(Duration::from_millis(2), Box::new(Answer::Status(200))));
    let scratch = Scratch::new("secrets").unwrap();
    let secrets = scratch.path().join("hook");
    fs::write(&secrets, format!("{OLD}\n{NEW}\n")).unwrap();
    let config = config(&postgres.url(), &hook, secrets.to_str().unwrap());
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    announce(&postgres, 0..COUNT).await;
    let events = |received: &[Received], name: &str| -> usize {
        let of_sink = received.iter().filter(|it| it.path == format!("/{name}"));
        of_sink.map(documents).map(|documents| documents.len()).sum()
    };
    // With the gap of the start.
    let all = |received: &[Received]| {
        let names = ["binary", "structured", "batch", "none"];
        names.iter().all(|name| events(received, name) == COUNT + 1)
    };
    let received = match hook.until(SOON, all).await {
        Ok(received) => received,
        Err(error) => panic!("{error}\n{}", bridge.explain().await),
    };
    let mut batches = 0;
    for request in &received {
        assert_eq!(request.method, "POST");
        assert_signed(request);
        match (&*request.path, request.is_gap()) {
            ("/binary", false) => assert_default_on_http(request),
            ("/none", false) => assert_bare(request),
            ("/structured", _) => {
                assert!(!request.headers.iter().any(|(name, _)| name.starts_with("ce-")));
                assert!(!assert_structured(request));
            }
            ("/batch", _) => {
                assert!(!request.headers.iter().any(|(name, _)| name.starts_with("ce-")));
                assert!(assert_structured(request), "every request of a batch sink is a batch");
                batches += usize::from(documents(request).len() > 1);
            }
            _ => assert_eq!(request.header("content-type"), Some("application/json")),
        }
    }
    println!("{COUNT} messages in {batches} batches of more than one");
    assert!(batches > 0, "nothing went as a batch");
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// The documents of a request; a request that is none counts as one.
fn documents(request: &Received) -> Vec<Value> {
    match serde_json::from_slice(&request.body).expect("payloads are JSON") {
        Value::Array(documents) => documents,
        single => vec![single],
    }
}

/// Whoever knows one of the secrets can verify it, and the time is now.
fn assert_signed(request: &Received) {
    let header = |name: &str| request.header(name).unwrap_or_else(|| panic!("no {name}"));
    let (id, signature) = (header("webhook-id"), header("webhook-signature"));
    let sent_s: i64 = header("webhook-timestamp").parse().unwrap();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((now_s - 300..=now_s).contains(&sent_s), "{sent_s} is not now");
    let theirs = [OLD, NEW]
        .map(|secret| Webhook::new(secret).unwrap().sign(id, sent_s, &request.body).unwrap());
    assert_eq!(signature.split(' ').collect::<Vec<_>>(), theirs);
}

/// The payload, its media type, and nothing but what HTTP and the signature need.
fn assert_bare(request: &Received) {
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(request.header("content-type"), Some("application/json"));
    let known = ["content-length", "content-type", "host", "user-agent"];
    let other: Vec<_> = names
        .iter()
        .filter(|name| !known.contains(*name) && !name.starts_with("webhook-"))
        .collect();
    assert!(other.is_empty(), "more than the payload: {other:?}");
    assert!(documents(request)[0]["n"].is_u64());
}

/// The JSON format of CloudEvents 1.0; says whether it is a batch.
fn assert_structured(request: &Received) -> bool {
    let is_batch = request.body.starts_with(b"[");
    let documents = documents(request);
    let (kind, id) = match is_batch {
        false => ("application/cloudevents+json", None),
        true => (
            "application/cloudevents-batch+json",
            (documents.len() > 1)
                .then(|| format!("{}+{}", documents[0]["id"].as_str().unwrap(), documents.len())),
        ),
    };
    assert_eq!(request.header("content-type"), Some(kind));
    let id = id.unwrap_or_else(|| documents[0]["id"].as_str().unwrap().to_owned());
    assert_eq!(request.header("webhook-id"), Some(&*id));
    for document in &documents {
        assert_is_event(document.as_object().expect("an event is an object"));
    }
    is_batch
}

/// Required attributes are texts that are not empty, names are lower-case letters and digits, and
/// there is at most one kind of data.
fn assert_is_event(event: &Map<String, Value>) {
    assert_eq!(event["specversion"], "1.0");
    for required in ["id", "source", "type"] {
        assert!(event[required].as_str().is_some_and(|text| !text.is_empty()), "{event:?}");
    }
    for (name, value) in event.iter().filter(|(name, _)| *name != "data") {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        assert!(name == "data_base64" || name.bytes().all(is_plain), "{name}");
        assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{name}: {value}");
    }
    assert!(event.contains_key("data") && !event.contains_key("data_base64"), "{event:?}");
    let is_gap = event["type"] == "pgherald.gap";
    assert_eq!(event.contains_key("partitionkey"), !is_gap, "{event:?}");
    // A notification that is JSON is embedded.
    assert!(event["data"].is_object(), "{event:?}");
}
