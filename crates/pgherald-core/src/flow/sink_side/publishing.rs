//! One writer, from its opening to its first fault.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Body, BoxError, ConnectionState, Event, Message, Only, Open, Outcome, Published, SinkError,
    Writer, clock,
    flow::{
        dead_letter_writer::DeadLetterWriter,
        health::SinkPhase,
        rejection::{HALTED_TRIES_EVERY, Policy, Rejection, Verdict},
        shared::{FlowShared, chain},
    },
    metrics::Latencies,
    window::{Sequence, Turn},
};

/// Why publishing ended.
pub(super) enum End {
    /// The attachment is over.
    Void,
    /// The writer failed.
    Fault(SinkError),
}

pub(super) struct Publishing<'a, 'b> {
    shared: &'a FlowShared,
    policy: &'a mut Policy,
    /// How long to wait for open outcomes, after a rejected message and after a fault.
    outcomes_within: Duration,
    dead_letter_writer: Option<&'a mut DeadLetterWriter<'b>>,
    outcomes: FuturesUnordered<BoxFuture<'static, Resolution>>,
    rejections: Vec<Rejection>,
    /// Since when nothing is published, because a rejection is not resolved yet.
    stopped: Option<Instant>,
    halted_until: Option<Instant>,
    /// The sink had failed before this writer was opened, and the writer has confirmed nothing yet.
    doubted: bool,
    /// The writer returned messages unsent without rejecting one; they were published again, and nothing
    /// was confirmed since.
    resent: bool,
    confirmed: bool,
}

struct Resolution {
    sequence: Sequence,
    published: Instant,
    outcome: Outcome,
}

/// What ended one wait.
enum Step {
    Resolved(Resolution),
    Event(Event),
    Look,
}

impl<'a, 'b> Publishing<'a, 'b> {
    pub(super) fn new(
        shared: &'a FlowShared,
        policy: &'a mut Policy,
        dead_letter_writer: Option<&'a mut DeadLetterWriter<'b>>,
        outcomes_within: Duration,
        doubted: bool,
    ) -> Self {
        Self {
            shared,
            policy,
            outcomes_within,
            dead_letter_writer,
            outcomes: FuturesUnordered::new(),
            rejections: Vec::new(),
            stopped: None,
            halted_until: None,
            doubted,
            resent: false,
            confirmed: false,
        }
    }

    /// Publishes until the writer fails or `void` resolves. Also says whether anything was
    /// confirmed.
    pub(super) async fn run(
        mut self,
        mut writer: Box<dyn Writer>,
        void: impl Future<Output = ()>,
    ) -> (End, bool) {
        let mut void = pin!(void);
        let fault = loop {
            let step = tokio::select! {
                biased;
                () = &mut void => return (End::Void, self.confirmed),
                step = self.step(&mut *writer) => step,
            };
            if let Err(fault) = step {
                break fault;
            }
        };
        // The writer has failed, but some batches may still be answered. Each answer that arrives now is a
        // message less to publish again. When this returns, the caller drops the writer: from then on every
        // outcome that is still open counts as unknown.
        tokio::select! {
            biased;
            () = &mut void => {}
            () = self.collect_outcomes() => {}
        }
        (End::Fault(fault), self.confirmed)
    }

    /// One decision: resolve rejections, else publish what is due, else wait.
    async fn step(&mut self, writer: &mut dyn Writer) -> Result<(), SinkError> {
        // The policy may only decide when every outcome is known. Otherwise a skipped or stored message could
        // be settled while an earlier one is still unknown, and would be sent again before it.
        if self.stopped.is_some() && self.outcomes.is_empty() {
            self.judge().await;
        }
        if let Some(turn) = self.next_turn() {
            return self.publish(writer, turn).await;
        }
        match self.wait(writer).await {
            Step::Resolved(resolution) => self.resolve(resolution),
            Step::Event(event) => self.hear(event),
            Step::Look => Ok(()),
        }
    }

    fn next_turn(&self) -> Option<Turn> {
        let due = self.due()?;
        (due <= Instant::now()).then(|| self.shared.window().take()).flatten()
    }

    /// When the next batch may be published; `None`: there is none, or not now.
    fn due(&self) -> Option<Instant> {
        // Nothing is published after a rejection that is not resolved yet: that would break the order. And
        // nothing after the lease of the session: another process may hold the flow's lock by now.
        if self.stopped.is_some() || self.shared.settled().has_lapsed() {
            return None;
        }
        let (arrived, full) = self.shared.window().waiting()?;
        let at_once = full || self.shared.stop.is_cancelled();
        let lingered = if at_once { arrived } else { arrived + self.shared.context.batch.linger };
        Some(self.halted_until.map_or(lingered, |halted| halted.max(lingered)))
    }

