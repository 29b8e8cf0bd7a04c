//! `[pipelines.<name>.source.notify]`: which channels, and what the key is.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use bytes::Bytes;
use pgherald_core::{
    Body, ContentType, Headers, Message, MessageId, Problems, StringList, is_media_type,
    is_other_event_format,
};
use serde::{Deserialize, Serialize};

use crate::{KeyRule, Notification, heartbeat::HEARTBEAT_CHANNEL};

/// The largest payload of a notification, in bytes: PostgreSQL takes fewer than 8000.
pub const PAYLOAD_BYTES_MAX: usize = 7_999;

/// The longest channel name, in bytes: PostgreSQL cuts off the rest, and the name never matches.
pub const CHANNEL_BYTES_MAX: usize = 63;

/// Messages have no key.
const NO_KEY: &str = "none";

/// The media type follows from the payload.
const AUTO: &str = "auto";

/// The table `[pipelines.<name>.source.notify]` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// The channels to listen to, by name.
    #[serde(default)]
    pub channels: StringList,
    /// `none` (default), `channel`, or `json:/pointer/into/payload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `auto` (default), or the media type of every payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// A `notify` source that can be run.
#[derive(Clone, Debug)]
pub struct NotifySettings {
    /// The channels to listen to, in the order in which they were written.
    pub channels: Arc<[Arc<str>]>,
    /// What the key of a message is.
    pub key: KeyRule,
    /// The media type of every payload; `None`: that of a JSON object or array is
    /// `application/json`, that of any other text `text/plain`.
    pub content_type: Option<Arc<str>>,
}

impl NotifySettings {
    /// The message that a pipeline with these settings makes of a notification.
    #[must_use]
    pub fn message(&self, heard: &Notification, id: MessageId, since: SystemTime) -> Message {
        let Notification { channel, payload, .. } = heard;
        let content_type = match &self.content_type {
            Some(set) => ContentType::TextAs(Arc::clone(set)),
            None => ContentType::of_text(payload),
        };
        Message {
            id,
            channel: Arc::clone(channel),
            key: self.key.key(&Bytes::copy_from_slice(channel.as_bytes()), payload),
            headers: Headers::default(),
            content_type,
            body: Body::Payload(Bytes::copy_from_slice(payload.as_bytes())),
            since,
        }
    }
}

impl NotifyConfig {
    /// Writes every default out.
    pub fn fill(&mut self) {
        self.key.get_or_insert_with(|| NO_KEY.to_owned());
        self.content_type.get_or_insert_with(|| AUTO.to_owned());
    }

    /// Checks the table and adds what is wrong to `problems`, under `key` (the table's dotted
    /// name).
    #[must_use]
    pub fn resolve(&self, key: &str, problems: &mut Problems) -> Option<NotifySettings> {
        let channels = self.resolve_channels(&format!("{key}.channels"), problems);
        let rule = match KeyRule::parse(self.key.as_deref().unwrap_or(NO_KEY)) {
            Ok(rule) => Some(rule),
            Err(text) => {
                problems.add(format!("{key}.key"), text);
                None
            }
        };
        let content_type = self.resolve_content_type(&format!("{key}.content_type"), problems);
        Some(NotifySettings { channels: channels?, key: rule?, content_type: content_type? })
    }

    /// `Some(None)`: by the payload.
    #[allow(clippy::option_option)]
    fn resolve_content_type(&self, key: &str, problems: &mut Problems) -> Option<Option<Arc<str>>> {
        let Some(text) = self.content_type.as_deref().filter(|text| *text != AUTO) else {
            return Some(None);
        };
        if !is_media_type(text) {
            let why = format!("{text:?} is no media type: write auto, or one as in \"text/csv\"");
            problems.add(key, why);
            return None;
        }
        if is_other_event_format(text) {
            let why = "a notification is one event in JSON: write application/cloudevents+json";
            problems.add(key, why);
            return None;
        }
        Some(Some(text.into()))
    }

