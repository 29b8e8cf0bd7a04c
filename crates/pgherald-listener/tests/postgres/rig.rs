//! Hubs, flows and announcers for the tests.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use pgherald_core::{
    Backoff, BatchLimits, Budget, Envelope, EventNames, FlowContext, Gap, GapReason, Message, Room,
    Settled, Source, SourceError,
};
use pgherald_listener::{Hub, HubOptions, KeyRule, NotifySettings, NotifySource};
use pgherald_postgres::{PostgresSettings, connect, literal, query};
use pgherald_testkit::{Postgres, eventually};
use sqlx::{PgConnection, Row};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const HEARTBEAT: Duration = Duration::from_millis(1_000);
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const BUDGET: Budget = Budget { messages: 10_000, bytes: 64 << 20 };

pub(crate) fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::parse(url).unwrap()
}

pub(crate) fn channels(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

pub(crate) fn context(sink: &str, names: &[&str], budget: Budget) -> FlowContext {
    FlowContext {
        pipeline: Arc::from("orders"),
        source: "notify",
        sink: Arc::from(sink),
        channels: Some(channels(names)),
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget,
        batch: BatchLimits { messages: 1_000, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1 << 20,
    }
}

/// One process: a hub and its flows.
pub(crate) struct Process {
    pub(crate) stop: CancellationToken,
    pub(crate) sources: Vec<NotifySource>,
    tasks: JoinSet<()>,
}

impl Process {
    /// A flow is (sink, channels, budget).
    pub(crate) fn start(url: &str, flows: &[(&str, &[&str], Budget)]) -> Self {
        Self::beating(HEARTBEAT, url, flows)
    }

    /// With another heartbeat: a busy machine misses one that is due within a second.
    pub(crate) fn beating(
        heartbeat: Duration,
        url: &str,
        flows: &[(&str, &[&str], Budget)],
    ) -> Self {
        let options = HubOptions {
            heartbeat,
            lock_retry: Duration::from_millis(200),
            backoff: Backoff::default(),
        };
        let mut hub = Hub::new(settings(url), options);
        let sources = flows
            .iter()
            .map(|(sink, names, budget)| {
                let notify = NotifySettings {
                    channels: channels(names),
                    key: KeyRule::None,
                    content_type: None,
                };
                hub.flow(&context(sink, names, *budget), &notify)
            })
            .collect();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(hub.run(stop.clone()));
        Self { stop, sources, tasks }
    }

    /// As SIGKILL would: the sockets close, nothing is said.
    pub(crate) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) async fn stopped(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Reads a flow as core would, with a sink that confirms everything at once.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    pub(crate) messages: Arc<Mutex<Vec<Message>>>,
    pub(crate) errors: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    pub(crate) fn payloads(&self) -> Vec<String> {
        let messages = self.messages.lock().unwrap();
        messages.iter().filter_map(payload).collect()
    }

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let messages = self.messages.lock().unwrap();
        messages.iter().filter_map(|message| message.gap().cloned()).collect()
    }

    pub(crate) fn reasons(&self) -> Vec<GapReason> {
        self.gaps().iter().map(|gap| gap.reason).collect()
    }

    pub(crate) async fn gap(&self, reason: GapReason) -> Gap {
        self.until(|heard| heard.reasons().contains(&reason)).await;
        self.gaps().into_iter().rev().find(|gap| gap.reason == reason).unwrap()
    }

    pub(crate) async fn payload(&self, payload: &str) {
        self.until(|heard| heard.payloads().iter().any(|known| known == payload)).await;
    }

    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let waited = eventually("the flow hears it", SOON, || async { condition(self) }).await;
        assert!(waited.is_ok(), "gaps {:?}, errors {:?}", self.gaps(), self.errors.lock().unwrap());
    }
}

pub(crate) fn payload(message: &Message) -> Option<String> {
    match &message.body {
        pgherald_core::Body::Payload(payload) => Some(String::from_utf8(payload.to_vec()).unwrap()),
        _ => None,
    }
}

