//! Times as consumers read them.

use std::{fmt, time::SystemTime};

use time::OffsetDateTime;

/// A time as RFC 3339, UTC, with microseconds: `2026-11-23T05:19:00.000001Z`.
#[must_use]
pub fn rfc3339(time: SystemTime) -> impl fmt::Display {
    Rfc3339(time.into())
}

struct Rfc3339(OffsetDateTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.microsecond()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn six_decimals_always() {
        let at = UNIX_EPOCH + Duration::new(1_793_424_001, 5_999);
        assert_eq!(super::rfc3339(at).to_string(), "2026-10-31T05:20:01.000005Z");
    }
}
