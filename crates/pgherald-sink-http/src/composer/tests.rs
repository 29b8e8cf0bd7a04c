use std::time::{Duration, UNIX_EPOCH};

use http_body_util::BodyExt;
use pgherald_core::{
    BatchLimits, Body, Budget, ContentType, EventNames, Gap, GapReason, Headers, MessageId,
    Problems,
};
use serde_json::{Value, json};

use super::*;
use crate::HttpConfig;

fn composer(envelope: Envelope, more: Value) -> (Composer, Access) {
    let context = FlowContext {
        pipeline: "orders".into(),
        source: "notify",
        sink: "hook".into(),
        channels: None,
        envelope,
        events: EventNames::default(),
        budget: Budget { messages: 100, bytes: 1 << 20 },
        batch: BatchLimits { messages: 10, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1 << 20,
    };
    let mut config = json!({ "url": "https://svc/events" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: HttpConfig = serde_json::from_value(config).unwrap();
    let settings = config.resolve("http", &context, &mut Problems::default()).unwrap();
    let access = settings.access.read().unwrap();
    (Composer::new(Arc::new(settings), &context), access)
}

fn message(n: u32, headers: &[(&str, &str)]) -> Message {
    Message {
        id: MessageId::new(format_args!("5e55-{n}")),
        channel: "orders".into(),
        key: Some(Bytes::from_static("ä b".as_bytes())),
        headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        content_type: ContentType::Json,
        body: Body::Payload(Bytes::from(format!("{{\"n\":{n}}}"))),
        since: UNIX_EPOCH,
    }
}

fn gap() -> Message {
    let gap = Gap {
        channels: ["orders".into()].into(),
        from: None,
        to: UNIX_EPOCH,
        reason: GapReason::Start,
        count: None,
        rejected: None,
    };
    let headers = Headers::default();
    Message { key: None, headers, body: Body::Gap(gap), ..message(0, &[]) }
}

fn request_batch(messages: impl IntoIterator<Item = Message>) -> Vec<Item> {
    let item = |message| Item { job: 0, place: 0, number: 0, alone: false, message };
    messages.into_iter().map(item).collect()
}

/// The headers of a request as text, and its body.
async fn composed(
    (composer, access): &(Composer, Access),
    request_batch: &[Item],
) -> (HeaderMap, Value) {
    let request = composer.compose(access, request_batch, 7).unwrap();
    assert_eq!(request.method(), Method::POST);
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.headers, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_binary_message_is_its_payload_with_its_attributes_as_headers() {
    let composer = composer(Envelope::Binary, json!({}));
    let message = message(7, &[("X-Tenant", "grün"), ("ce-type", "order.paid")]);
    let (headers, body) = composed(&composer, &request_batch([message])).await;
    let expected = [
        ("user-agent", concat!("pgherald/", env!("CARGO_PKG_VERSION"))),
        ("ce-specversion", "1.0"),
        ("ce-id", "5e55-7"),
        ("ce-source", "/pgherald/orders"),
        ("ce-type", "order.paid"),
        ("ce-time", "1970-01-01T00:00:00.000000Z"),
        ("ce-subject", "orders"),
        ("ce-partitionkey", "%C3%A4%20b"),
        ("content-type", "application/json"),
        ("x-tenant", "gr%C3%BCn"),
        ("webhook-id", "5e55-7"),
    ];
    let expected: HeaderMap = expected
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value)))
        .collect();
    assert_eq!((headers, body), (expected, json!({ "n": 7 })));
}

#[tokio::test]
async fn every_request_of_a_batch_sink_is_a_batch() {
    let composer = composer(Envelope::Structured, json!({}));
    let own = [("X-Tenant", "a"), ("Content-Type", "text/plain")];
    for one in [message(1, &[]), message(1, &own), gap()] {
        let id = one.id.to_string();
        let (headers, body) = composed(&composer, &request_batch([one])).await;
        assert_eq!(headers["content-type"], "application/cloudevents-batch+json");
        assert_eq!(headers["webhook-id"], id, "the id of a batch of one is the message's");
        let documents = body.as_array().expect("an array");
        assert_eq!((documents.len(), documents[0]["id"].as_str()), (1, Some(&*id)));
        assert_eq!(headers.get_all("content-type").iter().count(), 1);
    }
    let (headers, _) = composed(&composer, &request_batch([message(1, &own)])).await;
    assert_eq!(headers["x-tenant"], "a", "its own headers stay headers");
    let (headers, body) =
        composed(&composer, &request_batch([message(1, &[]), message(2, &[])])).await;
    assert_eq!(headers["content-type"], "application/cloudevents-batch+json");
    assert_eq!(headers["webhook-id"], "5e55-1+2");
    let ids: Vec<_> = body.as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(ids, ["5e55-1", "5e55-2"]);
}

#[tokio::test]
async fn an_empty_body_says_that_it_is_empty() {
    let composer = composer(Envelope::Binary, json!({}));
    for (body, length) in [
        (Body::Payload(Bytes::new()), Some("0")),
        (Body::Tombstone, Some("0")),
        (Body::Payload(Bytes::from_static(b"x")), None),
    ] {
        let message = Message { body, ..message(1, &[]) };
        let request = composer.0.compose(&composer.1, &request_batch([message]), 7).unwrap();
        let said = request.headers().get("content-length").map(|it| it.to_str().unwrap());
        assert_eq!(said, length, "the client sets any other");
    }
}

#[test]
fn headers_that_receivers_refuse_are_named_with_their_size_as_sent() {
    let composer = composer(Envelope::Binary, json!({}));
    let with_key =
        |key: &str| Message { key: Some(Bytes::from(key.to_owned())), ..message(1, &[]) };
    // Each emoji is twelve bytes when it is encoded.
    let refused =
        composer.0.check(&composer.1, &with_key(&"🎉".repeat(2_000))).unwrap_err().to_string();
    assert!(refused.contains("header ce-partitionkey has 24015 bytes"), "{refused}");
    assert!(refused.contains("http.header_bytes_max = 7500"), "{refused}");
    assert!(composer.0.check(&composer.1, &with_key(&"🎉".repeat(600))).is_ok());
    let value = "v".repeat(7_000);
    let two = composer.0.check(&composer.1, &message(1, &[("x-a", &value), ("x-b", &value)]));
    assert!(two.is_ok(), "{two:?}");
    let three = message(1, &[("x-a", &value), ("x-b", &value), ("x-c", "v")]);
    assert!(composer.0.check(&composer.1, &three).is_ok());
    let three = message(1, &[("x-a", &value), ("x-b", &value), ("x-c", &value[..2_000])]);
    let refused = composer.0.check(&composer.1, &three).unwrap_err().to_string();
    assert!(refused.contains("http.headers_bytes_max = 15000"), "{refused}");
    assert!(refused.contains("the largest is x-"), "{refused}");
    let larger = self::composer(Envelope::Binary, json!({ "headers_bytes_max": 50_000 }));
    assert!(larger.0.check(&larger.1, &three).is_ok());
}

#[test]
fn messages_with_headers_of_their_own_travel_alone() {
    let composer = composer(Envelope::Structured, json!({}));
    assert!(!composer.0.is_alone(&message(1, &[("ce-type", "t"), ("Content-Type", "text/plain")])));
    assert!(composer.0.is_alone(&message(1, &[("x-tenant", "a")])));
}

#[tokio::test]
async fn the_operator_has_the_last_word_and_gaps_their_own_address() {
    let more = json!({
        "headers": { "X-Api-Key": "ours", "user-agent": "us" },
        "gap_url": "https://me:pass@gaps/",
    });
    let composer = composer(Envelope::None, more);
    let message = message(1, &[("x-api-key", "theirs"), ("user-agent", "them")]);
    let (headers, _) = composed(&composer, &request_batch([message])).await;
    assert_eq!(
        (&headers["x-api-key"], &headers["user-agent"]),
        (&"ours".parse().unwrap(), &"us".parse().unwrap())
    );
    assert!(!headers.contains_key("authorization") && !headers.contains_key("ce-id"));
    let gap = request_batch([gap()]);
    assert_eq!(Composer::target(&composer.1, &gap).origin, "https://gaps");
    let (headers, body) = composed(&composer, &gap).await;
    assert_eq!(headers["ce-type"], "pgherald.gap");
    assert_eq!(headers["authorization"], "Basic bWU6cGFzcw==");
    assert_eq!(body["reason"], "start");
}

#[test]
fn a_header_that_http_does_not_take_rejects_and_never_panics() {
    let composer = composer(Envelope::Binary, json!({}));
    let long = "x".repeat(70_000);
    for name in
        ["", "a b", "ü", "transfer-encoding", "Upgrade", "te", "expect", "webhook-id", &long]
    {
        let refused = composer.0.check(&composer.1, &message(1, &[(name, "x")]));
        assert!(refused.is_err(), "{name}");
    }
    let many: Vec<(String, String)> = (0..40_000).map(|n| (format!("x-{n}"), "x".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert!(composer.0.check(&composer.1, &message(1, &many)).is_err());
    assert!(
        composer.0.check(&composer.1, &message(1, &[("x", "a\r\nb: c"), ("y", "\u{0}")])).is_ok()
    );
}
