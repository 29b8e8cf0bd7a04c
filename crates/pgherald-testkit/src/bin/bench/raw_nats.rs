//! The raw JetStream client: async-nats, pipelined, each message with an id and the same headers.

use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::PublishMessage, stream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pgherald_testkit::{Error, Result};

use crate::payload;

/// Acknowledgements that may be open at once.
const IN_FLIGHT: usize = 4_000;

/// Acknowledged messages a second, one stream on disk.
pub(crate) async fn rate(url: &str, name: &str, messages: usize) -> Result<f64> {
    let client = async_nats::connect(url).await.map_err(because)?;
    let context = jetstream::new(client);
    let subject = format!("{name}.x");
    let config =
        stream::Config { name: name.into(), subjects: vec![subject.clone()], ..Default::default() };
    context.create_stream(config).await.map_err(because)?;
    let (value, started) = (Bytes::from(payload::payload()), Instant::now());
    let mut open = FuturesUnordered::new();
    for n in 0..messages {
        let publish = PublishMessage::build()
            .headers(headers(n))
            .message_id(format!("bench/s/0123456789abcdef-{n}"))
            .expected_stream(name)
            .payload(value.clone());
        let sent = context.send_publish(subject.clone(), publish).await.map_err(because)?;
        open.push(sent.into_future());
        while open.len() >= IN_FLIGHT {
            open.next().await.transpose().map_err(because)?;
        }
    }
    while let Some(confirmed) = open.next().await {
        confirmed.map_err(because)?;
    }
    Ok(messages as f64 / started.elapsed().as_secs_f64())
}

fn headers(n: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in payload::headers(n, '-') {
        headers.insert(name, value);
    }
    headers.insert("ce-datacontenttype", "text/plain; charset=utf-8");
    headers
}

fn because(error: impl std::fmt::Display) -> Error {
    Error::because("the raw JetStream client", error)
}
