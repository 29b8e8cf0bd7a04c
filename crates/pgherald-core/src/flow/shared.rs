//! What the two sides of a flow share.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{FlowContext, FlowSettings};
use super::{
    health::{Health, SinkPhase, SourcePhase},
    replay::Replayed,
    tap::Tap,
};
use crate::{
    Batch, Checkpoint, FlowState, FlowStatus, GAPS_REMEMBERED, Gap, OldestMessage, Ordering,
    Settled, Sink,
    metrics::FlowMetrics,
    window::{Released, Window},
};

/// How far the source side has come; the sink side follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttachPhase {
    /// No session; a new one is on its way.
    None,
    /// Another process runs the flow, or is about to: a sink that has nothing left to publish is
    /// closed.
    Standby,
    /// The flow's lock is held, in the attachment with this number.
    Held(u64),
    /// The source has ended for good: what is in the window is all there will be.
    Over,
}

/// The sink's answer to an attachment: it is open, and this is what the destination remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SinkOpened {
    pub(super) attachment: u64,
    pub(super) resume: Option<Checkpoint>,
}

pub(super) struct FlowShared {
    pub(super) context: FlowContext,
    pub(super) metrics: FlowMetrics,
    pub(super) stop: CancellationToken,
    /// More room in the window.
    pub(super) freed: Notify,
    /// The window is empty.
    pub(super) emptied: Notify,
    /// More messages in the window.
    pub(super) pushed: Notify,
    pub(super) attachment: watch::Sender<AttachPhase>,
    pub(super) opened: watch::Sender<Option<SinkOpened>>,
    /// A writer is open, and may have messages on the wire.
    pub(super) writing: watch::Sender<bool>,
    /// What became of dead letters that were sent again.
    pub(super) replayed: Replayed,
    pub(super) tap: Tap,
    window: Mutex<Window>,
    settled: Mutex<Arc<Settled>>,
    health: Mutex<Health>,
    status: watch::Sender<FlowStatus>,
}

