//! Receivers that fail while messages flow: everything arrives, each key in its order.

use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, Instant},
};

use pgherald_testkit::{Answer, Received};

use super::{ROOMY, Scene, history::number, messages};
use crate::stage::length;

fn nobody() -> BTreeSet<usize> {
    BTreeSet::new()
}

/// A script that answers 200 after a moment, except where `fault` says otherwise.
fn unless(
    fault: impl Fn(usize) -> Option<Answer> + Send + Sync + 'static,
) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    let fine = Answer::After(Duration::from_millis(2), Box::new(Answer::Status(200)));
    move |request| number(request).and_then(&fault).unwrap_or_else(|| fine.clone())
}

/// Some messages meet a fault, each the first time that it comes.
fn once(
    fault: impl Fn(usize) -> Option<Answer> + Send + Sync + 'static,
) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    let met = Mutex::new(BTreeSet::new());
    unless(move |number| {
        let answer = fault(number)?;
        met.lock().unwrap().insert(number).then_some(answer)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_503_is_waited_out() {
    let (count, outage) = (messages(1_000), Mutex::new(None));
    let lasts = length(3, 20);
    let scene = Scene::start(
        unless(move |number| {
            if number < count / 5 {
                return None;
            }
            let mut since = outage.lock().unwrap();
            let since = since.get_or_insert_with(Instant::now);
            (since.elapsed() < lasts).then_some(Answer::Status(503))
        }),
        ROOMY,
    )
    .await;
    scene.announce(0..count).await;
    scene.tells(&["p/hook: stalled", "answered 503"]).await;
    let history = scene.history(count).await;
    history.assert_kept(count, &nobody());
    println!("503: {} requests again", history.again());
    assert!(scene.metric("pgherald_publish_retries_total").await > 0.0);
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_two_seconds_gets_them() {
    const ASKED: Duration = Duration::from_secs(2);
    let (count, busy) = (messages(1_000), Mutex::new(None));
    let scene = Scene::start(
        unless(move |number| {
            if number < count / 2 {
                return None;
            }
            let mut since = busy.lock().unwrap();
            let since = since.get_or_insert_with(Instant::now);
            let answer = || Answer::With(429, "retry-after", ASKED.as_secs().to_string());
            (since.elapsed() < ASKED / 2).then(answer)
        }),
        ROOMY,
    )
    .await;
    scene.announce(0..count).await;
    scene.tells(&["p/hook: stalled", "answered 429", "the next attempt is 2 s later"]).await;
    let history = scene.history(count).await;
    history.assert_kept(count, &nobody());
    let refused = history.visits.iter().filter(|it| it.status == Some(429));
    let first = refused.filter_map(|it| it.ended).min().expect("it was busy");
    // What was under way then may still come in.
    let (settled, asked) = (first + ASKED / 4, first + ASKED - Duration::from_millis(50));
    let early = history.visits.iter().find(|it| it.began > settled && it.began < asked);
    assert!(early.is_none(), "{early:?}, asked at {first:?}");
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hang_are_given_up_and_sent_again() {
    let count = messages(1_000);
    let scene = Scene::start(
        once(|number| (number % 300 == 150).then_some(Answer::Hang)),
        &format!("timeout_ms = 500\n{ROOMY}"),
    )
    .await;
    scene.announce(0..count).await;
    let history = scene.history(count).await;
    history.assert_kept(count, &nobody());
    println!("hanging: {} requests again", history.again());
    assert!(history.again() >= 3);
    assert!(!scene.bridge.log_lines("did not answer within 500 ms").is_empty());
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_are_replaced() {
    let fault = |number: usize| match number % 200 {
        13 => Some(Answer::Reset),
        57 => Some(Answer::Close),
        // A status that was read is an answer, whatever becomes of its body.
        80 => Some(Answer::Torn(200)),
        _ => None,
    };
    let count = messages(1_000);
    let scene = Scene::start(once(fault), ROOMY).await;
    scene.announce(0..count).await;
    let history = scene.history(count).await;
    history.assert_kept(count, &nobody());
    println!("breaking: {} requests again", history.again());
    let visits = |wanted: usize| history.visits.iter().filter(|it| it.number == wanted).count();
    assert!(visits(13) >= 2 && visits(57) >= 2, "what had no answer goes again");
    assert_eq!(visits(80), 1, "what had one does not");
    scene.ends_well().await;
}
