//! How long the server certainly holds the flow's lock for this session.
//!
//! The server ends a session that is silent for [`HOLDS`], and the lock is somebody else's then. It
//! has begun to count when it answered, so the time of the question is early enough. A part of an
//! answer proves nothing: it may have waited on the way while the server counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::flow::{HEARTBEAT, STATEMENT_WITHIN};

/// After so long without a statement, or without the peer taking data, the server lets go.
pub(crate) const HOLDS: Duration = HEARTBEAT.saturating_mul(3);
/// This session ends so much earlier.
const MARGIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    asked: Instant,
}

impl Lease {
    /// The server has just answered what was asked then.
    pub(crate) fn answered(asked: Instant) -> Self {
        Self { asked }
    }

    /// Until when the lock is certainly held.
    pub(crate) fn until(self) -> Instant {
        self.asked + (HOLDS - MARGIN)
    }

    /// When to ask again at the latest.
    pub(crate) fn beats_at(self) -> Instant {
        self.asked + HEARTBEAT
    }

    /// How long the next statement may take.
    pub(crate) fn statement_within(self) -> Duration {
        self.until().saturating_duration_since(Instant::now()).min(STATEMENT_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_statement_outlasts_it() {
        let lease = Lease::answered(Instant::now());
        assert_eq!(lease.statement_within(), STATEMENT_WITHIN);
        tokio::time::advance(HEARTBEAT).await;
        assert!(lease.beats_at() <= Instant::now());
        assert_eq!(Instant::now() + lease.statement_within(), lease.until());
        tokio::time::advance(HOLDS).await;
        assert_eq!(lease.statement_within(), Duration::ZERO);
    }
}
