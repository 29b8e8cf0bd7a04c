use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use pgherald_core::{Body, ContentType, Envelope, FlowContext, Message, Only, Open};
use rdkafka::{
    config::ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use serde_json::json;

use crate::{
    cluster::Cluster,
    flow::{batch, carry, confirmed, context, gap, message, open, publish, settings, sink},
};

/// Java's murmur2, as `org.apache.kafka.common.utils.Utils` has it.
fn murmur2(data: &[u8]) -> u32 {
    let m = 0x5bd1_e995_u32;
    let mut h = 0x9747_b28c_u32 ^ u32::try_from(data.len()).unwrap();
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(m);
        k = (k ^ (k >> 24)).wrapping_mul(m);
        h = h.wrapping_mul(m) ^ k;
    }
    let rest = chunks.remainder();
    for (n, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * n);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(m);
    }
    h = (h ^ (h >> 13)).wrapping_mul(m);
    h ^ (h >> 15)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_in_order_of_each_partition() {
    let cluster = Cluster::shared().await;
    cluster.create("app.one", 1, &[]).await;
    cluster.create("app.six", 6, &[]).await;
    let (table, channels) = (json!({"topic": "app.{channel}"}), ["one", "six"]);
    let sink = sink(&cluster.kafka.bootstrap(), &table, Some(&channels));
    let keys: Vec<String> =
        (0..40).map(|n| format!("key-{}", "x".repeat(n % 7) + &n.to_string())).collect();
    let messages: Vec<_> = (0..20_000)
        .map(|n| {
            let key = (n % 3 != 0).then(|| keys[n % keys.len()].as_bytes());
            message(n, channels[n / 7 % 2], key, &n.to_string())
        })
        .collect();
    let (rejected, opened) = carry(&sink, &messages).await;
    assert_eq!((rejected, opened), (vec![], 1));

    let one: Vec<usize> =
        cluster.values("app.one").await.iter().map(|v| v.parse().unwrap()).collect();
    let expected: Vec<usize> = (0..20_000).filter(|n| n / 7 % 2 == 0).collect();
    assert!(one == expected, "one partition holds the order of the channel");

    let mut partitions: HashMap<i32, Vec<usize>> = HashMap::new();
    for stored in cluster.read("app.six").await {
        let n = stored.value.unwrap().parse().unwrap();
        let key = stored.key.unwrap_or_default();
        let partition = (murmur2(&key) & 0x7fff_ffff) % 6;
        assert_eq!(stored.partition, i32::try_from(partition).unwrap(), "{n}");
        partitions.entry(stored.partition).or_default().push(n);
    }
    assert_eq!(partitions.values().map(Vec::len).sum::<usize>(), 20_000 - expected.len());
    assert!(partitions.values().all(|run| run.is_sorted()));
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_tombstones_and_envelopes() {
    let cluster = Cluster::shared().await;
    for topic in ["app.a", "app.b", "gaps"] {
        cluster.create(topic, 3, &[]).await;
    }
    let brokers = cluster.kafka.bootstrap();
    let by_channel = sink(&brokers, &json!({"topic": "app.{channel}"}), Some(&["a", "b"]));
    let mut tombstone = message(1, "a", Some(b"k"), "");
    tombstone.body = Body::Tombstone;
    let mut writer = open(&by_channel).await;
    confirmed(writer.as_mut(), vec![message(0, "a", None, "x"), tombstone, gap(&["a", "b"])]).await;

    let a = cluster.read("app.a").await;
    assert_eq!(a.len(), 3, "{a:?}");
    let find = |name: &str, value: &str| {
        a.iter().find(|stored| stored.headers.contains(&(name.to_owned(), value.to_owned())))
    };
    assert_eq!(find("ce_id", "s-0").unwrap().value.as_deref(), Some("x"));
    assert_eq!(find("ce_id", "s-1").unwrap().value, None);
    let announced = find("ce_type", "pgherald.gap").unwrap();
    assert!(announced.key.is_none() && announced.value.as_ref().unwrap().contains("\"start\""));
    assert_eq!(cluster.read("app.b").await.len(), 1);

    let mine =
        sink(&brokers, &json!({"topic": "app.{channel}", "gap_topic": "gaps"}), Some(&["a"]));
    confirmed(open(&mine).await.as_mut(), vec![gap(&["a", "b"])]).await;
    assert_eq!(cluster.read("gaps").await.len(), 1);

    let nowhere = sink(&brokers, &json!({"topic": "app.{key}"}), Some(&["a"]));
    confirmed(open(&nowhere).await.as_mut(), vec![gap(&["a"])]).await;
    assert_eq!(cluster.read("app.a").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn structured_gaps_carry_no_attributes_and_a_bare_payload_keeps_its_media_type() {
    let cluster = Cluster::shared().await;
    let wrapped = async |topic: &str, envelope, messages| {
        cluster.create(topic, 1, &[]).await;
        let context = FlowContext { envelope, ..context(Some(&["a"])) };
        let settings = settings(&cluster.kafka.bootstrap(), &json!({"topic": topic}), &context);
        let sink = pgherald_sink_kafka::KafkaSink::new(settings, context);
        confirmed(open(&sink).await.as_mut(), messages).await;
        let stored = cluster.read(topic).await.into_iter();
        stored.map(|it| it.headers).collect::<Vec<_>>()
    };
    let of = |value: &str| vec![("content-type".to_owned(), value.to_owned())];
    let both = vec![gap(&["a"]), message(0, "a", None, "x")];
    let structured = wrapped("structured", Envelope::Structured, both).await;
    assert_eq!(
        structured,
        [of("application/cloudevents+json"), of("application/cloudevents+json")]
    );
    let xml = Message {
        content_type: ContentType::TextAs("application/xml".into()),
        ..message(1, "a", None, "<a/>")
    };
    let bare = wrapped("bare", Envelope::None, vec![xml, gap(&["a"])]).await;
    assert_eq!(bare[0], of("application/xml"));
    assert!(bare[1].contains(&("ce_type".to_owned(), "pgherald.gap".to_owned())), "{bare:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_header_rejects_its_message_alone() {
    let cluster = Cluster::shared().await;
    cluster.create("reserved", 1, &[]).await;
    let sink = sink(&cluster.kafka.bootstrap(), &json!({"topic": "reserved"}), Some(&["a"]));
    let mut writer = open(&sink).await;
    for name in ["ce_id", "ce-time", "CE_Source", "Nats-Msg-Id", "webhook-id", "authorization"] {
        let headers = [(Box::from(name), Box::from("v"))].into_iter().collect();
        let illegal = Message { headers, ..message(1, "a", None, "illegal") };
        let batch = vec![message(0, "a", None, "0"), illegal, message(2, "a", None, "2")];
        let (outcome, stopped) = publish(writer.as_mut(), batch).await;
        assert!(stopped && outcome.session.is_none(), "{name} {outcome:?}");
        let [(1, Open::Rejected(why)), (2, Open::Unsent)] = &outcome.open[..] else {
            panic!("{name} {outcome:?}")
        };
        assert!(why.to_string().contains(name), "{why}");
    }
    confirmed(writer.as_mut(), vec![message(2, "a", None, "2")]).await;
    assert_eq!(cluster.values("reserved").await, ["0", "0", "0", "0", "0", "0", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_is_found_alone() {
    let cluster = Cluster::shared().await;
    let brokers = cluster.kafka.bootstrap();
    cluster.create("local", 1, &[]).await;
    let table = json!({"topic": "local", "options": {"message.max.bytes": 2000}});
    let local = sink(&brokers, &table, Some(&["a"]));
    let large = "x".repeat(3000);
    let messages = ["0", &large, "2"].map(|payload| message(7, "a", None, payload));
    let mut writer = open(&local).await;
    let (outcome, stopped) = publish(writer.as_mut(), messages.to_vec()).await;
    assert!(stopped && outcome.session.is_none());
    assert!(matches!(outcome.open[..], [(1, Open::Rejected(_)), (2, Open::Unsent)]), "{outcome:?}");
    confirmed(writer.as_mut(), vec![message(8, "a", None, "3")]).await;
    assert_eq!(cluster.values("local").await, ["0", "3"]);

    cluster.create("remote", 1, &[("max.message.bytes", "2000")]).await;
    let remote = sink(&brokers, &json!({"topic": "remote"}), Some(&["a"]));
    let messages: Vec<_> = (0..2500)
        .map(|n| match n {
            700 | 701 | 1200 => message(n, "a", None, &large),
            _ => message(n, "a", None, &n.to_string()),
        })
        .collect();
    let (rejected, opened) = carry(&remote, &messages).await;
    assert_eq!(rejected, [700, 701, 1200]);
    assert!(opened <= 4, "{opened}");
    let expected: Vec<usize> = (0..2500).filter(|n| !rejected.contains(n)).collect();
    crate::flow::assert_first_arrivals(&cluster.values("remote").await, &expected);
}

/// Prints rates; asserts only that they are not absurd.
#[tokio::test(flavor = "multi_thread")]
async fn rates() {
    let cluster = Cluster::start().await;
    cluster.create("rate", 1, &[]).await;
    let context = context(Some(&["a"]));
    let settings = settings(&cluster.kafka.bootstrap(), &json!({"topic": "rate"}), &context);
    let sink = pgherald_sink_kafka::KafkaSink::new(settings, context);
    let mut writer = open(&sink).await;
    let mut latencies = Vec::new();
    for n in 0..300 {
        let batch = batch(vec![message(n, "a", None, "x")]);
        let start = Instant::now();
        let published = writer.publish(&batch, &Only::All).await.unwrap();
        published.confirmation.await;
        latencies.push(start.elapsed());
    }
    latencies.sort();
    eprintln!("one at a time: p50 {:?}, p99 {:?}", latencies[150], latencies[297]);
    drop(writer);
    let messages: Vec<_> = (0..COMPARED).map(|n| message(n, "a", None, &"x".repeat(200))).collect();
    for _ in 0..3 {
        let raw = raw_rate(cluster.kafka.bootstrap()).await;
        let start = Instant::now();
        carry(&sink, &messages).await;
        let ours = COMPARED as f64 / start.elapsed().as_secs_f64();
        eprintln!("pipelined: {ours:.0}/s, raw rdkafka {raw:.0}/s: {:.2}", ours / raw);
    }
    assert!(latencies[150].as_millis() < 200);
}

/// How many messages a rate is measured with.
const COMPARED: usize = 200_000;

/// The same records through rdkafka alone.
async fn raw_rate(brokers: String) -> f64 {
    let raw = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
        config.set("queue.buffering.max.messages", "1000000").set("linger.ms", "0");
        config.set("partitioner", "murmur2");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
        let (start, payload) = (Instant::now(), "x".repeat(200));
        for n in 0..COMPARED {
            let id = format!("s-{n}");
            let mut headers = OwnedHeaders::new_with_capacity(9);
            for (key, value) in [
                ("ce_specversion", "1.0"),
                ("ce_id", &id),
                ("ce_source", "/pgherald/orders"),
                ("ce_type", "pgherald.message"),
                ("ce_time", "2026-01-01T00:00:00.000000Z"),
                ("ce_subject", "a"),
                ("content-type", "text/plain; charset=utf-8"),
            ] {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let record = BaseRecord::<(), _>::to("rate").payload(&payload).headers(headers);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
        COMPARED as f64 / start.elapsed().as_secs_f64()
    };
    tokio::task::spawn_blocking(raw).await.unwrap()
}
