//! The heartbeat: a nonce on the channel `pgherald` that a session sends and must hear again.
//!
//! It also tells standbys how far its flows have settled. Any role may announce anything there, so
//! what comes in is untrusted.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

/// The channel of the heartbeat; refused in configurations.
pub const HEARTBEAT_CHANNEL: &str = "pgherald";

/// PostgreSQL takes fewer than 8000 bytes.
const BEAT_BYTES_MAX: usize = 7_900;

/// One heartbeat as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// The LISTEN session that it speaks for.
    pub(crate) session: u64,
    /// Its number in that session.
    pub(crate) number: u64,
    /// Until when each flow of that session is settled, in microseconds of the database's clock.
    pub(crate) flows: Vec<(String, i64)>,
}

#[derive(Serialize, Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    session: std::borrow::Cow<'a, str>,
    n: u64,
    #[serde(default)]
    flows: BTreeMap<String, i64>,
}

impl Heartbeat {
    /// Reads a heartbeat; `None`: somebody else's words.
    pub(crate) fn parse(payload: &str) -> Option<Self> {
        let text: Text<'_> = serde_json::from_str(payload).ok()?;
        let well_formed = text.session.len() == 16
            && text.session.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let session = u64::from_str_radix(&text.session, 16).ok().filter(|_| well_formed)?;
        Some(Self { session, number: text.n, flows: text.flows.into_iter().collect() })
    }
}

/// The payloads of one heartbeat: numbers `first..`, as many as its flows need. The last one is
/// the nonce to wait for.
pub(crate) fn payloads(session: u64, first: u64, flows: &[(Arc<str>, i64)]) -> Vec<String> {
    let mut parts: Vec<BTreeMap<String, i64>> = vec![BTreeMap::new()];
    let mut size = 0;
    for (name, settled) in flows {
        // Quotes, colon, comma and a number of at most 20 digits.
        let cost = name.len() + 24;
        if size + cost > BEAT_BYTES_MAX - 64 {
            parts.push(BTreeMap::new());
            size = 0;
        }
        size += cost;
        parts.last_mut().expect("never empty").insert(name.to_string(), *settled);
    }
    let text = |(n, flows)| {
        let text = Text { session: format!("{session:016x}").into(), n, flows };
        serde_json::to_string(&text).expect("a heartbeat has only text and numbers")
    };
    (first..).zip(parts).map(text).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_flows_are_split() {
        let flows: Vec<_> =
            (0..500).map(|n| (Arc::from(format!("some_pipeline_{n}/some_sink")), n)).collect();
        let payloads = payloads(0xab, 7, &flows);
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() < 8_000));
        let heartbeats: Vec<_> =
            payloads.iter().map(|text| Heartbeat::parse(text).unwrap()).collect();
        assert!(
            heartbeats
                .iter()
                .zip(7..)
                .all(|(heartbeat, n)| heartbeat.session == 0xab && heartbeat.number == n)
        );
        assert_eq!(heartbeats.iter().map(|heartbeat| heartbeat.flows.len()).sum::<usize>(), 500);
    }

    #[test]
    fn without_flows_there_is_still_a_nonce() {
        assert_eq!(payloads(1, 0, &[]), [r#"{"session":"0000000000000001","n":0,"flows":{}}"#]);
    }

    #[test]
    fn foreign_words_are_no_heartbeat() {
        for text in [
            "",
            "hello",
            "{}",
            r#"{"session":"+00000000000000a","n":1}"#,
            "[1]",
            r#"{"session":"00000000000000AB","n":1}"#,
            r#"{"session":"0","n":1}"#,
        ] {
            assert_eq!(Heartbeat::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(payload in ".{0,300}") {
            let _ = Heartbeat::parse(&payload);
        }
    }
}
