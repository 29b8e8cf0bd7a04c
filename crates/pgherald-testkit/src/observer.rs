//! What PostgreSQL really announced, in commit order.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use sqlx::postgres::PgListener;
use tokio::task::JoinSet;

use crate::{Error, Result, eventually};

/// One notification as PostgreSQL delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The channel.
    pub channel: String,
    /// The payload.
    pub payload: String,
    /// When this process got it.
    pub at: SystemTime,
}

/// A LISTEN session of its own, always read, that records everything: commit order is the order
/// of its records. It must not go through the fault that a test provokes.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    records: Vec<Observed>,
    breaks: u32,
}

impl Observer {
    /// Listens on these channels from now on.
    pub async fn listen(url: &str, channels: &[&str]) -> Result<Self> {
        let mut listener = connect(url, channels).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut task = JoinSet::new();
        let theirs = Arc::clone(&seen);
        task.spawn(async move {
            loop {
                match listener.try_recv().await {
                    Ok(Some(notification)) => lock(&theirs).records.push(record(&notification)),
                    Ok(None) | Err(_) => {
                        lock(&theirs).breaks += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        });
        Ok(Self { seen, _task: task })
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Observed> {
        lock(&self.seen).records.clone()
    }

    /// How many so far.
    pub fn count(&self) -> usize {
        lock(&self.seen).records.len()
    }

    /// How often its session was lost: after one, it may have missed something.
    pub fn breaks(&self) -> u32 {
        lock(&self.seen).breaks
    }

    /// Waits for this many and returns everything so far.
    pub async fn collect(&self, count: usize, deadline: Duration) -> Result<Vec<Observed>> {
        let waited =
            eventually("notifications", deadline, || async { self.count() >= count }).await;
        waited.map_err(|error| {
            Error::new(format!("{error}: observed {} of {count}", self.count()))
        })?;
        Ok(self.all())
    }
}

async fn connect(url: &str, channels: &[&str]) -> Result<PgListener> {
    let describe = |error| Error::because("observer", error);
    let mut listener = PgListener::connect(url).await.map_err(describe)?;
    listener.listen_all(channels.iter().copied()).await.map_err(describe)?;
    Ok(listener)
}

fn record(notification: &sqlx::postgres::PgNotification) -> Observed {
    Observed {
        channel: notification.channel().to_owned(),
        payload: notification.payload().to_owned(),
        at: SystemTime::now(),
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("the observer does not panic")
}
