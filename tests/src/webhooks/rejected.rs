//! Messages that the receiver will never take.

use std::collections::BTreeSet;

use pgherald_testkit::{Answer, Received};
use serde_json::Value;

use super::{Scene, history::number};
use crate::stage::{SOON, full_length};

const COUNT: usize = 600;

fn is_poison(number: usize) -> bool {
    number % 97 == 50
}

fn refusing(status: u16) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    move |request| match number(request) {
        Some(number) if is_poison(number) => Answer::Status(status),
        _ => Answer::Status(200),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_puts_a_gap_in_the_place_of_each() {
    let scene = Scene::start(refusing(422), "").await;
    scene.announce(0..COUNT).await;
    let poison: BTreeSet<usize> = (0..COUNT).filter(|number| is_poison(*number)).collect();
    let history = scene.history(COUNT - poison.len()).await;
    history.assert_kept(COUNT, &poison);
    let gaps = |received: &[Received]| -> Vec<Value> {
        let gaps = received.iter().filter(|it| it.is_gap());
        gaps.map(|gap| serde_json::from_slice(&gap.body).unwrap()).collect()
    };
    let all = |received: &[Received]| gaps(received).len() > poison.len();
    let gaps = gaps(&scene.hook.until(SOON, all).await.unwrap());
    let rejected = gaps.iter().filter(|gap| gap["reason"] == "rejected");
    let named: BTreeSet<&str> = rejected.map(|gap| gap["id"].as_str().unwrap()).collect();
    let refused = history.visits.iter().filter(|visit| is_poison(visit.number));
    assert_eq!(named, refused.map(|visit| visit.id.as_str()).collect());
    assert_eq!(named.len(), poison.len());
    let counted = scene.metric("pgherald_messages_rejected_total").await;
    assert_eq!(counted, poison.len() as f64);
    assert_eq!(scene.bridge.log_lines("message rejected").len(), poison.len());
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halt_sends_nothing_behind_it() {
    let more = "[pipelines.p.sinks.hook]\non_rejected = \"halt\"\n\
                [shutdown]\ndrain_deadline_ms = 500";
    let scene = Scene::start(refusing(400), more).await;
    scene.announce(0..100).await;
    scene.tells(&["p/hook: halted", "answered 400", "on_rejected"]).await;
    let sent = scene.hook.count();
    scene.announce(100..300).await;
    scene.metric_reaches("all is heard", "pgherald_messages_received_total", 300.0).await;
    assert_eq!(scene.hook.count(), sent, "nothing is sent behind a halt");
    if full_length() {
        // It is offered again every 30 s: a repair needs no restart.
        scene.hook.answer(|_| Answer::Status(200));
        scene.history(300).await.assert_kept(300, &BTreeSet::new());
        return scene.ends_well().await;
    }
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(1), "not everything was sent");
}
