//! Many keys at once: each in its order, one request at a time.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use pgherald_testkit::Answer;

use super::{ROOMY, Scene, messages};

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_keys_side_by_side_and_each_in_order() {
    let count = messages(2_000);
    let slow = Answer::After(Duration::from_millis(5), Box::new(Answer::Status(200)));
    let more = format!("concurrency = 16\n{ROOMY}");
    let scene = Scene::start(move |_| slow.clone(), &more).await;
    let begun = Instant::now();
    scene.announce(0..count).await;
    let history = scene.history(count).await;
    let seconds = begun.elapsed().as_secs_f64();
    let most = history.assert_kept(count, &BTreeSet::new());
    println!("{count} messages, {most} at once, {:.0}/s", count as f64 / seconds);
    assert!((8..=16).contains(&most), "{most} requests at once");
    assert_eq!(history.visits.len(), count, "nothing twice without a fault");
    assert!(scene.hook.connections() <= 32, "{} connections", scene.hook.connections());
    let received = scene.hook.received();
    assert!(received[0].is_gap(), "the start is a gap");
    assert_eq!(received.iter().filter(|it| it.is_gap()).count(), 1);
    scene.ends_well().await;
}
