//! The dedicated connection: one task, one session, notifications and gaps in order.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use pgherald_core::{Backoff, Gap, GapReason};
use pgherald_postgres::{Backend, PostgresError, PostgresSettings, identifier};
use sqlx::postgres::{PgNotification, PgRow};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    ListenError,
    config::refusal,
    heartbeat::{HEARTBEAT_CHANNEL, Heartbeat},
    session::{HeartbeatAnswer, LiveSession, Loss},
};

/// Notifications taken in one go, before the caller has its turn.
const BURST_MESSAGES_MAX: usize = 512;

/// How a [`Listener`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct ListenerOptions {
    /// How often the session proves that it still hears, while it is being read; the echo is due
    /// within the same time.
    pub heartbeat: Duration,
    /// How long to wait between connections.
    pub backoff: Backoff,
    /// How long [`query`](Listener::query), [`listen`](Listener::listen) and
    /// [`unlisten`](Listener::unlisten) may take, waiting for a connection included: on a link that
    /// swallows everything no answer ever comes. A session that does not answer in time is lost.
    pub answer_within: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            backoff: Backoff::default(),
            answer_within: Duration::from_secs(30),
        }
    }
}

/// What a [`Listener`] hears, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody announced something.
    Notification(Notification),
    /// The session was lost and there is a new one: what was announced in between is missing.
    Gap(Gap),
}

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Where it was announced.
    pub channel: Arc<str>,
    /// What was announced. Any role may announce anything: do not trust it.
    pub payload: String,
    /// The announcing server process.
    pub process_id: u32,
}

/// A dedicated LISTEN connection.
///
/// Use it where one consumer owns its session; several consumers share one with
/// [`Hub`](crate::Hub). Read it all the time: a session whose socket is not read holds back vacuum
/// and the notification queue of the whole cluster.
///
/// The session goes straight to the primary of a UTF8 database, never through a pooler in
/// transaction mode: connecting finds that out. The channel `pgherald` is its heartbeat's.
///
/// ```no_run
/// use std::time::Duration;
/// use pgherald_listener::{Heard, Listener, ListenerOptions, PostgresSettings};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = PostgresSettings::parse("postgres://app@localhost/app").map_err(|e| e.join("; "))?;
/// let mut listener = Listener::connect(settings, ListenerOptions::default()).await?;
/// listener.listen("orders").await?;
/// loop {
///     for heard in listener.batch(1000, Duration::from_millis(5)).await {
///         match heard {
///             Heard::Notification(order) => println!("{}: {}", order.channel, order.payload),
///             Heard::Gap(gap) => println!("read the table again: {:?} to {:?}", gap.from, gap.to),
///         }
///     }
///     listener.query("SELECT 1").await?; // nothing that arrives meanwhile is lost
/// }
/// # }
/// ```
///
/// Drop it inside the tokio runtime.
pub struct Listener {
    settings: PostgresSettings,
    options: ListenerOptions,
    state: ListenerState,
    channels: Vec<Arc<str>>,
    heard: VecDeque<Heard>,
    failures: u32,
    former: Option<Backend>,
    /// Where the next gap begins, and why.
    covered: SystemTime,
    reason: GapReason,
    /// Why nothing is heard now.
    trouble: Option<PostgresError>,
}

enum ListenerState {
    /// Connecting goes on where a cancelled call left it.
    Connecting(BoxFuture<'static, Result<Opened, PostgresError>>),
    Live(Box<Live>),
}

struct Live {
    session: LiveSession,
    /// The nonce that has not come back: its number, when it was sent, when it is due.
    nonce: Option<(u64, SystemTime)>,
    due: Instant,
    /// A heartbeat's statement is under way since then, maybe in a call that was cancelled.
    beating: Option<Instant>,
}

/// A session whose channels are in place, with the clock before and after the nonce came back.
struct Opened {
    session: LiveSession,
    sent: SystemTime,
    now: SystemTime,
}

impl Listener {
    /// Connects once.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, is a standby, is not UTF8, or a pooler in transaction
    /// mode stands in between.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection.
    pub async fn connect(
        settings: PostgresSettings,
        options: ListenerOptions,
    ) -> Result<Self, ListenError> {
        let opened = open(settings.clone(), options, Vec::new(), None, Duration::ZERO).await?;
        Ok(Self {
            settings,
            options,
            former: Some(opened.session.backend.clone()),
            covered: opened.sent,
            state: ListenerState::Live(Box::new(Live::new(opened.session, options.heartbeat))),
            channels: Vec::new(),
            heard: VecDeque::new(),
            failures: 0,
            reason: GapReason::Disconnect,
            trouble: None,
        })
    }

