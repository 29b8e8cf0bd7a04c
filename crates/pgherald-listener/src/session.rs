//! One LISTEN session that has proven to receive, and the statements it runs.

use std::{sync::Arc, time::Duration};

use pgherald_core::{GapReason, MessageId, clock};
use pgherald_postgres::{
    Backend, ListenConnection, LockKey, NOW_MICROS, PostgresError, PostgresSettings, ServerFacts,
    bounded, connect, end_backend, from_micros, holder, literal, once, pin_session, query,
    read_clock, try_locks,
};
use sqlx::{
    PgConnection, Row,
    postgres::{PgNotification, PgRow},
};
use tokio::time::{Instant, timeout};

use crate::{
    clock::DatabaseClock,
    heartbeat::{HEARTBEAT_CHANNEL, Heartbeat, payloads},
};

/// A LISTEN session is over: what happened, and what the gap is called.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) fault: PostgresError,
    pub(crate) reason: GapReason,
}

impl From<PostgresError> for Loss {
    fn from(fault: PostgresError) -> Self {
        Self { fault, reason: GapReason::Disconnect }
    }
}

impl Loss {
    /// The session does not answer.
    pub(crate) fn deaf(text: impl Into<String>) -> Self {
        Self { fault: PostgresError::transient(text), reason: GapReason::Deaf }
    }
}

/// What a heartbeat read.
pub(crate) struct HeartbeatAnswer {
    /// The server's clock just before the nonce was sent.
    pub(crate) sent: std::time::SystemTime,
    /// How full the notification queue is.
    pub(crate) usage: f64,
    /// The number of the nonce to wait for.
    pub(crate) number: u64,
}

/// A session that listens to the heartbeat's channel and heard a nonce from another connection
/// while it ran no statement: no pooler stands in between.
pub(crate) struct LiveSession {
    pub(crate) connection: ListenConnection,
    /// Random; the first part of every id.
    pub(crate) id: u64,
    pub(crate) backend: Backend,
    pub(crate) version: String,
    version_number: i32,
    pub(crate) clock: DatabaseClock,
    limit: Duration,
    /// Messages and gaps are numbered alike, so that no gap takes the number of another.
    entries: u64,
    nonces: u64,
}

impl LiveSession {
    /// Connects and proves the session; every step has the deadline `limit`. First ends our own
    /// `former` server process, which may still hold locks.
    pub(crate) async fn establish(
        settings: &PostgresSettings,
        limit: Duration,
        former: Option<&Backend>,
    ) -> Result<(Self, Vec<(Heartbeat, i32)>), PostgresError> {
        let mut second = connect(settings).await?;
        let reading = ServerFacts::read(&mut second);
        bounded("read the server's settings", limit, reading).await?.require_listen()?;
        if let Some(former) = former {
            let ending = end_backend(&mut second, former);
            bounded("end the former session", limit, ending).await?;
        }
        let mut session = Self::begin(settings, limit).await?;
        let heartbeats = session.prove(&mut second).await?;
        Ok((session, heartbeats))
    }

    async fn begin(settings: &PostgresSettings, limit: Duration) -> Result<Self, PostgresError> {
        let mut connection = ListenConnection::connect_metered(settings).await?;
        let doing = "begin the LISTEN session";
        let starting = async {
            let facts = ServerFacts::read(connection.connection().await?).await?;
            connection.listen([&Arc::from(HEARTBEAT_CHANNEL)]).await?;
            let asked = Instant::now();
            let now = read_clock(connection.connection().await?).await?;
            Ok((facts, DatabaseClock::new(now, asked)))
        };
        let (facts, clock) = bounded(doing, limit, starting).await?;
        Ok(Self {
            connection,
            id: rand::random(),
            backend: facts.backend,
            version: facts.version_text,
            version_number: facts.version,
            clock,
            limit,
            entries: 0,
            nonces: 0,
        })
    }

