//! Producers: connections that announce in transactions of mixed sizes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::{Error, Result};

/// Messages a transaction holds, in turn.
const SIZES: [usize; 8] = [1, 1, 3, 1, 20, 2, 1, 100];
const RETRY: Duration = Duration::from_millis(50);

/// How to announce; see [`Notifier::new`].
#[derive(Clone, Debug)]
pub struct Notifier {
    url: String,
    channels: Vec<String>,
    connections: usize,
    messages: usize,
    rate: Option<f64>,
    sizes: Vec<usize>,
    padding: usize,
}

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The channel.
    pub channel: String,
    /// The payload: JSON with `writer`, `n`, `sent_us` and perhaps `pad`; unique.
    pub payload: String,
}

/// What was announced, by each connection in its order.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Committed for certain.
    pub committed: Vec<Announcement>,
    /// In a transaction whose commit got no answer: announced or not.
    pub unsure: Vec<Announcement>,
}

impl Sent {
    /// How many were committed for certain.
    pub fn count(&self) -> usize {
        self.committed.len()
    }
}

impl Announcement {
    /// `writer-n` of a payload made by a [`Notifier`].
    pub fn id_of(payload: &[u8]) -> Option<String> {
        let json: serde_json::Value = serde_json::from_slice(payload).ok()?;
        Some(format!("{}-{}", json.get("writer")?.as_u64()?, json.get("n")?.as_u64()?))
    }

    /// When it was sent: just before its transaction.
    pub fn sent_at(payload: &[u8]) -> Option<SystemTime> {
        let json: serde_json::Value = serde_json::from_slice(payload).ok()?;
        Some(UNIX_EPOCH + Duration::from_micros(json.get("sent_us")?.as_u64()?))
    }
}

impl Notifier {
    /// By default: one connection, 1,000 messages on channel `orders`, as fast as it goes.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            channels: vec!["orders".into()],
            connections: 1,
            messages: 1000,
            rate: None,
            sizes: SIZES.to_vec(),
            padding: 0,
        }
    }

    /// The channels, in turn.
    pub fn channels(mut self, channels: &[&str]) -> Self {
        self.channels = channels.iter().map(|&channel| channel.into()).collect();
        self
    }

    /// How many connections announce at the same time.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// How many messages in all, over all connections.
    pub fn messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Messages a second, over all connections.
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// The transactions' sizes in messages, in turn.
    pub fn sizes(mut self, sizes: &[usize]) -> Self {
        self.sizes = sizes.iter().map(|size| (*size).max(1)).collect();
        self
    }

    /// Bytes of padding in each payload (below 7,900).
    pub fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// Announces everything. A connection that is lost is opened again, and goes on with the next
    /// transaction; it fails only if it cannot connect for 60 s.
    pub async fn run(&self) -> Result<Sent> {
        let mut writers = JoinSet::new();
        for number in 0..self.connections {
            let share = self.messages / self.connections;
            let rest = usize::from(number < self.messages % self.connections);
            writers.spawn(Writer::new(self.clone(), number).run(share + rest));
        }
        let mut sent = Sent::default();
        while let Some(joined) = writers.join_next().await {
            let one = joined.map_err(|error| Error::because("a writer", error))??;
            sent.committed.extend(one.committed);
            sent.unsure.extend(one.unsure);
        }
        Ok(sent)
    }
}

struct Writer {
    plan: Notifier,
    number: usize,
    next: usize,
    started: Instant,
}

impl Writer {
    fn new(plan: Notifier, number: usize) -> Self {
        Self { plan, number, next: 0, started: Instant::now() }
    }

    async fn run(mut self, share: usize) -> Result<Sent> {
        let mut connection = self.connect().await?;
        let mut sent = Sent::default();
        let mut transaction = self.number;
        while self.next < share {
            self.pace().await;
            let size = self.plan.sizes[transaction % self.plan.sizes.len()];
            transaction += 1;
            let batch = self.batch(size.min(share - self.next));
            match announce(&mut connection, &batch).await {
                Ok(()) => sent.committed.extend(batch),
                Err(_) => {
                    sent.unsure.extend(batch);
                    connection = self.connect().await?;
                }
            }
        }
        let _ = connection.close().await;
        Ok(sent)
    }

    async fn connect(&self) -> Result<PgConnection> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match PgConnection::connect(&self.plan.url).await {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() > deadline => {
                    return Err(Error::because("a writer cannot connect", error));
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    async fn pace(&self) {
        if let Some(rate) = self.plan.rate {
            let due = self.next as f64 * self.plan.connections as f64 / rate;
            let due = self.started + Duration::from_secs_f64(due);
            tokio::time::sleep_until(due.into()).await;
        }
    }

    fn batch(&mut self, size: usize) -> Vec<Announcement> {
        let first = self.next;
        self.next += size;
        (first..self.next).map(|n| self.announcement(n)).collect()
    }

    fn announcement(&self, n: usize) -> Announcement {
        let writer = self.number;
        let sent_us = now_us();
        let pad = match self.plan.padding {
            0 => String::new(),
            bytes => format!(",\"pad\":\"{}\"", "x".repeat(bytes)),
        };
        Announcement {
            channel: self.plan.channels[(n + writer) % self.plan.channels.len()].clone(),
            payload: format!("{{\"writer\":{writer},\"n\":{n},\"sent_us\":{sent_us}{pad}}}"),
        }
    }
}

/// One statement, one transaction; the order of the arrays is the order of the announcements.
async fn announce(
    connection: &mut PgConnection,
    batch: &[Announcement],
) -> std::result::Result<(), sqlx::Error> {
    let channels: Vec<&str> = batch.iter().map(|it| it.channel.as_str()).collect();
    let payloads: Vec<&str> = batch.iter().map(|it| it.payload.as_str()).collect();
    sqlx::query("SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t(c, p)")
        .bind(channels)
        .bind(payloads)
        .execute(connection)
        .await
        .map(drop)
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
