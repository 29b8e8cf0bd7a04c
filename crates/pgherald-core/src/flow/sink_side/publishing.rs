//! One writer, from its opening to its first fault.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Body, BoxError, Event, Message, Only, Open, Outcome, Published, SinkError, Standing, Writer,
    clock,
    flow::{
        health::SinkPhase,
        keeper::Keeper,
        link::{Link, chain},
        rejection::{HALTED_TRIES_EVERY, Policy, Rejection, Verdict},
    },
    metrics::Latencies,
    window::{Sequence, Turn},
};

/// Why publishing ended.
pub(super) enum End {
    /// The attachment is over.
    Void,
    /// The writer is of no use any more.
    Fault(SinkError),
}

pub(super) struct Publishing<'a, 'b> {
    link: &'a Link,
    policy: &'a mut Policy,
    /// How long open outcomes are waited for, behind a rejected message and after a fault.
    outcomes_within: Duration,
    keeper: Option<&'a mut Keeper<'b>>,
    outcomes: FuturesUnordered<BoxFuture<'static, Resolution>>,
    rejections: Vec<Rejection>,
    /// Since when nothing is published, because rejections have to be dealt with first.
    stopped: Option<Instant>,
    halted_until: Option<Instant>,
    /// The sink had failed before it was opened, and has not confirmed anything since.
    doubted: bool,
    /// What came back unsent was published again, and nothing was confirmed since.
    resent: bool,
    confirmed: bool,
}

struct Resolution {
    sequence: Sequence,
    published: Instant,
    outcome: Outcome,
}

/// What one step of waiting brought.
enum Step {
    Resolved(Resolution),
    Event(Event),
    Look,
}

impl<'a, 'b> Publishing<'a, 'b> {
    pub(super) fn new(
        link: &'a Link,
        policy: &'a mut Policy,
        keeper: Option<&'a mut Keeper<'b>>,
        outcomes_within: Duration,
        doubted: bool,
    ) -> Self {
        Self {
            link,
            policy,
            outcomes_within,
            keeper,
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
        tokio::select! {
            biased;
            () = &mut void => {}
            () = self.collect_outcomes() => {}
        }
        (End::Fault(fault), self.confirmed)
    }

    async fn step(&mut self, writer: &mut dyn Writer) -> Result<(), SinkError> {
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
        (due <= Instant::now()).then(|| self.link.window().take()).flatten()
    }

    /// When the next batch may be published; `None`: there is none, or not now.
    fn due(&self) -> Option<Instant> {
        if self.stopped.is_some() || self.link.settled().has_lapsed() {
            return None;
        }
        let (arrived, full) = self.link.window().waiting()?;
        let at_once = full || self.link.stop.is_cancelled();
        let lingered = if at_once { arrived } else { arrived + self.link.context.batch.linger };
        Some(self.halted_until.map_or(lingered, |halted| halted.max(lingered)))
    }

    async fn wait(&mut self, writer: &mut dyn Writer) -> Step {
        let link = self.link;
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
            () = link.pushed.notified() => Step::Look,
            () = link.stop.cancelled(), if due.is_some() && !link.stop.is_cancelled() => Step::Look,
        }
    }

