use super::*;

#[test]
fn kafka_binary() {
    let message = Message { key: Some(Bytes::from_static(b"customer 7")), ..message(b"hi") };
    let message = with_headers(message, &[("Tenant", "größe")]);
    assert_eq!(
        lines(Envelope::Binary, Binding::Kafka, &message),
        [
            "ce_specversion: 1.0",
            "ce_id: 00000000000000ab-7",
            "ce_source: /pgherald/shop",
            "ce_type: pgherald.message",
            "ce_time: 1970-01-01T00:00:01.500000Z",
            "ce_subject: orders",
            "ce_partitionkey: customer 7",
            "content-type: text/plain; charset=utf-8",
            "Tenant: größe",
        ]
    );
}

#[test]
fn nats_binary() {
    let message = Message {
        key: Some(Bytes::from_static(b"customer 7")),
        channel: "größe".into(),
        ..message(b"hi")
    };
    let message = with_headers(message, &[("Tenant", "100 % \"us\""), ("City", "Köln")]);
    assert_eq!(
        lines(Envelope::Binary, Binding::Nats, &message),
        [
            "ce-specversion: 1.0",
            "ce-id: 00000000000000ab-7",
            "ce-source: /pgherald/shop",
            "ce-type: pgherald.message",
            "ce-time: 1970-01-01T00:00:01.500000Z",
            "ce-subject: gr%C3%B6%C3%9Fe",
            "ce-partitionkey: customer%207",
            "ce-datacontenttype: text/plain; charset=utf-8",
            "Tenant: 100 % \"us\"",
            "City: K%C3%B6ln",
        ]
    );
}

#[test]
fn http_binary_differs_from_nats_in_the_content_type_alone() {
    let message = with_headers(message(b"hi"), &[("tenant", "a\r\nb")]);
    let http = lines(Envelope::Binary, Binding::Http, &message);
    let mut nats = lines(Envelope::Binary, Binding::Nats, &message);
    let place = nats.iter().position(|line| line.starts_with("ce-datacontenttype")).unwrap();
    nats[place] = "content-type: text/plain; charset=utf-8".into();
    assert_eq!(http, nats);
    assert_eq!(http.last().unwrap(), "tenant: a%0D%0Ab");
}

#[test]
fn the_message_names_its_own_type_and_content_type() {
    let own = [("CE-Type", "shop.order"), ("Content-Type", "application/xml"), ("x", "y")];
    let message = with_headers(message(b"<a/>"), &own);
    let kafka = lines(Envelope::Binary, Binding::Kafka, &message);
    assert_eq!(kafka[3], "ce_type: shop.order");
    assert_eq!(kafka[6..], ["content-type: application/xml", "x: y"]);
    let nats = lines(Envelope::Binary, Binding::Nats, &message);
    assert_eq!(nats[6..], ["ce-datacontenttype: application/xml", "x: y"]);
    let structured = lines(Envelope::Structured, Binding::Nats, &message);
    let content_type = "content-type: application/cloudevents+json";
    assert_eq!(structured, [content_type, "x: y"]);
}

#[test]
fn empty_ones_count_as_missing() {
    let message = Message { channel: "".into(), key: Some(Bytes::new()), ..message(b"hi") };
    let message = with_headers(message, &[("ce-type", ""), ("content-type", "")]);
    let lines = lines(Envelope::Binary, Binding::Kafka, &message);
    assert_eq!(lines[3], "ce_type: pgherald.message");
    assert_eq!(lines[5..], ["content-type: text/plain; charset=utf-8"]);
}

#[test]
fn content_types_of_payloads() {
    for (content_type, text) in [
        (ContentType::Json, "application/json"),
        (ContentType::Bytes, "application/octet-stream"),
        (ContentType::BytesAs("image/png".into()), "image/png"),
    ] {
        let message = Message { content_type, ..message(b"hi") };
        let last = lines(Envelope::Binary, Binding::Http, &message).pop().unwrap();
        assert_eq!(last, format!("content-type: {text}"));
    }
}

#[test]
fn a_key_that_is_not_text_stands_in_base64() {
    let message = Message { key: Some(Bytes::from_static(b"\xff\x00\x01")), ..message(b"hi") };
    for (binding, line) in
        [(Binding::Kafka, "ce_partitionkey: /wAB"), (Binding::Nats, "ce-partitionkey: /wAB")]
    {
        assert_eq!(lines(Envelope::Binary, binding, &message)[6], line);
    }
}

#[test]
fn structured_is_the_same_on_every_sink() {
    let message = with_headers(message(b"hi"), &[("tenant", "acme")]);
    for binding in BINDINGS {
        assert_eq!(
            lines(Envelope::Structured, binding, &message),
            ["content-type: application/cloudevents+json", "tenant: acme"]
        );
    }
}

