//! Two processes and then a third share six pipelines; one is killed, one ends in good order.

use std::time::Duration;

use pgherald_testkit::{Bridge, JetStreamReader, Nats, Postgres};
use serde_json::Value;

use super::crowd::{Load, assert_apart, configuration, doubled, until_carried};
use crate::{
    outbox::prepared,
    stage::{SOON, length, nats},
    truth::{assert_ids_are_stable, first_arrivals, from_jetstream, missing_in_order},
};

const PIPELINES: usize = 6;
const PAUSE: Duration = Duration::from_millis(2);
/// What the product promises of a process that is killed.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Six outbox pipelines, each into a stream of its own, and a notify pipeline.
fn six(postgres: &Postgres, nats: &Nats) -> String {
    let url = nats.url();
    let stream = |n: usize| {
        format!(
            "nats]\nservers = \"{url}\"\nsubject = \"p{n}.{{channel}}\"\nstream = \"P{n}\"\n\
             create_stream = true"
        )
    };
    configuration(postgres, PIPELINES, stream)
        + "[pipelines.heard.source.notify]\nchannels = [\"news\"]\n"
        + &format!(
            "[pipelines.heard.sinks.out.nats]\nservers = \"{url}\"\nsubject = \"heard.{{channel}}\"\n\
             stream = \"HEARD\"\ncreate_stream = true\n"
        )
}

async fn heard(bridge: &Bridge) -> Value {
    let status = bridge.status().await.unwrap();
    let flows = status["flows"].as_array().cloned().unwrap();
    flows.into_iter().find(|flow| flow["pipeline"] == "heard").unwrap()
}

/// A move would be a gap: the notify pipeline stays where it is.
async fn assert_heard_stays(first: &Bridge, others: &[&Bridge]) {
    let flow = heard(first).await;
    assert_eq!(flow["state"], "running", "{flow:#}");
    assert_eq!(flow["gaps"].as_array().unwrap().len(), 1, "the start's alone: {flow:#}");
    for other in others {
        assert_eq!(heard(other).await["state"], "standby");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_pipelines_spread_and_survive() {
    let (postgres, nats) = (prepared().await, nats().await);
    let config = six(&postgres, &nats);
    let first = Bridge::start(&config).await.unwrap();
    until_carried(&[&first], &[6]).await;
    let load = Load::start(&postgres, PIPELINES, PAUSE);
    load.more(300).await;

    let second = Bridge::start(&config).await.unwrap();
    let took = until_carried(&[&first, &second], &[3, 3]).await;
    println!("three each {took:.2?} after the second process was started");
    second.wait_ready(SOON).await.unwrap();
    assert_apart(&[&first, &second], PIPELINES).await;
    load.more(300).await;

    let third = Bridge::start(&config).await.unwrap();
    let took = until_carried(&[&first, &second, &third], &[2, 2, 2]).await;
    println!("two each {took:.2?} after the third process was started");
    assert_heard_stays(&first, &[&second, &third]).await;
    let moves = |bridge: &Bridge| bridge.log_lines(" pipelines here, ").len();
    assert_eq!(moves(&first) + moves(&second), 5, "no more than had to move");
    load.more(300).await;
    tokio::time::sleep(length(0, 60)).await;
    assert_eq!(doubled(&[&first, &second, &third]).await, 0.0, "handed over without a double");

    let ended = std::time::Instant::now();
    assert_eq!(third.terminate(SOON).await.unwrap(), Some(0), "{}", third.log());
    let exit = ended.elapsed();
    let took = until_carried(&[&first, &second], &[3, 3]).await;
    println!("it ended in {exit:.2?}, and three each {took:.2?} later");
    assert_eq!(doubled(&[&first, &second]).await, 0.0, "ended in good order without a double");
    load.more(300).await;

    first.kill9().await.unwrap();
    let took = until_carried(&[&second], &[6]).await;
    println!("all six {took:.2?} after a kill -9");
    assert!(took < TAKEN_WITHIN, "{took:?}");
    load.more(300).await;
    verdict(&nats, &load.stop().await).await;
    assert_eq!(second.terminate(SOON).await.unwrap(), Some(0), "{}", second.log());
}

/// Every row is in its stream, once, in order.
async fn verdict(nats: &Nats, truth: &[Vec<String>]) {
    for (n, truth) in truth.iter().enumerate() {
        let mut reader = JetStreamReader::open(&nats.url(), &format!("P{n}")).await.unwrap();
        let all = |stored: &[_]| first_arrivals(&from_jetstream(stored)).len() >= truth.len();
        let stored = from_jetstream(reader.collect_until(SOON, all).await.unwrap());
        assert_ids_are_stable(&stored);
        let missing = missing_in_order(truth, &first_arrivals(&stored));
        assert_eq!(missing, Vec::<String>::new(), "p{n}");
        assert_eq!(stored.len(), truth.len(), "p{n}: JetStream knows what it has");
    }
    println!("{} rows in each stream, 0 lost", truth[0].len());
}
