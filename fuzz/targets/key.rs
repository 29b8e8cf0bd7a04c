//! Keys out of payloads, against serde_json's own JSON pointers.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pgherald_listener::KeyRule;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let (rule, payload) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(rule) = KeyRule::parse(rule) else { return };
    let key = rule.key(&Bytes::from_static(b"channel"), payload);
    match &rule {
        KeyRule::None => assert_eq!(key, None),
        KeyRule::Channel => assert_eq!(key.as_deref(), Some(&b"channel"[..])),
        KeyRule::Json(pointer) => agrees(pointer, payload, key.as_deref()),
    }
});

fn agrees(pointer: &str, payload: &str, key: Option<&[u8]>) {
    // What serde_json does not take as a whole (numbers out of range, for one) is not compared.
    let Ok(document) = serde_json::from_str::<Value>(payload) else { return };
    let text = key.map(|key| std::str::from_utf8(key).expect("a key out of JSON is UTF-8"));
    match document.pointer(pointer) {
        None | Some(Value::Null) => assert_eq!(text, None, "{pointer:?} in {payload:?}"),
        Some(Value::String(found)) => assert_eq!(text, Some(&**found)),
        Some(found) => {
            let text = text.unwrap_or_else(|| panic!("no key at {pointer:?} in {payload:?}"));
            let value: Value = serde_json::from_str(text).expect("the key of a value is JSON");
            assert_eq!(&value, found, "{pointer:?} in {payload:?}");
        }
    }
}
