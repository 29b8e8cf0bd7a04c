//! Takes secrets out of what is shown: the last line of defence, behind every other one.

use std::{borrow::Cow, sync::Arc};

use pgherald_core::REDACTED;

/// A shorter text is a part of ordinary words: taking it out would show it by what is missing.
const SECRET_BYTES_MIN: usize = 4;

/// Knows every secret of the configuration, longer ones first, so that one that holds another one
/// goes as a whole.
#[derive(Clone, Default)]
pub(crate) struct Scrubber(Arc<[String]>);

impl Scrubber {
    /// For these secrets, also as JSON and `Debug` escape them.
    pub(crate) fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        let escaped: Vec<String> =
            secrets.iter().map(|secret| secret.escape_debug().to_string()).collect();
        secrets.extend(escaped);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets.into())
    }

    /// The text without secrets.
    pub(crate) fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = |text: &str| self.0.iter().find(|secret| text.contains(secret.as_str()));
        if found(text).is_none() {
            return Cow::Borrowed(text);
        }
        let mut clean = text.to_owned();
        for secret in self.0.iter() {
            clean = clean.replace(secret.as_str(), REDACTED);
        }
        Cow::Owned(clean)
    }
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scrubber({} secrets)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_text_without_them_is_not_copied() {
        let scrubber = Scrubber::new(vec!["hunter".into(), "hunter22".into(), "a".into()]);
        assert_eq!(scrubber.scrub("a hunter22 b hunter"), "a [redacted] b [redacted]");
        assert_eq!(
            Scrubber::new(vec!["q\"uote".into()]).scrub(r#"{"x":"q\"uote"}"#),
            r#"{"x":"[redacted]"}"#
        );
        assert!(matches!(scrubber.scrub("nothing"), Cow::Borrowed(_)));
        assert!(!format!("{scrubber:?}").contains("hunter"));
    }
}