    /// A nonce from the second connection must arrive while this session runs no statement.
    /// Returns the heartbeats of others that were heard meanwhile, and who sent them.
    async fn prove(
        &mut self,
        second: &mut PgConnection,
    ) -> Result<Vec<(Heartbeat, i32)>, PostgresError> {
        let number = self.take_numbers(1);
        let nonce = heartbeat_statement(&payloads(self.id, number, &[]));
        let sending = once(second, &nonce);
        bounded("announce on the heartbeat channel", self.limit, sending).await?;
        let mut heartbeats = Vec::new();
        let id = self.id;
        let hearing = async {
            loop {
                let heard = self.connection.next().await?;
                match Heartbeat::parse(heard.payload()) {
                    Some(heartbeat) if heartbeat.session == id && heartbeat.number == number => {
                        return Ok(());
                    }
                    Some(heartbeat) => heartbeats.push((heartbeat, sender(&heard))),
                    None => {}
                }
            }
        };
        timeout(self.limit, hearing).await.unwrap_or_else(|_| Err(PostgresError::pooler()))?;
        self.settle_in().await?;
        Ok(heartbeats)
    }

    /// Sets what the session depends on, now that it is known to be ours.
    async fn settle_in(&mut self) -> Result<(), PostgresError> {
        let own = session_settings(self.version_number, self.limit);
        let setting = async {
            let connection = self.connection.connection().await?;
            pin_session(connection).await?;
            query(connection, &own).await
        };
        bounded("begin the LISTEN session", self.limit, setting).await.map(drop)
    }

    /// The id of the next message or gap: `<session>-<n>`.
    pub(crate) fn next_id(&mut self) -> MessageId {
        let n = self.entries;
        self.entries += 1;
        MessageId::new(format_args!("{:016x}-{n}", self.id))
    }

    fn take_numbers(&mut self, count: u64) -> u64 {
        self.nonces += count;
        self.nonces - count
    }

    /// Sends a heartbeat. `Ok(Err)`: the server refused and the session goes on.
    pub(crate) async fn send_heartbeat(
        &mut self,
        flows: &[(Arc<str>, i64)],
    ) -> Result<Result<HeartbeatAnswer, PostgresError>, Loss> {
        let payloads = payloads(self.id, self.nonces, flows);
        let first = self.take_numbers(payloads.len() as u64);
        let number = first + payloads.len() as u64 - 1;
        let asked = Instant::now();
        let answer = self.statement("send a heartbeat", &heartbeat_statement(&payloads)).await?;
        let row = match answer.map(|rows| rows.into_iter().next()) {
            Ok(Some(row)) => row,
            Ok(None) => return Err(Loss::deaf("the heartbeat's statement returned nothing")),
            Err(refused) => return Ok(Err(refused)),
        };
        let read = |error: sqlx::Error| PostgresError::of("read the heartbeat's answer", &error);
        let sent = from_micros(row.try_get(0).map_err(read)?);
        let usage = row.try_get(1).map_err(read)?;
        self.clock.set(sent, asked);
        clock().measured(sent, asked.into_std());
        Ok(Ok(HeartbeatAnswer { sent, usage, number }))
    }

    /// The server's clock.
    pub(crate) async fn read_clock(&mut self) -> Result<std::time::SystemTime, Loss> {
        let asked = Instant::now();
        let connection = self.connection.connection().await;
        let reading = async { read_clock(connection?).await };
        match timeout(self.limit, reading).await {
            Ok(Ok(now)) => {
                self.clock.set(now, asked);
                Ok(now)
            }
            Ok(Err(error)) => Err(PostgresError::of("read the server's clock", &error).into()),
            Err(_) => Err(silent("read the server's clock", self.limit)),
        }
    }

    /// Tries these locks once. `Ok(Err)`: the server refused and the session goes on.
    pub(crate) async fn try_locks(
        &mut self,
        keys: &[LockKey],
    ) -> Result<Result<Vec<bool>, PostgresError>, Loss> {
        let limit = self.limit;
        let trying = async { try_locks(self.connection.connection().await?, keys).await };
        sort_out("try the flows' locks", limit, timeout(limit, trying).await)
    }

