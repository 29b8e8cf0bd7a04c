//! What one writer leaves to the next one of the same sink.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::Counter;
use tokio::{task::JoinHandle, time::Instant};

use crate::error::Fault;

/// How long a former producer may take to end.
const RETIRE_WAIT: Duration = Duration::from_secs(10);

/// The smallest broker batch that refusals lead to.
const BATCH_BYTES_MIN: usize = 16 * 1024;

/// What one writer leaves to the next one of the same sink.
pub(crate) struct SinkState {
    remembered: Mutex<Remembered>,
    refused: Counter,
}

#[derive(Default)]
struct Remembered {
    /// A broker refused a whole batch: publish one message at a time.
    isolate: bool,
    /// How large a broker batch may be, after refusals of batches in which no message was at fault.
    batch_bytes: Option<usize>,
    /// Former producers on their way out: nothing of theirs may arrive once a new one is open.
    retired: Vec<JoinHandle<()>>,
}

impl SinkState {
    /// Knows nothing yet; counts refused batches in `refused`.
    pub(crate) fn new(refused: Counter) -> Self {
        refused.increment(0);
        Self { remembered: Mutex::default(), refused }
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A broker refused a whole batch: the next writer publishes one message at a time.
    pub(crate) fn isolate(&self) {
        if !std::mem::replace(&mut self.lock().isolate, true) {
            self.refused.increment(1);
        }
    }

    /// Whether to publish one message at a time.
    pub(crate) fn isolates(&self) -> bool {
        self.lock().isolate
    }

    /// Every message was taken, or the refused ones were found. Without a refused one the batch
    /// itself was too large: `batch_bytes` is what a batch may have had.
    pub(crate) fn isolated(&self, found: bool, batch_bytes: usize) {
        let mut remembered = self.lock();
        remembered.isolate = false;
        if !found {
            let smaller = remembered.batch_bytes.unwrap_or(batch_bytes) / 2;
            remembered.batch_bytes = Some(smaller.max(BATCH_BYTES_MIN));
        }
    }

    /// How large a broker batch may be, if refusals taught that.
    pub(crate) fn batch_bytes(&self) -> Option<usize> {
        self.lock().batch_bytes
    }

    /// A producer is on its way out.
    pub(crate) fn retire(&self, producer: JoinHandle<()>) {
        self.lock().retired.push(producer);
    }

    /// Waits until every former producer has ended.
    pub(crate) async fn wait_for_retired(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + RETIRE_WAIT;
        loop {
            let Some(mut producer) = self.lock().retired.pop() else { return Ok(()) };
            if tokio::time::timeout_at(deadline, &mut producer).await.is_err() {
                self.retire(producer);
                return Err(Fault::Lingering);
            }
        }
    }
}
