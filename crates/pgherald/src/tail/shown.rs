//! Messages as they are printed.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use pgherald_core::{Body, Gap, Message, Seen, rfc3339};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::entry::Entry;
use crate::{
    cli::TailFormat,
    terminal::{for_reader, one_line},
};

/// How entries are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) format: TailFormat,
    /// Standard output is a terminal.
    pub(super) terminal: bool,
    pub(super) colour: bool,
}

/// ANSI colours, by what they are for.
const TIME: &str = "2";
const PLACE: &str = "36";
const KEY: &str = "33";
const MISSED: &str = "1;31";

/// A message as a JSON object. The names are those of `dead-letters show`.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    time: String,
    pipeline: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<&'a str>,
    channel: &'a str,
    content_type: Option<&'a str>,
    payload_bytes: usize,
    #[serde(flatten)]
    content: Option<Content<'a>>,
}

/// What the application wrote: not shown to everybody.
#[derive(Serialize)]
struct Content<'a> {
    key: Option<Cow<'a, str>>,
    headers: Map<String, Value>,
    #[serde(flatten)]
    payload: Map<String, Value>,
}

impl<'a> Document<'a> {
    fn of(pipeline: &'a str, sink: Option<&'a str>, message: &'a Message) -> Self {
        Self {
            id: message.id.as_str(),
            time: rfc3339(message.since).to_string(),
            pipeline,
            sink,
            channel: &message.channel,
            content_type: content_type(message),
            payload_bytes: message.payload_size(),
            content: Some(Content::of(message)),
        }
    }
}

impl<'a> Content<'a> {
    fn of(message: &'a Message) -> Self {
        let header = |(name, value): (&str, &str)| (name.to_owned(), value.into());
        let headers = message.headers.iter().map(header).collect();
        Self { key: key(message), headers, payload: payload_fields(&message.body) }
    }
}

/// One line about a flow of the running bridge. Without its content a message is only named.
pub(crate) fn seen_line(seen: &Seen, shows_content: bool) -> String {
    let json = match seen {
        Seen::Passed { pipeline, sink, message } => match message.gap() {
            Some(gap) => json!({ "gap": gap, "pipeline": pipeline, "sink": sink }).to_string(),
            None => {
                let document = Document::of(pipeline, Some(sink), message);
                let content = document.content.filter(|_| shows_content);
                text_of(&Document { content, ..document })
            }
        },
        Seen::Rejected { pipeline, sink, id, channel, reason } => {
            let (id, pipeline, sink) = (id.as_str(), &**pipeline, &**sink);
            json!({ "rejected": {
                "pipeline": pipeline, "sink": sink, "id": id, "channel": channel, "reason": reason,
            } })
            .to_string()
        }
        Seen::LeftOut(count) => json!({ "sampled": { "left_out": count } }).to_string(),
    };
    json + "\n"
}

fn text_of(document: &Document<'_>) -> String {
    serde_json::to_string(document).expect("texts and numbers")
}

impl Shown {
    /// One entry, with the end of its line.
    pub(super) fn line(&self, entry: &Entry) -> String {
        match (self.format, entry) {
            (TailFormat::Json, entry) => {
                let json = json_of(entry);
                format!("{}\n", for_reader(&json, self.terminal))
            }
            (TailFormat::Text, Entry::Message { pipeline, message }) => {
                self.text(pipeline, message)
            }
            (TailFormat::Headers, Entry::Message { pipeline, message }) => {
                self.headers(pipeline, message)
            }
            (_, missed) => self.painted(MISSED, &format!("-- {}", missed_text(missed))) + "\n",
        }
    }

    fn text(&self, pipeline: &str, message: &Message) -> String {
        let time = self.painted(TIME, &rfc3339(message.since).to_string());
        let place = self.painted(PLACE, &format!("{pipeline}/{}", message.channel));
        let key = key(message).map(|key| format!("  {}", self.painted(KEY, &format!("[{key}]"))));
        let payload = payload_text(&message.body);
        format!("{time}  {place}{}  {}\n", key.unwrap_or_default(), one_line(&payload))
    }

