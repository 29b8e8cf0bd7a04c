//! The factory of writers.

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{FlowContext, Opened, Sink, SinkError};

use crate::{
    RedisSettings, connection::Connection, entry::Composer, error::Error, writer::RedisWriter,
};

/// Opens writers to the streams of one flow.
pub struct RedisSink {
    settings: RedisSettings,
    composer: Composer,
    /// What the connection is called: the same for every writer of the flow.
    name: String,
}

impl RedisSink {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(settings: RedisSettings, context: FlowContext) -> Self {
        let composer = Composer::new(settings.stream.clone(), &context);
        let name = format!("pgherald/{}/{}", context.pipeline, context.sink);
        Self { settings, composer, name }
    }

    async fn writer(&self) -> Result<RedisWriter, Error> {
        let mut connection = Connection::open(&self.settings).await?;
        connection.fence(&self.name).await?;
        for stream in self.composer.configured().unwrap_or_default() {
            if !connection.has(&stream).await? {
                return Err(Error::Missing(stream));
            }
        }
        let value_bytes_max = connection.value_bytes_max().await?;
        Ok(RedisWriter::new(connection, self.composer.clone(), value_bytes_max))
    }
}

impl Sink for RedisSink {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        async move {
            let writer = self.writer().await.map_err(Error::class)?;
            Ok(Opened { writer: Box::new(writer), resume: None })
        }
        .boxed()
    }
}