    /// Listens to one more channel: what is committed after this returns is heard. Waits for a
    /// connection when there is none.
    ///
    /// # Errors
    /// The name is empty, longer than 63 bytes, holds a NUL, or is the heartbeat's; or the server
    /// refused.
    ///
    /// # Cancellation
    /// The channel is not listened to; nothing is lost.
    pub async fn listen(&mut self, channel: &str) -> Result<(), ListenError> {
        if let Some(why) = refusal(channel).filter(|_| channel != "*") {
            return Err(ListenError::Channel(why));
        }
        let channel: Arc<str> = channel.into();
        self.query(&format!("LISTEN {}", identifier(&channel))).await?;
        if !self.channels.contains(&channel) {
            self.channels.push(channel);
        }
        Ok(())
    }

    /// Listens to a channel no longer: nothing of it is heard after the call, whether it succeeds,
    /// fails or is cancelled.
    ///
    /// # Errors
    /// The server refused.
    pub async fn unlisten(&mut self, channel: &str) -> Result<(), ListenError> {
        self.channels.retain(|known| &**known != channel);
        self.heard.retain(|heard| match heard {
            Heard::Notification(notification) => &*notification.channel != channel,
            Heard::Gap(_) => true,
        });
        self.query(&format!("UNLISTEN {}", identifier(channel))).await.map(drop)
    }

    /// Runs statements on the session and returns the rows, whose values are text. What is
    /// announced meanwhile waits in memory and is heard by the next batch: keep statements short.
    /// Open no transaction: it holds back vacuum, and nothing is heard before it ends.
    ///
    /// # Errors
    /// The server refused the statement; or the session was lost, or did not answer in time
    /// ([`ListenerOptions::answer_within`]), and then the statement may or may not have run.
    ///
    /// # Cancellation
    /// The statement may or may not run; nothing is lost.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<PgRow>, ListenError> {
        const DOING: &str = "run a statement on the LISTEN session";
        let limit = self.options.answer_within;
        let silent = || format!("cannot {DOING}: no answer within {} s", limit.as_secs_f32());
        let until = Instant::now() + limit;
        while !matches!(self.state, ListenerState::Live(_)) {
            let connecting = timeout_at(until, self.step()).await;
            connecting.map_err(|_| PostgresError::transient(silent()))?;
        }
        let ListenerState::Live(live) = &mut self.state else {
            return Err(PostgresError::transient("the LISTEN session is not connected").into());
        };
        match timeout_at(until, live.session.connection.query(sql)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error @ sqlx::Error::Database(_))) => Err(ListenError::Statement(error)),
            Ok(Err(error)) => {
                let fault = PostgresError::of(DOING, &error);
                self.lose(fault.clone().into());
                Err(fault.into())
            }
            Err(_) => {
                let loss = Loss::deaf(silent());
                let fault = loss.fault.clone();
                self.lose(loss);
                Err(fault.into())
            }
        }
    }

    /// Waits until something is heard, then for at most `delay` for more, and returns at most
    /// `max` (at least 1), in order. Reconnects by itself, with backoff, and then a gap stands
    /// where messages may be missing.
    ///
    /// # Cancellation
    /// Nothing is lost: what was heard comes with the next batch.
    pub async fn batch(&mut self, max: usize, delay: Duration) -> Vec<Heard> {
        while self.heard.is_empty() {
            self.step().await;
        }
        let max = max.max(1);
        let until = Instant::now() + delay;
        while self.heard.len() < max && timeout_at(until, self.step()).await.is_ok() {}
        self.heard.drain(..max.min(self.heard.len())).collect()
    }

    /// Why nothing is heard now; `None`: the session listens, as far as the latest
    /// [`batch`](Self::batch) found. Where it was lost, the gap comes once there is a new one.
    #[must_use]
    pub fn trouble(&self) -> Option<&PostgresError> {
        self.trouble.as_ref()
    }

    /// Something happens: connected, lost, heard or beaten.
    async fn step(&mut self) {
        let channels = &self.channels;
        match &mut self.state {
            ListenerState::Connecting(connecting) => {
                let opened = connecting.await;
                self.connected(opened);
            }
            ListenerState::Live(live) => {
                match live.step(channels, &mut self.heard, self.options.heartbeat).await {
                    Ok(Some(echoed)) => self.covered = echoed,
                    Ok(None) => {}
                    Err(loss) => self.lose(loss),
                }
            }
        }
    }

    fn connected(&mut self, opened: Result<Opened, PostgresError>) {
        let opened = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                tracing::debug!(reason = %fault, "cannot listen");
                self.trouble = Some(fault);
                return self.reconnect();
            }
        };
        let channels = self.channels.as_slice().into();
        let (to, reason) = (opened.now, self.reason);
        // Where the server's clock went back, nobody knows where the window begins by that clock.
        let from = Some(std::mem::replace(&mut self.covered, opened.sent)).filter(|it| *it < to);
        if !self.channels.is_empty() {
            let gap = Gap { channels, from, to, reason, count: None, rejected: None };
            self.gap(gap);
        }
        (self.failures, self.trouble) = (0, None);
        self.former = Some(opened.session.backend.clone());
        self.state =
            ListenerState::Live(Box::new(Live::new(opened.session, self.options.heartbeat)));
    }

    fn gap(&mut self, gap: Gap) {
        match self.heard.back_mut() {
            Some(Heard::Gap(last)) => {
                last.absorb(gap).expect("a listener makes no gap of reason rejected");
            }
            _ => self.heard.push_back(Heard::Gap(gap)),
        }
    }

    fn lose(&mut self, loss: Loss) {
        self.reason = loss.reason;
        self.trouble = Some(loss.fault);
        self.reconnect();
    }

    fn reconnect(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let wait = self.options.backoff.wait(self.failures, &mut rand::rng());
        let (settings, channels) = (self.settings.clone(), self.channels.clone());
        let opening = open(settings, self.options, channels, self.former.clone(), wait);
        self.state = ListenerState::Connecting(Box::pin(opening));
    }
}

