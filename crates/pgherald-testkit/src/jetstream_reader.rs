//! What lies in a JetStream stream, in its order.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt;

use crate::{Error, Result, event, eventually_some};

/// One stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers; several values of one name follow each other.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Vec<u8>,
    /// When this process got it.
    pub at: SystemTime,
}

impl StoredMessage {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// True for a message of type `pgherald.gap`.
    pub fn is_gap(&self) -> bool {
        event::is_gap(self.header("ce-type"), self.header("content-type"), &self.payload)
    }
}

/// Reads a whole stream from its beginning with an ordered consumer.
pub struct JetStreamReader {
    context: Context,
    stream: String,
    reading: Option<Ordered>,
    /// The next sequence to read.
    next: u64,
    messages: Vec<StoredMessage>,
}

impl JetStreamReader {
    /// Waits up to 15 s until the stream exists.
    pub async fn open(url: &str, stream: &str) -> Result<Self> {
        let connected = async_nats::ConnectOptions::new().retry_on_initial_connect().connect(url);
        let client = connected.await.map_err(|error| Error::because("NATS", error))?;
        Self::open_with(client, stream).await
    }

    /// The same with a client that has credentials.
    pub async fn open_with(client: async_nats::Client, stream: &str) -> Result<Self> {
        let context = jetstream::new(client);
        let exists = || async { context.get_stream(stream).await.ok() };
        let what = format!("stream {stream} exists");
        eventually_some(&what, Duration::from_secs(15), exists).await?;
        Ok(Self { context, stream: stream.into(), reading: None, next: 1, messages: Vec::new() })
    }

    /// Everything read so far.
    pub fn messages(&self) -> &[StoredMessage] {
        &self.messages
    }

    /// Reads up to the last sequence that the stream has now.
    pub async fn read_all(&mut self, deadline: Duration) -> Result<&[StoredMessage]> {
        let state = || async {
            let mut stream = self.context.get_stream(&self.stream).await.ok()?;
            Some(stream.info().await.ok()?.state.clone())
        };
        let state = eventually_some("the stream's state", deadline, state).await?;
        if state.messages == 0 {
            return Ok(&self.messages);
        }
        self.collect_until(deadline, |messages| {
            messages.last().is_some_and(|it| it.sequence >= state.last_sequence)
        })
        .await
    }

    /// Reads until there are this many messages in all.
    pub async fn collect(&mut self, count: usize, deadline: Duration) -> Result<&[StoredMessage]> {
        self.collect_until(deadline, |messages| messages.len() >= count).await
    }

    /// Reads until the condition holds for everything read so far.
    pub async fn collect_until(
        &mut self,
        deadline: Duration,
        mut done: impl FnMut(&[StoredMessage]) -> bool,
    ) -> Result<&[StoredMessage]> {
        let reading = async {
            while !done(&self.messages) {
                self.read_one().await;
            }
        };
        let ended = tokio::time::timeout(deadline, reading).await;
        let count = self.messages.len();
        ended.map_err(|_| {
            Error::new(format!("waited {deadline:?} for JetStream messages in vain: have {count}"))
        })?;
        Ok(&self.messages)
    }

    /// Hands each further payload, and when this process got it, to `each` until that says that it
    /// is enough. Keeps nothing.
    pub async fn pass(
        &mut self,
        deadline: Duration,
        mut each: impl FnMut(&[u8], SystemTime) -> ControlFlow<()>,
    ) -> Result<()> {
        let passing = async {
            loop {
                if let Some(message) = self.next_message().await
                    && each(&message.payload, SystemTime::now()).is_break()
                {
                    return;
                }
            }
        };
        let ended = tokio::time::timeout(deadline, passing).await;
        ended.map_err(|_| Error::new(format!("waited {deadline:?} for JetStream messages in vain")))
    }

    async fn read_one(&mut self) {
        let message = self.next_message().await;
        self.messages.extend(message.as_ref().and_then(stored));
    }

    /// Any error: none, and then a new consumer from the next sequence on.
    async fn next_message(&mut self) -> Option<jetstream::Message> {
        let Some(reading) = self.reading.as_mut() else {
            self.reading = self.consume().await;
            if self.reading.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            return None;
        };
        let Some(Ok(message)) = reading.next().await else {
            self.reading = None;
            return None;
        };
        self.next = message.info().ok()?.stream_sequence + 1;
        Some(message)
    }

    async fn consume(&self) -> Option<Ordered> {
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ..OrderedConfig::default()
        };
        let stream = self.context.get_stream(&self.stream).await.ok()?;
        stream.create_consumer(config).await.ok()?.messages().await.ok()
    }
}

fn stored(message: &jetstream::Message) -> Option<StoredMessage> {
    let headers = message.headers.iter().flat_map(|headers| headers.iter());
    let pairs = headers.flat_map(|(name, values)| {
        values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
    });
    Some(StoredMessage {
        sequence: message.info().ok()?.stream_sequence,
        subject: message.subject.to_string(),
        headers: pairs.collect(),
        payload: message.payload.to_vec(),
        at: SystemTime::now(),
    })
}
