//! How long to wait before the next attempt.

use std::time::Duration;

use rand::Rng;

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

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

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
