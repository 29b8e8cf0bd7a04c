//! What the server takes: read when a writer opens, and again before a message is refused by it.

use std::time::Duration;

use async_nats::{Client, jetstream};
use tokio::time::Instant;

use crate::{
    NatsSettings,
    connection::{Connection, connect},
    encoder::Limits,
    error::NatsError,
    stream,
};

/// How long the server's own limit is believed: it is told at the beginning of a connection only, and
/// asking again costs one.
const SERVER_BELIEVED_FOR: Duration = Duration::from_secs(10);

/// Reads limits on a connection that another task owns.
pub(crate) struct LimitsReader {
    settings: NatsSettings,
    /// Every destination that the configuration alone names.
    destinations: Vec<String>,
    client: Client,
    jetstream: jetstream::Context,
    server_asked: Option<Instant>,
}

impl LimitsReader {
    pub(crate) fn new(
        settings: &NatsSettings,
        destinations: Vec<String>,
        connection: &Connection,
    ) -> Self {
        Self {
            settings: settings.clone(),
            destinations,
            client: connection.client.clone(),
            jetstream: connection.jetstream.clone(),
            server_asked: None,
        }
    }

    /// The limits as they are now.
    ///
    /// # Errors
    /// They cannot be read, the stream is of no use any more, or the server's own limit has changed:
    /// another connection has to be opened.
    pub(crate) async fn read_again(&mut self) -> Result<Limits, NatsError> {
        self.ask_the_server().await?;
        let Some(wanted) = &self.settings.stream else {
            let message_bytes = stream::message_bytes_max(&self.client, None);
            return Ok(Limits { message_bytes, bound: None });
        };
        let info = stream::look_up(&self.jetstream, &wanted.name).await?;
        let info = info.ok_or_else(|| NatsError::StreamMissing(wanted.name.clone()))?;
        stream::usable(&info, &self.destinations)?;
        Ok(Limits {
            message_bytes: stream::message_bytes_max(&self.client, Some(&info)),
            bound: Some(stream::patterns(&info)),
        })
    }

    async fn ask_the_server(&mut self) -> Result<(), NatsError> {
        if self.server_asked.is_some_and(|at| at.elapsed() < SERVER_BELIEVED_FOR) {
            return Ok(());
        }
        let asked = connect(&self.settings, "pgherald limits", 0).await?;
        self.server_asked = Some(Instant::now());
        let now = asked.client.max_payload();
        match now == self.client.max_payload() {
            true => Ok(()),
            false => Err(NatsError::LimitsChanged { now }),
        }
    }
}
