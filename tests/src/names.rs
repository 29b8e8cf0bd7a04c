//! Names are data: whatever stands in a channel or a key, it makes the right destination, or is
//! rejected by name; everything else goes on.

use std::collections::BTreeMap;

use pgherald_testkit::{
    Bridge, JetStreamReader, KafkaConsumer, KafkaRecord, Nats, Postgres, StoredMessage,
};
use sqlx::{Connection, PgConnection};

use crate::{
    command_line::{file, pgherald, said},
    stage::{Config, SOON, nats, postgres, shared_kafka},
};

/// 63 bytes, the longest that PostgreSQL takes.
const LONGEST: &str = "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-g23";
/// 63 bytes in 32 characters.
const LONGEST_UMLAUTS: &str = "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx";

/// Channels, and the subject of each under `names.{channel}`.
const CHANNELS: [(&str, &str); 15] = [
    ("plain", "names.plain"),
    ("with space", "names.with%20space"),
    ("dots.in.it", "names.dots.in.it"),
    ("star*", "names.star%2A"),
    ("*.>", "names.%2A.%3E"),
    ("cr\r\nlf", "names.cr%0D%0Alf"),
    ("tab\there", "names.tab%09here"),
    ("it's \"quoted\"", "names.it%27s%20%22quoted%22"),
    ("back\\slash/", "names.back%5Cslash%2F"),
    ("100% %20", "names.100%25%20%2520"),
    ("{key}", "names.%7Bkey%7D"),
    ("grün € 😀", "names.gr%C3%BCn%20%E2%82%AC%20%F0%9F%98%80"),
    ("CaSe_-9", "names.CaSe_-9"),
    (LONGEST, "names.a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-g23"),
    (LONGEST_UMLAUTS, UMLAUTS_SUBJECT),
];
const UMLAUTS_SUBJECT: &str = concat!(
    "names.",
    "%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC",
    "%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC",
    "%C3%BCx"
);
/// Channels with an empty token: no subject.
const NO_SUBJECT: [&str; 4] = [".lead", "trail.", "two..dots", "."];
/// Channels that are topics as they are under `names.{channel}`; no other one is.
const TOPICS: [&str; 8] =
    ["plain", "dots.in.it", "CaSe_-9", LONGEST, ".lead", "trail.", "two..dots", "."];

fn all_channels() -> Vec<&'static str> {
    let legal = CHANNELS.iter().map(|(channel, _)| *channel);
    legal.chain(NO_SUBJECT).collect()
}

/// A payload for a channel, and its size.
fn payload(channel: &str) -> String {
    format!("to {channel:?}")
}

async fn notify(postgres: &Postgres, messages: &[(&str, String)]) {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    for (channel, payload) in messages {
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(payload);
        notify.execute(&mut connection).await.unwrap();
    }
}

/// One message to each channel, then one to the first again: what was rejected is passed over.
async fn notify_each(postgres: &Postgres) {
    let mut messages: Vec<_> = all_channels().into_iter().map(|it| (it, payload(it))).collect();
    messages.push(("plain", "the last".into()));
    notify(postgres, &messages).await;
}

/// The messages of a stream without gaps, once the last one is there.
async fn stored(nats: &Nats, stream: &str) -> Vec<StoredMessage> {
    let mut reader = JetStreamReader::open(&nats.url(), stream).await.unwrap();
    let is_last = |messages: &[StoredMessage]| {
        messages.last().is_some_and(|it| it.text().contains("the last"))
    };
    reader.collect_until(SOON, is_last).await.unwrap().to_vec()
}

/// The same for a topic.
async fn recorded(bootstrap: &str, topic: &str) -> Vec<KafkaRecord> {
    let mut consumer = KafkaConsumer::open(bootstrap, &[topic]).await.unwrap();
    let is_last =
        |records: &[KafkaRecord]| records.last().is_some_and(|it| it.text().contains("the last"));
    consumer.collect_until(SOON, is_last).await.unwrap().to_vec()
}

/// Undoes `%XX`.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut hex = || char::from(bytes.next().expect("two digits follow")).to_digit(16).unwrap();
        out.push(if byte == b'%' { (hex() * 16 + hex()) as u8 } else { byte });
    }
    String::from_utf8(out).unwrap()
}

