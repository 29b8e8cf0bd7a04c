//! One LISTEN session at work: drains, sends heartbeats, tries locks, opens flows.

use std::{sync::Arc, time::SystemTime};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{Gap, rfc3339};
use pgherald_postgres::{LockKey, PostgresError, to_micros};
use sqlx::postgres::PgNotification;
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Running;
use crate::{
    heartbeat::{HEARTBEAT_CHANNEL, Heartbeat},
    session::{LiveSession, Loss, sender},
    slot::FlowOwner,
};

/// Notifications taken in one go, before they are put into the queues, and timers and other tasks have
/// their turn. Nothing bounds a notification before it is in a queue.
const BURST_MESSAGES_MAX: usize = 512;
const BURST_BYTES_MAX: usize = 256 << 10;
/// So much may come before the answer to a statement; more at each further try.
const BEFORE_ANSWER_BYTES: usize = 512 << 10;
const BEFORE_ANSWER_BYTES_MAX: usize = 4 << 20;
/// How long the socket is emptied after the process was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// A flow that has just opened tells standbys after this time how far it has settled.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);

/// One session, for as long as it lasts.
pub(super) struct SessionRun<'a> {
    hub: &'a mut Running,
    session: LiveSession,
    /// Flows whose lock this session holds.
    held: Vec<bool>,
    /// Held flows with LISTEN in place: the next nonce's echo opens them.
    ready: Vec<usize>,
    nonce: Option<Nonce>,
    /// When the server answered a statement last.
    answered_at: Instant,
    next_beat: Instant,
    next_try: Instant,
    /// When standbys look again who holds their lock.
    next_look: Instant,
    refused: bool,
}

/// A nonce that has not come back yet.
struct Nonce {
    number: u64,
    sent: SystemTime,
    due: Instant,
    opens: Vec<usize>,
}

impl<'a> SessionRun<'a> {
    pub(super) fn new(
        hub: &'a mut Running,
        mut session: LiveSession,
        heartbeats: Vec<(Heartbeat, i32)>,
    ) -> Self {
        let now = session.clock.now();
        heartbeats
            .iter()
            .for_each(|(heartbeat, sender)| hub.next_gaps.heard(heartbeat, *sender, now));
        let held = vec![false; hub.slots.len()];
        let at_once = Instant::now();
        Self {
            hub,
            session,
            held,
            ready: Vec::new(),
            nonce: None,
            answered_at: at_once,
            next_beat: at_once,
            next_try: at_once,
            next_look: at_once,
            refused: false,
        }
    }

