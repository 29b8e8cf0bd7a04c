//! The configuration as it takes effect: every default written out, no secret.

use toml::Value;

use super::{key::Key, raw::RawConfig, secrets, tree::Tree, url};

/// Writes it as TOML.
pub(super) fn write(raw: &mut RawConfig, tree: &Tree) -> String {
    raw.fill();
    let mut value = Value::try_from(&*raw).expect("a configuration that was read can be written");
    let url = Key::dotted("postgres.url");
    if let (Some(shown), Some(written)) = (
        value.get_mut("postgres").and_then(|postgres| postgres.get_mut("url")),
        tree.get(&url).and_then(serde_json::Value::as_str),
    ) {
        *shown = Value::String(url::redact(written));
    }
    redact(&Key::default(), &mut value);
    toml::to_string(&value).expect("a configuration that was read can be written")
}

fn redact(key: &Key, value: &mut Value) {
    match value {
        Value::String(text) if secrets::is_webhook(key) => *text = url::redact_webhook(text),
        Value::String(text) if text.contains("://") => *text = url::redact(text),
        Value::String(text) if secrets::is_secret(key) => {
            *text = pgherald_core::REDACTED.to_owned();
        }
        Value::Array(list) => list.iter_mut().for_each(|element| redact(key, element)),
        Value::Table(table) => {
            table.iter_mut().for_each(|(name, value)| redact(&key.child(name), value));
        }
        _ => {}
    }
}
