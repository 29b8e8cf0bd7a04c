//! Binary mode: the attributes as headers.

use super::{
    Binding,
    attributes::{Attributes, CONTENT_TYPE_HEADER, SPECVERSION},
};
use crate::percent;

/// The names of the attributes' headers under one binding.
struct Names {
    specversion: &'static str,
    id: &'static str,
    source: &'static str,
    type_: &'static str,
    time: &'static str,
    subject: &'static str,
    partitionkey: &'static str,
}

const UNDERSCORES: Names = Names {
    specversion: "ce_specversion",
    id: "ce_id",
    source: "ce_source",
    type_: "ce_type",
    time: "ce_time",
    subject: "ce_subject",
    partitionkey: "ce_partitionkey",
};

const DASHES: Names = Names {
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
    source: &str,
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
    give(names.source, source);
    give(names.type_, attributes.type_);
    give(names.time, attributes.time.as_str());
    if let Some(subject) = attributes.subject {
        give(names.subject, subject);
    }
    if let Some(key) = &attributes.partitionkey {
        give(names.partitionkey, key);
    }
}

/// Gives the media type of the payload, if there is one.
pub(super) fn content_type(
    binding: Binding,
    attributes: &Attributes<'_>,
    each: &mut dyn FnMut(&str, &str),
) {
    let Some(content_type) = attributes.content_type else { return };
    match binding {
        Binding::Kafka => each(CONTENT_TYPE_HEADER, content_type),
        // As on HTTP, printable ASCII stays readable: consumers compare it with a media type.
        Binding::Nats => each(NATS_CONTENT_TYPE, &percent::header(content_type)),
        Binding::Http => each(CONTENT_TYPE_HEADER, &percent::header(content_type)),
    }
}
