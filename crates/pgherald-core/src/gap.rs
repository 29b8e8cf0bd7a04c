//! A window in which messages may have been missed, as a value that travels in order.

use std::{sync::Arc, time::SystemTime};

use serde::{Serialize, Serializer};

use crate::{MessageId, rfc3339};

/// The CloudEvents type of a gap.
pub const GAP_TYPE: &str = "pgherald.gap";

/// A window in which messages of some channels may have been missed.
///
/// Serialises as the JSON that consumers read:
/// `{"channels":[…],"from":…,"to":…,"reason":…}`, with `count` for an overflow and `id`, `size`
/// for a rejected message. Times are RFC 3339, UTC, microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The channels that may have lost messages, those of the flow only.
    pub channels: Arc<[Arc<str>]>,
    /// The beginning of the window; `None`: unknown, treat as everything before `to`.
    #[serde(serialize_with = "optional_time")]
    pub from: Option<SystemTime>,
    /// The end of the window.
    #[serde(serialize_with = "time")]
    pub to: SystemTime,
    /// Why.
    pub reason: GapReason,
    /// How many messages are missing, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The message that a sink would not take.
    #[serde(flatten)]
    pub rejected: Option<RejectedMessage>,
}

/// Names the message in whose place a gap of reason `rejected` stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedMessage {
    /// Its id.
    #[serde(serialize_with = "text")]
    pub id: MessageId,
    /// The bytes of its payload.
    pub size: usize,
}

/// Why messages may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// The first session of a process: nobody listened before it, as far as anybody knows.
    Start,
    /// The LISTEN session ended.
    Disconnect,
    /// The LISTEN session stopped answering.
    Deaf,
    /// Another process ran the flow before.
    Takeover,
    /// The flow's queue was full.
    Overflow,
    /// A sink would not take a message and the policy is to skip it.
    Rejected,
}

impl GapReason {
    /// Every reason, so that metric families exist at zero from the start.
    pub const ALL: [Self; 6] =
        [Self::Start, Self::Disconnect, Self::Deaf, Self::Takeover, Self::Overflow, Self::Rejected];

    /// The reason as it travels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Disconnect => "disconnect",
            Self::Deaf => "deaf",
            Self::Takeover => "takeover",
            Self::Overflow => "overflow",
            Self::Rejected => "rejected",
        }
    }
}

impl Gap {
    /// The gap as the JSON document that consumers read.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a gap has only text, numbers and times")
    }

    /// The window's length in seconds; 0 where its beginning is unknown.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.from
            .and_then(|from| self.to.duration_since(from).ok())
            .map_or(0.0, |length| length.as_secs_f64())
    }

    /// Joins a gap with the one that directly follows it, with no message between them.
    ///
    /// The result covers both windows and keeps the reason of the window that begins first. A gap
    /// of reason `rejected` names one message and is never joined: then `later` comes back.
    ///
    /// # Errors
    /// `later`, unchanged, where the two must stay apart.
    #[expect(clippy::result_large_err, reason = "it is the gap itself that comes back")]
    pub fn absorb(&mut self, later: Gap) -> Result<(), Gap> {
        if self.rejected.is_some() || later.rejected.is_some() {
            return Err(later);
        }
        if self.channels != later.channels {
            let mut all: Vec<_> = self.channels.to_vec();
            all.extend(later.channels.iter().filter(|c| !self.channels.contains(c)).cloned());
            self.channels = all.into();
        }
        if later.from < self.from {
            self.from = later.from;
            self.reason = later.reason;
        }
        self.to = self.to.max(later.to);
        self.count = match (self.count, later.count) {
            (Some(a), Some(b)) => Some(a + b),
            // One of the two windows is open-ended: a number would claim too much.
            _ => None,
        };
        Ok(())
    }
}

fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&rfc3339(*time))
}

fn optional_time<S: Serializer>(time: &Option<SystemTime>, s: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(known) => s.collect_str(&rfc3339(*known)),
        None => s.serialize_none(),
    }
}

fn text<S: Serializer>(id: &MessageId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn gap(from: Option<u64>, to: u64, reason: GapReason, channels: &[&str]) -> Gap {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        Gap {
            channels: channels.iter().map(|name| Arc::from(*name)).collect(),
            from: from.map(at),
            to: at(to),
            reason,
            count: None,
            rejected: None,
        }
    }

    #[test]
    fn json_is_what_the_contract_says() {
        let json = String::from_utf8(gap(Some(1), 2, GapReason::Deaf, &["a", "b"]).to_json());
        assert_eq!(
            json.unwrap(),
            r#"{"channels":["a","b"],"from":"1970-01-01T00:00:01.000000Z","to":"1970-01-01T00:00:02.000000Z","reason":"deaf"}"#
        );
        let start = String::from_utf8(gap(None, 2, GapReason::Start, &["a"]).to_json()).unwrap();
        assert!(start.contains(r#""from":null"#), "{start}");
    }

    #[test]
    fn a_rejected_gap_names_its_message() {
        let mut rejected = gap(Some(2), 2, GapReason::Rejected, &["a"]);
        let id = MessageId::new(format_args!("s-4"));
        rejected.rejected = Some(RejectedMessage { id, size: 9 });
        let json = String::from_utf8(rejected.to_json()).unwrap();
        assert!(json.ends_with(r#""reason":"rejected","id":"s-4","size":9}"#), "{json}");
        let mut first = gap(Some(0), 1, GapReason::Deaf, &["a"]);
        assert!(first.absorb(rejected).is_err());
    }

    #[test]
    fn joined_gaps_cover_both_windows() {
        let mut first = gap(Some(3), 4, GapReason::Overflow, &["a"]);
        first.count = Some(7);
        first.absorb(gap(None, 9, GapReason::Start, &["a", "b"])).unwrap();
        assert_eq!(first, gap(None, 9, GapReason::Start, &["a", "b"]));
    }
}
