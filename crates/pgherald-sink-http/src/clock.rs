//! The time that signatures are made for: this machine's, corrected where a receiver said that it is
//! wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use pgherald_core::clock;

/// A clock that is further away than this is wrong, not late. Receivers refuse a signature that is
/// five minutes old.
pub(crate) const AWAY_S_MIN: u64 = 60;

/// How many seconds the database's clock is ahead of this machine's; `None`: not measured.
pub type DatabaseOffset = Arc<dyn Fn() -> Option<i64> + Send + Sync>;

/// As the sessions with the database have measured it.
pub(crate) fn measured() -> DatabaseOffset {
    Arc::new(|| clock().offset_seconds().map(|seconds| seconds as i64))
}

/// The clock that signs for one address; clones share its correction.
#[derive(Clone, Debug, Default)]
pub(crate) struct SigningClock {
    /// What is added to this machine's time, in seconds.
    correction_s: Arc<AtomicI64>,
}

impl SigningClock {
    /// Seconds since 1970.
    pub(crate) fn now_s(&self) -> u64 {
        local_s().saturating_add_signed(self.correction_s.load(Ordering::Relaxed))
    }

    /// A receiver took what was signed for `accepted_s` just now. Says by how many seconds this
    /// machine is ahead of it, if that is news.
    pub(crate) fn correct(&self, accepted_s: u64) -> Option<i64> {
        let correction_s = difference_s(accepted_s, local_s());
        let before_s = self.correction_s.swap(correction_s, Ordering::Relaxed);
        (before_s.abs_diff(correction_s) > AWAY_S_MIN).then_some(-correction_s)
    }
}

/// How many seconds the database's time is ahead of `at_s`, if that is far.
pub(crate) fn database_is_away(offset: &DatabaseOffset, at_s: u64) -> Option<i64> {
    let database_s = local_s().saturating_add_signed(offset()?);
    let ahead_s = difference_s(database_s, at_s);
    (ahead_s.unsigned_abs() > AWAY_S_MIN).then_some(ahead_s)
}

fn local_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn difference_s(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_is_news_once_and_shared() {
        let clock = SigningClock::default();
        let other = clock.clone();
        assert_eq!(clock.correct(local_s() + 10), None, "late, not wrong");
        let ahead_s = clock.correct(local_s() - 3_600).expect("it is news");
        assert!((3_599..=3_601).contains(&ahead_s), "{ahead_s}");
        assert_eq!(clock.correct(local_s() - 3_601), None, "it is known");
        assert!(other.now_s().abs_diff(local_s() - 3_600) <= 2);
    }

    #[test]
    fn the_database_is_compared_with_the_time_that_was_signed() {
        let offset = |seconds: Option<i64>| -> DatabaseOffset { Arc::new(move || seconds) };
        let away = |seconds, at_s| database_is_away(&offset(seconds), at_s);
        assert_eq!(away(None, local_s()), None);
        assert_eq!(away(Some(30), local_s()), None);
        assert!(away(Some(-3_600), local_s()).is_some_and(|ahead| ahead < -3_590));
        assert_eq!(away(Some(-3_600), local_s() - 3_600), None, "the signature was corrected");
    }
}
