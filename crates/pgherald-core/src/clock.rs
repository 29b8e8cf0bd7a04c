//! The database's clock, as this process knows it. The clock of this machine may be wrong, and may be
//! set while the process runs.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::metrics::CLOCK_OFFSET_SECONDS;

/// An answer that took longer says too little about when the clock was read.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
/// After so long a coarser reading is better than an older one: clocks drift.
const READING_AGE_MAX: Duration = Duration::from_secs(60);

/// The database's clock: what was read last, and a monotonic clock from there. Before the first
/// reading it is this machine's.
#[derive(Debug, Default)]
pub struct Clock {
    reading: Mutex<Option<Reading>>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    /// What the database's clock showed at `at`, at most half of `round_trip` away.
    time: SystemTime,
    at: Instant,
    round_trip: Duration,
}

/// The clock of the one database that this process serves.
#[must_use]
pub fn clock() -> &'static Clock {
    static CLOCK: Clock = Clock { reading: Mutex::new(None) };
    &CLOCK
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.reading().map_or_else(SystemTime::now, |reading| reading.now())
    }

    /// The database read `time` at some moment between `asked` and now.
    pub fn measured(&self, time: SystemTime, asked: Instant) {
        let at = Instant::now();
        let round_trip = at.saturating_duration_since(asked);
        let reading = Reading { time: time + round_trip / 2, at, round_trip };
        let mut known = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| reading.replaces(&known)) {
            *known = Some(reading);
        }
        drop(known);
        metrics::gauge!(CLOCK_OFFSET_SECONDS).set(self.offset_seconds().unwrap_or_default());
    }

    /// How far the database's clock is ahead of this machine's, in seconds; negative: behind.
    /// `None`: it was not read yet.
    #[must_use]
    pub fn offset_seconds(&self) -> Option<f64> {
        let (database, local) = (self.reading()?.now(), SystemTime::now());
        Some(match database.duration_since(local) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        })
    }

    fn reading(&self) -> Option<Reading> {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn now(&self) -> SystemTime {
        self.time + self.at.elapsed()
    }

    fn replaces(&self, known: &Self) -> bool {
        let expected = known.now();
        let apart = expected
            .duration_since(self.time)
            .or_else(|_| self.time.duration_since(expected))
            .unwrap_or_default();
        let was_set = apart > known.round_trip + self.round_trip;
        was_set
            || self.round_trip <= known.round_trip.max(Duration::from_millis(1))
            || (self.round_trip < ROUND_TRIP_MAX && known.at.elapsed() > READING_AGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn it_follows_the_database_and_not_this_machine() {
        let clock = Clock::default();
        assert_eq!(clock.offset_seconds(), None);
        let ahead = |clock: &Clock| clock.offset_seconds().unwrap();
        clock.measured(SystemTime::now() + HOUR, Instant::now());
        assert!((ahead(&clock) - 3600.0).abs() < 1.0);
        let late = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        clock.measured(SystemTime::now() + HOUR, late);
        assert!((ahead(&clock) - 3600.0).abs() < 0.5, "a slow answer moves nothing");
        clock.measured(SystemTime::now() - HOUR, Instant::now());
        assert!((ahead(&clock) + 3600.0).abs() < 1.0, "the database's clock was set");
        let passed = clock.now().duration_since(SystemTime::now() - HOUR).unwrap_or_default();
        assert!(passed < Duration::from_secs(1));
    }
}