#[test]
fn none_has_the_messages_own_headers_and_a_media_type_that_is_set() {
    let own = [("Content-Type", "text/csv"), ("ce-type", "t"), ("ce-tenant", "x"), ("a", "b")];
    let set = |content_type: ContentType| Message { content_type, ..message(b"hi") };
    for binding in [Binding::Kafka, Binding::Nats] {
        let lines = |message: &Message| lines(Envelope::None, binding, message);
        for by_default in [ContentType::Text, ContentType::Json, ContentType::Bytes] {
            assert!(lines(&set(by_default)).is_empty());
        }
        let xml = set(ContentType::TextAs("application/xml".into()));
        assert_eq!(lines(&xml), ["content-type: application/xml"]);
        assert_eq!(lines(&with_headers(xml, &own)), ["content-type: text/csv", "a: b"]);
    }
    let lines = |message: &Message| lines(Envelope::None, Binding::Http, message);
    assert_eq!(lines(&message(b"hi")), ["content-type: text/plain; charset=utf-8"]);
    assert_eq!(lines(&set(ContentType::Json)), ["content-type: application/json"]);
    assert_eq!(lines(&with_headers(message(b"hi"), &own)), ["content-type: text/csv", "a: b"]);
    assert!(lines(&tombstone()).is_empty());
}

#[test]
fn the_pipeline_and_the_message_name_attributes() {
    let config = EventNamesConfig {
        source: Some("https://shop/{pipeline}".to_owned()),
        r#type: Some("com.shop.{channel}".to_owned()),
    };
    let events = config.resolve("c", &mut Problems::default()).unwrap();
    let wrapped = |binding, message: &Message| {
        let mut all = Vec::new();
        let mut each = |name: &str, value: &str| all.push(format!("{name}: {value}"));
        named(Envelope::Binary, binding, events.clone()).headers(message, &mut each).unwrap();
        all
    };
    let lines = wrapped(Binding::Kafka, &message(b"hi"));
    assert_eq!(lines[2..4], ["ce_source: https://shop/shop", "ce_type: com.shop.orders"]);
    let gap = wrapped(Binding::Kafka, &gap_of(&["a"]));
    assert_eq!(gap[2..4], ["ce_source: https://shop/shop", "ce_type: pgherald.gap"]);
    let own = [
        ("ce-source", "/eu"),
        ("CE-Tenant", "größe"),
        ("ce-subject", "order 7"),
        ("ce-dataschema", "https://schemas/order"),
        ("ce-tenant", "second"),
        ("ce-empty", ""),
        ("x", "y"),
    ];
    let own = with_headers(message(b"hi"), &own);
    let lines = wrapped(Binding::Nats, &own);
    assert_eq!(lines[2..4], ["ce-source: /eu", "ce-type: com.shop.orders"]);
    assert_eq!(
        lines[5..],
        [
            "ce-subject: order%207",
            "ce-tenant: gr%C3%B6%C3%9Fe",
            "ce-dataschema: https://schemas/order",
            "ce-datacontenttype: text/plain; charset=utf-8",
            "x: y"
        ]
    );
    assert_eq!(wrapped(Binding::Kafka, &own)[6], "ce_tenant: größe");
    let document = document(&own);
    assert_eq!((&document["tenant"], &document["source"]), (&"größe".into(), &"/eu".into()));
    assert_eq!(document["dataschema"], "https://schemas/order");
    assert_eq!(document.get("empty"), None);
}

#[test]
fn attributes_that_cloudevents_does_not_take_are_refused() {
    let of = |name: &str, value: &str| {
        refusal(Envelope::None, Binding::Kafka, &with_headers(message(b""), &[(name, value)]))
    };
    for name in ["ce-", "ce-a_b", "ce-a-b", "ce-größe", &format!("ce-{}", "a".repeat(21))] {
        assert_eq!(of(name, "x"), Some(WrapError::IllegalAttribute(name.into())), "{name}");
    }
    for name in ["ce-x", "CE-X9", &format!("ce-{}", "a".repeat(20))] {
        assert_eq!(of(name, "x"), None, "{name}");
    }
    for (name, value) in [
        ("ce-x", "a\nb"),
        ("ce-type", "\u{85}"),
        ("ce-source", "my shop"),
        ("ce-dataschema", "größe"),
    ] {
        let refused = of(name, value).unwrap().to_string();
        assert!(refused.contains(name) && !refused.contains(value), "{refused}");
    }
}