/// So many messages were rejected: each is logged with its id and size, counted, and one gap; and
/// the process goes on.
async fn assert_rejected(bridge: &Bridge, sink: &str, sizes: &[usize]) {
    let metrics = bridge.metrics().await.unwrap();
    let labels = [("sink", sink), ("reason", "rejected")];
    let gaps = metrics.value("pgherald_gaps_total", &labels);
    assert_eq!(gaps, Some(sizes.len() as f64), "{sink}: {}", bridge.log());
    let lines = bridge.log_lines("message rejected");
    let of_sink = lines
        .iter()
        .filter(|line| line.contains(&format!("sink=\"{sink}\"")) && line.contains("gap=false"));
    let logged: Vec<usize> = of_sink.map(|line| size_in(line)).collect();
    assert_eq!(logged, sizes, "{sink}: {lines:?}");
    assert_eq!(bridge.livez().await.unwrap().status, 200);
    bridge.wait_ready(SOON).await.unwrap();
    assert!(!bridge.log().contains("panicked"), "{}", bridge.log());
}

fn size_in(line: &str) -> usize {
    assert!(line.contains(" id="), "{line}");
    let (_, rest) = line.split_once(" size=").expect("a size");
    rest.split(' ').next().expect("a number").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_become_exactly_these_subjects() {
    let (postgres, nats) = (postgres().await, nats().await);
    let channels = all_channels();
    let config = Config::new(&postgres.url(), &channels).nats("live", &nats, "NAMES", "names");
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    notify_each(&postgres).await;
    let stored = stored(&nats, "NAMES").await;

    let gaps: Vec<&str> = stored.iter().filter(|it| it.is_gap()).map(|it| &*it.subject).collect();
    let subjects: Vec<&str> = CHANNELS.iter().map(|(_, subject)| *subject).collect();
    assert_eq!(gaps, subjects, "the start, once to each; a rejected gap to nobody else");
    let messages: Vec<_> = stored.iter().filter(|it| !it.is_gap()).collect();
    let expected = CHANNELS.iter().map(|(channel, subject)| (*subject, payload(channel)));
    let expected: Vec<_> = expected.chain([("names.plain", "the last".into())]).collect();
    let arrived: Vec<_> = messages.iter().map(|it| (&*it.subject, it.text())).collect();
    assert_eq!(arrived, expected);
    for (message, (channel, _)) in messages.iter().zip(CHANNELS) {
        let subject = message.header("ce-subject").unwrap();
        assert!(subject.bytes().all(|byte| byte.is_ascii_graphic()), "{subject:?}");
        assert_eq!(decoded(subject), channel);
    }
    let sizes: Vec<usize> = NO_SUBJECT.iter().map(|channel| payload(channel).len()).collect();
    assert_rejected(&bridge, "live", &sizes).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_topics_as_they_are_or_are_rejected() {
    let (postgres, kafka) = (postgres().await, shared_kafka().await);
    let channels = all_channels();
    let config = Config::new(&postgres.url(), &channels)
        .kafka("each", kafka, "names.{channel}", 1)
        .kafka("all", kafka, "names-all", 1);
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    notify_each(&postgres).await;

    // Every channel into one topic: the name is as it is in the header.
    let all = recorded(&kafka.bootstrap(), "names-all").await;
    let subject = |it: &KafkaRecord| it.header("ce_subject").unwrap_or_default().to_owned();
    let arrived = all.iter().filter(|it| !it.is_gap());
    let arrived: Vec<_> = arrived.map(|it| (subject(it), it.text())).collect();
    let expected = channels.iter().map(|it| ((*it).to_owned(), payload(it)));
    let expected: Vec<_> = expected.chain([("plain".into(), "the last".into())]).collect();
    assert_eq!(arrived, expected);

    let last = recorded(&kafka.bootstrap(), "names.plain").await;
    assert_eq!(last.iter().filter(|it| !it.is_gap()).count(), 2);
    for channel in TOPICS {
        let topic = format!("names.{channel}");
        let mut consumer = KafkaConsumer::open(&kafka.bootstrap(), &[&topic]).await.unwrap();
        let records = consumer.read_all(SOON).await.unwrap();
        let gaps: Vec<String> =
            records.iter().filter(|it| it.is_gap()).map(|it| it.text()).collect();
        assert_eq!(gaps.len(), 1, "{topic}: the start alone: {gaps:?}");
        let first = records.iter().find(|it| !it.is_gap()).map(KafkaRecord::text);
        assert_eq!(first, Some(payload(channel)), "{topic}");
    }
    let illegal = channels.iter().filter(|channel| !TOPICS.contains(channel));
    let sizes: Vec<usize> = illegal.map(|channel| payload(channel).len()).collect();
    assert_rejected(&bridge, "each", &sizes).await;
    assert_rejected(&bridge, "all", &[]).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0));
}

