//! Three nats-servers with JetStream.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use futures_util::future::try_join_all;

use crate::{Error, Nats, Result, eventually_some, free_port};

const ELECTED: Duration = Duration::from_secs(60);

/// Three servers on 127.0.0.1 that share their streams. They end with this value.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<Nats>,
}

impl NatsCluster {
    /// A cluster without streams.
    pub async fn start() -> Result<Self> {
        let ports = [free_port(), free_port(), free_port()];
        let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let server = |(n, port): (usize, &u16)| {
            let listen = format!("listen: \"127.0.0.1:{port}\"");
            let cluster = format!("cluster {{ name: kit\n{listen}\nroutes: [{routes}] }}");
            Nats::builder().name(&name(n)).config(&cluster).start()
        };
        let servers = try_join_all(ports.iter().enumerate().map(server)).await?;
        Ok(Self { servers })
    }

    /// Where clients may connect: all of them, separated by commas.
    pub fn urls(&self) -> String {
        self.servers.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// A server that runs.
    pub fn any(&self) -> &Nats {
        self.servers.iter().find(|server| server.is_running()).unwrap_or(&self.servers[0])
    }

    /// Creates a stream with three replicas, as soon as the servers agree on who leads.
    pub async fn create_stream(&self, mut config: stream::Config) -> Result<()> {
        config.num_replicas = 3;
        let what = format!("stream {} is created", config.name);
        eventually_some(&what, ELECTED, || async {
            let context = self.context().await?;
            context.create_stream(config.clone()).await.ok().map(drop)
        })
        .await
    }

    /// The server that leads a stream.
    pub async fn leader(&self, stream: &str) -> Result<&Nats> {
        let what = format!("stream {stream} has a leader");
        let place = eventually_some(&what, ELECTED, || self.leading(stream)).await?;
        self.servers.get(place).ok_or_else(|| Error::new(format!("no server {place}")))
    }

    async fn leading(&self, stream: &str) -> Option<usize> {
        let mut stream = self.context().await?.get_stream(stream).await.ok()?;
        let leader = stream.info().await.ok()?.cluster.clone()?.leader?;
        let place = (0..self.servers.len()).find(|n| name(*n) == leader)?;
        self.servers[place].is_running().then_some(place)
    }

    async fn context(&self) -> Option<jetstream::Context> {
        let client = async_nats::connect(self.any().url()).await.ok()?;
        Some(jetstream::new(client))
    }
}

fn name(n: usize) -> String {
    format!("testkit{n}")
}
