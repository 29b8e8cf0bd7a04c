//! The headers that a message brings along.

use super::{
    Binding, WrapError,
    attributes::{CONTENT_TYPE_HEADER, TYPE_HEADER},
};
use crate::{Message, percent};

const RESERVED_PREFIXES: [&str; 4] = ["ce_", "ce-", "nats-", "webhook-"];
const RESERVED_NAMES: [&str; 5] =
    ["host", "content-length", "transfer-encoding", "connection", "authorization"];

/// Gives the message's own headers. `ce-type` is always consumed, `content-type` only where the
/// envelope says it in its own way.
pub(super) fn headers(
    binding: Binding,
    message: &Message,
    consumes_content_type: bool,
    each: &mut dyn FnMut(&str, &str),
) -> Result<(), WrapError> {
    for (name, value) in message.headers.iter() {
        if name.eq_ignore_ascii_case(TYPE_HEADER)
            || (consumes_content_type && name.eq_ignore_ascii_case(CONTENT_TYPE_HEADER))
        {
            continue;
        }
        check(binding, name)?;
        match binding {
            Binding::Kafka => each(name, value),
            Binding::Nats | Binding::Http => each(name, &percent::header(value)),
        }
    }
    Ok(())
}

fn check(binding: Binding, name: &str) -> Result<(), WrapError> {
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
    let begins = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    RESERVED_PREFIXES.iter().any(begins)
        || RESERVED_NAMES.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

/// What RFC 9110 allows in a token.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
