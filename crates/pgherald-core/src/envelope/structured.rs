//! Structured mode: one CloudEvents JSON document.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::attributes::{Attributes, SPECVERSION};
use crate::{Body, Gap, Message, event_names::Rendered, media_type};

/// A CloudEvents JSON document; what is `None` is left out.
struct Document<'m> {
    attributes: Attributes<'m>,
    data: Option<Data<'m>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'m> {
    /// Embedded as it was written: numbers keep every digit.
    Json(&'m RawValue),
    Text(&'m str),
    Gap(&'m Gap),
    Base64(String),
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attributes = &self.attributes;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", SPECVERSION)?;
        map.serialize_entry("id", attributes.id)?;
        map.serialize_entry("source", attributes.source)?;
        map.serialize_entry("type", &attributes.type_)?;
        map.serialize_entry("time", attributes.time.as_str())?;
        if let Some(subject) = attributes.subject {
            map.serialize_entry("subject", subject)?;
        }
        if let Some(key) = &attributes.partitionkey {
            map.serialize_entry("partitionkey", key)?;
        }
        for (name, value) in attributes.more() {
            map.serialize_entry(&name, value)?;
        }
        if let Some(content_type) = attributes.content_type {
            map.serialize_entry("datacontenttype", content_type)?;
        }
        if let Some(data) = &self.data {
            let is_base64 = matches!(data, Data::Base64(_));
            map.serialize_entry(if is_base64 { "data_base64" } else { "data" }, data)?;
        }
        map.end()
    }
}

/// The document of a message.
pub(super) fn document(names: &Rendered, message: &Message) -> Bytes {
    let attributes = Attributes::of(message, names);
    let data = data(message, attributes.content_type);
    let document = Document { attributes, data };
    let mut text = Vec::with_capacity(message.size() + 512);
    serde_json::to_writer(&mut text, &document).expect("a document has only texts and JSON");
    text.into()
}

fn data<'m>(message: &'m Message, content_type: Option<&str>) -> Option<Data<'m>> {
    match &message.body {
        Body::Payload(payload) => Some(
            as_json(message, payload, content_type.unwrap_or_default())
                .unwrap_or_else(|| Data::Base64(BASE64.encode(payload))),
        ),
        Body::Gap(gap) => Some(Data::Gap(gap)),
        Body::Tombstone | Body::Oversize(_) | Body::Unreadable(_) => None,
    }
}

/// The payload as JSON, where it can be said as JSON without changing it.
fn as_json<'m>(message: &Message, payload: &'m [u8], content_type: &str) -> Option<Data<'m>> {
    if media_type::is_json(content_type) {
        return serde_json::from_slice(payload).ok().map(Data::Json);
    }
    let text = std::str::from_utf8(payload).ok()?;
    message.content_type.is_text().then_some(Data::Text(text))
}
