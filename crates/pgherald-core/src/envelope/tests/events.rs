//! Messages that are CloudEvents documents already.

use super::*;

const EVENT: &[u8] = br#" {"specversion":"1.0","id":"1","source":"/theirs","type":"t","n":1.10} "#;

fn event(payload: &[u8]) -> Message {
    let content_type = ContentType::TextAs("Application/CloudEvents+JSON; charset=UTF-8".into());
    Message { content_type, key: Some(Bytes::from_static(b"k")), ..message(payload) }
}

fn refused(message: &Message) -> String {
    let refusals: Vec<_> = ENVELOPES
        .into_iter()
        .zip(BINDINGS)
        .map(|(envelope, binding)| refusal(envelope, binding, message))
        .collect();
    assert!(refusals.iter().all(|refusal| refusal == &refusals[0]), "{refusals:?}");
    refusals[0].as_ref().expect("it is refused").to_string()
}

#[test]
fn an_event_passes_as_it_is_under_every_envelope() {
    let by_column = with_headers(event(EVENT), &[("tenant", "a")]);
    let by_header = Message { content_type: ContentType::Bytes, ..message(EVENT) };
    let own = [("content-type", "application/cloudevents+json"), ("tenant", "a")];
    for message in [by_column, with_headers(by_header, &own)] {
        for envelope in ENVELOPES {
            for binding in BINDINGS {
                let lines = lines(envelope, binding, &message);
                assert_eq!(lines, ["content-type: application/cloudevents+json", "tenant: a"]);
                let body = wrapper(envelope, binding).body(&message).unwrap().unwrap();
                assert_eq!(&body[..], EVENT);
            }
        }
    }
}

#[test]
fn what_is_no_event_is_refused_and_says_why() {
    for (payload, why) in [
        (&b"{"[..], "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\"\xff\"", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (br#"["1.0","1","/s","t"]"#, "not a JSON object"),
        (b"1", "not a JSON object"),
        (br#"{"id":"1","source":"/s","type":"t"}"#, "specversion is missing"),
        (br#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#, "specversion is not"),
        (br#"{"specversion":1.0,"id":"1","source":"/s","type":"t"}"#, "specversion is not"),
        (br#"{"specversion":"1.0","source":"/s","type":"t"}"#, "attribute id is missing"),
        (br#"{"specversion":"1.0","id":"1","type":"t"}"#, "attribute source is missing"),
        (br#"{"specversion":"1.0","id":"1","source":"/s"}"#, "attribute type is missing"),
        (br#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "id is empty"),
        (br#"{"specversion":"1.0","id":1,"source":"/s","type":"t"}"#, "id is not a string"),
        (br#"{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}"#, "twice"),
    ] {
        let text = refused(&event(payload));
        assert!(text.contains(why), "{text}");
    }
    let tombstone = with_headers(tombstone(), &[("content-type", "application/cloudevents+json")]);
    assert!(refused(&tombstone).contains("no payload"));
}

#[test]
fn attributes_beside_an_event_and_batches_are_refused() {
    let beside = refused(&with_headers(event(EVENT), &[("a", "b"), ("ce-tenant", "x")]));
    assert!(beside.contains("ce-tenant"), "{beside}");
    let batch = ContentType::TextAs("application/cloudevents-batch+json".into());
    let batch = Message { content_type: batch, ..message(b"[]") };
    assert!(refused(&batch).contains("application/cloudevents-batch+json"));
    let avro = ContentType::BytesAs("Application/CloudEvents+avro; a=b".into());
    let avro = Message { content_type: avro, ..message(b"Obj") };
    let why = refused(&avro);
    assert!(why.contains("\"Application/CloudEvents+avro\""), "{why}");
    assert!(why.contains("as application/cloudevents+json"), "{why}");
    let by_header = [("content-type", "application/cloudevents+protobuf")];
    assert!(refused(&with_headers(message(b"x"), &by_header)).contains("protobuf"));
}
