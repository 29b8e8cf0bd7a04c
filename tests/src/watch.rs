//! Asks `/readyz` all the time, so that a test can hold its answers against what was true.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use pgherald_testkit::{Bridge, get};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

const EVERY: Duration = Duration::from_millis(50);
/// A page that takes longer counts as not answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// `None`: no answer.
    pub(crate) status: Option<u16>,
    pub(crate) body: String,
}

/// Samples from now until it is dropped.
pub(crate) struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    _task: JoinSet<()>,
}

impl Watch {
    pub(crate) fn start(bridge: &Bridge) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        task.spawn(sample(bridge.admin_port(), Arc::clone(&samples)));
        Self { samples, _task: task }
    }

    /// The answers to what was asked from `from` until before `to`.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<Sample> {
        let samples = self.samples.lock().expect("the watch does not panic");
        samples.iter().filter(|sample| sample.at >= from && sample.at < to).cloned().collect()
    }
}

async fn sample(port: u16, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let at = Instant::now();
        let (status, body) = match timeout(ANSWER_WITHIN, get(port, "/readyz")).await {
            Ok(Ok(reply)) => (Some(reply.status), reply.body),
            Ok(Err(error)) => (None, error.to_string()),
            Err(_) => (None, format!("no answer within {ANSWER_WITHIN:?}")),
        };
        samples.lock().expect("the test does not panic").push(Sample { at, status, body });
    }
}

/// Every answer was this one, and there were answers.
pub(crate) fn assert_all(samples: &[Sample], status: u16, when: &str) {
    assert!(!samples.is_empty(), "nothing was asked {when}");
    let other = samples.iter().find(|sample| sample.status != Some(status));
    assert!(other.is_none(), "/readyz {when}: {other:?}");
}

/// Whoever is not ready is this sink alone, and says why.
pub(crate) fn assert_blames(samples: &[Sample], sink: &str) {
    for sample in samples.iter().filter(|sample| sample.status != Some(200)) {
        assert_eq!(sample.status, Some(503), "{sample:?}");
        for line in sample.body.lines() {
            let why = line.strip_prefix(&format!("p/{sink}: ")).and_then(|it| it.split_once(": "));
            assert!(why.is_some_and(|(_, reason)| !reason.is_empty()), "{sample:?}");
        }
    }
}
