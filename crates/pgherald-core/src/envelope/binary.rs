//! Binary mode: the attributes as headers.

use super::{
    Binding,
    attributes::{Attributes, SPECVERSION},
    own::CONTENT_TYPE_HEADER,
};
use crate::percent;

/// The names of the attributes' headers under one binding.
struct Names {
    prefix: &'static str,
    specversion: &'static str,
    id: &'static str,
    source: &'static str,
    type_: &'static str,
    time: &'static str,
    subject: &'static str,
    partitionkey: &'static str,
}

const UNDERSCORES: Names = Names {
    prefix: "ce_",
    specversion: "ce_specversion",
    id: "ce_id",
    source: "ce_source",
    type_: "ce_type",
    time: "ce_time",
    subject: "ce_subject",
    partitionkey: "ce_partitionkey",
};

const DASHES: Names = Names {
    prefix: "ce-",
    specversion: "ce-specversion",
    id: "ce-id",
    source: "ce-source",
    type_: "ce-type",
    time: "ce-time",
    subject: "ce-subject",
    partitionkey: "ce-partitionkey",
};

/// On NATS the media type is an attribute like any other; `content-type` there means structured.
const NATS_CONTENT_TYPE: &str = "ce-datacontenttype";

/// Gives every attribute but the media type.
pub(super) fn attributes(
    binding: Binding,
    attributes: &Attributes<'_>,
    each: &mut dyn FnMut(&str, &str),
) {
    let names = match binding {
        Binding::Kafka => &UNDERSCORES,
        Binding::Nats | Binding::Http => &DASHES,
    };
    let mut give = |name: &str, value: &str| match binding {
        Binding::Kafka => each(name, value),
        Binding::Nats | Binding::Http => each(name, &percent::attribute(value)),
    };
    give(names.specversion, SPECVERSION);
    give(names.id, attributes.id);
    give(names.source, attributes.source);
    give(names.type_, &attributes.type_);
    give(names.time, attributes.time.as_str());
    if let Some(subject) = attributes.subject {
        give(names.subject, subject);
    }
    if let Some(key) = &attributes.partitionkey {
        give(names.partitionkey, key);
    }
    for (name, value) in attributes.more() {
        give(&format!("{}{name}", names.prefix), value);
    }
}

/// Gives the media type of the payload as an attribute, if there is one.
pub(super) fn content_type(
    binding: Binding,
    attributes: &Attributes<'_>,
    each: &mut dyn FnMut(&str, &str),
) {
    let Some(content_type) = attributes.content_type else { return };
    let name = match binding {
        Binding::Kafka | Binding::Http => CONTENT_TYPE_HEADER,
        Binding::Nats => NATS_CONTENT_TYPE,
    };
    media_type(binding, name, content_type, each);
}

/// Gives a media type under that name.
pub(super) fn media_type(
    binding: Binding,
    name: &str,
    media_type: &str,
    each: &mut dyn FnMut(&str, &str),
) {
    match binding {
        Binding::Kafka => each(name, media_type),
        // Printable ASCII stays readable: consumers compare it with a media type.
        Binding::Nats | Binding::Http => each(name, &percent::header(media_type)),
    }
}
