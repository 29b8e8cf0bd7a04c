//! A hundred thousand notifications of mixed transaction sizes, into three sinks at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use pgherald_testkit::{
    Bridge, JetStreamReader, KafkaConsumer, KafkaRecord, Notifier, Observed, Observer, Postgres,
    StoredMessage,
};

use crate::{
    envelope::{assert_default_on_jetstream, assert_default_on_kafka},
    stage::{Config, SOON, nats, postgres, shared_kafka},
};

const CHANNELS: [&str; 3] = ["orders", "payments", "Stock.eu-1"];
const SIZES: [usize; 12] = [1, 1000, 3, 1, 50, 250, 1, 7, 500, 1, 20, 2];
const CONNECTIONS: usize = 8;
/// Everything, on a machine that does other things too.
const LOAD: Duration = Duration::from_secs(120);

/// One message at a sink: channel, payload, id.
type Arrived = (String, String, String);

/// Announces as fast as it goes and returns what PostgreSQL announced, in commit order.
async fn announce(postgres: &Postgres, messages: usize) -> Vec<Observed> {
    let observer = Observer::listen(&postgres.url(), &CHANNELS).await.unwrap();
    let notifier = Notifier::new(&postgres.url()).channels(&CHANNELS).connections(CONNECTIONS);
    let sent = notifier.sizes(&SIZES).messages(messages).run().await.unwrap();
    assert_eq!((sent.count(), sent.unsure.len()), (messages, 0));
    let observed = observer.collect(messages, LOAD).await.unwrap();
    assert_eq!((observed.len(), observer.breaks()), (messages, 0));
    observed
}

/// Announcing is faster than any broker: the budget has to hold all of it.
fn roomy(config: Config, sinks: &[&str]) -> Config {
    sinks.iter().fold(config, |config, sink| {
        config.with(&format!("[pipelines.p.sinks.{sink}]\nbudget_messages_max = 100000"))
    })
}

fn messages_of(records: &[KafkaRecord]) -> Vec<Arrived> {
    let header = |record: &KafkaRecord, name| record.header(name).unwrap_or_default().to_owned();
    let messages = records.iter().filter(|record| !record.is_gap());
    messages.map(|it| (header(it, "ce_subject"), it.text(), header(it, "ce_id"))).collect()
}

fn messages_stored(stored: &[StoredMessage]) -> Vec<Arrived> {
    let header = |it: &StoredMessage, name| it.header(name).unwrap_or_default().to_owned();
    let messages = stored.iter().filter(|message| !message.is_gap());
    messages.map(|it| (header(it, "ce-subject"), it.text(), header(it, "ce-id"))).collect()
}

/// The same messages in the same order, none more and none less.
fn assert_is_the_truth(sink: &str, truth: &[Observed], arrived: &[Arrived]) {
    let different = truth.iter().zip(arrived).position(|(announced, (channel, payload, _))| {
        announced.channel != *channel || announced.payload != *payload
    });
    if let Some(at) = different {
        panic!("{sink}: at {at} {:?} was announced, {:?} arrived", truth[at], arrived[at]);
    }
    assert_eq!(arrived.len(), truth.len(), "{sink}");
    let ids: BTreeSet<&str> = arrived.iter().map(|(_, _, id)| id.as_str()).collect();
    assert_eq!(ids.len(), arrived.len(), "{sink}: ids are unique");
}