impl FlowShared {
    pub(super) fn new(
        settings: &FlowSettings,
        ordering: Ordering,
        stop: CancellationToken,
        status: watch::Sender<FlowStatus>,
        tap: Tap,
    ) -> Self {
        let context = settings.context.clone();
        let shared = Self {
            metrics: FlowMetrics::new(&context),
            stop,
            freed: Notify::new(),
            emptied: Notify::new(),
            pushed: Notify::new(),
            attachment: watch::Sender::new(AttachPhase::None),
            opened: watch::Sender::new(None),
            writing: watch::Sender::new(false),
            replayed: Replayed::default(),
            window: Mutex::new(Window::new(context.budget, context.batch, ordering)),
            settled: Mutex::default(),
            health: Mutex::new(Health::new()),
            status,
            tap,
            context,
        };
        shared.metrics.state(FlowState::Attaching);
        shared
    }

    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().expect("no panic happens under this lock")
    }

    pub(super) fn settled(&self) -> Arc<Settled> {
        Arc::clone(&self.settled.lock().expect("no panic happens under this lock"))
    }

    /// Takes a batch in. Gaps are reported here: each once, when it enters the flow.
    pub(super) fn push(&self, batch: Batch) {
        let gaps = batch.messages.iter().filter_map(|message| message.gap());
        let mut count = batch.messages.len() as u64;
        for gap in gaps {
            count -= 1;
            self.report(gap);
        }
        self.metrics.received.increment(count);
        self.tap.passed(&batch.messages);
        self.window().push(batch, Instant::now());
        self.release();
        self.pushed.notify_one();
    }

    /// Lets go of what is settled, and tells the source.
    pub(super) fn release(&self) {
        let (Released { newest, replayed }, messages, bytes) = {
            let mut window = self.window();
            (window.release(), window.messages(), window.bytes())
        };
        let freed = newest.is_some() || replayed.is_some();
        if let Some(checkpoint) = newest {
            self.settled().advance(checkpoint);
        }
        if let Some(ids) = replayed {
            self.replayed.left(ids);
        }
        if freed {
            self.freed.notify_one();
        }
        if messages == 0 {
            self.emptied.notify_one();
        }
        self.metrics.in_flight.set(messages as f64);
        self.metrics.in_flight_bytes.set(bytes as f64);
    }

    /// The session has ended and its source can be read again: everything is void.
    pub(super) fn forget(&self) {
        self.window().clear();
        self.replayed.forget();
        *self.settled.lock().expect("no panic happens under this lock") = Arc::default();
        self.release();
        self.freed.notify_one();
    }

    /// The flow's state, as everybody sees it.
    pub(super) fn state(&self) -> FlowState {
        self.status.borrow().state
    }

    pub(super) fn undelivered(&self) -> usize {
        self.window().undelivered()
    }

    pub(super) fn report(&self, gap: &Gap) {
        self.metrics.gap(gap);
        tracing::warn!(
            pipeline = &*self.context.pipeline,
            sink = &*self.context.sink,
            reason = gap.reason.as_str(),
            from = gap.from.map(|from| crate::rfc3339(from).to_string()),
            to = %crate::rfc3339(gap.to),
            count = gap.count,
            channels = &*gap.channels.join(", "),
            "gap: messages of this window may have been missed"
        );
        self.status.send_modify(|status| {
            if status.gaps.len() == GAPS_REMEMBERED {
                status.gaps.pop_front();
            }
            status.gaps.push_back(gap.clone());
        });
    }

    /// A source that becomes blocked behind a sink that is blocked or halted changes no state, and is
    /// logged all the same: nobody else says it.
    pub(super) fn source_phase(&self, phase: SourcePhase) {
        let mut before = phase.clone();
        let logged = self.change(|health| before = health.set_source(phase.clone()));
        if let (SourcePhase::Blocked(reason), false) = (&phase, logged || before == phase) {
            let (pipeline, sink) = (&*self.context.pipeline, &*self.context.sink);
            tracing::warn!(pipeline, sink, reason = &**reason, "the flow's source is blocked too");
        }
    }

    pub(super) fn sink_phase(&self, phase: SinkPhase) {
        self.change(|health| health.set_sink(phase));
    }

    /// A writer is open. Returns false while its health is not known yet: some sinks open without a
    /// connection, so a sink that failed and has messages waiting counts as healthy after its first
    /// confirmation.
    pub(super) fn sink_opened(&self) -> bool {
        let nothing_waits = self.window().is_empty();
        let mut is_well = false;
        self.change(|health| {
            is_well = nothing_waits || *health.sink() == SinkPhase::Closed;
            if is_well {
                health.set_sink(SinkPhase::Open);
            }
        });
        is_well
    }

    pub(super) fn confirmed(&self, confirmed: bool) {
        self.change(|health| health.confirmed = confirmed);
    }

    /// Looks at what only time changes.
    pub(super) fn look(&self, waits_for: Option<Arc<str>>, sink: &dyn Sink) {
        self.change(|health| health.waits_for = waits_for);
        let mut oldest = self.window().oldest_message().map(OldestMessage::of);
        if let Some(oldest) = &mut oldest {
            oldest.last_answer = sink.last_answer(&oldest.id);
        }
        self.status.send_if_modified(|status| {
            status.oldest = oldest;
            false
        });
    }

    /// Whether the state is another one now, and logged.
    fn change(&self, change: impl FnOnce(&mut Health)) -> bool {
        let (waiting, messages, bytes, empty) = {
            let window = self.window();
            let waiting = window.oldest().map(|since| since.elapsed()).unwrap_or_default();
            (waiting, window.messages(), window.bytes(), window.is_empty())
        };
        let (owner, (state, ready, reason)) = {
            let mut health = self.health.lock().expect("no panic happens under this lock");
            change(&mut health);
            health.confirmed |= empty;
            health.stopping = self.stop.is_cancelled();
            (health.owner(), health.state(waiting))
        };
        let mut changed = false;
        self.status.send_if_modified(|status| {
            changed = status.state != state;
            let another = changed || status.owner != owner || status.reason.is_none();
            let news = another || status.ready != ready || status.reason != reason;
            if changed {
                status.since = SystemTime::now();
            }
            if another && news {
                (status.owner, status.reason_since) = (owner, SystemTime::now());
            }
            (status.state, status.ready) = (state, ready);
            (status.in_flight_messages, status.in_flight_bytes) = (messages, bytes);
            if news {
                status.reason.clone_from(&reason);
            }
            news
        });
        if changed {
            self.log_state(state, reason.as_deref());
        }
        changed
    }

    fn log_state(&self, state: FlowState, reason: Option<&str>) {
        self.metrics.state(state);
        let (pipeline, sink) = (&*self.context.pipeline, &*self.context.sink);
        let name = state.as_str();
        match state {
            FlowState::Stalled | FlowState::Blocked | FlowState::Halted => {
                tracing::warn!(pipeline, sink, state = name, reason, "flow is {name}");
            }
            _ => tracing::info!(pipeline, sink, state = name, reason, "flow is {name}"),
        }
    }

    /// The drain deadline of a hand-over has passed.
    pub(super) fn not_drained(&self) {
        let unsettled = self.window().messages();
        let (pipeline, sink) = (&*self.context.pipeline, &*self.context.sink);
        tracing::warn!(
            pipeline,
            sink,
            unsettled,
            "the sink did not take {unsettled} messages before the drain deadline; the process that \
             takes the flow over reads them again"
        );
    }

    /// The flow is over: tells what is lost, if anything is. A source with positions brings what is
    /// left in the window again.
    pub(super) fn ended(&self, dropped: usize, positions: bool) {
        self.metrics.dropped.increment(dropped as u64);
        let (pipeline, sink) = (&*self.context.pipeline, &*self.context.sink);
        if dropped > 0 {
            tracing::error!(
                pipeline,
                sink,
                dropped,
                "{dropped} messages were not delivered before the drain deadline; the next start \
                 reports a gap that covers them"
            );
        } else if !positions && !self.window().is_empty() {
            tracing::warn!(
                pipeline,
                sink,
                "a gap was not delivered before the end; the next start reports one that covers it"
            );
        }
    }
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn Error) -> Arc<str> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.into()
}