/// Keys, and the subject of each under `keys.{key}`.
const KEYS: [(&str, &str); 13] = [
    ("plain", "keys.plain"),
    (" ", "keys.%20"),
    ("a b", "keys.a%20b"),
    ("a.b", "keys.a%2Eb"),
    (".", "keys.%2E"),
    ("*", "keys.%2A"),
    (">", "keys.%3E"),
    ("cr\r\nlf", "keys.cr%0D%0Alf"),
    ("\0", "keys.%00"),
    ("\"it's\"", "keys.%22it%27s%22"),
    ("100%", "keys.100%25"),
    ("ключ😀", "keys.%D0%BA%D0%BB%D1%8E%D1%87%F0%9F%98%80"),
    ("{channel}", "keys.%7Bchannel%7D"),
];

/// A payload with that key.
fn keyed(key: &str) -> String {
    serde_json::json!({ "key": key, "for": "names" }).to_string()
}

/// Payloads that name no subject: no key, an empty one, and one too long for a server's line.
fn without_a_subject() -> Vec<String> {
    vec![
        "not json".into(),
        "{}".into(),
        r#"{"key":null}"#.into(),
        keyed(""),
        keyed(&"k".repeat(6_000)),
        keyed(&"ü".repeat(1_000)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_become_exactly_these_subjects_and_record_keys() {
    let (postgres, nats, kafka) = (postgres().await, nats().await, shared_kafka().await);
    let config = Config::new(&postgres.url(), &["things"])
        .with("key = \"json:/key\"")
        .kafka("bus", kafka, "names-keys", 1)
        .with(&format!(
            "[pipelines.p.sinks.live.nats]\nservers = \"{}\"\nsubject = \"keys.{{key}}\"\n\
             stream = \"KEYS\"\ncreate_stream = true",
            nats.url()
        ));
    let bridge = Bridge::start(config.text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let nowhere = without_a_subject();
    let longest = "k".repeat(3_800);
    let payloads = KEYS.iter().map(|(key, _)| keyed(key)).chain(nowhere.clone());
    let payloads: Vec<String> = payloads.chain([keyed(&longest), keyed("the last")]).collect();
    let messages: Vec<_> = payloads.iter().map(|it| ("things", it.clone())).collect();
    notify(&postgres, &messages).await;

    let stored = stored(&nats, "KEYS").await;
    let arrived: Vec<_> = stored.iter().map(|it| (&*it.subject, it.text())).collect();
    let expected = KEYS.iter().map(|(key, subject)| (*subject, keyed(key)));
    let longest_subject = format!("keys.{longest}");
    let behind = [(&*longest_subject, keyed(&longest)), ("keys.the%20last", keyed("the last"))];
    let expected: Vec<_> = expected.chain(behind).collect();
    assert_eq!(arrived, expected, "no gap has a subject that a key alone would name");
    for (message, (key, _)) in stored.iter().zip(KEYS) {
        assert_eq!(decoded(message.header("ce-partitionkey").unwrap()), key);
    }
    let sizes: Vec<usize> = nowhere.iter().map(String::len).collect();
    assert_rejected(&bridge, "live", &sizes).await;

    // Kafka takes any key as it is.
    let records = recorded(&kafka.bootstrap(), "names-keys").await;
    let records = records.iter().filter(|it| !it.is_gap());
    let arrived: BTreeMap<String, Option<Vec<u8>>> =
        records.map(|it| (it.text(), it.key.clone())).collect();
    assert_eq!(arrived.len(), payloads.len());
    for (key, _) in KEYS {
        assert_eq!(arrived[&keyed(key)].as_deref(), Some(key.as_bytes()));
    }
    for without in &nowhere[..3] {
        assert_eq!(arrived[without], None, "{without}");
    }
    assert_rejected(&bridge, "bus", &[]).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_64_bytes_is_a_mistake_in_the_configuration() {
    for name in [format!("{LONGEST}4"), format!("{LONGEST_UMLAUTS}y"), "ü".repeat(32)] {
        assert_eq!(name.len(), 64);
        // The port is closed: nothing may connect before the configuration is right.
        let config = Config::new("postgres://app@127.0.0.1:1/app", &["fine", &name]).with(
            "[pipelines.p.sinks.live.nats]\nservers = \"nats://127.0.0.1:1\"\n\
             subject = \"names.{channel}\"\nstream = \"NAMES\"",
        );
        let (_scratch, path) = file(config.text());
        let mut run = pgherald(&["--config", path.to_str().unwrap(), "run"]).await;
        let said = said(&mut run).await;
        assert_eq!(said.code, Some(2), "{}", said.all());
        assert!(said.err.contains("pipelines.p.source.notify.channels"), "{}", said.all());
        assert!(said.err.contains("64 bytes") && said.err.contains("63"), "{}", said.all());
    }
}
