//! Reads events from a stream, without an SDK: `NATS=nats://localhost:4222 STREAM=APP cargo run`

use std::{collections::HashSet, env, error::Error};

use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = async_nats::connect(env::var("NATS")?).await?;
    let stream = jetstream::new(client).get_stream(env::var("STREAM")?).await?;
    let consumer = stream.create_consumer(OrderedConfig::default()).await?;
    let mut messages = consumer.messages().await?;
    let mut seen = HashSet::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        let attribute = |name: &str| {
            let headers = message.headers.as_ref()?;
            let value = headers.get(name)?.as_str();
            Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        let (source, id) = (attribute("ce-source"), attribute("ce-id"));
        if !seen.insert((source, id.clone())) {
            continue;
        }
        let is_gap = attribute("ce-type").as_deref() == Some("pgherald.gap");
        let kind = if is_gap { "gap" } else { "event" };
        let payload = String::from_utf8_lossy(&message.payload);
        println!("{kind} {} {}", id.unwrap_or_default(), payload);
    }
    Ok(())
}
