//! A topic that is given more partitions while it is written to.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use pgherald_core::{Only, Writer};
use pgherald_testkit::{FaultProxy, Kafka, free_port};
use serde_json::json;

use crate::{
    cluster::Cluster,
    flow::{batch, confirmed, message, open, sink},
};

/// What a record and its confirmation take at least.
const THERE_AND_BACK: Duration = Duration::from_millis(200);

/// How often the writer looks at the topic: longer than two rounds take.
const REFRESH: Duration = Duration::from_secs(6);

/// They go to each of four partitions.
const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// How many messages, one for each key, the writer awaited before it took the next one.
async fn singly(writer: &mut dyn Writer) -> usize {
    let mut singly = 0;
    for key in KEYS {
        let batch = batch(vec![message(0, "a", Some(key.as_bytes()), key)]);
        let start = Instant::now();
        let published = writer.publish(&batch, &Only::All).await.unwrap();
        singly += usize::from(start.elapsed() >= THERE_AND_BACK);
        let outcome = published.confirmation.await;
        assert!(outcome.open.is_empty() && outcome.session.is_none(), "{outcome:?}");
    }
    singly
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_record_to_an_added_partition_travels_alone() {
    let port = free_port();
    let cluster = Cluster { kafka: Kafka::builder().advertise(port).start().await.unwrap() };
    let target = ([127, 0, 0, 1], cluster.kafka.proxied_port()).into();
    let proxy = FaultProxy::start_on(port, target).await.unwrap();
    cluster.create("t", 1, &[]).await;
    let refresh = REFRESH.as_millis().to_string();
    let table = json!({"topic": "t", "options": {"topic.metadata.refresh.interval.ms": refresh}});
    let mut writer = open(&sink(&proxy.address(), &table, Some(&["a"]))).await;
    for key in KEYS {
        confirmed(&mut *writer, vec![message(0, "a", Some(key.as_bytes()), key)]).await;
    }
    cluster.grow("t", 4).await;
    tokio::time::sleep(REFRESH).await;
    // This one also looks at the topic.
    confirmed(&mut *writer, vec![message(0, "a", Some(b"a"), "a")]).await;
    proxy.delay(THERE_AND_BACK / 2);
    let first = singly(&mut *writer).await;
    let second = singly(&mut *writer).await;
    assert!(first >= 3 && second < 3, "once for each added partition: {first}, then {second}");
    let used: HashSet<_> = cluster.read("t").await.iter().map(|it| it.partition).collect();
    assert_eq!(used.len(), 4, "{used:?}");
}
