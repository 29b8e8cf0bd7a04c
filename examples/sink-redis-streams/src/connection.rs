//! One connection, on which every wait is bounded.

use std::time::Duration;

use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, aio::MultiplexedConnection};

use crate::{RedisSettings, error::Error};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Below the 5 s that core waits for an outcome.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

#[derive(Clone)]
pub(crate) struct Connection(MultiplexedConnection);

impl Connection {
    pub(crate) async fn open(settings: &RedisSettings) -> Result<Self, Error> {
        let url = settings.url.read()?;
        let client = redis::Client::open(&*url).map_err(|_| Error::Url)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        Ok(Self(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    pub(crate) async fn ask<T: FromRedisValue>(&mut self, command: &[&str]) -> Result<T, Error> {
        let mut asked = redis::cmd(command[0]);
        command[1..].iter().for_each(|argument| _ = asked.arg(*argument));
        Ok(asked.query_async(&mut self.0).await?)
    }

    /// Runs a transaction: all of its commands, or none.
    pub(crate) async fn run(
        &mut self,
        transaction: &Pipeline,
    ) -> Result<Vec<Option<String>>, Error> {
        Ok(transaction.query_async(&mut self.0).await?)
    }

    /// Whether a stream exists.
    pub(crate) async fn has(&mut self, stream: &str) -> Result<bool, Error> {
        Ok(self.ask::<String>(&["TYPE", stream]).await? == "stream")
    }

    /// The largest value that the server takes. A user that may not ask gets the server's default.
    pub(crate) async fn value_bytes_max(&mut self) -> Result<usize, Error> {
        const DEFAULT: usize = 512 << 20;
        let asked = self.ask::<Vec<String>>(&["CONFIG", "GET", "proto-max-bulk-len"]).await;
        match asked {
            Ok(answer) => Ok(answer.get(1).and_then(|it| it.parse().ok()).unwrap_or(DEFAULT)),
            Err(Error::Refused { code, .. }) if code == "NOPERM" => Ok(DEFAULT),
            Err(error) => Err(error),
        }
    }

    /// Ends older connections of this name, so that nothing that they sent can arrive any more, and
    /// takes the name.
    pub(crate) async fn fence(&mut self, name: &str) -> Result<(), Error> {
        let clients: String = self.ask(&["CLIENT", "LIST"]).await?;
        for client in clients.lines() {
            let value = |field: &str| client.split(' ').find_map(|it| it.strip_prefix(field));
            if let (Some(id), true) = (value("id="), value("name=") == Some(name)) {
                let _: i64 = self.ask(&["CLIENT", "KILL", "ID", id]).await?;
            }
        }
        let _: String = self.ask(&["CLIENT", "SETNAME", name]).await?;
        Ok(())
    }
}
