//! Dead letters as they are printed.

use base64::{Engine, engine::general_purpose::STANDARD};
use pgherald_core::rfc3339;
use pgherald_postgres::{DeadLetterRow, Letter};
use serde_json::{Map, Value, json};

use crate::cli::DeadLetterFormat;

/// One line, without the payload.
pub(super) fn line(kept: &DeadLetterRow) -> String {
    let DeadLetterRow { pipeline, sink, id, channel, payload_bytes, reason, .. } = kept;
    let text = format!(
        "{}  {pipeline}/{sink}  {id}  {}  {channel}  {payload_bytes} bytes  {reason}",
        rfc3339(kept.created_at),
        state(kept)
    );
    format!("{}\n", text.replace(char::is_control, " "))
}

/// One JSON object, without the payload.
pub(super) fn document(kept: &DeadLetterRow) -> Value {
    Value::Object(object(kept))
}

/// Everything about one message's dead letters.
pub(super) fn page(letters: &[Letter], format: DeadLetterFormat) -> String {
    match format {
        DeadLetterFormat::Text => letters.iter().map(text).collect::<Vec<_>>().join("\n"),
        DeadLetterFormat::Json => {
            let all: Vec<Value> = letters.iter().map(whole).collect();
            format!("{:#}\n", Value::Array(all))
        }
    }
}

fn state(kept: &DeadLetterRow) -> &'static str {
    match (kept.asked, kept.replayed) {
        (_, true) => "replayed",
        (true, false) => "waiting",
        (false, false) => "kept",
    }
}

fn object(kept: &DeadLetterRow) -> Map<String, Value> {
    let time = |time| rfc3339(time).to_string();
    let fields = json!({
        "pipeline": kept.pipeline,
        "sink": kept.sink,
        "id": kept.id,
        "channel": kept.channel,
        "key": kept.key,
        "content_type": kept.content_type,
        "payload_bytes": kept.payload_bytes,
        "reason": kept.reason,
        "attempts": kept.attempts,
        "state": state(kept),
        "message_time": time(kept.message_time),
        "created_at": time(kept.created_at),
        "first_attempt_at": time(kept.first_attempt_at),
        "last_attempt_at": time(kept.last_attempt_at),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => unreachable!("an object was written"),
    }
}

fn headers(letter: &Letter) -> Value {
    serde_json::from_str(&letter.headers).unwrap_or_default()
}

/// The payload: text as it is, anything else in base64.
fn whole(letter: &Letter) -> Value {
    let mut fields = object(&letter.kept);
    fields.insert("headers".to_owned(), headers(letter));
    let (name, payload) = match &letter.payload {
        None => ("payload", Value::Null),
        Some(payload) => match std::str::from_utf8(payload) {
            Ok(text) => ("payload", text.into()),
            Err(_) => ("payload_base64", STANDARD.encode(payload).into()),
        },
    };
    fields.insert(name.to_owned(), payload);
    Value::Object(fields)
}

/// One field a line; the payload stands last, behind an empty line.
fn text(letter: &Letter) -> String {
    let mut fields = object(&letter.kept);
    fields.insert("headers".to_owned(), headers(letter));
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut page = String::new();
    for (name, value) in fields {
        let value = match value {
            Value::String(text) => text.replace(char::is_control, " "),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        page.push_str(format!("{name:<width$}  {value}").trim_end());
        page.push('\n');
    }
    let payload = match letter.payload.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => "(tombstone)".to_owned(),
        Some((_, Ok(text))) => text.to_owned(),
        Some((bytes, Err(_))) => format!("base64:{}", STANDARD.encode(bytes)),
    };
    format!("{page}\n{payload}\n")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn letter(payload: Option<&[u8]>) -> Letter {
        let kept = DeadLetterRow {
            pipeline: "p".into(),
            sink: "bus".into(),
            id: "1-2".into(),
            channel: "a\nb".into(),
            key: None,
            content_type: Some("text/plain".into()),
            payload_bytes: 2,
            reason: "too\tlarge".into(),
            attempts: 1,
            asked: true,
            replayed: false,
            message_time: UNIX_EPOCH,
            created_at: UNIX_EPOCH,
            first_attempt_at: UNIX_EPOCH,
            last_attempt_at: UNIX_EPOCH,
        };
        Letter { kept, headers: "{\"h\":\"v\"}".into(), payload: payload.map(Vec::from) }
    }

    #[test]
    fn a_line_has_no_payload_and_is_one_line() {
        assert_eq!(
            line(&letter(Some(b"secret")).kept),
            "1970-01-01T00:00:00.000000Z  p/bus  1-2  waiting  a b  2 bytes  too large\n"
        );
    }

    #[test]
    fn a_payload_is_text_or_base64_or_none() {
        let json = |payload| whole(&letter(payload));
        assert_eq!(json(Some(b"x\n"))["payload"], "x\n");
        assert_eq!(json(Some(&[255]))["payload_base64"], "/w==");
        assert_eq!(json(None)["payload"], Value::Null);
        assert!(text(&letter(Some(b"x\n"))).ends_with("\n\nx\n\n"));
        assert!(text(&letter(Some(&[255]))).ends_with("\n\nbase64:/w==\n"));
        assert!(text(&letter(None)).ends_with("\n\n(tombstone)\n"));
        let all: Value =
            serde_json::from_str(&page(&[letter(None)], DeadLetterFormat::Json)).unwrap();
        assert_eq!((&all[0]["headers"]["h"], &all[0]["state"]), (&"v".into(), &"waiting".into()));
    }
}
