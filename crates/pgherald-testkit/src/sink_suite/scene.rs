//! One flow of one case, from its start to its end.

use std::{sync::Arc, time::Duration};

use pgherald_core::{
    Backoff, BatchLimits, Budget, Envelope, EventNames, Flow, FlowContext, FlowEnd, FlowSettings,
    FlowStatus, Message, OnRejected,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Arrival, CHANNEL, Destination, Verdict, arrival::judge, arrival::judge_once, feed::Feed,
    letters::Letters, require,
};

/// Long enough for everything that has to happen, on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(60);

const DRAIN: Duration = Duration::from_secs(10);

/// What a case wants of its flow.
pub(super) struct Wish {
    pub(super) place: String,
    pub(super) on_rejected: OnRejected,
    /// The messages name their destination; otherwise the configuration does.
    pub(super) any_channel: bool,
}

impl Wish {
    pub(super) fn at(place: &str) -> Self {
        Self { place: place.to_owned(), on_rejected: OnRejected::Halt, any_channel: false }
    }

    fn settings<D: Destination>(&self) -> FlowSettings {
        let backoff = Backoff { first: Duration::from_millis(50), cap: Duration::from_millis(500) };
        let context = context(&self.place, D::BATCH_MESSAGES, self.any_channel);
        FlowSettings { context, on_rejected: self.on_rejected, backoff, jitter_seed: 1 }
    }
}

pub(super) fn context(place: &str, batch: usize, any_channel: bool) -> FlowContext {
    FlowContext {
        pipeline: "suite".into(),
        source: "outbox",
        sink: place.into(),
        channels: (!any_channel).then(|| [CHANNEL.into()].into()),
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 10_000, bytes: 64 << 20 },
        batch: BatchLimits { messages: batch, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 16 << 20,
    }
}

/// A flow that runs, and what it was given.
pub(super) struct Scene<'a, D> {
    destination: &'a D,
    place: String,
    feed: Feed,
    letters: Letters,
    status: watch::Receiver<FlowStatus>,
    stop: CancellationToken,
    running: JoinSet<FlowEnd>,
}

impl<'a, D: Destination> Scene<'a, D> {
    pub(super) fn start(destination: &'a D, wish: Wish) -> Self {
        let (stop, letters) = (CancellationToken::new(), Letters::default());
        let (settings, feed) = (wish.settings::<D>(), Feed::new(stop.clone()));
        let sink = destination.sink(&wish.place, settings.context.clone());
        let flow = Flow::new(settings, Arc::new(feed.clone()), sink);
        let flow = flow.with_dead_letters(Arc::new(letters.clone()));
        let status = flow.status();
        let mut running = JoinSet::new();
        running.spawn(flow.run(stop.clone(), DRAIN));
        Self { destination, place: wish.place, feed, letters, status, stop, running }
    }

    /// Makes the place, and starts a flow into it.
    pub(super) async fn made(destination: &'a D, wish: Wish) -> Self {
        destination.make(&wish.place).await;
        Self::start(destination, wish)
    }

    pub(super) fn send(&self, messages: Vec<Message>) {
        self.feed.send(messages);
    }

    pub(super) fn sent(&self) -> Vec<Message> {
        self.feed.sent()
    }

    pub(super) fn dead_letters(&self) -> Vec<(String, String)> {
        self.letters.kept()
    }

    pub(super) async fn arrivals(&self) -> Vec<Arrival> {
        self.destination.read(&self.place).await
    }

    /// Waits until the flow is as it should be.
    pub(super) async fn until(
        &self,
        what: &str,
        holds: impl Fn(&FlowStatus) -> bool,
    ) -> Result<FlowStatus, String> {
        let began = Instant::now();
        loop {
            // Not every change is announced: the oldest message moves without one.
            let now = self.status.borrow().clone();
            if holds(&now) {
                return Ok(now);
            }
            if began.elapsed() > SOON {
                return Err(format!("the flow was not {what} within {SOON:?}: {}", self.shown()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn shown(&self) -> String {
        let now = self.status.borrow();
        format!(
            "{:?}, {:?}, {} in flight, {} of {} acknowledged",
            now.state,
            now.reason,
            now.in_flight_messages,
            self.feed.acked(),
            self.sent().len()
        )
    }

    /// Everything that was sent is acknowledged, and the flow is ready.
    pub(super) async fn delivered(&self) -> Verdict {
        let acked = timeout(SOON, self.feed.all_acked()).await;
        acked.map_err(|_| format!("not everything was delivered: {}", self.shown()))?;
        self.until("ready", |now| now.ready).await.map(drop)
    }

    /// Stops the flow; nothing may be left.
    pub(super) async fn end(mut self) -> Verdict {
        self.stop.cancel();
        let end = timeout(DRAIN * 2, self.running.join_next()).await;
        match end {
            Ok(Some(Ok(end))) => require(end.drained, "the flow did not drain"),
            other => Err(format!("the flow did not end: {other:?}")),
        }
    }

    /// Delivers what was sent, ends the flow, and judges what arrived.
    pub(super) async fn judged(self) -> Verdict {
        self.conclude(judge).await
    }

    /// The same, and nothing arrived twice.
    pub(super) async fn judged_once(self) -> Verdict {
        self.conclude(judge_once).await
    }

    async fn conclude(self, judge: fn(&[Arrival], &[Message]) -> Verdict) -> Verdict {
        self.delivered().await?;
        let (destination, place, sent) = (self.destination, self.place.clone(), self.sent());
        let letters = self.dead_letters();
        self.end().await?;
        require(letters.is_empty(), format!("dead letters: {letters:?}"))?;
        judge(&destination.read(&place).await, &sent)
    }
}
