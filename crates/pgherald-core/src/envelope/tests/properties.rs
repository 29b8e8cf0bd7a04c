use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::prelude::*;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::*;
use crate::media_type;

/// What a consumer makes of a document.
#[derive(Deserialize)]
struct Consumed {
    subject: Option<String>,
    partitionkey: Option<String>,
    datacontenttype: Option<String>,
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    data_base64: Option<String>,
}

/// `null` is data, too.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// Texts that try to break out: control characters, percent signs, quotes, anything.
fn text() -> impl Strategy<Value = String> {
    let hostile = "[a-zA-Z\\-_.:%\"\\\\ \r\n\t\0\u{7f}ü€😀]{0,12}";
    prop_oneof![hostile, any::<String>(), "[a-z-]{1,8}"]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let json = prop_oneof![
        Just(" {\"a\":[1.0,1e400,-0]} ".to_owned()),
        Just("null".to_owned()),
        any::<i128>().prop_map(|number| number.to_string()),
        text().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[\\[\\]{}\",:0-9a ]{0,12}",
    ];
    prop_oneof![any::<Vec<u8>>(), text().prop_map(String::into_bytes), json.prop_map(String::into)]
}

fn content_type() -> impl Strategy<Value = ContentType> {
    prop_oneof![
        Just(ContentType::Text),
        Just(ContentType::Json),
        Just(ContentType::Bytes),
        text().prop_map(|other| ContentType::TextAs(other.into())),
        text().prop_map(|other| ContentType::BytesAs(other.into())),
    ]
}

prop_compose! {
    fn any_message()(
        channel in text(),
        key in prop_oneof![any::<Option<Vec<u8>>>(), text().prop_map(|key| Some(key.into()))],
        headers in proptest::collection::vec((text(), text()), 0..4),
        content_type in content_type(),
        payload in payload(),
    ) -> Message {
        Message {
            channel: channel.into(),
            key: key.map(Bytes::from),
            headers: headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            content_type,
            ..message(&payload)
        }
    }
}

fn payload_of(document: Consumed) -> Vec<u8> {
    let is_json = media_type::is_json(document.datacontenttype.as_deref().unwrap_or_default());
    match (document.data, document.data_base64) {
        (Some(json), None) if is_json => json.get().into(),
        (Some(text), None) => serde_json::from_str::<String>(text.get()).unwrap().into(),
        (None, Some(base64)) => BASE64.decode(base64).unwrap(),
        _ => panic!("a document has data or data_base64"),
    }
}

proptest! {
    #[test]
    fn header_lines_cannot_be_broken(message in any_message(), gap in any::<bool>()) {
        let channel = &message.channel;
        let message = match gap {
            true => Message { channel: channel.clone(), ..gap_of(&[channel]) },
            false => message,
        };
        for binding in [Binding::Nats, Binding::Http] {
            for envelope in ENVELOPES {
                let mut all = Vec::new();
                let mut each =
                    |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
                let _ = wrapper(envelope, binding).headers(&message, &mut each);
                for (name, value) in all {
                    prop_assert!(!name.is_empty());
                    prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
                    prop_assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                }
            }
        }
    }

    #[test]
    fn kafka_takes_any_text(message in any_message()) {
        let mut subject = None;
        let wrapper = wrapper(Envelope::Binary, Binding::Kafka);
        let _ = wrapper.headers(&message, &mut |name, value| {
            if name == "ce_subject" {
                subject = Some(value.to_owned());
            }
        });
        prop_assert_eq!(subject.unwrap_or_default(), &*message.channel);
    }

    #[test]
    fn a_document_gives_everything_back(message in any_message()) {
        let body = wrapper(Envelope::Structured, Binding::Nats).body(&message).unwrap().unwrap();
        let document: Consumed = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(document.subject.clone().unwrap_or_default(), &*message.channel);
        if let Some(Ok(key)) = message.key.as_deref().map(std::str::from_utf8) {
            prop_assert_eq!(document.partitionkey.clone().unwrap_or_default(), key);
        }
        let Body::Payload(payload) = &message.body else { unreachable!() };
        let back = payload_of(document);
        prop_assert_eq!(back.trim_ascii(), payload.trim_ascii());
    }
}
