//! Times as consumers read them.

use std::{fmt, time::SystemTime};

use time::OffsetDateTime;

/// A time as RFC 3339, UTC, with microseconds: `2026-11-23T05:19:00.000001Z`. Costs no allocation.
#[must_use]
pub fn rfc3339(time: SystemTime) -> Rfc3339 {
    let t = OffsetDateTime::from(time);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let fields = [
        (0..4, u32::try_from(t.year()).unwrap_or(0)),
        (5..7, u32::from(u8::from(t.month()))),
        (8..10, u32::from(t.day())),
        (11..13, u32::from(t.hour())),
        (14..16, u32::from(t.minute())),
        (17..19, u32::from(t.second())),
        (20..26, t.microsecond()),
    ];
    for (place, number) in fields {
        write_digits(&mut text[place], number);
    }
    Rfc3339(text)
}

fn write_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

/// A time as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339([u8; 27]);

impl Rfc3339 {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and punctuation")
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