    fn resolve_channels(&self, key: &str, problems: &mut Problems) -> Option<Arc<[Arc<str>]>> {
        let names = &self.channels.0;
        let mut wrong = Vec::new();
        if names.is_empty() {
            wrong.push("is missing or empty: name the channels to listen to".to_owned());
        }
        wrong.extend(names.iter().filter_map(|name| refusal(name)));
        let mut seen = HashSet::new();
        let doubled = names.iter().filter(|name| !seen.insert(name.as_str()));
        wrong.extend(doubled.map(|name| format!("names {name:?} twice")));
        if wrong.is_empty() {
            return Some(names.iter().map(|name| Arc::from(name.as_str())).collect());
        }
        wrong.into_iter().for_each(|text| problems.add(key, text));
        None
    }
}

/// Why a channel of that name cannot be listened to.
pub(crate) fn refusal(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("holds an empty name".to_owned())
    } else if name == "*" {
        Some("\"*\" is for outbox and wal: LISTEN needs every channel by name".to_owned())
    } else if name == HEARTBEAT_CHANNEL {
        Some(format!("{name:?} is reserved for the heartbeat: choose another channel"))
    } else if name.len() > CHANNEL_BYTES_MAX {
        let bytes = name.len();
        Some(format!("{name:?} has {bytes} bytes, and PostgreSQL takes {CHANNEL_BYTES_MAX}"))
    } else if name.contains('\0') {
        Some(format!("{name:?} holds a NUL, which PostgreSQL does not take"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> Result<NotifySettings, Vec<String>> {
        let config: NotifyConfig = serde_json::from_str(json).unwrap();
        let mut problems = Problems::default();
        config
            .resolve("s.notify", &mut problems)
            .ok_or_else(|| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_data() {
        let long = "ü".repeat(31) + "x";
        let json = serde_json::json!({ "channels": ["a b", "x\"y.z>*", long], "key": "channel" });
        let settings = resolve(&json.to_string()).unwrap();
        assert_eq!(settings.channels.len(), 3);
        assert_eq!(settings.key, KeyRule::Channel);
        assert_eq!(settings.content_type, None);
        for (text, expected) in
            [("auto", None), ("text/csv; header=present", Some("text/csv; header=present"))]
        {
            let json = serde_json::json!({ "channels": "a", "content_type": text });
            assert_eq!(resolve(&json.to_string()).unwrap().content_type.as_deref(), expected);
        }
    }

    #[test]
    fn a_notification_becomes_a_message() {
        let heard = |payload: &str| Notification {
            channel: "a".into(),
            payload: payload.into(),
            process_id: 1,
        };
        let message = |json: &str, payload| {
            let id = MessageId::new(format_args!("s-1"));
            resolve(json).unwrap().message(&heard(payload), id, SystemTime::UNIX_EPOCH)
        };
        let keyed = message(r#"{"channels": "a", "key": "json:/k"}"#, r#"{"k": 7}"#);
        assert_eq!((keyed.key.as_deref(), &*keyed.channel), (Some(&b"7"[..]), "a"));
        assert_eq!(keyed.content_type, ContentType::Json);
        let set = message(r#"{"channels": "a", "content_type": "text/csv"}"#, "1,2");
        assert_eq!((set.content_type.as_str(), set.payload_size()), ("text/csv", 3));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let long = "ü".repeat(32);
        let json = serde_json::json!({
            "channels": ["*", "pgherald", "a", "a", "", "n\0l", long], "key": "json:no",
            "content_type": "not a media type"
        });
        let problems = resolve(&json.to_string()).unwrap_err();
        assert_eq!(problems.len(), 8, "{problems:#?}");
        assert!(problems.iter().any(|text| text.starts_with("s.notify.key: ")));
        assert!(problems.iter().any(|text| text.contains("has 64 bytes")));
        assert!(problems.iter().any(|text| text.starts_with("s.notify.content_type: ")));
        let batch =
            r#"{"channels": ["a"], "content_type": "application/CloudEvents-batch+json;a=b"}"#;
        assert!(resolve(batch).unwrap_err()[0].contains("one event"));
        let avro = r#"{"channels": ["a"], "content_type": "application/cloudevents+avro"}"#;
        assert!(resolve(avro).unwrap_err()[0].contains("application/cloudevents+json"));
        assert_eq!(resolve("{}").unwrap_err().len(), 1);
        assert!(serde_json::from_str::<NotifyConfig>(r#"{"spool": {}}"#).is_err());
    }
}
