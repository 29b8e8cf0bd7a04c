//! What the parts of one flow share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use pgherald_core::FlowContext;
use pgherald_postgres::{Assignment, Backend, LockKey, PostgresSettings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    OutboxReport, OutboxSettings,
    doorbell::Bell,
    error::{Behind, Contradiction},
    measure::Backlog,
    metrics::FlowMetrics,
    position::Position,
    report::Late,
    traits::Flaw,
};

/// A session that holds a lock runs a statement at least so often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long one statement may take: a session that the network has cut off is given up then.
pub(crate) const STATEMENT_WITHIN: Duration = Duration::from_secs(10);

/// One flow that reads an outbox.
pub(crate) struct FlowFacts {
    pub(crate) context: FlowContext,
    pub(crate) settings: OutboxSettings,
    pub(crate) postgres: PostgresSettings,
    pub(crate) lock: LockKey,
    /// Whether this process is to run the flow's pipeline.
    pub(crate) assignment: Assignment,
    pub(crate) bell: Arc<Bell>,
    pub(crate) stop: CancellationToken,
    pub(crate) metrics: FlowMetrics,
    carried: AtomicBool,
    memory: Mutex<FlowMemory>,
    report: watch::Sender<OutboxReport>,
    /// What this process wrote last into the cursor.
    written: Mutex<Option<Written>>,
    /// The keeper saw another token in the cursor.
    doubted: AtomicBool,
}

/// A write of the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Empty: 0.1.0 wrote it.
    pub(crate) token: String,
    pub(crate) position: Position,
}

/// What outlives a session.
#[derive(Default)]
struct FlowMemory {
    /// The server process of the latest session, which may still hold the lock.
    former: Option<Backend>,
    /// The writer that holds the flow back, in words.
    waits_for: Option<Arc<str>>,
    /// The latest session of this process ended without giving the flow up: a cursor that is gone was
    /// taken from a running flow.
    was_attached: bool,
    /// The newest id, which the keeper saw below the cursor while the flow ran.
    set_back_to: Option<i64>,
    /// What the latest attach warned of.
    warned: Vec<String>,
}

impl FlowFacts {
    pub(crate) fn new(
        context: FlowContext,
        settings: OutboxSettings,
        postgres: PostgresSettings,
        assignment: Assignment,
        bell: Arc<Bell>,
        stop: CancellationToken,
    ) -> Self {
        let lock = LockKey::of_flow(&context.pipeline, &context.sink);
        let metrics = FlowMetrics::new(&context);
        let (carried, doubted) = (AtomicBool::new(false), AtomicBool::new(false));
        let (memory, written) = (Mutex::default(), Mutex::default());
        let report = watch::Sender::default();
        Self {
            context,
            settings,
            postgres,
            lock,
            assignment,
            bell,
            stop,
            metrics,
            carried,
            memory,
            report,
            written,
            doubted,
        }
    }

    pub(crate) fn pipeline(&self) -> &str {
        &self.context.pipeline
    }

    pub(crate) fn sink(&self) -> &str {
        &self.context.sink
    }

    /// Whether a session of this process holds the flow's lock.
    pub(crate) fn is_carried(&self) -> bool {
        self.carried.load(Ordering::Relaxed)
    }

    pub(crate) fn set_carried(&self, carried: bool) {
        self.memory().set_back_to = None;
        self.carried.store(carried, Ordering::Relaxed);
    }

    /// The sequence was set back below the cursor while the flow ran.
    pub(crate) fn was_set_back(&self, newest: i64) {
        self.memory().set_back_to = Some(newest);
    }

    /// Whether ids are issued again behind this position, or behind the highest id of a row.
    pub(crate) fn require_ahead(
        &self,
        newest: i64,
        high: i64,
        highest_id: i64,
    ) -> Result<(), Contradiction> {
        let (what, at) = match (newest < high, newest < highest_id) {
            (false, false) => return Ok(()),
            (true, _) => (Behind::Cursor, high),
            (false, true) => (Behind::HighestId, highest_id),
        };
        let table = self.settings.table.clone();
        Err(Contradiction::SequenceBehind { table, last: newest, what, at })
    }

    /// The same by the latest look of the keeper.
    pub(crate) fn require_still_ahead(&self, high: i64) -> Result<(), Contradiction> {
        let set_back_to = self.memory().set_back_to;
        set_back_to.map_or(Ok(()), |newest| self.require_ahead(newest, high, high))
    }

    /// The former session's server process; from now on it is `backend`.
    pub(crate) fn replace_backend(&self, backend: Backend) -> Option<Backend> {
        self.memory().former.replace(backend)
    }

