//! Gaps as they arrive at a sink.

use std::time::SystemTime;

use serde_json::Value;

use crate::rfc3339;

/// One reported gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Its JSON document, for people.
    pub(crate) text: String,
    /// Where it lay: topic and offset, or stream sequence.
    pub(crate) place: String,
    /// Why.
    pub(crate) reason: String,
    channels: Vec<String>,
    from: Option<SystemTime>,
    to: Option<SystemTime>,
}

impl Gap {
    /// Reads the document; `structured` and `binary` envelopes both carry these fields.
    pub(crate) fn read(text: &str, place: String) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let time = |name: &str| rfc3339::parse(json.get(name)?.as_str()?);
        let channels = json.get("channels")?.as_array()?.iter();
        Some(Self {
            text: text.to_owned(),
            place,
            reason: json.get("reason")?.as_str()?.to_owned(),
            channels: channels.filter_map(|it| it.as_str().map(str::to_owned)).collect(),
            from: time("from"),
            to: time("to"),
        })
    }

    /// True if an announcement on this channel, committed at some moment between `sent` and
    /// `heard`, may lie inside.
    pub(crate) fn covers(&self, channel: &str, sent: SystemTime, heard: SystemTime) -> bool {
        self.channels.iter().any(|it| it == channel)
            && self.from.is_none_or(|from| heard >= from)
            && self.to.is_some_and(|to| sent <= to)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_gap_covers_what_may_have_been_committed_inside() {
        let text = r#"{"channels":["a"],"from":"2026-01-01T00:00:01Z","to":"2026-01-01T00:00:02Z","reason":"disconnect"}"#;
        let gap = Gap::read(text, "1".into()).unwrap();
        let second = |n| rfc3339::parse("2026-01-01T00:00:00Z").unwrap() + Duration::from_secs(n);
        assert!(gap.covers("a", second(0), second(1)));
        assert!(gap.covers("a", second(2), second(3)));
        assert!(!gap.covers("a", second(3), second(4)));
        assert!(!gap.covers("b", second(1), second(2)));
    }
}
