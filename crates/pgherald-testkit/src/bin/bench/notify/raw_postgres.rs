//! The bare listener: what PostgreSQL itself hands out, with nothing behind it.

use std::time::{Duration, Instant};

use pgherald_testkit::{Error, Notifier, Result};
use sqlx::postgres::PgListener;

use crate::payload;

const DEADLINE: Duration = Duration::from_secs(120);

/// Notifications a second that a bare sqlx listener drains of a backlog, and announced ones a
/// second while the backlog was made.
pub(crate) async fn rate(url: &str, channel: &str, messages: usize) -> Result<(f64, f64)> {
    let mut listener = PgListener::connect(url).await.map_err(because)?;
    listener.listen(channel).await.map_err(because)?;
    let announced = announce(url, channel, messages).await?;
    let started = Instant::now();
    let drain = async {
        for _ in 0..messages {
            listener.recv().await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    let drained = tokio::time::timeout(DEADLINE, drain).await;
    drained
        .map_err(|_| Error::new("the bare listener did not get everything"))?
        .map_err(because)?;
    Ok((messages as f64 / started.elapsed().as_secs_f64(), announced))
}

/// Announces a backlog in large transactions; announcements a second.
pub(crate) async fn announce(url: &str, channel: &str, messages: usize) -> Result<f64> {
    let started = Instant::now();
    let notifier = Notifier::new(url).channels(&[channel]).messages(messages);
    notifier.connections(2).sizes(&[1000]).padding(payload::PADDING).run().await?;
    Ok(messages as f64 / started.elapsed().as_secs_f64())
}

fn because(error: impl std::fmt::Display) -> Error {
    Error::because("the bare listener", error)
}