    pub(crate) fn former_backend(&self) -> Option<Backend> {
        self.memory().former.clone()
    }

    pub(crate) fn was_attached(&self) -> bool {
        self.memory().was_attached
    }

    pub(crate) fn set_attached(&self, attached: bool) {
        self.memory().was_attached = attached;
    }

    /// Warns of what is not as it should be, and does not keep the flow from reading: once.
    pub(crate) fn warn_of(&self, flaws: &[Flaw]) {
        let texts: Vec<String> = flaws.iter().map(|flaw| flaw.text.clone()).collect();
        let before = std::mem::replace(&mut self.memory().warned, texts);
        for Flaw { text, fix, .. } in flaws.iter().filter(|flaw| !before.contains(&flaw.text)) {
            tracing::warn!(pipeline = self.pipeline(), sink = self.sink(), fix, "{text}");
        }
    }

    pub(crate) fn waits_for(&self) -> Option<Arc<str>> {
        self.memory().waits_for.clone()
    }

    pub(crate) fn set_waits_for(&self, writer: Option<Arc<str>>) {
        self.memory().waits_for = writer;
    }

    pub(crate) fn report(&self) -> watch::Receiver<OutboxReport> {
        self.report.subscribe()
    }

    /// Tells what was measured.
    pub(crate) fn tell_measured(&self, backlog: Backlog, unrouted: &[(String, u64)]) {
        self.metrics.backlog.set(backlog.messages as f64);
        self.metrics.oldest_age.set(backlog.oldest_age.as_secs_f64());
        let rows: u64 = unrouted.iter().map(|(_, rows)| rows).sum();
        self.metrics.unrouted.set(rows as f64);
        self.report.send_modify(|report| {
            report.backlog_messages = backlog.messages;
            report.oldest_age = backlog.oldest_age;
            report.unrouted = unrouted.to_vec();
        });
    }

    /// Tells whether rows came in below the cursor, and logs when that changes.
    pub(crate) fn tell_late(&self, late: Option<Late>) {
        let (pipeline, sink) = (self.pipeline(), self.sink());
        let known = self.report.borrow().late.clone();
        match (&known, &late) {
            (None, Some(late)) => tracing::warn!(pipeline, sink, "{}", late.told()),
            (Some(_), None) => {
                tracing::info!(
                    pipeline,
                    sink,
                    "no row below the cursor waits for a decision any more"
                );
            }
            _ => {}
        }
        self.metrics.late.set(late.as_ref().map_or(0.0, |late| late.messages as f64));
        if known != late {
            self.report.send_modify(|report| report.late = late);
        }
    }

    /// Tells whether the keeper has not done its work for too long, and logs when that changes.
    pub(crate) fn tell_neglected(&self, neglected: Option<Arc<str>>) {
        let known = self.report.borrow().neglected.clone();
        if known.as_ref().map(|(reason, _)| reason) == neglected.as_ref() {
            return;
        }
        let (pipeline, sink) = (self.pipeline(), self.sink());
        match &neglected {
            Some(neglected) => tracing::warn!(pipeline, sink, "{neglected}"),
            None => tracing::info!(pipeline, sink, "the outbox's keeper works again"),
        }
        let neglected = neglected.map(|reason| (reason, SystemTime::now()));
        self.report.send_modify(|report| report.neglected = neglected);
    }

    /// The flow is not carried any more: nothing is known.
    pub(crate) fn tell_nothing(&self) {
        self.metrics.backlog.set(0.0);
        self.metrics.oldest_age.set(0.0);
        self.metrics.unrouted.set(0.0);
        self.metrics.late.set(0.0);
        *self.last_written() = None;
        self.report.send_replace(OutboxReport::default());
    }

    /// The carrier wrote this position, or read it at its attach.
    pub(crate) fn set_written(&self, token: Option<&str>, position: &Position) {
        let token = token.unwrap_or_default().to_owned();
        *self.last_written() = Some(Written { token, position: position.clone() });
    }

    /// Somebody else may have written the cursor.
    pub(crate) fn doubt_cursor(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether somebody may have, since this was asked last.
    pub(crate) fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Ordering::Relaxed)
    }

    /// What the cursor must hold for as long as nobody else wrote it.
    pub(crate) fn written(&self) -> Option<Written> {
        self.last_written().clone()
    }

    fn last_written(&self) -> MutexGuard<'_, Option<Written>> {
        self.written.lock().expect("no panic happens under this lock")
    }

    fn memory(&self) -> MutexGuard<'_, FlowMemory> {
        self.memory.lock().expect("no panic happens under this lock")
    }
}
