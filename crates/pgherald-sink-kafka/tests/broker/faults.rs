use std::time::{Duration, Instant};

use pgherald_core::{Event, SinkError};
use serde_json::json;

use crate::{
    cluster::Cluster,
    flow::{assert_first_arrivals, carry, confirmed, message, open, open_error, publish, sink},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_in_the_middle_loses_nothing() {
    let cluster = Cluster::start().await;
    cluster.create("t", 1, &[]).await;
    let sink = sink(&cluster.kafka.bootstrap(), &json!({"topic": "t"}), Some(&["a"]));
    let messages: Vec<_> = (0..300_000).map(|n| message(n, "a", None, &n.to_string())).collect();
    let fault = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.kafka.kill().await.unwrap();
        cluster.kafka.start_again().await.unwrap();
        cluster.kafka.pause();
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.kafka.resume();
    };
    let ((rejected, opened), ()) = tokio::join!(carry(&sink, &messages), fault);
    assert!(rejected.is_empty());
    eprintln!("killed and paused: the sink was opened {opened} times");
    let expected: Vec<usize> = (0..messages.len()).collect();
    assert_first_arrivals(&cluster.values("t").await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_writer_tells_how_the_connection_stands() {
    let cluster = Cluster::start().await;
    cluster.create("t", 1, &[]).await;
    let sink = sink(&cluster.kafka.bootstrap(), &json!({"topic": "t"}), Some(&["a"]));
    let mut writer = open(&sink).await;
    confirmed(writer.as_mut(), vec![message(0, "a", None, "0")]).await;
    cluster.kafka.kill().await.unwrap();
    let killed = Instant::now();
    let event = tokio::time::timeout(Duration::from_secs(10), writer.event()).await.unwrap();
    assert!(matches!(event, Event::Disconnected(_)), "{event:?}");
    eprintln!("disconnected after {:?}: {event:?}", killed.elapsed());
    cluster.kafka.start_again().await.unwrap();
    let ready = Instant::now();
    let event = tokio::time::timeout(Duration::from_secs(20), writer.event()).await.unwrap();
    assert!(matches!(event, Event::Connected), "{event:?}");
    eprintln!("connected after {:?}", ready.elapsed());
    confirmed(writer.as_mut(), vec![message(1, "a", None, "1")]).await;

    let start = Instant::now();
    cluster.kafka.kill().await.unwrap();
    drop(writer);
    assert!(start.elapsed() < Duration::from_secs(1), "a drop is prompt");
    let error = open_error(&sink).await;
    assert!(matches!(error, SinkError::Transient(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_while_running_blocks() {
    let cluster = Cluster::start().await;
    cluster.create("t", 1, &[]).await;
    let sink = sink(&cluster.kafka.bootstrap(), &json!({"topic": "t"}), Some(&["a"]));
    let mut writer = open(&sink).await;
    confirmed(writer.as_mut(), vec![message(0, "a", None, "0")]).await;
    cluster.delete("t").await;
    let started = Instant::now();
    let (outcome, _) = publish(writer.as_mut(), vec![message(1, "a", None, "1")]).await;
    assert_eq!(outcome.open.len(), 1, "{outcome:?}");
    // What the session says first depends on who is first: the metadata (blocked), or the
    // partition's queue as it goes (transient). The next opening finds the topic missing.
    assert!(outcome.session.is_some(), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    drop(writer);
    assert!(matches!(open_error(&sink).await, SinkError::Blocked(_)));
    cluster.create("t", 1, &[]).await;
    confirmed(open(&sink).await.as_mut(), vec![message(1, "a", None, "1")]).await;
}
