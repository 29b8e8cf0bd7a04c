//! Waiting for a condition with a deadline, instead of sleeping.

use std::time::{Duration, Instant};

use crate::{Error, Result};

const POLL: Duration = Duration::from_millis(10);

/// Whether tests run at their full length, as in `cargo xtask prove`.
pub fn full_length() -> bool {
    std::env::var_os("PGHERALD_FULL").is_some_and(|value| value != "0")
}

/// Polls `condition` until it is true. Fails after `deadline` with a sentence that holds `what`.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<()> {
    poll(what, deadline, async {
        while !condition().await {
            tokio::time::sleep(POLL).await;
        }
    })
    .await
}

/// Polls `attempt` until it returns a value. Fails after `deadline` with a sentence that holds
/// `what`. An attempt that hangs is given up at the deadline too.
pub async fn eventually_some<T, F: Future<Output = Option<T>>>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    poll(what, deadline, async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await
}

async fn poll<T>(what: &str, deadline: Duration, polling: impl Future<Output = T>) -> Result<T> {
    let started = Instant::now();
    tokio::time::timeout(deadline, polling)
        .await
        .map_err(|_| Error::new(format!("waited {:.1?} in vain: {what}", started.elapsed())))
}
