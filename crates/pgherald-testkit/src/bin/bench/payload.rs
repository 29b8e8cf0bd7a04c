//! What travels: 200 bytes, with the headers of the default envelope.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of every payload.
pub(crate) const BYTES: usize = 200;

/// Padding that makes a notifier's JSON payload about [`BYTES`] long.
pub(crate) const PADDING: usize = 140;

/// A payload like the ones that are announced.
pub(crate) fn payload() -> Vec<u8> {
    vec![b'x'; BYTES]
}

/// The CloudEvents headers that pgherald sends with message `n`, with `separator` behind `ce`.
pub(crate) fn headers(n: usize, separator: char) -> Vec<(String, String)> {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let named = [
        ("specversion", "1.0".to_owned()),
        ("id", format!("0123456789abcdef-{n}")),
        ("source", "/pgherald/bench".to_owned()),
        ("type", "pgherald.message".to_owned()),
        ("time", format!("2026-01-01T00:00:00.{:06}Z", micros % 1_000_000)),
        ("subject", "bench".to_owned()),
    ];
    named.into_iter().map(|(name, value)| (format!("ce{separator}{name}"), value)).collect()
}
