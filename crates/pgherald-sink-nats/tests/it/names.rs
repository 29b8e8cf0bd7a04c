//! Names are data, and data never forms structure.

use bytes::Bytes;
use pgherald_core::{FlowContext, Message};
use pgherald_sink_nats::NatsSink;
use pgherald_testkit::Nats;
use serde_json::json;

use crate::{
    bridge::{any_channel, fates, message, open, publish, resolve},
    stored::all,
};

async fn outcome_of(subject: &str, messages: Vec<Message>) -> (Vec<String>, Vec<String>) {
    let nats = Nats::start().await.unwrap();
    let config = json!({
        "servers": nats.url(), "subject": subject, "stream": "APP", "create_stream": true,
    });
    let context: FlowContext = any_channel();
    let sink = NatsSink::new(resolve(&config, &context).unwrap(), context);
    let mut writer = open(&sink).await;
    let mut found = Vec::new();
    for message in messages {
        found.extend(fates(&publish(&mut *writer, vec![message]).await));
    }
    let subjects = all(&nats.url()).await.into_iter().map(|stored| stored.subject).collect();
    (found, subjects)
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_become_subjects_and_nothing_else() {
    let longest = "x".repeat(63);
    let names =
        ["plain", "with space", "a.b", "*", ">", "cr\r\nlf", "grüße", "100%", "a*b>c", &longest];
    let messages = names.iter().enumerate().map(|(n, name)| message(n, name)).collect();
    let (found, subjects) = outcome_of("app.{channel}", messages).await;
    assert_eq!(found, [""; 0]);
    let expected = [
        "app.plain",
        "app.with%20space",
        "app.a.b",
        "app.%2A",
        "app.%3E",
        "app.cr%0D%0Alf",
        "app.gr%C3%BC%C3%9Fe",
        "app.100%25",
        "app.a%2Ab%3Ec",
        &format!("app.{longest}"),
    ];
    assert_eq!(subjects, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_tokens_are_rejected() {
    let names = [".", "a..b", ".a", "a.", ""];
    let messages = names.iter().enumerate().map(|(n, name)| message(n, name)).collect();
    let (found, subjects) = outcome_of("app.{channel}", messages).await;
    assert_eq!(found, ["0 rejected"; 5]);
    assert_eq!(subjects, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_have_no_structure_at_all() {
    let keys = ["k", "a.b", "*", ">", "cr\r\nlf", "\u{0}", "ü"];
    let keyed = |(n, key): (usize, &&str)| Message {
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        ..message(n, "a")
    };
    let messages = keys.iter().enumerate().map(keyed).chain([message(9, "a")]).collect();
    let (found, subjects) = outcome_of("app.{key}", messages).await;
    assert_eq!(found, ["0 rejected"], "no key, no subject");
    let expected =
        ["app.k", "app.a%2Eb", "app.%2A", "app.%3E", "app.cr%0D%0Alf", "app.%00", "app.%C3%BC"];
    assert_eq!(subjects, expected);
}
