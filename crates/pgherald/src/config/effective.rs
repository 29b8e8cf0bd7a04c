//! The configuration as it takes effect: every default written out, no secret.

use pgherald_core::Secret;
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
    name_files(&mut value, tree);
    toml::to_string(&value).expect("a configuration that was read can be written")
}

/// A secret that is read when it is used is shown as the key that names its file.
fn name_files(value: &mut Value, tree: &Tree) {
    for (mut key, named) in tree.leaves() {
        if key.0.pop().is_none_or(|name| name != Secret::IN_FILE) {
            continue;
        }
        let (Some(name), Some(path)) = (key.0.pop(), named.get(1).and_then(|path| path.as_str()))
        else {
            continue;
        };
        let table = key.0.iter().try_fold(&mut *value, |value, name| value.get_mut(name));
        if let Some(table) = table.and_then(Value::as_table_mut) {
            table.remove(&name);
            table.insert(name + "_file", Value::String(path.to_owned()));
        }
    }
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
