//! Lengths of time for people.

use std::{fmt, time::Duration};

/// A length of time in its two largest units.
pub(crate) struct Length(pub(crate) Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{} h {} min", seconds / 3_600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        for (seconds, shown) in
            [(0, "0 s"), (61, "1 min 1 s"), (7_300, "2 h 1 min"), (180_000, "2 d 2 h")]
        {
            assert_eq!(Length(Duration::from_secs(seconds)).to_string(), shown);
        }
    }
}
