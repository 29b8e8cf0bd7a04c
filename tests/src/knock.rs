//! A flow that is stopped by something that an operator repairs: how it says so, and that it goes on.

use std::time::Duration;

use pgherald_testkit::{Bridge, Notifier, Postgres, eventually};

use crate::stage::SOON;

/// Waits until `/status` gives a sink this state and `/readyz` these reasons.
pub(crate) async fn is_in_state(bridge: &Bridge, sink: &str, state: &str, why: &[&str]) {
    let told = || async {
        let ready = bridge.readyz().await;
        let says = |body: &str| {
            let line = body.lines().find(|line| line.starts_with(&format!("p/{sink}: {state}: ")));
            line.is_some_and(|line| why.iter().all(|word| line.contains(word)))
        };
        bridge.ended() || ready.is_ok_and(|it| it.status == 503 && says(&it.body))
    };
    if let Err(error) = eventually(&format!("{sink} is {state}: {why:?}"), SOON, told).await {
        panic!("{error}\n{}", bridge.explain().await);
    }
    assert!(!bridge.ended(), "{}", bridge.log());
    assert_eq!(bridge.livez().await.unwrap().status, 200);
    let status = bridge.status().await.unwrap();
    let flows = status["flows"].as_array().expect("flows");
    let flow = flows.iter().find(|flow| flow["sink"] == sink).expect("the flow");
    assert_eq!(flow["state"], state, "{status:#}");
}

pub(crate) async fn is_blocked(bridge: &Bridge, sink: &str, why: &[&str]) {
    is_in_state(bridge, sink, "blocked", why).await;
}

/// The state is logged once, at a level that is seen, with its reason.
pub(crate) fn assert_logged_once(bridge: &Bridge, state: &str, why: &[&str]) {
    let lines = bridge.log_lines(&format!("flow is {state}"));
    let told = |line: &&String| line.contains("WARN") && why.iter().all(|word| line.contains(word));
    assert_eq!(lines.iter().filter(told).count(), 1, "{why:?}: {lines:#?}");
}

pub(crate) async fn count(bridge: &Bridge, metric: &str, labels: &[(&str, &str)]) -> u64 {
    bridge.metrics().await.unwrap().value(metric, labels).unwrap_or_default() as u64
}

/// Waits until a sink has confirmed so many messages.
pub(crate) async fn published(bridge: &Bridge, sink: &str, least: u64, deadline: Duration) {
    let labels = [("sink", sink)];
    let all =
        || async { count(bridge, "pgherald_messages_published_total", &labels).await >= least };
    if let Err(error) = eventually(&format!("{sink} has published"), deadline, all).await {
        panic!("{error}\n{}", bridge.explain().await);
    }
}

/// The bridge is ready, and messages go all the way.
pub(crate) async fn carries(bridge: &Bridge, postgres: &Postgres) {
    if let Err(error) = bridge.wait_ready(SOON).await {
        panic!("{error}");
    }
    let published = || count(bridge, "pgherald_messages_published_total", &[]);
    let before = published().await;
    Notifier::new(&postgres.url()).messages(20).run().await.unwrap();
    let all = || async { published().await >= before + 20 };
    if let Err(error) = eventually("the messages are confirmed", SOON, all).await {
        panic!("{error}\n{}", bridge.explain().await);
    }
}
