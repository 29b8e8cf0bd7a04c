use serde_json::{Value, json};

use super::*;

fn body(envelope: Envelope, binding: Binding, message: &Message) -> Option<Bytes> {
    wrapper(envelope, binding).body(message).unwrap()
}

fn text(content_type: &str, payload: &[u8]) -> Message {
    Message { content_type: ContentType::TextAs(content_type.into()), ..message(payload) }
}

fn bytes(content_type: &str, payload: &[u8]) -> Message {
    Message { content_type: ContentType::BytesAs(content_type.into()), ..message(payload) }
}

#[test]
fn binary_and_none_share_the_payload() {
    let message = message(b"payload");
    let Body::Payload(payload) = &message.body else { unreachable!() };
    for binding in BINDINGS {
        for envelope in [Envelope::Binary, Envelope::None] {
            let body = body(envelope, binding, &message).unwrap();
            assert_eq!(body.as_ptr(), payload.as_ptr(), "not a copy");
            assert_eq!(body, payload);
        }
    }
}

#[test]
fn a_tombstone_is_null_on_kafka_and_empty_elsewhere() {
    for envelope in [Envelope::Binary, Envelope::None] {
        assert_eq!(body(envelope, Binding::Kafka, &tombstone()), None);
        assert_eq!(body(envelope, Binding::Nats, &tombstone()), Some(Bytes::new()));
        assert_eq!(body(envelope, Binding::Http, &tombstone()), Some(Bytes::new()));
    }
}

#[test]
fn a_gap_is_its_json() {
    let gap = gap_of(&["a"]);
    for (binding, envelope) in [(Binding::Kafka, Envelope::None), (Binding::Nats, Envelope::Binary)]
    {
        let body = body(envelope, binding, &gap).unwrap();
        assert_eq!(body, gap.gap().unwrap().to_json());
    }
    let document = document(&gap);
    assert_eq!(document["type"], "pgherald.gap");
    assert_eq!(document["subject"], "a");
    assert_eq!(document["datacontenttype"], "application/json");
    assert_eq!(document["data"]["channels"], json!(["a"]));
    assert_eq!(document["data"]["from"], Value::Null);
}

#[test]
fn a_document_has_every_attribute() {
    let message = Message {
        key: Some(Bytes::from_static(b"k\"1")),
        content_type: ContentType::Json,
        ..message(br#" {"n": 1.10, "big": 12345678901234567890123} "#)
    };
    let text = body(Envelope::Structured, Binding::Kafka, &message).unwrap();
    assert_eq!(
        std::str::from_utf8(&text).unwrap(),
        concat!(
            r#"{"specversion":"1.0","id":"00000000000000ab-7","source":"/pgherald/shop","#,
            r#""type":"pgherald.message","time":"1970-01-01T00:00:01.500000Z","subject":"orders","#,
            r#""partitionkey":"k\"1","datacontenttype":"application/json","#,
            r#""data":{"n": 1.10, "big": 12345678901234567890123}}"#
        )
    );
}

#[test]
fn data_is_what_the_media_type_says() {
    for (content_type, payload, member, value) in [
        ("application/json", &b"[1]"[..], "data", json!([1])),
        ("application/json", b"null", "data", Value::Null),
        ("application/vnd.acme+json", b"\"x\"", "data", json!("x")),
        ("text/plain", b"[1]", "data", json!("[1]")),
        ("text/plain; charset=utf-8", "ü\0\r\n".as_bytes(), "data", json!("ü\0\r\n")),
        ("text/plain", b"", "data", json!("")),
        ("application/xml", b"<a/>", "data", json!("<a/>")),
        ("application/octet-stream", b"x", "data", json!("x")),
        ("application/json", b"{", "data_base64", json!("ew==")),
        ("", b"x", "data", json!("x")),
    ] {
        let document = document(&text(content_type, payload));
        assert_eq!(document[member], value, "{content_type} {payload:?}");
        let members = document.as_object().unwrap().keys().filter(|name| name.starts_with("data"));
        let media_type = usize::from(!content_type.is_empty());
        assert_eq!(members.count(), 1 + media_type, "data and data_base64 exclude each other");
    }
}

#[test]
fn bytes_are_base64_but_for_json() {
    for (content_type, payload, member, value) in [
        ("application/json", &b"[1]"[..], "data", json!([1])),
        ("application/json", b"\xff", "data_base64", json!("/w==")),
        ("text/plain", b"x", "data_base64", json!("eA==")),
        ("application/octet-stream", b"x", "data_base64", json!("eA==")),
    ] {
        let document = document(&bytes(content_type, payload));
        assert_eq!(document[member], value, "{content_type} {payload:?}");
    }
}

#[test]
fn json_that_is_none_travels_as_its_bytes() {
    for payload in [&b""[..], b"{", b"{} {}", b"NaN", b"\"\xff\"", b"1,\"id\":\"forged\""] {
        let document = document(&bytes("application/json", payload));
        assert_eq!(document["datacontenttype"], "application/json");
        assert_eq!(document["id"], "00000000000000ab-7");
        assert_eq!(document.get("data"), None);
        assert!(document["data_base64"].is_string(), "{payload:?}");
    }
}

#[test]
fn a_document_of_a_tombstone_has_no_data() {
    for binding in BINDINGS {
        assert!(body(Envelope::Structured, binding, &tombstone()).is_some());
    }
    let bare = document(&tombstone());
    assert!(!bare.as_object().unwrap().keys().any(|name| name.starts_with("data")));
    let own = document(&with_headers(tombstone(), &[("content-type", "application/json")]));
    assert_eq!(own["datacontenttype"], "application/json");
    assert_eq!(own.get("data"), None);
}

#[test]
fn own_headers_give_type_and_media_type() {
    let own = [("ce-type", "shop.order"), ("content-type", "application/json")];
    let document = document(&with_headers(message(b"{}"), &own));
    assert_eq!(document["type"], "shop.order");
    assert_eq!(document["datacontenttype"], "application/json");
    assert_eq!(document["data"], json!({}));
}
