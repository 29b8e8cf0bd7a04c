//! How long to wait before the next attempt.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Exponential backoff with full jitter and a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub first: Duration,
    /// The bound of every later wait.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The wait before attempt `failures + 1`: anything up to `first * 2^(failures - 1)`, at most
    /// `cap`. No failure yet: no wait.
    pub fn wait(&self, failures: u32, random: &mut impl Rng) -> Duration {
        let bound = match failures {
            0 => return Duration::ZERO,
            n => self.first.saturating_mul(1u32.checked_shl(n - 1).unwrap_or(u32::MAX)),
        };
        bound.min(self.cap).mul_f64(random.random_range(0.0..=1.0))
    }
}

/// The waits of a task that reconnects by itself, for as long as its process lives.
#[derive(Debug)]
pub struct Reconnect {
    backoff: Backoff,
    failures: u32,
    random: SmallRng,
}

impl Reconnect {
    /// Nothing has failed yet.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, random: SmallRng::from_os_rng() }
    }

    /// The connection does its work: after its end the waits begin with the shortest again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How many attempts in a row have failed; [`wait`](Self::wait) counts them.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Waits after an attempt that failed. An attempt counts as failed also if this is dropped.
    pub async fn wait(&mut self) {
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(self.backoff.wait(self.failures, &mut self.random)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_reconnects_waits_longer_until_it_succeeds() {
        let backoff = Backoff::default();
        let mut reconnect = Reconnect::new(backoff);
        for failures in 1..=20 {
            let began = tokio::time::Instant::now();
            reconnect.wait().await;
            assert_eq!(reconnect.failures(), failures);
            assert!(began.elapsed() <= backoff.cap);
        }
        reconnect.succeeded();
        let began = tokio::time::Instant::now();
        reconnect.wait().await;
        // The timer counts whole milliseconds.
        assert!(began.elapsed() <= backoff.first + Duration::from_millis(1));
    }

    #[test]
    fn waits_stay_below_the_doubling_bound_and_the_cap() {
        let backoff = Backoff::default();
        let mut random = SmallRng::seed_from_u64(1);
        assert_eq!(backoff.wait(0, &mut random), Duration::ZERO);
        for (failures, bound_ms) in [(1, 100), (2, 200), (6, 3_200), (7, 5_000), (200, 5_000)] {
            let longest = (0..1_000).map(|_| backoff.wait(failures, &mut random)).max().unwrap();
            assert!(longest <= Duration::from_millis(bound_ms));
            assert!(longest > Duration::from_millis(bound_ms) / 2, "jitter is full");
        }
    }
}