    async fn wait(&mut self, writer: &mut dyn Writer) -> Step {
        let shared = self.shared;
        let due = self.due();
        let outcomes_due = self.stopped.map(|since| since + self.outcomes_within);
        tokio::select! {
            biased;
            Some(resolution) = self.outcomes.next() => Step::Resolved(resolution),
            event = writer.event() => Step::Event(event),
            () = reached(due) => Step::Look,
            () = reached(outcomes_due) => Step::Event(Event::Ended(SinkError::Transient(
                "no answer for what was published before a rejected message".into(),
            ))),
            () = shared.pushed.notified() => Step::Look,
            () = shared.stop.cancelled(), if due.is_some() && !shared.stop.is_cancelled() => Step::Look,
        }
    }

    /// Offers a turn to the writer, up to the first message that core itself refuses.
    async fn publish(&mut self, writer: &mut dyn Writer, mut turn: Turn) -> Result<(), SinkError> {
        self.shared.metrics.retries.increment(turn.again as u64);
        if let Some((place, error)) = self.refused(&turn) {
            // The messages before the refused one are published; it and those after it stay in the window.
            self.stop();
            self.shared.window().withhold(turn.sequence, place);
            turn.only = up_to(&turn.only, place, turn.batch.messages.len());
            self.rejections.push(Rejection::new((turn.sequence, place), error));
            if turn.only.places(place).next().is_none() {
                return Ok(());
            }
        }
        let published = self.offer(writer, &turn).await?;
        if published.stopped {
            self.stop();
        }
        let (sequence, at) = (turn.sequence, Instant::now());
        let resolution = published.confirmation.map(move |outcome| Resolution {
            sequence,
            published: at,
            outcome,
        });
        self.outcomes.push(resolution.boxed());
        Ok(())
    }

    /// Waits until the writer has accepted the turn. Meanwhile it takes the outcomes of earlier batches and
    /// changes of the connection: a writer with a full queue may need the first to go on, and the flow's
    /// state needs both.
    async fn offer(
        &mut self,
        writer: &mut dyn Writer,
        turn: &Turn,
    ) -> Result<Published, SinkError> {
        let mut connection_state = writer.connection_state();
        let mut publish = writer.publish(&turn.batch, &turn.only);
        loop {
            tokio::select! {
                biased;
                published = &mut publish => return published,
                Some(resolution) = self.outcomes.next() => self.resolve(resolution)?,
                why = changed(&mut connection_state) => self.stands(why),
            }
        }
    }

    fn stands(&mut self, why: ConnectionState) {
        if self.halted_until.is_none() {
            self.shared.sink_phase(why.map_or(SinkPhase::Open, SinkPhase::Failed));
        }
    }

    fn refused(&self, turn: &Turn) -> Option<(usize, BoxError)> {
        let limit = self.shared.context.message_bytes_max;
        let messages = &turn.batch.messages;
        let refusal = |place: usize| Some((place, refusal(&messages[place], limit)?));
        turn.only.places(messages.len()).find_map(refusal)
    }

    fn resolve(&mut self, resolution: Resolution) -> Result<(), SinkError> {
        let Resolution { sequence, published, outcome } = resolution;
        let mut latencies = Latencies::new(&self.shared.metrics, clock().now());
        // Settle in the window first: this may release whole batches at its front, and with them a
        // checkpoint that the source side acknowledges.
        let resolved = {
            let mut window = self.shared.window();
            let replay = window.is_replay(sequence);
            window.resolve(sequence, &outcome.open, &mut |message| match replay {
                true => latencies.replayed(),
                false => latencies.settled(message),
            })
        };
        if latencies.finish() > 0 {
            self.policy.confirmed();
        }
        self.shared.metrics.publish_seconds.record(published.elapsed());
        self.confirmed |= resolved.settled > 0;
        self.resent &= resolved.settled == 0;
        let rejected = self.note_rejections(sequence, outcome.open);
        self.shared.release();
        if resolved.open == 0 {
            self.all_is_well();
        }
        match outcome.session {
            Some(error) => Err(error),
            None if resolved.open == 0 || rejected || self.stopped.is_some() => Ok(()),
            None if resolved.unknown == 0 && !self.resent => {
                // All open messages were certainly not sent, and none was rejected here: the writer has
                // stopped at a rejection in another batch, whose outcome is still to come. Wait for it.
                self.stop();
                Ok(())
            }
            // An unknown message may or may not have arrived, and a writer that returns messages unsent for
            // the second time, without rejecting one, would do so for ever. Only a new writer helps.
            None => Err(SinkError::Transient("the outcome of a publish is not known".into())),
        }
    }

