//! Opens, publishes, settles, and empties the window.

mod publishing;

use std::time::Duration;

use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep};

use self::publishing::{End, Publishing};
use super::{
    FlowSettings,
    dead_letter_writer::DeadLetterWriter,
    health::SinkPhase,
    rejection::Policy,
    shared::{AttachPhase, FlowShared, SinkOpened, chain},
};
use crate::{Backoff, Opened, Sink, SinkError};

/// While the process drains: how long to go on trying if only gaps are left.
const IN_VAIN_AFTER: Duration = Duration::from_secs(2);

/// The longest backoff while the process drains.
const DRAINING_TRIES_EVERY: Duration = Duration::from_millis(500);

/// The longest wait that a destination can ask for: one that asks for a day may be well in a minute.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(300);

pub(super) struct SinkSide<'a> {
    shared: &'a FlowShared,
    sink: &'a dyn Sink,
    source_has_positions: bool,
    backoff: Backoff,
    failures: u32,
    gaps_only_since: Option<Instant>,
    random: SmallRng,
    policy: Policy,
    dead_letter_writer: Option<DeadLetterWriter<'a>>,
}

impl<'a> SinkSide<'a> {
    pub(super) fn new(
        shared: &'a FlowShared,
        sink: &'a dyn Sink,
        settings: &FlowSettings,
        source_has_positions: bool,
        dead_letter_writer: Option<DeadLetterWriter<'a>>,
    ) -> Self {
        Self {
            shared,
            sink,
            source_has_positions,
            backoff: settings.backoff,
            failures: 0,
            gaps_only_since: None,
            random: SmallRng::seed_from_u64(!settings.jitter_seed),
            policy: Policy::new(settings.on_rejected),
            dead_letter_writer,
        }
    }

    /// Runs until the source is over and the window is empty.
    pub(super) async fn run(mut self) {
        while let Some(attachment) = self.work().await {
            let end = match self.unless_void(attachment, self.sink.open()).await {
                None => End::Void,
                Some(Err(error)) => End::Fault(error),
                Some(Ok(opened)) => self.carry(attachment, opened).await,
            };
            match end {
                End::Void => self.shared.sink_phase(SinkPhase::Closed),
                End::Fault(_) if self.in_vain() => break,
                End::Fault(error) => self.wait_after(error).await,
            }
        }
        self.shared.freed.notify_one();
    }

    /// Waits until there is a reason to be open: an attachment, or messages that are left from an
    /// earlier one. `None`: the source is over and nothing is left.
    async fn work(&self) -> Option<u64> {
        let mut attachment = self.shared.attachment.subscribe();
        loop {
            let now = *attachment.borrow_and_update();
            let empty = self.shared.window().is_empty();
            match now {
                AttachPhase::Held(number) => return Some(number),
                AttachPhase::Over if empty => return None,
                AttachPhase::Over => return Some(0),
                AttachPhase::None | AttachPhase::Standby if empty => {}
                AttachPhase::None | AttachPhase::Standby => return Some(0),
            }
            attachment.changed().await.expect("the shared holds the sender");
        }
    }

    /// The process is stopping, its sink stays down, and all that is left is gaps of a source that
    /// will report a gap over the same window when it starts again: the exit does not wait long for
    /// that.
    fn in_vain(&mut self) -> bool {
        let over = *self.shared.attachment.borrow() == AttachPhase::Over;
        let gaps_only = !self.source_has_positions && self.shared.undelivered() == 0;
        if !over || !gaps_only {
            self.gaps_only_since = None;
            return false;
        }
        self.gaps_only_since.get_or_insert_with(Instant::now).elapsed() >= IN_VAIN_AFTER
    }

    async fn carry(&mut self, attachment: u64, opened: Opened) -> End {
        let Opened { writer, resume } = opened;
        if let Some(checkpoint) = &resume {
            self.shared.window().settle_through(checkpoint);
            self.shared.release();
        }
        let is_well = self.shared.sink_opened();
        self.shared.opened.send_replace(Some(SinkOpened { attachment, resume }));
        self.shared.window().rewind();
        let void = self.void(attachment);
        let outcomes_within = self.sink.outcomes_within();
        let publishing = Publishing::new(
            self.shared,
            &mut self.policy,
            self.dead_letter_writer.as_mut(),
            outcomes_within,
            !is_well,
        );
        let opened_at = Instant::now();
        self.shared.writing.send_replace(true);
        let (end, confirmed) = publishing.run(writer, void).await;
        self.shared.writing.send_replace(false);
        if confirmed || opened_at.elapsed() > self.backoff.cap {
            self.failures = 0;
        }
        end
    }

    async fn wait_after(&mut self, error: SinkError) {
        self.failures = self.failures.saturating_add(1);
        let wait = self.backoff.wait(self.failures, &mut self.random);
        let why = chain(&error);
        let (phase, wait) = match error {
            SinkError::Blocked(_) => (SinkPhase::Blocked(why), wait),
            SinkError::Transient(_) | SinkError::Fenced(_) => (SinkPhase::Failed(why), wait),
            SinkError::Later { wait: asked, .. } => {
                let wait = wait.max(asked.min(ASKED_WAIT_MAX));
                let seconds = wait.as_secs_f64().ceil();
                let why = format!("{why} (the next attempt is {seconds} s later)");
                (SinkPhase::Failed(why.into()), wait)
            }
        };
        self.shared.sink_phase(phase);
        self.shared.confirmed(false);
        self.wait(wait).await;
    }

    /// Sits out a backoff. The stop ends it, so that the drain begins with an attempt, and bounds
    /// the later ones.
    async fn wait(&self, wait: Duration) {
        if self.shared.stop.is_cancelled() {
            return sleep(wait.min(DRAINING_TRIES_EVERY)).await;
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    async fn unless_void<T>(&self, attachment: u64, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.void(attachment) => None,
            value = work => Some(value),
        }
    }

    /// Resolves when a writer that was opened for `attachment` has nothing more to do: the source
    /// attached anew and will read again, or nobody attaches and nothing is left.
    fn void(&self, mine: u64) -> impl Future<Output = ()> + use<'a> {
        let (shared, source_has_positions) = (self.shared, self.source_has_positions);
        async move {
            let mut attachment = shared.attachment.subscribe();
            loop {
                let void = match *attachment.borrow_and_update() {
                    AttachPhase::Held(now) => source_has_positions && now != mine,
                    AttachPhase::None => source_has_positions,
                    AttachPhase::Standby | AttachPhase::Over => shared.window().is_empty(),
                };
                if void {
                    return;
                }
                tokio::select! {
                    changed = attachment.changed() => changed.expect("the shared holds the sender"),
                    () = shared.emptied.notified() => {}
                }
            }
        }
    }
}
