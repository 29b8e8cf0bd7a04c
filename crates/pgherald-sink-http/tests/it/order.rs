//! Equal keys one after the other, keys side by side, nothing past a gap.

use std::time::{Duration, Instant};

use pgherald_core::Envelope;
use pgherald_testkit::{Answer, HttpReceiver, Received};
use serde_json::{Value, json};

use crate::rig::{context, fates, gap, ids, message, open, publish, publish_each, sink, sink_of};

fn key(request: &Received) -> Option<&str> {
    request.header("ce-partitionkey")
}

/// Two requests of one key are never under way at once, and what is under way never exceeds the
/// limit; returns the most that there was.
fn assert_no_overlap(received: &[Received], concurrency: usize) -> usize {
    let mut most = 0;
    for one in received {
        let began_before = received.iter().filter(|other| other.began <= one.began);
        let under_way: Vec<&Received> =
            began_before.filter(|other| other.ended.is_some_and(|end| end > one.began)).collect();
        most = most.max(under_way.len());
        let same_key = under_way.iter().filter(|other| key(other) == key(one)).count();
        assert_eq!(same_key, 1, "requests of {:?} overlap", key(one));
    }
    assert!(most <= concurrency, "{most} requests at once");
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_keys_never_overlap_and_keep_their_order() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|_| Answer::After(Duration::from_millis(5), Box::new(Answer::Status(200))));
    let sink = sink(&hook, json!({ "concurrency": 8 }));
    let mut writer = open(&sink).await;
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    let messages = (0..600).map(|n| message(n, keys.get(n * 7 % 13).copied())).collect();
    let begun = Instant::now();
    let fates = fates(publish_each(&mut *writer, messages).await).await;
    let seconds = begun.elapsed().as_secs_f64();
    assert!(fates.iter().all(|fate| fate == "ok"), "{fates:?}");
    let received = hook.received();
    let most = assert_no_overlap(&received, 8);
    println!("600 messages at {most} at once: {:.0}/s", 600.0 / seconds);
    assert!(most > 4, "{most} at once");
    let number = |it: &Received| it.text().rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    for wanted in keys.iter().map(|key| Some(*key)).chain([None]) {
        let of_key = received.iter().filter(|it| key(it) == wanted);
        assert!(of_key.map(number).is_sorted(), "{wanted:?}");
    }
    assert_eq!(received.len(), 600);
    assert!(hook.connections() <= 16, "connections are kept: {}", hook.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_overtakes_a_gap() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|_| Answer::After(Duration::from_millis(20), Box::new(Answer::Status(204))));
    let mut writer = open(&sink(&hook, json!({}))).await;
    let mut messages: Vec<_> = (0..6).map(|n| message(n, Some(["a", "b", "c"][n % 3]))).collect();
    messages.insert(3, gap(1));
    messages.insert(4, gap(2));
    assert_eq!(fates(publish_each(&mut *writer, messages).await).await, ["ok"; 8]);
    let received = hook.received();
    let gaps: Vec<usize> = (0..8).filter(|n| received[*n].is_gap()).collect();
    assert_eq!(gaps, [3, 4]);
    for gap in gaps {
        assert!(received[..gap].iter().all(|it| it.ended <= Some(received[gap].began)));
        assert!(received[gap + 1..].iter().all(|it| Some(it.began) >= received[gap].ended));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_may_have_an_address_of_their_own() {
    let (hook, gaps) = (HttpReceiver::start().await.unwrap(), HttpReceiver::start().await.unwrap());
    let mut writer = open(&sink(&hook, json!({ "gap_url": gaps.url("/gaps?a=b") }))).await;
    let messages = vec![gap(1), message(1, None)];
    assert_eq!(fates(publish_each(&mut *writer, messages).await).await, ["ok"; 2]);
    assert_eq!(ids(&hook.received()), ["5e55-1"]);
    let gaps = gaps.received();
    assert_eq!((ids(&gaps), &*gaps[0].path), (vec!["5e55-gap-1"], "/gaps?a=b"));
    let gap: Value = serde_json::from_slice(&gaps[0].body).unwrap();
    assert_eq!(gap["reason"], "disconnect");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_messages_share_a_request_and_keys_still_do_not_overlap() {
    let hook = HttpReceiver::start().await.unwrap();
    hook.answer(|_| Answer::After(Duration::from_millis(10), Box::new(Answer::Status(200))));
    let sink = sink_of(&hook, json!({ "concurrency": 4 }), context(Envelope::Structured, 20));
    let mut writer = open(&sink).await;
    let key = |n: usize| ["a", "b", "c", "d", "e"][n * 3 % 5];
    let batches =
        (0..50).map(|batch| (0..4).map(|n| message(batch * 4 + n, Some(key(n)))).collect());
    let mut confirmations = Vec::new();
    for batch in batches {
        confirmations.push(publish(&mut *writer, batch).await);
    }
    assert_eq!(fates(confirmations).await, ["ok"; 50]);
    let received = hook.received();
    assert!(received.len() < 60, "{} requests for 200 messages", received.len());
    let documents = |request: &Received| match serde_json::from_slice(&request.body).unwrap() {
        Value::Array(documents) => documents,
        single => vec![single],
    };
    let numbers = |wanted: &str| {
        let documents = received.iter().flat_map(documents);
        let of_key = documents.filter(|it| it["partitionkey"] == wanted);
        of_key
            .map(|it| it["id"].as_str().unwrap()[5..].parse::<usize>().unwrap())
            .collect::<Vec<_>>()
    };
    for wanted in ["a", "d", "b", "e"] {
        let numbers = numbers(wanted);
        assert!(numbers.len() == 50 && numbers.is_sorted(), "{wanted}: {numbers:?}");
    }
}