    /// Returns the session, and why it is lost; `None`: the process is stopping.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> (LiveSession, Option<Loss>) {
        let loss = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                () = sleep_until(self.next_due()) => tokio::select! {
                    biased;
                    ticked = self.tick() => if let Err(loss) = ticked {
                        break Some(loss);
                    },
                    () = stopped_for(stop, DRAIN_TIMEOUT) => break None,
                },
                heard = self.session.connection.next() => if let Err(loss) = self.burst(heard).await {
                    break Some(loss);
                },
            }
        };
        self.drain();
        (self.session, loss)
    }

    fn next_due(&self) -> Instant {
        let heartbeat = match &self.nonce {
            Some(nonce) => nonce.due,
            None if self.opens_now() => Instant::now(),
            None => self.next_beat,
        };
        if self.holds_all() { heartbeat } else { heartbeat.min(self.next_try) }
    }

    fn holds_all(&self) -> bool {
        self.held.iter().all(|held| *held)
    }

    /// Flows wait for a nonce to open them. After a refusal the next one has its usual time: the
    /// server is not asked again and again.
    fn opens_now(&self) -> bool {
        !self.ready.is_empty() && !self.refused
    }

    /// Runs what is due. First the socket is emptied: what the server sends before it answers a
    /// statement lies in memory, and no budget bounds it.
    async fn tick(&mut self) -> Result<(), Loss> {
        let heartbeat = self.hub.options.heartbeat;
        let late = self.nonce.as_ref().is_some_and(|nonce| Instant::now() >= nonce.due);
        self.catch_up(if late { heartbeat } else { heartbeat / 5 }).await?;
        self.require_echo()?;
        if !self.holds_all() && Instant::now() >= self.next_try {
            self.next_try = Instant::now() + self.hub.options.lock_retry;
            self.try_locks().await?;
        }
        if self.nonce.is_none() && (self.opens_now() || Instant::now() >= self.next_beat) {
            self.send_heartbeat().await?;
        }
        Ok(())
    }

    /// Takes what the socket holds, until it is empty, for so long at most.
    async fn catch_up(&mut self, limit: Duration) -> Result<(), Loss> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let Some(heard) = self.session.connection.next_left() else { break };
            self.burst(heard).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Runs a statement that may run more than once. What the server sends before it answers lies in
    /// memory, and no budget bounds it: when it is too much, the statement is given up, and what has
    /// come goes into the queues first. A process that cannot keep up for two heartbeats takes all that
    /// comes: after three without a statement the server ends the session.
    async fn ask<T: Send>(
        &mut self,
        statement: impl for<'s> Fn(&'s mut LiveSession) -> BoxFuture<'s, Result<T, Loss>> + Send,
    ) -> Result<T, Loss> {
        let heartbeat = self.hub.options.heartbeat;
        let mut bytes = BEFORE_ANSWER_BYTES;
        loop {
            if self.answered_at.elapsed() >= heartbeat * 2 {
                bytes = usize::MAX;
            }
            let meter = self.session.connection.meter(bytes);
            tokio::select! {
                biased;
                answer = statement(&mut self.session) => {
                    self.answered_at = Instant::now();
                    return answer;
                }
                () = meter.exhausted() => {}
            }
            drop(meter);
            self.catch_up(heartbeat / 5).await?;
            bytes = bytes.saturating_mul(2).min(BEFORE_ANSWER_BYTES_MAX);
        }
    }

    /// The echo is late. This process may have slept: what the socket held was taken first.
    fn require_echo(&self) -> Result<(), Loss> {
        match &self.nonce {
            Some(nonce) if Instant::now() >= nonce.due => {
                Err(Loss::deaf("the LISTEN session no longer hears its own heartbeat"))
            }
            _ => Ok(()),
        }
    }

    async fn try_locks(&mut self) -> Result<(), Loss> {
        let wanted: Vec<usize> = (0..self.held.len()).filter(|place| !self.held[*place]).collect();
        let keys: Vec<LockKey> = wanted.iter().map(|place| self.hub.slots[*place].lock).collect();
        let answers = match self
            .ask(|session| {
                let keys = keys.clone();
                async move { session.try_locks(&keys).await }.boxed()
            })
            .await?
        {
            Ok(answers) => answers,
            Err(refused) => {
                self.warn_refused(&refused);
                return Ok(());
            }
        };
        let look = Instant::now() >= self.next_look;
        if look {
            self.next_look = Instant::now() + self.hub.options.heartbeat;
        }
        for (place, got) in wanted.into_iter().zip(answers) {
            if got {
                self.got_lock(place).await?;
            } else if look || !self.hub.slots[place].is_standby() {
                self.stand_by(place).await?;
            }
        }
        Ok(())
    }

    async fn got_lock(&mut self, place: usize) -> Result<(), Loss> {
        let slot = Arc::clone(&self.hub.slots[place]);
        self.held[place] = true;
        slot.set_owner(FlowOwner::Unknown);
        let channels = Arc::clone(&slot.channels);
        match self
            .ask(|session| {
                let channels = Arc::clone(&channels);
                async move { session.listen(&channels).await }.boxed()
            })
            .await?
        {
            Ok(()) => self.ready.push(place),
            // Without LISTEN the flow cannot open: begin anew with another session.
            Err(refused) => return Err(refused.into()),
        }
        Ok(())
    }

    async fn stand_by(&mut self, place: usize) -> Result<(), Loss> {
        let slot = Arc::clone(&self.hub.slots[place]);
        let previous = self.hub.previous.clone();
        let lock = slot.lock;
        let holder = self
            .ask(|session| {
                let previous = previous.clone();
                async move { session.holder(lock, previous.as_ref()).await }.boxed()
            })
            .await?;
        if holder.ours {
            return Ok(());
        }
        self.hub.next_gaps.taken(place, holder.pid);
        if slot.set_owner(FlowOwner::Other(Arc::clone(&holder.text))) {
            info!(flow = %slot.name, reason = %holder.text, "standby");
        }
        Ok(())
    }

    async fn send_heartbeat(&mut self) -> Result<(), Loss> {
        let flows: Vec<_> = (0..self.held.len())
            .filter(|place| self.hub.router.is_open(*place))
            .map(|place| &self.hub.slots[place])
            .filter_map(|slot| Some((Arc::clone(&slot.name), to_micros(slot.settled_until()?))))
            .collect();
        let heartbeat = self.hub.options.heartbeat;
        self.next_beat = Instant::now() + heartbeat;
        match self
            .ask(|session| {
                let flows = flows.clone();
                async move { session.send_heartbeat(&flows).await }.boxed()
            })
            .await?
        {
            Ok(answer) => {
                self.refused = false;
                self.hub.metrics.queue_usage.set(answer.usage);
                self.nonce = Some(Nonce {
                    number: answer.number,
                    sent: answer.sent,
                    due: Instant::now() + heartbeat,
                    opens: std::mem::take(&mut self.ready),
                });
            }
            Err(refused) => self.warn_refused(&refused),
        }
        Ok(())
    }

    fn warn_refused(&mut self, refused: &PostgresError) {
        if !std::mem::replace(&mut self.refused, true) {
            warn!(reason = %refused, "heartbeat or lock refused; still listening");
        }
    }

    /// Takes what is here, up to a limit, then lets others have their turn.
    async fn burst(&mut self, first: Result<PgNotification, PostgresError>) -> Result<(), Loss> {
        let mut next = Some(first);
        let mut taken = 0;
        let mut opens = None;
        while let Some(heard) = next {
            // The connection is read on meanwhile: each has its own time.
            let at = self.session.clock.now();
            opens = self.heard(&heard?, at);
            taken += 1;
            if opens.is_some() || taken == BURST_MESSAGES_MAX || self.is_large() {
                break;
            }
            next = self.session.connection.next_now();
        }
        let has_more = taken == BURST_MESSAGES_MAX || self.is_large();
        self.hub.router.flush(&self.hub.slots);
        if let Some(nonce) = opens {
            self.open(nonce).await?;
        } else if has_more {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// What was taken and is in no queue yet is to be put there.
    fn is_large(&self) -> bool {
        self.hub.router.pending_bytes() >= BURST_BYTES_MAX
    }

    /// One notification. Returns a nonce whose echo opens flows: nothing may be heard before they
    /// are open.
    fn heard(&mut self, heard: &PgNotification, at: SystemTime) -> Option<Nonce> {
        let (channel, payload) = (heard.channel(), heard.payload());
        if channel != HEARTBEAT_CHANNEL {
            let id = self.session.next_id();
            self.hub.router.heard(channel, payload, id, at);
            return None;
        }
        let heartbeat = Heartbeat::parse(payload)?;
        if heartbeat.session != self.session.id {
            self.hub.next_gaps.heard(&heartbeat, sender(heard), at);
            return None;
        }
        let ours = sender(heard) == self.session.backend.pid;
        let nonce = self.nonce.take_if(|nonce| ours && nonce.number == heartbeat.number)?;
        self.echoed(nonce.sent);
        (!nonce.opens.is_empty()).then_some(nonce)
    }

    /// Whatever was committed before `sent` has been heard.
    fn echoed(&mut self, sent: SystemTime) {
        self.hub.reconnect.succeeded();
        self.hub.router.flush(&self.hub.slots);
        for place in 0..self.held.len() {
            if self.hub.router.is_open(place) {
                self.hub.slots[place].echo(sent);
                self.hub.next_gaps.covered(place, sent);
            }
        }
    }

    async fn open(&mut self, nonce: Nonce) -> Result<(), Loss> {
        let to = self.read_clock().await?;
        for place in nonce.opens {
            let slot = Arc::clone(&self.hub.slots[place]);
            let (reason, from) = self.hub.next_gaps.open(place);
            // The server's clock went back, or that of a promoted one is behind: nobody knows where
            // the window begins by the clock that ends it.
            let from = from.filter(|from| *from < to);
            let gap = Gap {
                channels: Arc::clone(&slot.channels),
                from,
                to,
                reason,
                count: None,
                rejected: None,
            };
            info!(
                flow = %slot.name,
                reason = reason.as_str(),
                from = from.map_or_else(|| "unknown".to_owned(), |from| rfc3339(from).to_string()),
                to = %rfc3339(to),
                "flow started; gap reported"
            );
            let id = self.session.next_id().of_gap();
            slot.open(self.session.id, id, gap, nonce.sent);
            self.hub.next_gaps.covered(place, nonce.sent);
            self.hub.router.open(place);
        }
        self.next_beat = self.next_beat.min(Instant::now() + ANNOUNCE_AFTER);
        Ok(())
    }

    /// The server's clock, or what it is at most where the server sends too much before it answers. What
    /// is announced meanwhile waits in the connection, behind the gaps.
    async fn read_clock(&mut self) -> Result<SystemTime, Loss> {
        let meter = self.session.connection.meter(BEFORE_ANSWER_BYTES_MAX);
        let read = tokio::select! {
            biased;
            now = self.session.read_clock() => Some(now),
            () = meter.exhausted() => None,
        };
        read.unwrap_or_else(|| Ok(self.session.clock.now()))
    }

    /// The session is over, or the process is stopping: what has arrived is still delivered.
    fn drain(&mut self) {
        let until = Instant::now() + DRAIN_TIMEOUT;
        while let Some(Ok(heard)) = self.session.connection.next_left() {
            let at = self.session.clock.now();
            // A flow that is not open stays closed: the next gap covers it.
            let _ = self.heard(&heard, at);
            if self.is_large() {
                self.hub.router.flush(&self.hub.slots);
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.hub.router.flush(&self.hub.slots);
    }
}

/// A stop does not wait longer than this for the answer of a server that is cut off.
async fn stopped_for(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    sleep(time).await;
}
