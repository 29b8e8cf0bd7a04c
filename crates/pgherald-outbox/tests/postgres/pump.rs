//! A flow that delivers everything to nobody: reads, settles, and attaches again as core does.

use std::sync::{Arc, Mutex};

use pgherald_core::SourceError;
use pgherald_outbox::OutboxSource;
use pgherald_testkit::eventually;
use tokio::task::JoinSet;

use crate::rig::{ROOM, Reading, SOON, texts};

/// Ends with its value.
pub(crate) struct Pump {
    delivered: Arc<Mutex<Vec<String>>>,
    fault: Arc<Mutex<String>>,
    _task: JoinSet<()>,
}

impl Pump {
    pub(crate) fn start(source: &OutboxSource) -> Self {
        let (delivered, fault) = (Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let mut task = JoinSet::new();
        task.spawn(run(source.clone(), Arc::clone(&delivered), Arc::clone(&fault)));
        Self { delivered, fault, _task: task }
    }

    /// The payloads, in the order in which they came.
    pub(crate) fn delivered(&self) -> Vec<String> {
        self.delivered.lock().unwrap().clone()
    }

    /// Why the latest session ended, or could not begin.
    pub(crate) fn fault(&self) -> String {
        self.fault.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&[String]) -> bool) {
        let there = || async { wanted(&self.delivered()) };
        if eventually(what, SOON, there).await.is_err() {
            panic!("{what}: {:?} {}", self.delivered(), self.fault());
        }
    }

    /// Everything that begins like that, in any order and as often as it comes.
    pub(crate) async fn until_all(&self, texts: &[String]) {
        let all = |delivered: &[String]| texts.iter().all(|text| delivered.contains(text));
        self.until("everything arrives", all).await;
    }
}

async fn run(source: OutboxSource, delivered: Arc<Mutex<Vec<String>>>, fault: Arc<Mutex<String>>) {
    loop {
        let error = match Reading::attach(&source).await {
            Ok(reading) => carry(reading, &delivered).await,
            Err(error) => error,
        };
        *fault.lock().unwrap() = format!("{error:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn carry(mut reading: Reading, delivered: &Mutex<Vec<String>>) -> SourceError {
    loop {
        match reading.read_on(ROOM).await {
            Ok(batch) => {
                delivered.lock().unwrap().extend(texts(&batch.messages));
                if let Some(end) = batch.end {
                    reading.settled.advance(end);
                }
            }
            Err(error) => return error,
        }
    }
}
