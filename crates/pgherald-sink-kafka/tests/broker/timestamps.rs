//! The timestamp of a record, and topics that limit it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgherald_core::{Message, Open};
use pgherald_sink_kafka::check;
use serde_json::json;

use crate::{
    cluster::Cluster,
    flow::{blocked, confirmed, context, heals, message, open, publish, settings, sink},
};

/// What `check` says of a topic when the oldest message has waited for that long.
async fn said(brokers: &str, table: serde_json::Value, oldest: Option<Duration>) -> String {
    let context = context(Some(&["a"]));
    let findings = check(&settings(brokers, &table, &context), &context, "k", oldest).await;
    findings
        .iter()
        .map(|it| format!("{:?} {}: {} ({})\n", it.level, it.subject, it.text, it.fix))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_compares_the_topic_with_the_oldest_message() {
    let cluster = Cluster::shared().await;
    let brokers = cluster.kafka.bootstrap();
    let limits = [
        ("retention.ms", "7200000"),
        ("message.timestamp.before.max.ms", "10800000"),
        ("message.timestamp.after.max.ms", "1000"),
    ];
    cluster.create("aged", 1, &limits).await;
    let by_message = json!({"topic": "aged"});
    let young = said(&brokers, by_message.clone(), Some(HOUR)).await;
    assert!(!young.contains("retention.ms") && !young.contains("before.max.ms"), "{young}");
    assert!(
        young.contains(
            "Warning k.topic: topic aged refuses records whose time is more than 1000 ms ahead"
        ),
        "{young}"
    );
    let old = said(&brokers, by_message.clone(), Some(4 * HOUR)).await;
    assert!(old.contains("Error k.topic: topic aged refuses records whose time is more than 3 hours ago, and the oldest row has waited 4 hours"), "{old}");
    assert!(
        old.contains("Warning k.topic: topic aged keeps records for 2 hours after their time, and"),
        "{old}"
    );
    let unknown = said(&brokers, by_message, None).await;
    for limit in ["retention.ms", "message.timestamp.before.max.ms"] {
        assert!(
            unknown.lines().any(|line| line.starts_with("Warning") && line.contains(limit)),
            "{unknown}"
        );
    }
    let by_sending = said(&brokers, json!({"topic": "aged", "timestamp": "send"}), None).await;
    assert!(!by_sending.contains("whose time"), "{by_sending}");
    cluster
        .create(
            "appended",
            1,
            &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "1")],
        )
        .await;
    let appended = said(&brokers, json!({"topic": "appended"}), Some(HOUR)).await;
    assert!(!appended.contains("after their time"), "{appended}");
}

const HOUR: Duration = Duration::from_secs(3600);

fn at(since: SystemTime) -> Message {
    Message { since, ..message(0, "a", None, "x") }
}

fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_carries_the_time_of_its_message_or_of_its_sending() {
    let cluster = Cluster::shared().await;
    let brokers = cluster.kafka.bootstrap();
    let began = SystemTime::now();
    let since = began - 30 * 24 * HOUR;
    for topic in ["message", "send"] {
        cluster.create(topic, 1, &[]).await;
        let sink = sink(&brokers, &json!({"topic": topic, "timestamp": topic}), Some(&["a"]));
        confirmed(&mut *open(&sink).await, vec![at(since)]).await;
    }
    cluster.create("default", 1, &[]).await;
    let plain = sink(&brokers, &json!({"topic": "default"}), Some(&["a"]));
    confirmed(&mut *open(&plain).await, vec![at(since)]).await;
    for topic in ["message", "default"] {
        assert_eq!(cluster.read(topic).await[0].timestamp, millis(since), "{topic}");
    }
    assert!(cluster.read("send").await[0].timestamp >= millis(began));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_the_topic_refuses_blocks_and_names_the_clocks() {
    let cluster = Cluster::shared().await;
    let brokers = cluster.kafka.bootstrap();
    let now = SystemTime::now();
    for (topic, limit, since) in [
        ("late", "message.timestamp.before.max.ms", now - HOUR),
        ("early", "message.timestamp.after.max.ms", now + HOUR / 2),
    ] {
        cluster.create(topic, 1, &[(limit, "60000")]).await;
        let by_message = sink(&brokers, &json!({"topic": topic}), Some(&["a"]));
        for _ in 0..2 {
            let (outcome, _) = publish(&mut *open(&by_message).await, vec![at(since)]).await;
            assert!(matches!(outcome.open[..], [(0, Open::Unknown)]), "{outcome:?}");
            let text = blocked(&outcome.session.expect("the session ends"));
            assert!(text.contains("clock") && text.contains(limit), "{text}");
            assert!(text.contains("kafka.timestamp"), "{text}");
        }
        let by_sending = json!({"topic": topic, "timestamp": "send"});
        let by_sending = sink(&brokers, &by_sending, Some(&["a"]));
        confirmed(&mut *open(&by_sending).await, vec![at(since)]).await;

        cluster.kafka.alter_topic(topic, &[(limit, "86400000")]).await.unwrap();
        let taken = async {
            loop {
                let (outcome, _) = publish(&mut *heals(&by_message).await, vec![at(since)]).await;
                match outcome.session {
                    None => break,
                    Some(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), taken).await.expect("it is taken");
    }
}