/// Reads until the source has stopped.
pub(crate) fn carry(source: NotifySource, tasks: &mut JoinSet<()>) -> Heard {
    let heard = Heard::default();
    let into = heard.clone();
    tasks.spawn(async move {
        let settled = Settled::default();
        loop {
            match read_all(&source, &settled, &into).await {
                SourceError::Stopped => return,
                error => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let text = format!("{error}: {}", cause.unwrap_or_default());
                    into.errors.lock().unwrap().push(text);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    heard
}

async fn read_all(source: &NotifySource, settled: &Settled, into: &Heard) -> SourceError {
    let mut session = match source.attach().await {
        Ok(attached) => attached.read_from(None).await.unwrap(),
        Err(error) => return error,
    };
    let room = Room {
        messages: 1_000,
        bytes: 1 << 20,
        first_bytes: usize::MAX,
        budget: pgherald_core::Budget { messages: 1_000, bytes: 1 << 20 },
    };
    loop {
        match session.read(room, settled).await {
            Ok(batch) => {
                into.messages.lock().unwrap().extend(batch.messages);
                settled.advance(batch.end.expect("a source says where it stands"));
            }
            Err(error) => return error,
        }
    }
}

pub(crate) async fn connection(postgres: &Postgres) -> PgConnection {
    connect(&settings(&postgres.url())).await.unwrap()
}

pub(crate) async fn announce(connection: &mut PgConnection, channel: &str, payload: &str) {
    let sql = format!("SELECT pg_notify({}, {})", literal(channel), literal(payload));
    query(connection, &sql).await.unwrap();
}

/// The server's clock.
pub(crate) async fn now(connection: &mut PgConnection) -> SystemTime {
    let sql = format!("SELECT {}", pgherald_postgres::NOW_MICROS);
    let rows = query(connection, &sql).await.unwrap();
    pgherald_postgres::from_micros(rows[0].get(0))
}

/// Announces 0, 1, 2… every few milliseconds, with the server's time just after each commit.
pub(crate) struct Ticker {
    pub(crate) sent: Arc<Mutex<Vec<(u64, SystemTime, SystemTime)>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Ticker {
    pub(crate) fn start(url: String, channel: &'static str) -> Self {
        let sent = Arc::<Mutex<Vec<_>>>::default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (out, stopped) = (Arc::clone(&sent), stop.clone());
        tasks.spawn(async move {
            let settings = settings(&url);
            let mut n = 0;
            while !stopped.is_cancelled() {
                let Ok(mut connection) = connect(&settings).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                while !stopped.is_cancelled() {
                    n += 1;
                    let clock = pgherald_postgres::NOW_MICROS;
                    let sql = format!("SELECT {clock}, pg_notify('{channel}', '{n}')");
                    let Ok(rows) = query(&mut connection, &sql).await else { break };
                    let Ok(after) = query(&mut connection, &format!("SELECT {clock}")).await else {
                        break;
                    };
                    let at =
                        |row: &sqlx::postgres::PgRow| pgherald_postgres::from_micros(row.get(0));
                    out.lock().unwrap().push((n, at(&rows[0]), at(&after[0])));
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
        });
        Self { sent, stop, tasks }
    }

    pub(crate) async fn stop(mut self) -> Vec<(u64, SystemTime, SystemTime)> {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.sent.lock().unwrap().clone()
    }
}

/// What was heard is in order, once each, and what is missing lies inside the gaps.
pub(crate) fn verify(heard: &[u64], gaps: &[Gap], sent: &[(u64, SystemTime, SystemTime)]) {
    assert!(heard.is_sorted_by(|a, b| a < b), "doubled or reordered: {heard:?}");
    for (n, before, after) in sent {
        if heard.binary_search(n).is_ok() {
            continue;
        }
        // It was committed at some time between the two readings.
        let covered =
            gaps.iter().any(|gap| gap.from.is_none_or(|from| from <= *after) && gap.to >= *before);
        assert!(covered, "{n} was committed from {before:?} to {after:?}: in no gap of {gaps:#?}");
    }
}

pub(crate) fn numbers(heard: &Heard) -> Vec<u64> {
    heard.payloads().iter().filter_map(|payload| payload.parse().ok()).collect()
}
