//! What the CloudEvents envelope of a message says, in either mode.

use serde_json::Value;

const GAP: &str = "pgherald.gap";

/// Whether a message is a gap: by its header in binary mode, by its document in structured mode.
pub(crate) fn is_gap(ce_type: Option<&str>, content_type: Option<&str>, body: &[u8]) -> bool {
    if !content_type.is_some_and(|text| text.starts_with("application/cloudevents")) {
        return ce_type == Some(GAP);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Array(batch)) => batch.iter().any(|event| event["type"] == GAP),
        Ok(event) => event["type"] == GAP,
        Err(_) => false,
    }
}
