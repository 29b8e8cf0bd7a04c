//! The shared connection: one LISTEN session for each database, always drained.

mod session_run;

use std::{sync::Arc, time::Duration};

use pgherald_core::{Backoff, FlowContext, Reconnect};
use pgherald_postgres::{Backend, Class, PostgresError, PostgresSettings};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    NotifySettings, NotifySource,
    metrics::HubMetrics,
    next_gaps::NextGaps,
    router::Router,
    session::{LiveSession, Loss},
    slot::{FlowOwner, Slot},
};

/// How a hub behaves.
#[derive(Clone, Copy, Debug)]
pub struct HubOptions {
    /// How often the session proves that it still hears; the echo is due within the same time, and
    /// an owner that is cut off loses its locks after three of them.
    pub heartbeat: Duration,
    /// How often the locks of flows that another process runs are tried.
    pub lock_retry: Duration,
    /// How long to wait between connections.
    pub backoff: Backoff,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            lock_retry: Duration::from_secs(1),
            backoff: Backoff::default(),
        }
    }
}

/// One LISTEN session for each database, shared by every `notify` flow of the process.
///
/// Put it together with [`Hub::flow`], then run it. The session is drained no matter how slow the
/// flows are: a flow that does not keep up overflows its own queue, which is that flow's gap and
/// nobody else's.
pub struct Hub {
    settings: PostgresSettings,
    options: HubOptions,
    slots: Vec<Arc<Slot>>,
}

impl Hub {
    /// A hub without flows; nothing happens before [`Hub::run`].
    #[must_use]
    pub fn new(settings: PostgresSettings, options: HubOptions) -> Self {
        Self { settings, options, slots: Vec::new() }
    }

    /// Adds a flow: the channels of `context` (every one of `notify` when it names none) into one
    /// sink, within the flow's budget.
    #[must_use]
    pub fn flow(&mut self, context: &FlowContext, notify: &NotifySettings) -> NotifySource {
        let slot = Arc::new(Slot::new(context, notify));
        self.slots.push(Arc::clone(&slot));
        NotifySource::new(slot)
    }

    /// Listens until `stop` is cancelled; reconnects by itself, whatever happens. Without flows it
    /// only waits.
    ///
    /// After `stop` it takes in what the socket already holds, ends the session, so that a standby
    /// takes over at once, and returns. What the flows hold can still be read.
    ///
    /// # Cancellation
    /// Dropping the future ends the session at once; what the socket holds is lost, and no flow is
    /// told that nothing more will come. Cancel `stop` instead.
    pub async fn run(self, stop: CancellationToken) {
        if self.slots.is_empty() {
            return stop.cancelled().await;
        }
        Running::new(self).run(stop).await;
    }
}

/// A hub at work: what outlives a session.
struct Running {
    settings: PostgresSettings,
    options: HubOptions,
    slots: Vec<Arc<Slot>>,
    router: Router,
    next_gaps: NextGaps,
    metrics: HubMetrics,
    /// The server process of our latest session.
    former: Option<Backend>,
    /// The one before, which may still be going.
    previous: Option<Backend>,
    /// Attempts in a row in which no nonce came back.
    reconnect: Reconnect,
    last_fault: Option<PostgresError>,
}

impl Running {
    fn new(hub: Hub) -> Self {
        Self {
            router: Router::new(&hub.slots),
            next_gaps: NextGaps::new(&hub.slots),
            metrics: HubMetrics::new(),
            former: None,
            previous: None,
            reconnect: Reconnect::new(hub.options.backoff),
            last_fault: None,
            settings: hub.settings,
            options: hub.options,
            slots: hub.slots,
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        while let Some(loss) = self.one_session(&stop).await {
            self.lost(loss);
            let stopped = stop.run_until_cancelled(self.reconnect.wait()).await.is_none();
            if stopped {
                break;
            }
            self.tell_all(&FlowOwner::Unknown);
        }
        self.slots.iter().for_each(|slot| slot.stop());
    }

    /// Connects and carries until the session is lost; `None`: the process is stopping.
    async fn one_session(&mut self, stop: &CancellationToken) -> Option<Loss> {
        let heartbeat = self.options.heartbeat;
        let former = self.former.clone();
        let establishing = LiveSession::establish(&self.settings, heartbeat, former.as_ref());
        let (session, heartbeats) = match stop.run_until_cancelled(establishing).await? {
            Ok(established) => established,
            Err(fault) => return Some(fault.into()),
        };
        self.connected(&session);
        let (session, loss) =
            session_run::SessionRun::new(self, session, heartbeats).run(stop).await;
        match loss {
            Some(loss) => Some(loss),
            None => {
                self.slots.iter().for_each(|slot| slot.stop());
                session.connection.close().await;
                None
            }
        }
    }

    fn connected(&mut self, session: &LiveSession) {
        info!(
            database = %self.settings,
            session = format_args!("{:016x}", session.id),
            pid = session.backend.pid,
            version = session.version,
            "listening"
        );
        self.previous = self.former.replace(session.backend.clone());
        if self.previous.is_some() {
            self.metrics.reconnects.increment(1);
        }
        self.last_fault = None;
    }

    /// The session, or the attempt at one, is over.
    fn lost(&mut self, loss: Loss) {
        for place in 0..self.slots.len() {
            if self.router.is_open(place) {
                self.next_gaps.ended(place, loss.reason);
            }
        }
        self.router.close_all();
        if self.last_fault.as_ref() == Some(&loss.fault) {
            debug!(database = %self.settings, reason = %loss.fault, "still not listening");
        } else if self.is_told_by_flows(&loss.fault) {
            debug!(database = %self.settings, reason = %loss.fault, "not listening");
        } else {
            warn!(database = %self.settings, reason = %loss.fault, "not listening");
        }
        self.tell_all(&FlowOwner::Down(loss.fault.clone()));
        self.last_fault = Some(loss.fault);
    }

    /// Whether a flow becomes blocked by this fault, and so says it. One that still has messages
    /// does not look at the database.
    fn is_told_by_flows(&self, fault: &PostgresError) -> bool {
        let looks = |slot: &Arc<Slot>| slot.unread_messages() == 0;
        fault.class == Class::Blocked && self.slots.iter().any(looks)
    }

    fn tell_all(&self, owner: &FlowOwner) {
        for slot in &self.slots {
            slot.set_owner(owner.clone());
        }
    }
}
