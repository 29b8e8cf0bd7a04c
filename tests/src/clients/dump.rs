//! What was seen on the wire, and the file that other clients read it from.

use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use pgherald_testkit::{Kafka, KafkaRecord, Nats, Received, Scratch, StoredMessage};
use serde_json::{Value, json};
use tokio::process::Command;

/// One message, record or request.
#[derive(Clone)]
pub(super) struct Dumped {
    pipeline: String,
    pub(super) sink: &'static str,
    pub(super) envelope: String,
    key: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, String)>,
    /// `None`: Kafka's null value.
    pub(super) body: Option<Vec<u8>>,
}

impl Dumped {
    pub(super) fn kafka(pipeline: &str, envelope: &str, record: &KafkaRecord) -> Self {
        let text = |value: &Option<Vec<u8>>| {
            String::from_utf8(value.clone().unwrap_or_default()).expect("headers are text")
        };
        let headers = record.headers.iter().map(|(name, value)| (name.clone(), text(value)));
        Self {
            pipeline: pipeline.into(),
            sink: "kafka",
            envelope: envelope.into(),
            key: record.key.clone(),
            headers: headers.collect(),
            body: record.value.clone(),
        }
    }

    pub(super) fn nats(pipeline: &str, envelope: &str, stored: &StoredMessage) -> Self {
        Self {
            pipeline: pipeline.into(),
            sink: "nats",
            envelope: envelope.into(),
            key: None,
            headers: stored.headers.clone(),
            body: Some(stored.payload.clone()),
        }
    }

    pub(super) fn http(pipeline: &str, envelope: &str, request: &Received) -> Self {
        Self {
            pipeline: pipeline.into(),
            sink: "http",
            envelope: envelope.into(),
            key: None,
            headers: request.headers.clone(),
            body: Some(request.body.clone()),
        }
    }

    pub(super) fn is(&self, pipeline: &str, sink: &str, envelope: &str) -> bool {
        self.pipeline == pipeline && self.sink == sink && self.envelope == envelope
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let first = values.next();
        assert!(values.next().is_none(), "{name} stands there twice");
        first.map(|(_, value)| value.as_str())
    }

    fn line(&self) -> Value {
        let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
        json!({
            "pipeline": self.pipeline, "sink": self.sink, "envelope": self.envelope,
            "key": base64(&self.key), "headers": self.headers, "body": base64(&self.body),
        })
    }
}

/// How many events a request holds.
pub(super) fn events_in(body: &[u8], envelope: &str) -> usize {
    match serde_json::from_slice(body) {
        Ok(Value::Array(events)) if envelope == "batch" => events.len(),
        _ => 1,
    }
}

/// Has other people's clients read everything, with the program that `PGHERALD_WIRE_PROVE` names, if
/// it names one.
pub(super) async fn prove(seen: &[Dumped], secret: &str, kafka: &Kafka, nats: &Nats) {
    let Some(program) = std::env::var_os("PGHERALD_WIRE_PROVE") else { return };
    let scratch = Scratch::new("wire").expect("there is room");
    let file = scratch.path().join("dump.jsonl");
    let told = json!({ "secret": secret });
    let lines = [told].into_iter().chain(seen.iter().map(Dumped::line));
    let text: String = lines.map(|it| format!("{it}\n")).collect();
    fs::write(&file, text).expect("the dump can be written");
    let mut command = Command::new("python3");
    command.arg(program).arg(&file).arg(kafka.bootstrap()).arg(nats.url());
    let ended = command.status().await.expect("python3 is there");
    assert!(ended.success(), "clients read something else");
}
