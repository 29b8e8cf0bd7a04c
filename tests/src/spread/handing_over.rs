//! A hand-over into a sink that does not know what it has: nothing twice, unless it is dead.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pgherald_testkit::{Announcement, Answer, Bridge, HttpReceiver, Postgres, Received};

use super::crowd::{Load, assert_apart, configuration, until_carried};
use crate::{
    outbox::prepared,
    stage::{SOON, shared_kafka},
};

const PIPELINES: usize = 2;
const PAUSE: Duration = Duration::from_millis(3);
const DEADLINE: Duration = Duration::from_secs(2);

/// `p0` into the receiver, `p1` into Kafka.
async fn both(postgres: &Postgres, receiver: &HttpReceiver, topic: &str) -> String {
    let (url, brokers) = (receiver.url("/p0"), shared_kafka().await.bootstrap());
    configuration(postgres, PIPELINES, |n| match n {
        0 => format!("http]\nurl = \"{url}\""),
        _ => format!(
            "kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\ncreate_topics = true\n\
             partitions = 1\nreplication_factor = 1"
        ),
    })
}

/// How often each was confirmed.
fn confirmed(received: &[Received]) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for request in received.iter().filter(|request| request.is_confirmed()) {
        let id = Announcement::id_of(request.text().as_bytes()).expect("an announcement");
        *times.entry(id).or_default() += 1;
    }
    times
}

/// Pipelines go to and fro under load, with requests under way all the time; every row arrives once.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_doubled_where_the_sink_cannot_tell() {
    let (postgres, receiver) = (prepared().await, HttpReceiver::start().await.unwrap());
    let slow = Answer::After(Duration::from_millis(30), Box::new(Answer::Status(204)));
    receiver.answer(move |_| slow.clone());
    let topic = "spread.handing-over";
    let config = both(&postgres, &receiver, topic).await;
    let first = Bridge::start(&config).await.unwrap();
    until_carried(&[&first], &[2]).await;
    let load = Load::start(&postgres, PIPELINES, PAUSE);
    let mut staying = first;
    for _ in 0..3 {
        load.more(100).await;
        let next = Bridge::start(&config).await.unwrap();
        until_carried(&[&staying, &next], &[1, 1]).await;
        assert_apart(&[&staying, &next], PIPELINES).await;
        load.more(100).await;
        assert_eq!(staying.terminate(SOON).await.unwrap(), Some(0), "{}", staying.log());
        until_carried(&[&next], &[2]).await;
        staying = next;
    }
    load.more(100).await;
    let truth = load.stop().await;
    let received = receiver.confirmed(truth[0].len(), SOON).await.unwrap();
    let times = confirmed(&received);
    assert_eq!(times.len(), truth[0].len(), "none is lost");
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty() && received.len() == times.len(), "{twice:?}");
    let records = crate::outbox::in_kafka(topic, truth[1].len()).await;
    assert_eq!(staying.terminate(SOON).await.unwrap(), Some(0), "{}", staying.log());
    let first = crate::truth::first_arrivals(&records);
    assert_eq!(crate::truth::missing_in_order(&truth[1], &first), Vec::<String>::new());
    assert_eq!(records.len(), truth[1].len(), "Kafka has each once");
    println!(
        "{} and {} rows, each once, over 3 hand-overs and 3 ends",
        truth[0].len(),
        truth[1].len()
    );
}

/// A sink that takes nothing keeps no pipeline: what it was offered is read again by the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sink_does_not_hold_a_pipeline() {
    let (postgres, receiver) = (prepared().await, HttpReceiver::start().await.unwrap());
    receiver.answer(|_| Answer::Status(503));
    let url = receiver.url("/");
    let config = configuration(&postgres, PIPELINES, |_| format!("http]\nurl = \"{url}\""))
        + &format!("[shutdown]\ndrain_deadline_ms = {}\n", DEADLINE.as_millis());
    let first = Bridge::start(&config).await.unwrap();
    let load = Load::start(&postgres, PIPELINES, PAUSE);
    load.more(100).await;
    until_carried(&[&first], &[2]).await;
    let began = Instant::now();
    let second = Bridge::start(&config).await.unwrap();
    until_carried(&[&first, &second], &[1, 1]).await;
    let took = began.elapsed();
    println!("handed over {took:.2?} after the second process was started");
    assert!(took > DEADLINE, "it was given the time to drain: {took:?}");
    let told = first.log_lines("before the drain deadline; the process that takes the flow over");
    assert_eq!(told.len(), 1, "{}", first.log());
    receiver.answer(|_| Answer::Status(204));
    load.more(50).await;
    let truth = load.stop().await;
    let count: usize = truth.iter().map(Vec::len).sum();
    let all = |received: &[Received]| confirmed(received).len() == count;
    let received = receiver.until(SOON, all).await.unwrap();
    let twice = confirmed(&received).values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "none had been confirmed before");
}
