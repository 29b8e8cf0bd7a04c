//! What travels: 200 bytes, with the headers of the default envelope.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of every payload.
pub(crate) const BYTES: usize = 200;

/// Padding that makes a notifier's JSON payload about [`BYTES`] long.
pub(crate) const PADDING: usize = 140;

/// Digits of a stamp.
const STAMP: usize = 16;

/// A payload like the ones that are announced.
pub(crate) fn payload() -> Vec<u8> {
    vec![b'x'; BYTES]
}

/// A payload that begins with the time, in microseconds.
pub(crate) fn stamped(at: SystemTime) -> String {
    let micros = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("{micros:0STAMP$}{}", "x".repeat(BYTES - STAMP))
}

/// When a payload was stamped, if it was.
pub(crate) fn stamped_at(payload: &[u8]) -> Option<SystemTime> {
    let digits = std::str::from_utf8(payload.get(..STAMP)?).ok()?;
    Some(UNIX_EPOCH + Duration::from_micros(digits.parse().ok()?))
}

/// The headers that pgherald sends with a message. Names and what does not change from message to
/// message cost a raw client nothing.
pub(crate) struct Headers {
    named: [(&'static str, String); 7],
}

/// Where the id stands among them.
const ID: usize = 1;

impl Headers {
    /// As they are named on Kafka.
    pub(crate) fn kafka() -> Self {
        Self::named([
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            "ce_time",
            "ce_subject",
            "content-type",
        ])
    }

    /// As they are named on NATS.
    pub(crate) fn nats() -> Self {
        Self::named([
            "ce-specversion",
            "ce-id",
            "ce-source",
            "ce-type",
            "ce-time",
            "ce-subject",
            "ce-datacontenttype",
        ])
    }

    fn named(names: [&'static str; 7]) -> Self {
        let values = [
            "1.0",
            "",
            "/pgherald/bench",
            "pgherald.message",
            "2026-01-01T00:00:00.000000Z",
            "bench",
            "text/plain; charset=utf-8",
        ];
        let mut values = values.into_iter();
        Self { named: names.map(|name| (name, values.next().unwrap_or_default().to_owned())) }
    }

    /// Those of message `n`, and its id.
    pub(crate) fn of(&mut self, n: usize) -> (&[(&'static str, String)], &str) {
        let id = &mut self.named[ID].1;
        id.clear();
        // Writing to a string does not fail.
        let _ = write!(id, "0123456789abcdef-{n}");
        (&self.named, &self.named[ID].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_takes_no_room() {
        let at = UNIX_EPOCH + Duration::from_micros(1_795_418_338_000_042);
        let payload = stamped(at);
        assert_eq!((payload.len(), stamped_at(payload.as_bytes())), (BYTES, Some(at)));
        assert_eq!(stamped_at(br#"{"channels":["bench"],"from":null}"#), None);
        assert_eq!(stamped_at(b""), None);
    }

    #[test]
    fn every_message_has_its_own_id() {
        let mut headers = Headers::kafka();
        headers.of(1);
        let (all, id) = headers.of(22);
        assert_eq!((all.len(), id), (7, "0123456789abcdef-22"));
        assert!(all.contains(&("ce_id", id.to_owned())));
    }
}
