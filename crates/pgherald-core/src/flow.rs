//! One source into one sink: its own position, budget, retries and health.
//!
//! Two loops share a window and run in one task: [`source_side`] attaches, reads and fills the
//! window; [`sink_side`] opens, publishes, settles and empties it. Each waits for the other only
//! through the window and through [`shared::FlowShared`]. Dead letters that are sent again enter the window
//! through [`replay`].

mod dead_letter_writer;
mod health;
mod rejection;
mod replay;
mod shared;
mod sink_side;
mod source_side;
mod tap;

use std::{sync::Arc, time::Duration};

use futures_util::future::join;
use tokio::{
    sync::watch,
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;

pub use self::tap::{Seen, Tap, Watcher};
use self::{
    dead_letter_writer::DeadLetterWriter, replay::Replays, shared::FlowShared, sink_side::SinkSide,
    source_side::SourceSide,
};
use crate::{Backoff, DeadLetters, FlowContext, FlowStatus, Sink, Source};

/// How often the state is looked at for what only time changes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What to do with a message that its destination will never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRejected {
    /// Send nothing behind it; try again every 30 s.
    Halt,
    /// Keep it as a dead letter before anything behind it is sent.
    DeadLetter,
    /// Count it, log it, and send a gap of reason `rejected` in its place.
    Skip,
}

/// How a flow behaves.
#[derive(Clone, Debug)]
pub struct FlowSettings {
    /// Names and limits.
    pub context: FlowContext,
    /// What to do with a message that its destination will never take.
    pub on_rejected: OnRejected,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Seeds the jitter of the backoff. Another one for each flow and process; a fixed one makes a
    /// simulation repeatable.
    pub jitter_seed: u64,
}

/// One source into one sink.
pub struct Flow {
    settings: FlowSettings,
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    status: watch::Sender<FlowStatus>,
    tap: Tap,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnd {
    /// Messages that were in memory and undelivered when the deadline passed, and that no source
    /// will bring again.
    pub dropped: usize,
    /// Whether everything that was read was settled and acknowledged before the deadline. A gap of
    /// a source without positions may be left: the next start's gap covers its window.
    pub drained: bool,
}

impl Flow {
    /// Puts a flow together; nothing happens before [`Flow::run`].
    #[must_use]
    pub fn new(settings: FlowSettings, source: Arc<dyn Source>, sink: Arc<dyn Sink>) -> Self {
        let status = watch::Sender::new(FlowStatus::new());
        let tap = Tap::new(&settings.context.pipeline, &settings.context.sink);
        Self { settings, source, sink, dead_letters: None, status, tap }
    }

    /// Gives the flow a place for dead letters. [`OnRejected::DeadLetter`] needs it; whatever the
    /// policy, the flow sends again what is asked for there.
    #[must_use]
    pub fn with_dead_letters(mut self, dead_letters: Arc<dyn DeadLetters>) -> Self {
        self.dead_letters = Some(dead_letters);
        self
    }

    /// The flow's state, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<FlowStatus> {
        self.status.subscribe()
    }

    /// Where it can be watched.
    #[must_use]
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// Carries messages until `stop` is cancelled, then drains for at most `drain`. A flow that is
    /// handed over to another process drains as long, and then stands by.
    ///
    /// Returns only after `stop`: nothing external ends a flow.
    ///
    /// # Cancellation
    /// Dropping the future drops what is in memory; a source with positions brings it again.
    pub async fn run(self, stop: CancellationToken, drain: Duration) -> FlowEnd {
        let ordering = self.sink.ordering();
        let shared = FlowShared::new(&self.settings, ordering, stop.clone(), self.status, self.tap);
        let source = SourceSide::new(&shared, &*self.source, &self.settings, drain);
        let letters = self.dead_letters.as_deref();
        let dead_letter_writer =
            letters.map(|letters| DeadLetterWriter::new(letters, &self.settings));
        let positions = self.source.has_positions();
        let sink =
            SinkSide::new(&shared, &*self.sink, &self.settings, positions, dead_letter_writer);
        let replays = Replays::new(&shared, letters);
        let carry = async {
            join(source.run(), sink.run()).await;
            replays.finish().await;
        };
        let drained = tokio::select! {
            biased;
            () = carry => true,
            () = replays.run() => unreachable!("a flow asks for as long as it runs"),
            () = look(&shared, &*self.source, &*self.sink) => unreachable!("looking never ends"),
            () = deadline(&stop, drain) => false,
        };
        let dropped = if positions { 0 } else { shared.undelivered() + self.source.unread() };
        shared.ended(dropped, positions);
        FlowEnd { dropped, drained: drained || (!positions && dropped == 0) }
    }
}

async fn look(shared: &FlowShared, source: &dyn Source, sink: &dyn Sink) {
    let mut every = interval(LOOK_EVERY);
    loop {
        every.tick().await;
        shared.look(source.waits_for(), sink);
    }
}

async fn deadline(stop: &CancellationToken, drain: Duration) {
    stop.cancelled().await;
    sleep(drain).await;
}
