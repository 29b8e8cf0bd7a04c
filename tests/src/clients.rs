//! A fixed set of messages through every envelope and sink, read by the rules of CloudEvents alone.
//!
//! `cargo xtask prove clients` has other people's clients read the same (`PGHERALD_WIRE_PROVE` names
//! the program that does).

mod dump;
mod reading;
mod set;

use std::time::Duration;

use pgherald_testkit::{
    Bridge, HttpReceiver, JetStreamReader, Kafka, KafkaConsumer, Nats, Postgres,
};
use serde_json::Value;

use self::{
    dump::Dumped,
    reading::{Read, events},
    set::Sent,
};
use crate::{
    outbox::course::prepared,
    stage::{Config, nats, shared_kafka},
};

const WITHIN: Duration = Duration::from_secs(90);
const ENVELOPES: [&str; 3] = ["binary", "structured", "none"];
/// Signs every request; the readers verify with it.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSwx";
/// The outbox with the whole set, and notifications with the gap that they begin with.
const PIPELINES: [&str; 2] = ["p", "n"];

#[tokio::test(flavor = "multi_thread")]
async fn every_envelope_on_every_sink_is_read_by_the_rules() {
    let (postgres, nats, kafka) = (prepared().await, nats().await, shared_kafka().await);
    let hook = HttpReceiver::start().await.unwrap();
    let sent = set::send(&postgres).await;
    let bridge = Bridge::start(&config(&postgres, kafka, &nats, &hook)).await.unwrap();
    bridge.wait_ready(WITHIN).await.unwrap();
    set::announce(&postgres).await;
    let seen = match collect(&sent, kafka, &nats, &hook).await {
        Ok(seen) => seen,
        Err(error) => panic!("{error}\n{}", bridge.explain().await),
    };
    for (pipeline, sink, envelope) in kinds() {
        let of_kind = |it: &&Dumped| it.is(pipeline, sink, envelope);
        let seen: Vec<&Dumped> = seen.iter().filter(of_kind).collect();
        let what = format!("{pipeline} {sink} {envelope}");
        match (pipeline, envelope) {
            ("p", "none") => assert_bare(&what, &seen, &sent),
            ("p", _) => assert_set(&what, &seen, &sent),
            _ => assert_notified(&what, envelope, &seen),
        }
    }
    dump::prove(&seen, SECRET, kafka, &nats).await;
    assert_eq!(bridge.terminate(WITHIN).await.unwrap(), Some(0), "{}", bridge.log());
}

/// Every pipeline, sink and envelope; a batch is an envelope of HTTP's own.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    PIPELINES.into_iter().flat_map(|pipeline| {
        let of_sink = move |sink: &'static str| {
            ENVELOPES.into_iter().map(move |envelope| (pipeline, sink, envelope))
        };
        let batch = [(pipeline, "http", "batch")];
        ["kafka", "nats", "http"].into_iter().flat_map(of_sink).chain(batch)
    })
}

fn config(postgres: &Postgres, kafka: &Kafka, nats: &Nats, hook: &HttpReceiver) -> String {
    let notify = "[pipelines.n.source.notify]\nchannels = [\"news\"]\nkey = \"json:/key\"";
    let mut config = Config::outbox(&postgres.url(), "channels = [\"*\"]").with(notify);
    for (pipeline, sink, envelope) in kinds() {
        let table = format!("[pipelines.{pipeline}.sinks.{sink}_{envelope}]");
        let (wrapped, more) = match envelope {
            "batch" => ("structured", "batch.messages_max = 10\nbatch.linger_ms = 200\n"),
            other => (other, ""),
        };
        let to = match sink {
            "kafka" => format!(
                "kafka.brokers = {:?}\nkafka.topic = \"wire-{pipeline}-{envelope}\"\n\
                 kafka.create_topics = true\nkafka.partitions = 1\nkafka.replication_factor = 1",
                kafka.bootstrap()
            ),
            "nats" => format!(
                "nats.servers = {:?}\nnats.subject = \"{pipeline}.{envelope}.{{channel}}\"\n\
                 nats.stream = \"{}\"\nnats.create_stream = true",
                nats.url(),
                stream(pipeline, envelope)
            ),
            _ => format!(
                "http.url = {:?}\nhttp.secret = {SECRET:?}",
                hook.url(&format!("/{pipeline}/{envelope}"))
            ),
        };
        config = config.with(&format!("{table}\nenvelope = \"{wrapped}\"\n{more}{to}"));
    }
    config.text().to_owned()
}

fn stream(pipeline: &str, envelope: &str) -> String {
    format!("WIRE_{pipeline}_{envelope}").to_uppercase()
}

