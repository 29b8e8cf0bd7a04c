//! The same backlog into every sink, its database beside the bridge and 20 ms away.

use std::time::Duration;

use pgherald_testkit::{Bridge, Error, FaultProxy, HttpReceiver, Result, bridge_binary};

use super::table::Table;
use super::{Options, SOURCE, backlog};
use crate::payload::BYTES;
use crate::section::{Column, Section};
use crate::servers::Servers;

/// From the bridge to PostgreSQL and back.
const AWAY: Duration = Duration::from_millis(20);
const KEYS: usize = 64;
/// Requests at once of the HTTP sink, its default.
const CONCURRENCY: usize = 16;
/// The slowest drain that is waited for, in rows a second.
const SLOWEST: usize = 50;

/// A kind of sink.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Kafka,
    JetStream,
    Http,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Kafka, Self::JetStream, Self::Http];

    fn label(self) -> String {
        match self {
            Self::Kafka => "Kafka".to_owned(),
            Self::JetStream => "JetStream".to_owned(),
            Self::Http => format!("HTTP, {CONCURRENCY} at once"),
        }
    }

    fn table(self, servers: &Servers, hook: &HttpReceiver, name: &str) -> String {
        match self {
            Self::Kafka => format!(
                "kafka]\nbrokers = \"{}\"\ntopic = \"{name}\"\ncreate_topics = true\n\
                 partitions = 1\nreplication_factor = 1\n",
                servers.kafka.bootstrap()
            ),
            Self::JetStream => format!(
                "nats]\nservers = \"{}\"\nsubject = \"{name}.x\"\nstream = \"{name}\"\n\
                 create_stream = true\n",
                servers.nats.url()
            ),
            Self::Http => {
                format!("http]\nurl = \"{}\"\nconcurrency = {CONCURRENCY}\n", hook.url("/"))
            }
        }
    }
}

pub(crate) async fn measure(
    servers: &Servers,
    table: &Table,
    options: &Options,
) -> Result<Section> {
    let rows = options.far_rows;
    let columns = [Column("rows/s", 0), Column("CPU s per million", 2)];
    let title = format!("{rows} rows of {BYTES} bytes with {KEYS} keys, near and {AWAY:?} away");
    let mut section = Section::new("distance", title, &columns);
    let hook = HttpReceiver::start().await?;
    hook.forget();
    let proxy = FaultProxy::start(servers.postgres.port()).await?;
    for (away, place) in [(Duration::ZERO, "beside it"), (AWAY, "20 ms away")] {
        // Each chunk is held back in each direction.
        proxy.delay(away / 2);
        for kind in Kind::ALL {
            table.clear().await?;
            table.fill_keyed(KEYS, rows).await?;
            let name = format!("{kind:?}-{}", away.as_millis()).to_lowercase();
            let sink = kind.table(servers, &hook, &name);
            let url = servers.postgres.url_at(proxy.port());
            let drained = drain(&url, &sink, rows).await?;
            let label = format!("{}, PostgreSQL {place}", kind.label());
            println!("  {label}: {:.0}/s", drained.rate);
            section.row(label, &[Some(drained.rate), Some(drained.cpu)]);
        }
    }
    Ok(section)
}

async fn drain(url: &str, sink: &str, rows: usize) -> Result<backlog::Drained> {
    let config = format!(
        "[postgres]\nurl = \"{url}\"\n\n{SOURCE}\n[pipelines.bench.sinks.s]\n\n\
         [pipelines.bench.sinks.s.{sink}"
    );
    let bridge = Bridge::builder(&config).binary(&bridge_binary().await?).start().await?;
    let drained = match backlog::drained(&bridge, rows, SLOWEST).await {
        Ok(drained) => drained,
        Err(error) => return Err(Error::because(error, bridge.explain().await)),
    };
    bridge.terminate(Duration::from_secs(15)).await?;
    Ok(drained)
}
