//! How much of what the server sends may come through.
//!
//! sqlx keeps every notification that comes before a statement's answer, however many there are. A
//! metered connection passes only so many bytes on while a statement runs; the rest waits in the
//! server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Open, or metered for as long as a [`Meter`] lives.
#[derive(Debug, Default)]
pub(crate) struct Valve {
    /// Bytes that may still pass; `None`: as many as come.
    left: Mutex<Option<usize>>,
    opened: Notify,
    exhausted: Notify,
}

/// While it lives, a metered connection passes on only so many bytes.
#[derive(Debug)]
pub struct Meter(Arc<Valve>);

impl Valve {
    pub(crate) fn meter(self: &Arc<Self>, bytes: usize) -> Meter {
        *self.left() = Some(bytes);
        Meter(Arc::clone(self))
    }

    /// How many bytes may be passed on, at most `most`; waits until it is one.
    pub(crate) async fn allowed(&self, most: usize) -> usize {
        loop {
            let opened = self.opened.notified();
            match *self.left() {
                None => return most,
                Some(0) => self.exhausted.notify_one(),
                Some(left) => return left.min(most),
            }
            opened.await;
        }
    }

    pub(crate) fn passed(&self, bytes: usize) {
        let mut left = self.left();
        *left = left.map(|left| left.saturating_sub(bytes));
    }

    fn left(&self) -> MutexGuard<'_, Option<usize>> {
        // Nothing panics while it holds the lock.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    /// Resolves when no byte is left, and everything was passed on.
    pub async fn exhausted(&self) {
        loop {
            self.0.exhausted.notified().await;
            // The sign may be of an earlier meter.
            if *self.0.left() == Some(0) {
                return;
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        *self.0.left() = None;
        self.0.opened.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_meter_lets_so_many_bytes_pass_and_opens_when_it_ends() {
        let valve = Arc::new(Valve::default());
        assert_eq!(valve.allowed(100).await, 100);
        let meter = valve.meter(150);
        assert_eq!(valve.allowed(100).await, 100);
        valve.passed(100);
        assert_eq!(valve.allowed(100).await, 50);
        assert_eq!(meter.exhausted().now_or_never(), None, "there are bytes left");
        valve.passed(50);
        assert_eq!(valve.allowed(100).now_or_never(), None);
        assert_eq!(meter.exhausted().now_or_never(), Some(()));
        drop(meter);
        assert_eq!(valve.allowed(100).await, 100);
        let meter = valve.meter(10);
        assert_eq!(meter.exhausted().now_or_never(), None, "a new meter is full");
    }
}
