//! Structured mode: one CloudEvents JSON document.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::attributes::{Attributes, SPECVERSION};
use crate::{
    Body, Gap, Message,
    media_type::{self, Nature},
};

/// The media type of a document.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// A CloudEvents JSON document; what is `None` is left out.
#[derive(Serialize)]
struct Document<'m> {
    specversion: &'static str,
    id: &'m str,
    source: &'m str,
    r#type: &'m str,
    time: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitionkey: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'m>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'m> {
    /// Embedded as it was written: numbers keep every digit.
    Json(&'m RawValue),
    Text(&'m str),
    Gap(&'m Gap),
}

/// The document of a message.
pub(super) fn document(source: &str, message: &Message) -> Bytes {
    let attributes = Attributes::of(message);
    let data = data(message, attributes.content_type);
    let document = Document {
        specversion: SPECVERSION,
        id: attributes.id,
        source,
        r#type: attributes.type_,
        time: attributes.time.as_str(),
        subject: attributes.subject,
        partitionkey: attributes.partitionkey.as_deref(),
        datacontenttype: attributes.content_type,
        data_base64: match (&message.body, &data) {
            (Body::Payload(payload), None) => Some(BASE64.encode(payload)),
            _ => None,
        },
        data,
    };
    let mut text = Vec::with_capacity(message.size() + 512);
    serde_json::to_writer(&mut text, &document).expect("a document has only texts and JSON");
    text.into()
}

/// The data as JSON, where it can be said as JSON without changing it.
fn data<'m>(message: &'m Message, content_type: Option<&str>) -> Option<Data<'m>> {
    let payload = match &message.body {
        Body::Payload(payload) => payload,
        Body::Gap(gap) => return Some(Data::Gap(gap)),
        Body::Tombstone | Body::Oversize(_) | Body::Unreadable(_) => return None,
    };
    match media_type::nature(content_type?) {
        Nature::Json => serde_json::from_slice(payload).ok().map(Data::Json),
        Nature::Text => std::str::from_utf8(payload).ok().map(Data::Text),
        Nature::Bytes => None,
    }
}
