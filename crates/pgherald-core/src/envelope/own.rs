//! The headers that a message brings along: which of them are attributes, which travel under their
//! own names, and which nobody may set.

use std::borrow::Cow;

use super::{Binding, WrapError};
use crate::{Message, media_type::is_token, percent, uri};

/// The header that names the media type of the payload.
pub(super) const CONTENT_TYPE_HEADER: &str = "content-type";

/// What every header begins with that sets an attribute.
const ATTRIBUTE_PREFIX: &str = "ce-";
/// The longest name of an attribute.
const ATTRIBUTE_NAME_BYTES: usize = 20;
/// Attributes that a header may set beside extensions.
const SOURCE: &str = "source";
const TYPE: &str = "type";
const SUBJECT: &str = "subject";
const DATASCHEMA: &str = "dataschema";
/// Attributes that no header may set: the bridge does, or CloudEvents forbids the name.
const RESERVED_ATTRIBUTES: [&str; 6] =
    ["id", "time", "specversion", "datacontenttype", "partitionkey", "data"];

const RESERVED_PREFIXES: [&str; 4] = ["ce_", "nats-", "webhook-", "proxy-"];
/// What describes the connection or the request, not the message.
const RESERVED_NAMES: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "authorization",
    "te",
    "expect",
    "trailer",
    "upgrade",
    "keep-alive",
];

/// What a header of a message's own is there for.
enum Role<'n> {
    /// Names the media type.
    ContentType,
    /// Sets the attribute of that name, in any case.
    Attribute(&'n str),
    /// Travels under its own name.
    Own,
}

/// Whether a message's own header of that name becomes part of the envelope (an attribute or the
/// media type), and so does not travel as a header of its own.
#[must_use]
pub fn is_attribute_header(name: &str) -> bool {
    matches!(role(name), Role::ContentType | Role::Attribute(_))
}

/// Every header of every message comes by here: most are told by their first letters.
fn role(name: &str) -> Role<'_> {
    match name.as_bytes() {
        [b'c' | b'C', b'e' | b'E', b'-', ..] => Role::Attribute(&name[ATTRIBUTE_PREFIX.len()..]),
        [b'c' | b'C', ..] if name.eq_ignore_ascii_case(CONTENT_TYPE_HEADER) => Role::ContentType,
        _ => Role::Own,
    }
}

/// Whether a header of the message's own sets an attribute.
pub(super) fn has_attributes(message: &Message) -> bool {
    message.headers.iter().any(|(name, _)| matches!(role(name), Role::Attribute(_)))
}

/// Gives the headers that travel under their own names. `content-type` and attributes are consumed:
/// the envelope has said them, or does not know them. `beside_event`: the payload is an event
/// already, and no attribute may stand beside it.
pub(super) fn headers(
    binding: Binding,
    message: &Message,
    beside_event: bool,
    each: &mut dyn FnMut(&str, &str),
) -> Result<(), WrapError> {
    for (name, value) in message.headers.iter() {
        match role(name) {
            Role::ContentType => {}
            Role::Attribute(_) if beside_event => return Err(WrapError::beside_event(name)),
            Role::Attribute(attribute) => check_attribute(name, attribute, value)?,
            Role::Own => {
                check_name(binding, name)?;
                match binding {
                    Binding::Kafka => each(name, value),
                    Binding::Nats | Binding::Http => each(name, &percent::header(value)),
                }
            }
        }
    }
    Ok(())
}

/// The attribute that a header of the message's own sets. The first one counts, and an empty one
/// says nothing.
pub(super) fn attribute<'m>(message: &'m Message, attribute: &str) -> Option<&'m str> {
    let is_it = |name: &str| matches!(role(name), Role::Attribute(named) if named.eq_ignore_ascii_case(attribute));
    let found = message.headers.iter().find(|(name, _)| is_it(name));
    found.map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// `dataschema` and extensions that headers of the message's own set, in their order.
pub(super) fn more_attributes(message: &Message) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let named = |(name, value)| match role(name) {
        Role::Attribute(attribute) if !is_named_in_its_own_way(attribute) => {
            Some((attribute, value))
        }
        _ => None,
    };
    let all = move || message.headers.iter().filter_map(named);
    all().enumerate().filter_map(move |(place, (name, value))| {
        let mut earlier = all().take(place);
        let is_first = !earlier.any(|(known, _)| known.eq_ignore_ascii_case(name));
        (is_first && !value.is_empty()).then(|| (lower_case(name), value))
    })
}

fn is_named_in_its_own_way(attribute: &str) -> bool {
    [SOURCE, TYPE, SUBJECT].iter().any(|name| attribute.eq_ignore_ascii_case(name))
}

fn lower_case(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

/// Whether a header may set that attribute to that value.
fn check_attribute(header: &str, attribute: &str, value: &str) -> Result<(), WrapError> {
    let is = |name: &str| attribute.eq_ignore_ascii_case(name);
    if RESERVED_ATTRIBUTES.iter().any(|name| is(name)) {
        return Err(WrapError::reserved(header));
    }
    let is_legal = (1..=ATTRIBUTE_NAME_BYTES).contains(&attribute.len())
        && attribute.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_legal {
        return Err(WrapError::illegal_attribute(header));
    }
    if value.contains(char::is_control) {
        return Err(WrapError::illegal_value(header, "a control character"));
    }
    if (is(SOURCE) || is(DATASCHEMA)) && !uri::is_reference(value) {
        return Err(WrapError::illegal_value(header, "what no URI may hold"));
    }
    Ok(())
}

fn check_name(binding: Binding, name: &str) -> Result<(), WrapError> {
    if name.is_empty() {
        return Err(WrapError::Nameless);
    }
    if is_reserved(name) {
        return Err(WrapError::reserved(name));
    }
    match binding {
        Binding::Nats | Binding::Http if !name.bytes().all(is_token) => {
            Err(WrapError::illegal_name(name))
        }
        Binding::Kafka | Binding::Nats | Binding::Http => Ok(()),
    }
}

fn is_reserved(name: &str) -> bool {
    let first = name.as_bytes().first().map(u8::to_ascii_lowercase);
    // The first letters of all names below.
    if !first.is_some_and(|first| b"nwpchtaeuk".contains(&first)) {
        return false;
    }
    RESERVED_PREFIXES.iter().any(|prefix| after_prefix(name, prefix).is_some())
        || RESERVED_NAMES.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

fn after_prefix<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let start = name.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &name[prefix.len()..])
}
