//! The database's clock, as well as this process knows it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Estimates the database's clock between readings, from the local monotonic clock. Late by at most
/// one round trip and never early, so that nothing arrives before it was committed; and never goes
/// backwards, so that messages keep their times in order.
#[derive(Debug)]
pub(crate) struct DatabaseClock {
    read: SystemTime,
    at: Instant,
    latest: SystemTime,
}

impl DatabaseClock {
    /// The server read `read` at some time after `asked`.
    pub(crate) fn new(read: SystemTime, asked: Instant) -> Self {
        Self { read, at: asked, latest: SystemTime::UNIX_EPOCH }
    }

    /// Takes a newer reading.
    pub(crate) fn set(&mut self, read: SystemTime, asked: Instant) {
        (self.read, self.at) = (read, asked);
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
    async fn it_follows_the_server_is_never_early_and_never_goes_back() {
        let server = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        let mut clock = DatabaseClock::new(server, asked);
        assert_eq!(
            clock.now(),
            server + Duration::from_secs(2),
            "the server may have read it first"
        );
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), server + Duration::from_secs(7));
        clock.set(server, Instant::now());
        assert_eq!(clock.now(), server + Duration::from_secs(7));
    }
}
