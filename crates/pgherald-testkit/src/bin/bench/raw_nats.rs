//! The raw JetStream client: async-nats, pipelined, each message with an id and the same headers.

use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::PublishMessage, stream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pgherald_testkit::{Error, Result};

use crate::payload::{self, Headers};

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
    let mut all = Headers::nats();
    let (value, started) = (Bytes::from(payload::payload()), Instant::now());
    let mut open = FuturesUnordered::new();
    for n in 0..messages {
        let (headers, id) = headers(&mut all, n);
        let publish = PublishMessage::build()
            .headers(headers)
            .message_id(id)
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

fn headers(all: &mut Headers, n: usize) -> (HeaderMap, String) {
    let (all, id) = all.of(n);
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        headers.insert(*name, value.as_str());
    }
    (headers, format!("bench/s/{id}"))
}

fn because(error: impl std::fmt::Display) -> Error {
    Error::because("the raw JetStream client", error)
}