/// What lies at every destination once all of it is there.
async fn collect(
    sent: &[Sent],
    kafka: &Kafka,
    nats: &Nats,
    hook: &HttpReceiver,
) -> pgherald_testkit::Result<Vec<Dumped>> {
    let mut all = Vec::new();
    for (pipeline, sink, envelope) in kinds() {
        // The gap of the start, and what set::announce says.
        let count = if pipeline == "p" { sent.len() } else { 1 + set::ANNOUNCED.len() };
        match sink {
            "kafka" => {
                let topic = format!("wire-{pipeline}-{envelope}");
                let mut reader = KafkaConsumer::open(&kafka.bootstrap(), &[&topic]).await?;
                let records = reader.collect(count, WITHIN).await?;
                all.extend(records.iter().map(|it| Dumped::kafka(pipeline, envelope, it)));
            }
            "nats" => {
                let stream = stream(pipeline, envelope);
                let mut reader = JetStreamReader::open(&nats.url(), &stream).await?;
                let stored = reader.collect(count, WITHIN).await?;
                all.extend(stored.iter().map(|it| Dumped::nats(pipeline, envelope, it)));
            }
            _ => {
                let path = format!("/{pipeline}/{envelope}");
                let events = |all: &[pgherald_testkit::Received]| {
                    let of_path = all.iter().filter(|it| it.path == path && it.is_confirmed());
                    of_path.map(|it| dump::events_in(&it.body, envelope)).sum::<usize>()
                };
                let received = hook.until(WITHIN, |all| events(all) >= count).await?;
                let of_path = received.iter().filter(|it| it.path == path);
                all.extend(of_path.map(|it| Dumped::http(pipeline, envelope, it)));
            }
        }
    }
    Ok(all)
}

/// Each message of the set is there once, with the attributes and the data that the set says.
fn assert_set(what: &str, seen: &[&Dumped], sent: &[Sent]) {
    let read: Vec<Read> = seen.iter().flat_map(|it| events(it)).collect();
    assert_eq!(read.len(), sent.len(), "{what}");
    for sent in sent {
        let expected = sent.event();
        let found = read.iter().find(|it| it.attributes["id"] == expected.attributes["id"]);
        let found = found.unwrap_or_else(|| panic!("{what}: {:?} is missing", sent.name));
        let mut attributes = found.attributes.clone();
        if !sent.passes {
            assert!(attributes.remove("time").is_some(), "{what}: {:?} has no time", sent.name);
        }
        assert_eq!(
            Value::from(attributes),
            Value::from(expected.attributes),
            "{what}: {}",
            sent.name
        );
        assert_eq!(found.data, expected.data, "{what}: {:?}", sent.name);
    }
}

/// The payload as it was sent, and its media type where it belongs.
fn assert_bare(what: &str, seen: &[&Dumped], sent: &[Sent]) {
    assert_eq!(seen.len(), sent.len(), "{what}");
    for (place, sent) in sent.iter().enumerate() {
        let by_id = |it: &&&Dumped| it.header("webhook-id") == Some(sent.id.as_str());
        let found = match seen[place].sink {
            "http" => seen.iter().find(by_id).expect("its id is there"),
            // In the order of the set.
            _ => &seen[place],
        };
        let body = found.body.clone().unwrap_or_default();
        assert_eq!(body, sent.payload(), "{what}: {:?}", sent.name);
        let is_said = found.sink == "http" || sent.sets_media_type();
        let expected = sent.media_type().filter(|_| is_said);
        assert_eq!(found.header("content-type"), expected.as_deref(), "{what}: {:?}", sent.name);
        let ours = |name: &str| name.starts_with("ce-") || name.starts_with("ce_");
        assert!(!found.headers.iter().any(|(name, _)| ours(name)), "{what}: {:?}", sent.name);
    }
}

/// A gap, then what was announced.
fn assert_notified(what: &str, envelope: &str, seen: &[&Dumped]) {
    let read: Vec<Read> = seen.iter().flat_map(|it| events(it)).collect();
    let kinds: Vec<_> = read.iter().map(|it| it.attributes.get("type").cloned()).collect();
    assert_eq!(kinds[0], Some("pgherald.gap".into()), "{what}");
    assert_eq!(read[0].attributes["subject"], "news", "{what}");
    assert_eq!(read[0].data["json"]["reason"], "start", "{what}");
    let attributes = |it: &Dumped| it.headers.iter().any(|(name, _)| name.starts_with("ce"));
    let is_document = matches!(envelope, "structured" | "batch");
    assert_eq!(seen.iter().copied().any(attributes), !is_document, "{what}");
    if envelope == "none" {
        return;
    }
    for (read, (payload, media_type)) in read[1..].iter().zip(set::ANNOUNCED) {
        assert_eq!(read.attributes["datacontenttype"], media_type, "{what}: {payload}");
        let is_json = media_type == "application/json";
        let data = match is_json {
            true => serde_json::json!({ "json": serde_json::from_str::<Value>(payload).unwrap() }),
            false => serde_json::json!({ "text": payload }),
        };
        assert_eq!(read.data, data, "{what}: {payload}");
    }
}
