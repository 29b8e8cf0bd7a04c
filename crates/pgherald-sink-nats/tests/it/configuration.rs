//! Every mistake is named with its key.

use pgherald_sink_nats::NatsConfig;
use serde_json::{Value, json};

use crate::bridge::{context, resolve};

fn problems(changed: Value) -> Vec<String> {
    let mut config = json!({ "servers": "nats://a", "subject": "app.{channel}", "stream": "APP" });
    let table = config.as_object_mut().unwrap();
    table.extend(changed.as_object().unwrap().clone());
    table.retain(|_, value| !value.is_null());
    resolve(&config, &context()).err().unwrap_or_default()
}

#[test]
fn the_smallest_table_is_right() {
    assert_eq!(problems(json!({})), [""; 0]);
    assert_eq!(problems(json!({ "mode": "core", "stream": null })), [""; 0]);
    assert_eq!(problems(json!({ "servers": ["tls://a:1", "b"] })), [""; 0]);
}

#[test]
fn every_mistake_has_its_key() {
    for (changed, key) in [
        (json!({ "servers": null }), "nats.servers"),
        (json!({ "servers": [] }), "nats.servers"),
        (json!({ "servers": "http://a" }), "nats.servers"),
        (json!({ "servers": "nats://" }), "nats.servers"),
        (json!({ "subject": null }), "nats.subject"),
        (json!({ "subject": "{channel}" }), "nats.subject"),
        (json!({ "subject": "app.*.{channel}" }), "nats.subject"),
        (json!({ "subject": "app.>" }), "nats.subject"),
        (json!({ "subject": "app. {channel}" }), "nats.subject"),
        (json!({ "subject": "app..{channel}" }), "nats.subject"),
        (json!({ "subject": ".app.{channel}" }), "nats.subject"),
        (json!({ "subject": "app.{channel}." }), "nats.subject"),
        (json!({ "subject": "app.{nonsense}" }), "nats.subject"),
        (json!({ "stream": null }), "nats.stream"),
        (json!({ "stream": "a.b" }), "nats.stream"),
        (json!({ "mode": "core" }), "nats.stream"),
        (json!({ "mode": "core", "stream": null, "create_stream": true }), "nats.create_stream"),
        (json!({ "gap_subject": "gaps.>" }), "nats.gap_subject"),
        (json!({ "domain": "a.b" }), "nats.domain"),
        (json!({ "mode": "core", "stream": null, "domain": "hub" }), "nats.domain"),
        (json!({ "inbox_prefix": "_INBOX.>" }), "nats.inbox_prefix"),
        (json!({ "gap_subject": "gaps.{channel}" }), "nats.gap_subject"),
        (json!({ "user": "me" }), "nats.password"),
        (json!({ "password": "x" }), "nats.user"),
        (json!({ "token": "x", "user": "me", "password": "x" }), "nats"),
        (json!({ "nkey_file": "x", "credentials_file": "x" }), "nats"),
        (json!({ "tls": { "cert_file": "x" } }), "nats.tls.key_file"),
        (json!({ "tls": { "key_file": "x" } }), "nats.tls.cert_file"),
        (json!({ "subject": "app-{channel}", "create_stream": true }), "nats.create_stream"),
    ] {
        let found = problems(changed.clone());
        let expected = format!("{key}: ");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{changed} gave {found:?}");
    }
}

#[test]
fn several_mistakes_are_told_at_once() {
    let found = problems(json!({ "servers": null, "subject": null, "stream": null, "user": "me" }));
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn unknown_keys_are_refused_and_secrets_stay_secret() {
    assert!(serde_json::from_value::<NatsConfig>(json!({ "sever": "a" })).is_err());
    let secrets = json!({
        "servers": "nats://me:hunter2@a", "password": "hunter3", "token": "hunter4",
    });
    let config: NatsConfig = serde_json::from_value(secrets).unwrap();
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("hunter"), "{shown}");
}