    /// Offers a turn to the writer, up to its first message that core itself refuses.
    async fn publish(&mut self, writer: &mut dyn Writer, mut turn: Turn) -> Result<(), SinkError> {
        self.link.metrics.retries.increment(turn.again as u64);
        if let Some((place, error)) = self.refused(&turn) {
            self.stop();
            self.link.window().withhold(turn.sequence, place);
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

    /// Awaits the writer, and meanwhile the outcome of everything that it published before and news
    /// of its connection.
    async fn offer(
        &mut self,
        writer: &mut dyn Writer,
        turn: &Turn,
    ) -> Result<Published, SinkError> {
        let mut standing = writer.standing();
        let mut publish = writer.publish(&turn.batch, &turn.only);
        loop {
            tokio::select! {
                biased;
                published = &mut publish => return published,
                Some(resolution) = self.outcomes.next() => self.resolve(resolution)?,
                why = changed(&mut standing) => self.stands(why),
            }
        }
    }

    fn stands(&mut self, why: Standing) {
        if self.halted_until.is_none() {
            self.link.sink_phase(why.map_or(SinkPhase::Open, SinkPhase::Failed));
        }
    }

    fn refused(&self, turn: &Turn) -> Option<(usize, BoxError)> {
        let limit = self.link.context.message_bytes_max;
        let messages = &turn.batch.messages;
        let refusal = |place: usize| Some((place, refusal(&messages[place], limit)?));
        turn.only.places(messages.len()).find_map(refusal)
    }

    fn resolve(&mut self, resolution: Resolution) -> Result<(), SinkError> {
        let Resolution { sequence, published, outcome } = resolution;
        let mut latencies = Latencies::new(&self.link.metrics, clock().now());
        let resolved = {
            let mut window = self.link.window();
            let replay = window.is_replay(sequence);
            window.resolve(sequence, &outcome.open, &mut |message| match replay {
                true => latencies.replayed(),
                false => latencies.settled(message),
            })
        };
        if latencies.finish() > 0 {
            self.policy.confirmed();
        }
        self.link.metrics.publish_seconds.record(published.elapsed());
        self.confirmed |= resolved.settled > 0;
        self.resent &= resolved.settled == 0;
        let rejected = self.note_rejections(sequence, outcome.open);
        self.link.release();
        if resolved.open == 0 {
            self.all_is_well();
        }
        match outcome.session {
            Some(error) => Err(error),
            None if resolved.open == 0 || rejected || self.stopped.is_some() => Ok(()),
            None if resolved.unknown == 0 && !self.resent => {
                // Nothing is lost: the writer stands behind a rejection whose outcome is to come.
                self.stop();
                Ok(())
            }
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
        self.link.confirmed(true);
        self.trust();
        if self.halted_until.take().is_some() {
            self.link.sink_phase(SinkPhase::Open);
        }
    }

    /// The destination has answered: whatever kept it from that before is over.
    fn trust(&mut self) {
        if std::mem::take(&mut self.doubted) {
            self.link.sink_phase(SinkPhase::Open);
        }
    }

    /// Every outcome is known: the policy decides on the rejected messages, first to last, and
    /// publishing goes back to the first open message.
    async fn judge(&mut self) {
        if !self.rejections.is_empty() {
            self.trust();
        }
        // A writer that takes nothing, for no reason that it names, is of no use.
        self.resent = self.rejections.is_empty();
        self.rejections.sort_by_key(|rejection| rejection.place);
        for rejection in std::mem::take(&mut self.rejections) {
            match self.policy.apply(self.link, &rejection) {
                Verdict::GoOn => {}
                Verdict::Keep(message) => self.keep(&message, &rejection).await,
                Verdict::Halt(why) => {
                    self.halt(why);
                    break;
                }
            }
        }
        self.stopped = None;
        self.link.window().rewind();
        self.link.release();
    }

    fn halt(&mut self, why: String) {
        self.halted_until = Some(Instant::now() + HALTED_TRIES_EVERY);
        self.link.sink_phase(SinkPhase::Halted(why.into()));
    }

    /// A rejected message is kept before it settles.
    async fn keep(&mut self, message: &Message, rejection: &Rejection) {
        let Some(keeper) = &mut self.keeper else {
            return self.halt("the flow has no place for dead letters".to_owned());
        };
        keeper.keep(self.link, message, rejection).await;
        let mut window = self.link.window();
        match window.is_replay(rejection.place.0) {
            true => self.link.replayed.rejected(message.id),
            false => self.link.metrics.dead_lettered.increment(1),
        }
        window.dispose(rejection.place);
    }

    fn hear(&mut self, event: Event) -> Result<(), SinkError> {
        let halted = self.halted_until.is_some();
        self.doubted = false;
        match event {
            Event::Ended(error) => return Err(error),
            Event::Disconnected(_) | Event::Connected if halted => {}
            Event::Disconnected(error) => self.link.sink_phase(SinkPhase::Failed(chain(&*error))),
            Event::Connected => self.link.sink_phase(SinkPhase::Open),
        }
        Ok(())
    }

    /// After a fault: what is still to be said of earlier batches, for a while.
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

/// The next change of a standing; never without one.
async fn changed(standing: &mut Option<watch::Receiver<Standing>>) -> Standing {
    if let Some(now) = standing
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
