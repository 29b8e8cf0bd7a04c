//! What the key of a notification is.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde_json::value::RawValue;

/// Where the key of a message comes from. Payloads are untrusted: a payload that does not have
/// what the rule asks for has no key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyRule {
    /// No key: every message of a channel shares one order.
    None,
    /// The channel's name.
    Channel,
    /// The value at this JSON pointer (RFC 6901) into the payload: a text as it is, anything else
    /// as it was written, without blanks; null or nothing there means no key.
    Json(Box<str>),
}

impl KeyRule {
    /// Parses `none`, `channel` or `json:/pointer/into/payload`.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "channel" => Ok(Self::Channel),
            other => match other.strip_prefix("json:") {
                Some(pointer) => check_pointer(pointer).map(|()| Self::Json(pointer.into())),
                None => Err(format!(
                    "{other:?} is not a key rule: write none, channel or json:/pointer"
                )),
            },
        }
    }

    /// The key of one message.
    #[must_use]
    pub fn key(&self, channel: &Bytes, payload: &str) -> Option<Bytes> {
        match self {
            Self::None => None,
            Self::Channel => Some(channel.clone()),
            Self::Json(pointer) => from_json(pointer, payload),
        }
    }
}

fn from_json(pointer: &str, payload: &str) -> Option<Bytes> {
    let mut value: &RawValue = serde_json::from_str(payload).ok()?;
    for token in pointer.split('/').skip(1) {
        value = member(value, &token.replace("~1", "/").replace("~0", "~"))?;
    }
    match value.get().as_bytes().first()? {
        b'n' => None,
        b'"' => serde_json::from_str::<String>(value.get()).ok().map(Bytes::from),
        b'{' | b'[' => Some(compact(value.get()).into()),
        _ => Some(Bytes::copy_from_slice(value.get().as_bytes())),
    }
}

/// The same JSON without blanks. What is read and written again would lose digits of numbers, and
/// then different keys would be one.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let stays = |c: &char| {
        let stays = in_text || !c.is_ascii_whitespace();
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            _ => {}
        }
        stays
    };
    json.chars().filter(stays).collect()
}

/// Raw values, so that a number keeps its text and what is not asked for is not built.
fn member<'a>(value: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    if value.get().starts_with('[') {
        let place = (name == "0" || !name.starts_with(['0', '+'])).then(|| name.parse().ok())??;
        let list: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        return list.get::<usize>(place).copied();
    }
    let map: HashMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(value.get()).ok()?;
    map.get(name).copied()
}

fn check_pointer(pointer: &str) -> Result<(), String> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(format!("the JSON pointer {pointer:?} must begin with /"));
    }
    let mut escapes = pointer.split('~').skip(1);
    if escapes.any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(format!("the JSON pointer {pointer:?} holds ~ other than in ~0 or ~1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(pointer: &str, payload: &str) -> Option<String> {
        let rule = KeyRule::parse(&format!("json:{pointer}")).unwrap();
        let key = rule.key(&Bytes::from_static(b"c"), payload)?;
        Some(String::from_utf8(key.to_vec()).unwrap())
    }

    #[test]
    fn values_become_keys() {
        let payload = r#"{"a":{"b/c":"x y"},"n":12.50,"big":123456789012345678901234567890,"t":true,"z":null,"o":{ "p" : [1, 2] }}"#;
        assert_eq!(key("/a/b~1c", payload).as_deref(), Some("x y"));
        assert_eq!(key("/n", payload).as_deref(), Some("12.50"));
        assert_eq!(key("/big", payload).as_deref(), Some("123456789012345678901234567890"));
        assert_eq!(key("/t", payload).as_deref(), Some("true"));
        assert_eq!(key("/o", payload).as_deref(), Some(r#"{"p":[1,2]}"#));
        assert_eq!(key("/o/p/1", payload).as_deref(), Some("2"));
        for nothing in ["/z", "/missing", "/n/deeper"] {
            assert_eq!(key(nothing, payload), None, "{nothing}");
        }
        assert_eq!(key("/a", "not json"), None);
        assert_eq!(key("", "\"whole\"").as_deref(), Some("whole"));
    }

    /// Found by fuzzing: read and written again, the first became 3.0000000000000003e303, the
    /// second lost its last digits, and the third, which no float holds, had no key at all.
    #[test]
    fn numbers_inside_a_key_keep_their_digits() {
        for (payload, whole) in [
            (r#"{ "n": 3e303 }"#, r#"{"n":3e303}"#),
            ("[123456789012345678901234567890]", "[123456789012345678901234567890]"),
            ("[1e999,\n 1.50]", "[1e999,1.50]"),
            (r#"{"a \" b" : "c \\", "d":[ ]}"#, r#"{"a \" b":"c \\","d":[]}"#),
        ] {
            assert_eq!(key("", payload).as_deref(), Some(whole));
        }
    }

    #[test]
    fn rules_are_checked() {
        for bad in ["json:a", "json:/a~", "json:/~2", "key", "", "Channel"] {
            assert!(KeyRule::parse(bad).is_err(), "{bad}");
        }
        let channel = KeyRule::parse("channel").unwrap();
        assert_eq!(channel.key(&Bytes::from_static(b"c"), "p"), Some(Bytes::from_static(b"c")));
    }

    proptest! {
        #[test]
        fn no_payload_and_no_pointer_panics(pointer in ".{0,20}", payload in ".{0,200}") {
            if let Ok(rule) = KeyRule::parse(&format!("json:{pointer}")) {
                let _ = rule.key(&Bytes::new(), &payload);
            }
        }
    }
}
