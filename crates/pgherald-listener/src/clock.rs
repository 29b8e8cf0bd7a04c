//! The database's clock, as well as this process knows it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Estimates the database's clock between readings, from the local monotonic clock. Never goes
/// backwards, so that messages keep their times in order.
#[derive(Debug)]
pub(crate) struct DatabaseClock {
    read: SystemTime,
    at: Instant,
    latest: SystemTime,
}

impl DatabaseClock {
    /// The server read `read` somewhere between `asked` and `answered`.
    pub(crate) fn new(read: SystemTime, asked: Instant, answered: Instant) -> Self {
        let mut clock = Self { read, at: answered, latest: SystemTime::UNIX_EPOCH };
        clock.set(read, asked, answered);
        clock
    }

    /// Takes a newer reading.
    pub(crate) fn set(&mut self, read: SystemTime, asked: Instant, answered: Instant) {
        self.read = read;
        self.at = asked + answered.saturating_duration_since(asked) / 2;
    }

    /// What the database's clock shows now.
    pub(crate) fn now(&mut self) -> SystemTime {
        let passed: Duration = Instant::now().saturating_duration_since(self.at);
        self.latest = self.latest.max(self.read + passed);
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_follows_the_server_and_never_goes_back() {
        let server = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        let mut clock = DatabaseClock::new(server, asked, Instant::now());
        assert_eq!(clock.now(), server + Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), server + Duration::from_secs(6));
        clock.set(server, Instant::now(), Instant::now());
        assert_eq!(clock.now(), server + Duration::from_secs(6));
    }
}
