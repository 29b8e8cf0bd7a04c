//! Takes secrets out of what is shown: the last line of defence, behind every other one.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pgherald_core::REDACTED;

/// A shorter text is a part of ordinary words: taking it out would show it by what is missing.
const SECRET_BYTES_MIN: usize = 4;

/// How often the files of secrets are looked at: they change while the process runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Knows every secret of the configuration, longer ones first, so that one that holds another one
/// goes as a whole.
#[derive(Clone, Default)]
pub(crate) struct Scrubber(Arc<Known>);

#[derive(Default)]
struct Known {
    written: Vec<String>,
    later: Option<Later>,
}

/// Secrets that are read while the process runs. One that was seen is never shown, also after it was
/// replaced.
struct Later {
    read: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    seen: Mutex<(Option<Instant>, Vec<String>)>,
}

impl Scrubber {
    /// For these secrets, also as JSON and `Debug` escape them.
    #[cfg(test)]
    pub(crate) fn new(secrets: Vec<String>) -> Self {
        Self(Arc::new(Known { written: prepared(secrets), later: None }))
    }

    /// For these, and for those that `read` finds whenever it is called.
    pub(crate) fn reading(
        secrets: Vec<String>,
        read: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let later = Later { read: Box::new(read), seen: Mutex::default() };
        Self(Arc::new(Known { written: prepared(secrets), later: Some(later) }))
    }

    /// The text without secrets.
    pub(crate) fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let later = self.0.later.as_ref().map(Later::secrets).unwrap_or_default();
        let all = || self.0.written.iter().chain(&later);
        if !all().any(|secret| text.contains(secret.as_str())) {
            return Cow::Borrowed(text);
        }
        let mut clean = text.to_owned();
        for secret in all() {
            clean = clean.replace(secret.as_str(), REDACTED);
        }
        Cow::Owned(clean)
    }
}

impl Later {
    fn secrets(&self) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, known) = &mut *seen;
        if at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            *at = Some(Instant::now());
            known.extend((self.read)());
            *known = prepared(std::mem::take(known));
        }
        known.clone()
    }
}

fn prepared(mut secrets: Vec<String>) -> Vec<String> {
    secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
    let escaped: Vec<String> =
        secrets.iter().map(|secret| secret.escape_debug().to_string()).collect();
    secrets.extend(escaped);
    secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scrubber({} secrets)", self.0.written.len())
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