    fn note_rejections(&mut self, sequence: Sequence, open: Vec<(u32, Open)>) -> bool {
        let before = self.rejections.len();
        for (place, open) in open {
            if let Open::Rejected(error) = open {
                self.rejections.push(Rejection::new((sequence, place as usize), error));
            }
        }
        let rejected = self.rejections.len() > before;
        if rejected {
            self.stop();
        }
        rejected
    }

    fn stop(&mut self) {
        self.stopped.get_or_insert_with(Instant::now);
    }

    fn all_is_well(&mut self) {
        self.shared.confirmed(true);
        self.trust();
        if self.halted_until.take().is_some() {
            self.shared.sink_phase(SinkPhase::Open);
        }
    }

    /// The destination has answered, so an earlier fault is over.
    fn trust(&mut self) {
        if std::mem::take(&mut self.doubted) {
            self.shared.sink_phase(SinkPhase::Open);
        }
    }

    /// Every outcome is known: the policy decides on the rejected messages, in their order, and publishing
    /// continues with the first open message.
    async fn judge(&mut self) {
        if !self.rejections.is_empty() {
            self.trust();
        }
        // Drop a writer that returns messages unsent twice without rejecting one.
        self.resent = self.rejections.is_empty();
        self.rejections.sort_by_key(|rejection| rejection.place);
        // First to last: a message may be settled only if no message before it is halted.
        for rejection in std::mem::take(&mut self.rejections) {
            match self.policy.apply(self.shared, &rejection) {
                Verdict::GoOn => {}
                Verdict::Keep(message) => self.keep(&message, &rejection).await,
                Verdict::Halt(why) => {
                    self.halt(why);
                    break;
                }
            }
        }
        self.stopped = None;
        // From here on the window offers again what is not settled, from the first open message of each
        // ordering unit. What was dealt with may have completed batches at the front: release them.
        self.shared.window().rewind();
        self.shared.release();
    }

    fn halt(&mut self, why: String) {
        self.halted_until = Some(Instant::now() + HALTED_TRIES_EVERY);
        self.shared.sink_phase(SinkPhase::Halted(why.into()));
    }

    /// Stores a rejected message as a dead letter, and settles it only then.
    async fn keep(&mut self, message: &Message, rejection: &Rejection) {
        let Some(dead_letter_writer) = &mut self.dead_letter_writer else {
            return self.halt("the flow has no place for dead letters".to_owned());
        };
        dead_letter_writer.keep(self.shared, message, rejection).await;
        let mut window = self.shared.window();
        match window.is_replay(rejection.place.0) {
            true => self.shared.replayed.rejected(message.id),
            false => self.shared.metrics.dead_lettered.increment(1),
        }
        window.dispose(rejection.place);
    }

    fn hear(&mut self, event: Event) -> Result<(), SinkError> {
        let halted = self.halted_until.is_some();
        self.doubted = false;
        match event {
            Event::Ended(error) => return Err(error),
            Event::Disconnected(_) | Event::Connected if halted => {}
            Event::Disconnected(error) => self.shared.sink_phase(SinkPhase::Failed(chain(&*error))),
            Event::Connected => self.shared.sink_phase(SinkPhase::Open),
        }
        Ok(())
    }

    /// After a fault: takes the outcomes of earlier batches that still arrive, for a limited time.
    async fn collect_outcomes(&mut self) {
        let within = self.outcomes_within;
        let all = async {
            while let Some(resolution) = self.outcomes.next().await {
                // The fault is known already; this outcome only says what was confirmed.
                let _ = self.resolve(resolution);
            }
        };
        let _ = timeout(within, all).await;
    }
}

/// The next change of the connection's state; pends for ever if the writer does not report it.
async fn changed(
    connection_state: &mut Option<watch::Receiver<ConnectionState>>,
) -> ConnectionState {
    if let Some(now) = connection_state
        && now.changed().await.is_ok()
    {
        return now.borrow_and_update().clone();
    }
    std::future::pending().await
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn up_to(only: &Only, end: usize, len: usize) -> Only {
    Only::Marked((0..len).map(|place| place < end && only.includes(place)).collect())
}

/// Why core itself refuses a message before its sink sees it.
fn refusal(message: &Message, message_bytes_max: usize) -> Option<BoxError> {
    match &message.body {
        Body::Unreadable(why) => Some(why.to_string().into()),
        Body::Payload(payload) if payload.len() > message_bytes_max => {
            Some(too_large(payload.len(), message_bytes_max))
        }
        Body::Oversize(bytes) => Some(too_large(*bytes, message_bytes_max)),
        Body::Payload(_) | Body::Tombstone | Body::Gap(_) => None,
    }
}

fn too_large(bytes: usize, message_bytes_max: usize) -> BoxError {
    format!("its payload has {bytes} bytes, above message_bytes_max = {message_bytes_max}").into()
}