fn of_channel(truth: &[Observed], channel: &str) -> Vec<Observed> {
    truth.iter().filter(|announced| announced.channel == channel).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_of_mixed_sizes_reach_three_sinks_exactly_and_in_order() {
    const MESSAGES: usize = 100_000;
    let (postgres, nats, kafka) = (postgres().await, nats().await, shared_kafka().await);
    let config = Config::new(&postgres.url(), &CHANNELS)
        .kafka("one", kafka, "load-one", 1)
        .kafka("six", kafka, "load-six.{channel}", 6)
        .nats("live", &nats, "LOAD", "load");
    let bridge = Bridge::start(roomy(config, &["one", "six", "live"]).text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let began = Instant::now();
    let truth = announce(&postgres, MESSAGES).await;
    let announced = began.elapsed();

    // The start is a gap, once for each destination.
    let mut one = KafkaConsumer::open(&kafka.bootstrap(), &["load-one"]).await.unwrap();
    let one = one.collect(MESSAGES + 1, LOAD).await.unwrap();
    let mut live = JetStreamReader::open(&nats.url(), "LOAD").await.unwrap();
    let live = live.collect(MESSAGES + CHANNELS.len(), LOAD).await.unwrap();
    let topics = CHANNELS.map(|channel| format!("load-six.{channel}"));
    let topics = topics.each_ref().map(String::as_str);
    let mut six = KafkaConsumer::open(&kafka.bootstrap(), &topics).await.unwrap();
    if let Err(error) = six.collect(MESSAGES + CHANNELS.len(), LOAD).await {
        let held = six.read_all(SOON).await.map(<[KafkaRecord]>::len);
        let metrics = bridge.metrics().await.map(|metrics| metrics.text().to_owned());
        panic!("{error}; Kafka holds {held:?}\n{}\n{metrics:?}", bridge.explain().await);
    }
    let six = six.records();
    println!("{MESSAGES} announced in {announced:.1?}, everywhere in {:.1?}", began.elapsed());

    one.iter().filter(|it| !it.is_gap()).for_each(assert_default_on_kafka);
    six.iter().filter(|it| !it.is_gap()).for_each(assert_default_on_kafka);
    let stored = live.iter().filter(|it| !it.is_gap());
    stored.for_each(|message| assert_default_on_jetstream(message, "live", "LOAD"));
    assert!(live.iter().all(|it| {
        let channel = it.header("ce-subject").unwrap_or_default();
        it.subject == format!("load.{channel}") || it.is_gap()
    }));

    let arrived = messages_of(one);
    assert_is_the_truth("one", &truth, &arrived);
    assert_eq!(messages_stored(live), arrived, "the same ids in the same order at every sink");
    let ids: BTreeSet<&Arrived> = arrived.iter().collect();
    for topic in topics {
        let channel = topic.trim_start_matches("load-six.");
        let of_topic: Vec<_> = six.iter().filter(|it| it.topic == topic).cloned().collect();
        let partitions: BTreeSet<i32> = of_topic.iter().map(|it| it.partition).collect();
        assert_eq!(partitions.len(), 1, "{topic}: without a key one partition holds everything");
        let of_topic = messages_of(&of_topic);
        assert_is_the_truth(topic, &of_channel(&truth, channel), &of_topic);
        assert!(of_topic.iter().all(|it| ids.contains(it)), "{topic}: the ids of the other sinks");
    }
    assert_counted(&bridge, &["one", "six", "live"], MESSAGES).await;
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// The metrics say the same: everything once, no retry, and no gap but the start.
async fn assert_counted(bridge: &Bridge, sinks: &[&str], messages: usize) {
    let metrics = bridge.metrics().await.unwrap();
    for sink in sinks {
        let value = |name: &str| metrics.value(&format!("pgherald_{name}"), &[("sink", sink)]);
        assert_eq!(value("messages_received_total"), Some(messages as f64), "{sink}");
        assert_eq!(value("messages_published_total"), Some(messages as f64), "{sink}");
        assert_eq!(value("messages_rejected_total"), Some(0.0), "{sink}");
        assert_eq!(value("publish_retries_total"), Some(0.0), "{sink}");
        assert_eq!(value("gaps_total"), Some(1.0), "{sink}: the start alone");
        assert_eq!(value("in_flight_messages"), Some(0.0), "{sink}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_keys_keep_their_order_and_their_partition() {
    const MESSAGES: usize = 20_000;
    let (postgres, kafka) = (postgres().await, shared_kafka().await);
    let config = Config::new(&postgres.url(), &CHANNELS).with("key = \"json:/writer\"").kafka(
        "bus",
        kafka,
        "load-keyed",
        6,
    );
    let bridge = Bridge::start(roomy(config, &["bus"]).text()).await.unwrap();
    bridge.wait_ready(SOON).await.unwrap();
    let truth = announce(&postgres, MESSAGES).await;
    let mut bus = KafkaConsumer::open(&kafka.bootstrap(), &["load-keyed"]).await.unwrap();
    let records = bus.collect(MESSAGES + 1, LOAD).await.unwrap();

    let mut by_key: BTreeMap<String, Vec<KafkaRecord>> = BTreeMap::new();
    for record in records.iter().filter(|record| !record.is_gap()) {
        let key = record.key.clone().expect("every message has a key");
        let key = String::from_utf8(key).unwrap();
        assert_eq!(record.header("ce_partitionkey"), Some(key.as_str()));
        by_key.entry(key).or_default().push(record.clone());
    }
    assert_eq!(by_key.len(), CONNECTIONS);
    for (key, records) in &by_key {
        let partition = partition_of(key.as_bytes(), 6);
        assert!(records.iter().all(|it| it.partition == partition), "{key}: as Java hashes keys");
        let writer = format!("{{\"writer\":{key},");
        let of_key = truth.iter().filter(|announced| announced.payload.starts_with(&writer));
        let of_key: Vec<Observed> = of_key.cloned().collect();
        assert_is_the_truth(key, &of_key, &messages_of(records));
    }
    let partitions: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
    assert!(partitions.len() > 1, "keys spread over partitions: {partitions:?}");
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(0), "{}", bridge.log());
}

/// Where Java's default partitioner puts a key: murmur2 with the sign taken off.
fn partition_of(key: &[u8], partitions: u32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions) as i32
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[test]
fn murmur2_is_the_one_of_java() {
    // From Kafka's own UtilsTest.
    for (text, hash) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
    }
}
