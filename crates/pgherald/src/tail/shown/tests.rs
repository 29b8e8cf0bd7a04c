//! What a reader gets.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use pgherald_core::{ContentType, GapReason, Headers, MessageId};

use super::*;

const HOSTILE: &str = "\u{1b}[2J\n\u{9b}31m\u{202e}ü";

fn shown(format: TailFormat, terminal: bool) -> Shown {
    Shown { format, terminal, colour: terminal }
}

fn entry(body: Body) -> Entry {
    let headers: Headers = [("h".into(), HOSTILE.into())].into_iter().collect();
    let message = Message {
        id: MessageId::new(format_args!("1-2")),
        channel: "or\nders".into(),
        key: Some("k\u{1b}".into()),
        headers,
        content_type: ContentType::Text,
        body,
        since: UNIX_EPOCH,
    };
    Entry::Message { pipeline: "p".into(), message }
}

fn payload(bytes: &'static [u8]) -> Entry {
    entry(Body::Payload(bytes.into()))
}

fn gap() -> Entry {
    Entry::Gap(Gap {
        channels: ["a".into(), "b\n".into()].into(),
        from: Some(UNIX_EPOCH),
        to: UNIX_EPOCH + Duration::from_secs(1),
        reason: GapReason::Disconnect,
        count: None,
        rejected: None,
    })
}

fn json(entry: &Entry) -> Value {
    let line = shown(TailFormat::Json, false).line(entry);
    assert_eq!(line.lines().count(), 1, "{line}");
    serde_json::from_str(&line).unwrap()
}

#[test]
fn json_has_every_field_and_a_payload_is_text_or_base64_or_none() {
    let text = json(&payload(b"x\ny"));
    let expected = json!({
        "id": "1-2", "time": "1970-01-01T00:00:00.000000Z", "pipeline": "p",
        "channel": "or\nders", "key": "k\u{1b}", "headers": { "h": HOSTILE },
        "content_type": "text/plain; charset=utf-8", "payload_bytes": 3, "payload": "x\ny",
    });
    assert_eq!(text, expected);
    let bytes = json(&payload(&[255]));
    assert_eq!((&bytes["payload_base64"], bytes.get("payload")), (&"/w==".into(), None));
    let tombstone = json(&entry(Body::Tombstone));
    assert_eq!(tombstone.get("payload"), Some(&Value::Null));
    assert_eq!(tombstone["content_type"], Value::Null);
    let large = json(&entry(Body::Oversize(9)));
    assert_eq!((large.get("payload"), &large["payload_bytes"]), (None, &9.into()));
    assert_eq!(json(&entry(Body::Unreadable("why".into())))["unreadable"], "why");
    assert_eq!(json(&gap())["gap"]["reason"], "disconnect");
    let unseen = Entry::Unseen { table: "t".into(), ids: 2, first: 3, last: 5 };
    assert_eq!(json(&unseen)["unseen"]["ids"], 2);
    assert_eq!(json(&Entry::Anew { table: "t".into() })["anew"]["table"], "t");
}

/// What this command itself prints in colour is the only thing a terminal obeys.
fn obeyed(line: &str) -> String {
    let colours = [TIME, PLACE, KEY, MISSED, "0"].map(|colour| format!("\u{1b}[{colour}m"));
    let rest = colours.iter().fold(line.to_owned(), |line, colour| line.replace(colour, ""));
    rest.chars().filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}').collect()
}

#[test]
fn no_control_character_of_a_message_reaches_a_terminal() {
    let hostile: Arc<str> = HOSTILE.into();
    let unseen = Entry::Unseen { table: hostile, ids: 1, first: 1, last: 1 };
    let entries =
        [payload(HOSTILE.as_bytes()), entry(Body::Unreadable(HOSTILE.into())), gap(), unseen];
    for format in [TailFormat::Text, TailFormat::Json, TailFormat::Headers] {
        for entry in &entries {
            let line = shown(format, true).line(entry);
            assert_eq!(obeyed(&line), "", "{line:?}");
            let is_page = format == TailFormat::Headers && matches!(entry, Entry::Message { .. });
            assert!(line.ends_with('\n') && (is_page || line.lines().count() == 1), "{line:?}");
        }
    }
    let coloured = shown(TailFormat::Text, true).line(&payload(b"x"));
    assert!(coloured.contains("\u{1b}[36mp/or\\nders\u{1b}[0m"), "{coloured:?}");
}

#[test]
fn text_is_one_line_and_headers_leave_the_payload_out() {
    let text = |entry| shown(TailFormat::Text, false).line(&entry);
    let line = "1970-01-01T00:00:00.000000Z  p/or\\nders  [k\\u001b]  x\\ny\n";
    assert_eq!(text(payload(b"x\ny")), line);
    assert!(text(payload(&[255])).ends_with("  base64:/w==\n"));
    assert!(text(entry(Body::Tombstone)).ends_with("  (tombstone)\n"));
    assert!(text(entry(Body::Oversize(2_000_000))).ends_with("  (2000000 bytes, not read)\n"));
    assert!(text(gap()).starts_with("-- gap: disconnect on a, b\\n, from 1970-01-01T00:00:00"));
    let headers = shown(TailFormat::Headers, false).line(&payload(b"secret"));
    assert!(headers.starts_with("id             1-2\n"), "{headers}");
    assert!(headers.contains("payload_bytes  6\nheader         h: \\u001b[2J\\n"), "{headers}");
    assert!(headers.ends_with("\n\n") && !headers.contains("secret"), "{headers}");
}

/// What a stranger may see of a flow: that something passes, and what is missing.
#[test]
fn without_the_content_a_message_is_only_named() {
    let Entry::Message { message, .. } = payload(b"secret") else { unreachable!() };
    let passed = |message: Message| Seen::Passed {
        pipeline: "p".into(),
        sink: "s".into(),
        message: Box::new(message),
    };
    let json = |seen: &Seen, shows_content| -> Value {
        serde_json::from_str(&seen_line(seen, shows_content)).unwrap()
    };
    let named = json(&passed(message.clone()), false);
    let expected = json!({
        "id": "1-2", "time": "1970-01-01T00:00:00.000000Z", "pipeline": "p", "sink": "s",
        "channel": "or\nders", "content_type": "text/plain; charset=utf-8", "payload_bytes": 6,
    });
    assert_eq!(named, expected);
    let whole = json(&passed(message.clone()), true);
    assert_eq!((&whole["payload"], &whole["key"]), (&"secret".into(), &"k\u{1b}".into()));
    assert_eq!(whole["headers"]["h"], HOSTILE);
    let Entry::Gap(gap) = gap() else { unreachable!() };
    let a_gap = json(&passed(Message { body: Body::Gap(gap), ..message }), false);
    assert_eq!((&a_gap["gap"]["reason"], &a_gap["sink"]), (&"disconnect".into(), &"s".into()));
    assert_eq!(json(&Seen::LeftOut(3), false)["sampled"]["left_out"], 3);
    let rejected = Seen::Rejected {
        pipeline: "p".into(),
        sink: "s".into(),
        id: MessageId::new(format_args!("1-2")),
        channel: "c".into(),
        reason: "too large".into(),
    };
    assert_eq!(json(&rejected, false)["rejected"]["reason"], "too large");
}