impl Live {
    fn new(session: LiveSession, heartbeat: Duration) -> Self {
        Self { session, nonce: None, due: Instant::now() + heartbeat, beating: None }
    }

    /// Hears a burst, or sends a heartbeat. Returns the time of a nonce that came back.
    async fn step(
        &mut self,
        channels: &[Arc<str>],
        heard: &mut VecDeque<Heard>,
        heartbeat: Duration,
    ) -> Result<Option<SystemTime>, Loss> {
        if self.nonce.is_none() && Instant::now() >= self.due {
            return self.send_heartbeat(heartbeat).await.map(|()| None);
        }
        // A late echo counts as long as the socket holds it: the caller may have been away.
        tokio::select! {
            biased;
            first = self.session.connection.next() => Ok(self.burst(first?, channels, heard)?),
            () = sleep_until(self.due) => self.send_heartbeat(heartbeat).await.map(|()| None),
        }
    }

    fn burst(
        &mut self,
        first: PgNotification,
        channels: &[Arc<str>],
        heard: &mut VecDeque<Heard>,
    ) -> Result<Option<SystemTime>, PostgresError> {
        let mut echoed = self.take(&first, channels, heard);
        for _ in 1..BURST_MESSAGES_MAX {
            let Some(next) = self.session.connection.next_now() else { break };
            echoed = self.take(&next?, channels, heard).or(echoed);
        }
        Ok(echoed)
    }

    fn take(
        &mut self,
        notification: &PgNotification,
        channels: &[Arc<str>],
        heard: &mut VecDeque<Heard>,
    ) -> Option<SystemTime> {
        if notification.channel() == HEARTBEAT_CHANNEL {
            let heartbeat = Heartbeat::parse(notification.payload())?;
            let ours = |nonce: &mut (u64, SystemTime)| nonce.0 == heartbeat.number;
            return self
                .nonce
                .take_if(|nonce| heartbeat.session == self.session.id && ours(nonce))
                .map(|(_, sent)| sent);
        }
        // Of a LISTEN that was cancelled, or of an UNLISTEN under way.
        let channel = channels.iter().find(|channel| &***channel == notification.channel())?;
        heard.push_back(Heard::Notification(Notification {
            channel: Arc::clone(channel),
            payload: notification.payload().to_owned(),
            process_id: notification.process_id(),
        }));
        None
    }

    async fn send_heartbeat(&mut self, heartbeat: Duration) -> Result<(), Loss> {
        let late = self.beating.is_some_and(|since| since.elapsed() >= heartbeat);
        if self.nonce.is_some() || late {
            return Err(Loss::deaf("the LISTEN session no longer hears its own heartbeat"));
        }
        self.beating.get_or_insert_with(Instant::now);
        let answer = self.session.send_heartbeat(&[]).await?;
        self.beating = None;
        self.due = Instant::now() + heartbeat;
        self.nonce = answer.ok().map(|HeartbeatAnswer { number, sent, .. }| (number, sent));
        Ok(())
    }
}

/// Waits, connects, listens, and hears a nonce with everything in place.
async fn open(
    settings: PostgresSettings,
    options: ListenerOptions,
    channels: Vec<Arc<str>>,
    former: Option<Backend>,
    wait: Duration,
) -> Result<Opened, PostgresError> {
    sleep(wait).await;
    let limit = options.heartbeat;
    let (mut session, _) = LiveSession::establish(&settings, limit, former.as_ref()).await?;
    session.listen(&channels).await.map_err(|loss| loss.fault)??;
    let nonce = session.send_heartbeat(&[]).await.map_err(|loss| loss.fault)??;
    let id = session.id;
    let echoed = async {
        loop {
            let heard = session.connection.next().await?;
            let heartbeat = Heartbeat::parse(heard.payload());
            if heartbeat.is_some_and(|heartbeat| {
                heartbeat.session == id && heartbeat.number == nonce.number
            }) {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(limit, echoed).await.unwrap_or_else(|_| Err(PostgresError::pooler()))?;
    let now = session.read_clock().await.map_err(|loss| loss.fault)?;
    Ok(Opened { session, sent: nonce.sent, now })
}