#[test]
fn a_tombstone_has_no_content_type_but_its_own() {
    for binding in BINDINGS {
        let lines_of = |message: &Message| lines(Envelope::Binary, binding, message);
        let bare = lines_of(&tombstone());
        assert!(!bare.iter().any(|line| line.contains("contenttype") || line.contains("content-")));
        let own = with_headers(tombstone(), &[("content-type", "text/csv")]);
        assert!(lines_of(&own).last().unwrap().ends_with("type: text/csv"));
    }
}

#[test]
fn a_gap_carries_its_attributes_but_in_structured_mode() {
    for binding in BINDINGS {
        let gap = Message { key: Some(Bytes::from_static(b"k")), ..gap_of(&["a"]) };
        let gap = with_headers(gap, &[("host", "x"), ("ce-type", "y"), ("ce-tenant", "z")]);
        let binary = lines(Envelope::Binary, binding, &gap);
        assert!(binary.iter().any(|line| line.ends_with("type: pgherald.gap")), "{binary:?}");
        assert!(binary.iter().any(|line| line.ends_with("subject: a")), "{binary:?}");
        assert!(binary.last().unwrap().ends_with("type: application/json"), "{binary:?}");
        assert!(!binary.iter().any(|line| line.contains("partitionkey") || line.contains("host")));
        assert!(!binary.iter().any(|line| line.contains("tenant")));
        assert_eq!(lines(Envelope::None, binding, &gap), binary);
        let structured = lines(Envelope::Structured, binding, &gap);
        assert_eq!(structured, ["content-type: application/cloudevents+json"]);
    }
}

#[test]
fn a_gap_has_a_subject_only_with_exactly_one_channel() {
    for channels in [&[][..], &["a", "b"]] {
        let lines = lines(Envelope::Binary, Binding::Kafka, &gap_of(channels));
        assert!(!lines.iter().any(|line| line.starts_with("ce_subject")), "{lines:?}");
    }
}

#[test]
fn reserved_headers_are_refused_everywhere() {
    let reserved = [
        "ce_id",
        "ce_type",
        "CE-Id",
        "ce-time",
        "ce-specversion",
        "ce-DataContentType",
        "ce-partitionkey",
        "ce-data",
        "TE",
        "expect",
        "trailer",
        "Upgrade",
        "keep-alive",
        "Proxy-Authorization",
        "proxy-x",
        "Nats-Msg-Id",
        "nats-x",
        "Webhook-Id",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "AUTHORIZATION",
    ];
    for (binding, envelope) in BINDINGS.into_iter().zip(ENVELOPES) {
        for name in reserved {
            let refused = refusal(envelope, binding, &with_headers(message(b""), &[(name, "x")]));
            assert_eq!(refused, Some(WrapError::Reserved(name.into())), "{name}");
        }
        for name in ["hosts", "cex", "nats", "webhook", "x-ce-id", "tea", "proxy"] {
            assert_eq!(
                refusal(envelope, binding, &with_headers(message(b""), &[(name, "x")])),
                None
            );
        }
    }
}

#[test]
fn names_are_tokens_where_the_protocol_wants_tokens() {
    for name in ["a b", "größe", "a:b", "a\r\nb", "a\0"] {
        let message = with_headers(message(b""), &[(name, "x")]);
        for binding in [Binding::Nats, Binding::Http] {
            let refused = refusal(Envelope::Binary, binding, &message);
            assert_eq!(refused, Some(WrapError::IllegalName(name.into())));
        }
        assert_eq!(refusal(Envelope::Binary, Binding::Kafka, &message), None);
    }
    let nameless = with_headers(message(b""), &[("", "x")]);
    for binding in BINDINGS {
        assert_eq!(refusal(Envelope::None, binding, &nameless), Some(WrapError::Nameless));
    }
}

#[test]
fn an_error_shows_the_beginning_of_a_long_name_only() {
    let long = with_headers(message(b""), &[(&"ü".repeat(10_000), "secret")]);
    let refused = refusal(Envelope::Binary, Binding::Nats, &long).unwrap().to_string();
    assert!(refused.len() < 300 && refused.contains("üü") && !refused.contains("secret"));
}

#[test]
fn what_the_source_could_not_read_is_not_wrapped() {
    let unreadable = Message { body: Body::Unreadable("bad row".into()), ..message(b"") };
    for (binding, envelope) in BINDINGS.into_iter().zip(ENVELOPES) {
        let error = refusal(envelope, binding, &unreadable).unwrap().to_string();
        assert_eq!(error, "the source could not read the message: bad row");
        assert!(wrapper(envelope, binding).body(&unreadable).is_err());
        let oversize = Message { body: Body::Oversize(5_000), ..message(b"") };
        assert!(refusal(envelope, binding, &oversize).unwrap().to_string().contains("5000 bytes"));
        assert!(wrapper(envelope, binding).body(&oversize).is_err());
    }
}
