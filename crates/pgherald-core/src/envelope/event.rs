//! A payload that is a CloudEvents document already, and travels as it is.

use serde::Deserialize;
use serde_json::Value;

use super::{WrapError, attributes::content_type};
use crate::{Body, Message, media_type};

/// Whether the message's media type says that its payload is an event already.
///
/// # Errors
/// It says that the payload is a batch of events, or an event in another format than JSON, which no
/// message may be.
pub(super) fn is_event(message: &Message) -> Result<bool, WrapError> {
    // The usual message says nothing of the kind.
    let may_say_so = message.content_type.is_set() || !message.headers.is_empty();
    if message.gap().is_some() || !may_say_so {
        return Ok(false);
    }
    let Some(media_type) = content_type(message).filter(|it| media_type::may_be_event(it)) else {
        return Ok(false);
    };
    if media_type::is_event_batch(media_type) {
        return Err(WrapError::EventBatch);
    }
    if !media_type::is_event(media_type) {
        return Err(WrapError::event_format(media_type::essence(media_type)));
    }
    Ok(true)
}

/// What must be there; whatever else is there passes unread.
#[derive(Deserialize)]
struct Required {
    specversion: Option<Value>,
    id: Option<Value>,
    source: Option<Value>,
    r#type: Option<Value>,
}

/// Whether the payload is the event that its media type says it is.
///
/// # Errors
/// What is missing or wrong.
pub(super) fn check(message: &Message) -> Result<(), WrapError> {
    let Body::Payload(payload) = &message.body else {
        return Err(no_event("there is no payload"));
    };
    let is_object = payload.trim_ascii_start().first() == Some(&b'{');
    let event: Required = match serde_json::from_slice(payload) {
        Ok(event) if is_object => event,
        Err(error) if error.is_data() && is_object => {
            return Err(no_event(&format!("one of its attributes is there twice: {error}")));
        }
        Err(error) if error.is_syntax() || error.is_eof() => {
            return Err(no_event("the payload is not valid JSON"));
        }
        _ => return Err(no_event("the payload is not a JSON object")),
    };
    match &event.specversion {
        Some(Value::String(version)) if version == "1.0" => {}
        None | Some(Value::Null) => return Err(missing("specversion")),
        Some(_) => return Err(no_event("specversion is not \"1.0\"")),
    }
    for (name, value) in [("id", &event.id), ("source", &event.source), ("type", &event.r#type)] {
        match value {
            Some(Value::String(text)) if !text.is_empty() => {}
            None | Some(Value::Null) => return Err(missing(name)),
            Some(Value::String(_)) => return Err(no_event(&format!("{name} is empty"))),
            Some(_) => return Err(no_event(&format!("{name} is not a string"))),
        }
    }
    Ok(())
}

fn missing(name: &str) -> WrapError {
    no_event(&format!("the required attribute {name} is missing"))
}

fn no_event(why: &str) -> WrapError {
    WrapError::NoEvent(why.into())
}
