//! The timestamp of a record.

use std::time::{SystemTime, UNIX_EPOCH};

use pgherald_core::Message;
use serde::{Deserialize, Serialize};

/// What the timestamp of a record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamp {
    /// When the message was inserted or heard: the same in every redelivery.
    #[default]
    Message,
    /// When it is sent.
    Send,
}

impl Timestamp {
    /// In milliseconds since 1970; `None`: the moment of sending.
    pub(crate) fn of(self, message: &Message) -> Option<i64> {
        match self {
            Self::Message => Some(millis(message.since)),
            Self::Send => None,
        }
    }
}

/// At least 1: librdkafka takes 0 for now, and Kafka takes nothing below it.
fn millis(time: SystemTime) -> i64 {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_never_taken_for_now() {
        assert_eq!(millis(UNIX_EPOCH), 1);
        assert_eq!(millis(UNIX_EPOCH - Duration::from_secs(1)), 1);
        assert_eq!(
            millis(UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_999)),
            1_700_000_000_123
        );
    }
}