    /// One field a line, and an empty line.
    fn headers(&self, pipeline: &str, message: &Message) -> String {
        let payload_bytes = message.payload_size().to_string();
        let time = rfc3339(message.since).to_string();
        let mut fields: Vec<(&str, Cow<'_, str>)> = vec![
            ("id", message.id.as_str().into()),
            ("time", time.into()),
            ("pipeline", pipeline.into()),
            ("channel", (&*message.channel).into()),
        ];
        fields.extend(key(message).map(|key| ("key", key)));
        fields.extend(content_type(message).map(|media| ("content_type", media.into())));
        fields.push(("payload_bytes", payload_bytes.into()));
        let header = |(name, value): (&str, &str)| ("header", format!("{name}: {value}").into());
        fields.extend(message.headers.iter().map(header));
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, value): &(&str, Cow<'_, str>)| {
            let name = self.painted(TIME, &format!("{name:<width$}"));
            format!("{name}  {}\n", one_line(value))
        };
        fields.iter().map(line).collect::<String>() + "\n"
    }

    /// Escaped, and in this colour.
    fn painted(&self, colour: &str, text: &str) -> String {
        let text = one_line(text);
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.into_owned() }
    }
}

fn key(message: &Message) -> Option<Cow<'_, str>> {
    message.key.as_deref().map(String::from_utf8_lossy)
}

/// A tombstone has none.
fn content_type(message: &Message) -> Option<&str> {
    match message.body {
        Body::Payload(_) => Some(message.content_type.as_str()),
        _ => None,
    }
}

fn json_of(entry: &Entry) -> String {
    match entry {
        Entry::Message { pipeline, message } => text_of(&Document::of(pipeline, None, message)),
        Entry::Gap(gap) => json!({ "gap": gap }).to_string(),
        Entry::Unseen { table, ids, first, last } => {
            json!({ "unseen": { "table": table, "ids": ids, "first": first, "last": last } })
                .to_string()
        }
        Entry::Anew { table } => json!({ "anew": { "table": table } }).to_string(),
    }
}

/// Text as it is, anything else in base64; neither where it was not read.
fn payload_fields(body: &Body) -> Map<String, Value> {
    let field = match body {
        Body::Payload(payload) => match std::str::from_utf8(payload) {
            Ok(text) => Some(("payload", text.into())),
            Err(_) => Some(("payload_base64", STANDARD.encode(payload).into())),
        },
        Body::Tombstone => Some(("payload", Value::Null)),
        Body::Unreadable(why) => Some(("unreadable", (&**why).into())),
        Body::Oversize(_) | Body::Gap(_) => None,
    };
    field.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn payload_text(body: &Body) -> Cow<'_, str> {
    match body {
        Body::Payload(payload) => match std::str::from_utf8(payload) {
            Ok(text) => text.into(),
            Err(_) => format!("base64:{}", STANDARD.encode(payload)).into(),
        },
        Body::Tombstone => "(tombstone)".into(),
        Body::Oversize(bytes) => format!("({bytes} bytes, not read)").into(),
        Body::Unreadable(why) => format!("(unreadable: {why})").into(),
        Body::Gap(_) => "(gap)".into(),
    }
}

fn missed_text(entry: &Entry) -> String {
    match entry {
        Entry::Gap(gap) => gap_text(gap),
        Entry::Unseen { table, ids, first, last } => format!(
            "{ids} ids of {table} between {first} and {last} have no row: rolled back, or deleted \
             before it was seen"
        ),
        Entry::Anew { table } => {
            format!("{table} was replaced, or its ids began anew: from the oldest row on")
        }
        Entry::Message { .. } => String::new(),
    }
}

fn gap_text(gap: &Gap) -> String {
    let from = gap.from.map_or_else(|| "unknown".to_owned(), |from| rfc3339(from).to_string());
    let count = gap.count.map(|count| format!("{count} messages, ")).unwrap_or_default();
    format!(
        "gap: {count}{} on {}, from {from} to {}",
        gap.reason.as_str(),
        gap.channels.join(", "),
        rfc3339(gap.to)
    )
}

#[cfg(test)]
mod tests;
