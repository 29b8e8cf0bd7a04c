//! How soon a reader that found nothing looks again.

use std::time::Duration;

/// The first wait behind a row.
const FIRST: Duration = Duration::from_millis(1);
/// A reader that has waited so long at once tries to sleep.
const DROWSY: Duration = Duration::from_millis(16);
/// While a writer that has inserted is open: its commit rings no bell.
const AWAKE: Duration = Duration::from_millis(64);
/// Without a bell, once nothing has come for a while.
const WITHOUT_BELL: Duration = Duration::from_millis(250);
/// Waits of [`AWAKE`] before a reader without a bell slows down.
const AWAKE_ROUNDS: u32 = 30;
/// A reader that sleeps looks all the same, in case that a ring was lost.
const ASLEEP: Duration = Duration::from_secs(1);

/// Waits that grow while nothing comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollBackoff {
    next: Duration,
    rounds: u32,
}

impl Default for PollBackoff {
    fn default() -> Self {
        Self { next: FIRST, rounds: 0 }
    }
}

impl PollBackoff {
    /// Whether it is time to try to sleep.
    pub(crate) fn is_drowsy(&self) -> bool {
        self.next >= DROWSY
    }

    /// The next wait of a reader that stays awake, and polls that take so long: they may not fill
    /// the server's time.
    pub(crate) fn awake(&mut self, poll: Duration) -> Duration {
        let wait = self.next.max(poll);
        self.rounds = self.rounds.saturating_add(1);
        let slow = self.rounds > AWAKE_ROUNDS;
        self.next = (self.next * 2).min(if slow { WITHOUT_BELL } else { AWAKE });
        wait
    }

    /// The wait of a reader that sleeps.
    pub(crate) fn asleep() -> Duration {
        ASLEEP
    }

    /// Something is about to come: not slower than while a writer is open.
    pub(crate) fn stay_awake(&mut self) {
        self.rounds = self.rounds.min(AWAKE_ROUNDS);
        self.next = self.next.min(AWAKE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_capped() {
        let mut poll_backoff = PollBackoff::default();
        let fast = Duration::from_micros(300);
        let waits: Vec<_> = (0..6).map(|_| poll_backoff.awake(fast).as_millis()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32]);
        assert!(poll_backoff.is_drowsy() && !PollBackoff::default().is_drowsy());
        assert_eq!((0..40).map(|_| poll_backoff.awake(fast)).last(), Some(WITHOUT_BELL));
        poll_backoff.stay_awake();
        assert_eq!(poll_backoff.awake(fast), AWAKE);
        assert_eq!(poll_backoff.awake(Duration::from_secs(2)), Duration::from_secs(2));
    }
}