    /// Who holds that lock, in words, and whether it is that former process of ours.
    pub(crate) async fn holder(
        &mut self,
        key: LockKey,
        former: Option<&Backend>,
    ) -> Result<LockHolder, Loss> {
        let limit = self.limit;
        let asking = async { holder(self.connection.connection().await?, key).await };
        let found = sort_out("find the lock's holder", limit, timeout(limit, asking).await)?;
        Ok(match found {
            Ok(Some(holder)) => LockHolder {
                text: format!("the flow's lock is held by {holder}").into(),
                pid: Some(holder.pid),
                ours: former.is_some_and(|former| former.pid == holder.pid),
            },
            Ok(None) | Err(_) => LockHolder {
                text: "the flow's lock was held a moment ago".into(),
                pid: None,
                ours: false,
            },
        })
    }

    /// Listens to these channels.
    pub(crate) async fn listen(
        &mut self,
        channels: &[Arc<str>],
    ) -> Result<Result<(), PostgresError>, Loss> {
        let listening = timeout(self.limit, self.connection.listen(channels)).await;
        sort_out("listen to the channels", self.limit, listening)
    }

    async fn statement(
        &mut self,
        doing: &str,
        sql: &str,
    ) -> Result<Result<Vec<PgRow>, PostgresError>, Loss> {
        let running = timeout(self.limit, self.connection.query(sql)).await;
        sort_out(doing, self.limit, running)
    }
}

/// The server process that announced it. The protocol's number is that of `pg_backend_pid()`.
pub(crate) fn sender(heard: &PgNotification) -> i32 {
    heard.process_id().cast_signed()
}

/// The session that holds a flow's lock.
pub(crate) struct LockHolder {
    /// Names it to an operator.
    pub(crate) text: Arc<str>,
    /// Its server process; `None`: it is gone already.
    pub(crate) pid: Option<i32>,
    /// It is a session of this process that is about to end.
    pub(crate) ours: bool,
}

/// A statement's answer: the server's refusal does not end the session, anything else does.
fn sort_out<T>(
    doing: &str,
    limit: Duration,
    answer: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
) -> Result<Result<T, PostgresError>, Loss> {
    match answer {
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(error @ sqlx::Error::Database(_))) => Ok(Err(PostgresError::of(doing, &error))),
        Ok(Err(error)) => Err(PostgresError::of(doing, &error).into()),
        Err(_) => Err(silent(doing, limit)),
    }
}

fn silent(doing: &str, limit: Duration) -> Loss {
    Loss::deaf(format!("cannot {doing}: no answer within {} s", limit.as_secs_f32()))
}

/// Reads the clock, then the queue's usage (which also frees a queue that was full), then
/// announces: in that order.
fn heartbeat_statement(payloads: &[String]) -> String {
    let mut sql = format!("SELECT {NOW_MICROS}, pg_notification_queue_usage()::float8");
    for payload in payloads {
        sql += &format!(", pg_notify({}, {})", literal(HEARTBEAT_CHANNEL), literal(payload));
    }
    sql
}

/// A session that the network or a stopped process cut off must end by itself, since it holds
/// locks: after three heartbeats without a statement, or two without the peer taking data.
fn session_settings(version: i32, heartbeat: Duration) -> String {
    let ms = heartbeat.as_millis();
    let seconds = heartbeat.as_secs().max(1);
    let mut sql = format!(
        "SET tcp_user_timeout = {}; SET tcp_keepalives_idle = {seconds}; \
         SET tcp_keepalives_interval = {seconds}; SET tcp_keepalives_count = 2;",
        ms * 2
    );
    if version >= 140_000 {
        sql += &format!("SET idle_session_timeout = {};", ms * 3);
    }
    sql
}
