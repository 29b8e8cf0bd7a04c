//! A message's own headers: which may travel, and how.

use std::borrow::Cow;

use super::{Binding, percent};

/// What an own header is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnHeader {
    /// `ce-type`: becomes the CloudEvents type, and does not travel by itself.
    EventType,
    /// `content-type`: becomes the media type of the payload.
    ContentType,
    /// Travels under its own name.
    Plain,
}

/// A header of the message's own cannot travel.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("its header \"{0}\" is reserved")]
    Reserved(String),
    #[error("its header name {0:?} is not legal at this destination")]
    IllegalName(String),
}

const RESERVED_PREFIXES: [&str; 4] = ["ce_", "ce-", "nats-", "webhook-"];
const RESERVED_NAMES: [&str; 5] =
    ["host", "content-length", "transfer-encoding", "connection", "authorization"];

pub(super) fn classify(name: &str, binding: Binding) -> Result<OwnHeader, HeaderError> {
    if name.eq_ignore_ascii_case("ce-type") {
        return Ok(OwnHeader::EventType);
    }
    let begins = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if RESERVED_PREFIXES.iter().any(begins)
        || RESERVED_NAMES.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
    {
        return Err(HeaderError::Reserved(name.to_owned()));
    }
    if !is_legal(name, binding) {
        return Err(HeaderError::IllegalName(name.to_owned()));
    }
    if name.eq_ignore_ascii_case("content-type") {
        return Ok(OwnHeader::ContentType);
    }
    Ok(OwnHeader::Plain)
}

fn is_legal(name: &str, binding: Binding) -> bool {
    match binding {
        Binding::Kafka => !name.is_empty(),
        Binding::Nats | Binding::Http => !name.is_empty() && name.bytes().all(is_token),
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An own value as it travels: on NATS and HTTP printable ASCII as it is, any other encoded whole.
pub(super) fn value(value: &str, binding: Binding) -> Cow<'_, str> {
    match binding {
        Binding::Kafka => value.into(),
        Binding::Nats | Binding::Http if value.bytes().all(|b| matches!(b, b' '..=b'~')) => {
            value.into()
        }
        Binding::Nats | Binding::Http => percent::encoded(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_compared_without_case() {
        let reserved = [
            "ce_id",
            "CE-Id",
            "Nats-Msg-Id",
            "nats-x",
            "Webhook-Id",
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "AUTHORIZATION",
        ];
        for name in reserved {
            for binding in [Binding::Kafka, Binding::Nats, Binding::Http] {
                assert!(classify(name, binding).is_err(), "{name}");
            }
        }
        assert_eq!(classify("CE-Type", Binding::Nats).unwrap(), OwnHeader::EventType);
        assert_eq!(classify("Content-Type", Binding::Http).unwrap(), OwnHeader::ContentType);
        assert_eq!(classify("hosts", Binding::Http).unwrap(), OwnHeader::Plain);
    }

    #[test]
    fn names_are_tokens_where_the_protocol_wants_tokens() {
        assert!(classify("a b", Binding::Kafka).is_ok());
        assert!(classify("größe", Binding::Kafka).is_ok());
        for name in ["a b", "größe", "a:b", "a\r\nb", ""] {
            assert!(classify(name, Binding::Nats).is_err(), "{name:?}");
        }
    }

    #[test]
    fn printable_values_stay_and_others_are_encoded_whole() {
        assert_eq!(value("50 % \"off\"", Binding::Nats), "50 % \"off\"");
        assert_eq!(value("50 % ü", Binding::Nats), "50%20%25%20%C3%BC");
        assert_eq!(value("a\r\nb", Binding::Http), "a%0D%0Ab");
        assert_eq!(value("50 % ü", Binding::Kafka), "50 % ü");
    }
}
