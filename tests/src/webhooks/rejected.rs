//! Messages that the receiver will never take.

use std::collections::BTreeSet;

use pgherald_testkit::{Answer, Received, eventually_some};
use serde_json::Value;

use super::{ROOMY, Scene, history::number, messages};
use crate::{
    outbox_stage::{connect, outbox},
    stage::{SOON, full_length},
};

fn is_poison(number: usize) -> bool {
    number % 97 == 50
}

fn poison(count: usize) -> BTreeSet<usize> {
    (0..count).filter(|number| is_poison(*number)).collect()
}

fn refusing(status: u16) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    move |request| match number(request) {
        Some(number) if is_poison(number) => Answer::Status(status),
        _ => Answer::Status(200),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_puts_a_gap_in_the_place_of_each() {
    let (count, scene) = (messages(600), Scene::start(refusing(400), ROOMY).await);
    scene.announce(0..count).await;
    let poison = poison(count);
    let history = scene.history(count - poison.len()).await;
    history.assert_kept(count, &poison);
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
async fn dead_letter_keeps_each() {
    let count = messages(600);
    let more = format!("{ROOMY}on_rejected = \"dead_letter\"");
    let scene = Scene::start_with(outbox().await, refusing(400), &more).await;
    scene.announce(0..count).await;
    let poison = poison(count);
    let history = scene.history(count - poison.len()).await;
    history.assert_kept(count, &poison);
    scene
        .metric_reaches(
            "all are kept",
            "pgherald_messages_dead_lettered_total",
            poison.len() as f64,
        )
        .await;
    let kept =
        "SELECT (convert_from(payload, 'UTF8')::json ->> 'n')::int FROM pgherald.dead_letter";
    let mut connection = connect(&scene.postgres).await;
    let kept: Vec<i32> = sqlx::query_scalar(kept).fetch_all(&mut connection).await.unwrap();
    assert_eq!(kept.len(), poison.len(), "each once");
    assert_eq!(kept.iter().map(|number| *number as usize).collect::<BTreeSet<_>>(), poison);
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halt_sends_nothing_behind_it() {
    let count = messages(300);
    let more = format!("{ROOMY}on_rejected = \"halt\"\n[shutdown]\ndrain_deadline_ms = 500");
    let scene = Scene::start(refusing(400), &more).await;
    scene.announce(0..100).await;
    scene.tells(&["p/hook: halted", "answered 400", "on_rejected"]).await;
    let sent = scene.hook.count();
    scene.announce(100..count).await;
    scene.metric_reaches("all is heard", "pgherald_messages_received_total", count as f64).await;
    assert_eq!(scene.hook.count(), sent, "nothing is sent behind a halt");
    if full_length() {
        // It is offered again every 30 s: a repair needs no restart.
        scene.hook.answer(|_| Answer::Status(200));
        scene.history(count).await.assert_kept(count, &BTreeSet::new());
        return scene.ends_well().await;
    }
    assert_eq!(scene.bridge.terminate(SOON).await.unwrap(), Some(1), "not everything was sent");
}

/// It is shown while it holds the front, and a gap takes its place after `retry_max_seconds`.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_answered_500_for_ever_is_shown_and_given_up() {
    let failing = |request: &Received| match number(request) {
        Some(7) => Answer::Status(500),
        _ => Answer::Status(204),
    };
    let scene = Scene::start(failing, "retry_max_seconds = 3").await;
    scene.announce(0..100).await;
    let shown = || async {
        let status = scene.bridge.status().await.unwrap_or_default();
        let oldest = &status["flows"][0]["oldest_message"];
        let said = oldest["last_answer"].as_str().unwrap_or_default().to_owned();
        let id = oldest["id"].as_str().unwrap_or_default().to_owned();
        let hash = oldest["key_hash"].as_str().unwrap_or_default().to_owned();
        (said.contains("answered 500") && said.contains(&id) && hash.len() == 16).then_some(id)
    };
    let shown = eventually_some("/status shows it", SOON, shown).await;
    let id = shown.unwrap_or_else(|error| panic!("{error}"));
    let gap = |received: &[Received]| {
        let gaps = received.iter().filter(|it| it.is_gap() && it.is_confirmed());
        gaps.filter_map(|gap| serde_json::from_slice::<Value>(&gap.body).ok())
            .any(|gap| gap["reason"] == "rejected" && gap["id"] == id.as_str())
    };
    scene.hook.until(2 * SOON, gap).await.unwrap();
    scene.history(99).await.assert_kept(100, &BTreeSet::from([7]));
    assert_eq!(scene.metric("pgherald_messages_rejected_total").await, 1.0);
    scene.ends_well().await;
}
