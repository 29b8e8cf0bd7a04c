//! A server with the schema, flows, and a reader that does what core does.

use std::{sync::Arc, time::Duration};

use pgherald_core::{
    Batch, BatchLimits, Body, Budget, Checkpoint, Envelope, EventNames, FlowContext, Message, Room,
    Session, Settled, Source, SourceError,
};
use pgherald_outbox::{Outbox, OutboxConfig, OutboxSettings, OutboxSource};
use pgherald_postgres::{Assignment, PostgresSettings, SetupOptions, connect, query, setup};
use pgherald_testkit::{Postgres, eventually};
use sqlx::{PgConnection, Row, postgres::PgRow};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const ROOM: Room = Room {
    messages: 1_000,
    bytes: 1 << 20,
    first_bytes: usize::MAX,
    budget: pgherald_core::Budget { messages: 1_000, bytes: 1 << 20 },
};

pub(crate) async fn server() -> Postgres {
    let postgres = Postgres::start().await.unwrap();
    install(&postgres).await;
    postgres
}

pub(crate) async fn install(postgres: &Postgres) {
    let options = SetupOptions::default();
    setup(&settings(&postgres.url()), &options, &mut |_| ()).await.unwrap();
}

pub(crate) fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::parse(url).unwrap()
}

pub(crate) fn outbox_settings(json: &str) -> OutboxSettings {
    let config: OutboxConfig = serde_json::from_str(json).unwrap();
    config.resolve("outbox", &mut pgherald_core::Problems::default()).unwrap()
}

pub(crate) fn context(sink: &str, channels: Option<&[&str]>) -> FlowContext {
    FlowContext {
        pipeline: "billing".into(),
        source: "outbox",
        sink: sink.into(),
        channels: channels.map(|names| names.iter().map(|name| Arc::from(*name)).collect()),
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 10_000, bytes: 64 << 20 },
        batch: BatchLimits { messages: 1_000, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1_000,
    }
}

/// One process with flows `(sink, channels)` of the default outbox.
pub(crate) struct Process {
    pub(crate) sources: Vec<OutboxSource>,
    pub(crate) stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Process {
    pub(crate) fn start(url: &str, json: &str, flows: &[(&str, Option<&[&str]>)]) -> Self {
        Self::with_patience(url, json, flows, Duration::from_secs(60))
    }

    /// The keeper may do nothing for so long.
    pub(crate) fn with_patience(
        url: &str,
        json: &str,
        flows: &[(&str, Option<&[&str]>)],
        patience: Duration,
    ) -> Self {
        let contexts: Vec<_> = flows.iter().map(|(sink, names)| context(sink, *names)).collect();
        Self::of(url, json, &contexts, patience)
    }

    pub(crate) fn of(url: &str, json: &str, contexts: &[FlowContext], patience: Duration) -> Self {
        let (stop, wanted) = (CancellationToken::new(), outbox_settings(json));
        let mut outbox =
            Outbox::new(settings(url), wanted.table.clone(), stop.clone()).with_patience(patience);
        let sources = contexts
            .iter()
            .map(|context| outbox.flow(context, &wanted, Assignment::alone("billing")))
            .collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(outbox.run());
        Self { sources, stop, _tasks: tasks }
    }

    pub(crate) fn one(url: &str, json: &str) -> Self {
        Self::start(url, json, &[("bus", None)])
    }

    pub(crate) async fn session(&self, place: usize) -> Reading {
        Reading::attach(&self.sources[place]).await.unwrap()
    }
}

/// A session, and what core would know of it.
pub(crate) struct Reading {
    session: Box<dyn Session>,
    pub(crate) settled: Settled,
}

impl Reading {
    pub(crate) async fn attach(source: &OutboxSource) -> Result<Self, SourceError> {
        let attached = source.attach().await?;
        let session = attached.read_from(None).await?;
        Ok(Self { session, settled: Settled::default() })
    }

    pub(crate) async fn read(&mut self, room: Room) -> Result<Batch, SourceError> {
        timeout(SOON, self.session.read(room, &self.settled)).await.expect("a batch comes soon")
    }

    /// For as long as it takes.
    pub(crate) async fn read_on(&mut self, room: Room) -> Result<Batch, SourceError> {
        self.session.read(room, &self.settled).await
    }

    /// Reads until `count` messages are there, and settles them all.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            let batch = self.read(ROOM).await.unwrap();
            self.settled.advance(batch.end.unwrap());
            messages.extend(batch.messages);
        }
        assert_eq!(messages.len(), count, "{messages:?}");
        messages
    }

    /// Does something while the session waits for messages; none may come. A read that is dropped
    /// ends its session, so this is the last that it does.
    pub(crate) async fn idle_during<T>(mut self, work: impl Future<Output = T>) -> T {
        let waiting = async {
            loop {
                let batch = self.session.read(ROOM, &self.settled).await.unwrap();
                assert!(batch.messages.is_empty(), "{:?}", batch.messages);
                self.settled.advance(batch.end.unwrap());
            }
        };
        tokio::select! {
            () = waiting => unreachable!("it waits for ever"),
            done = work => done,
        }
    }

    /// Keeps the session, as core does while it has no room, until something else happens.
    pub(crate) async fn tend_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            error = self.session.tend(&self.settled) => panic!("{error:?}"),
            done = work => done,
        }
    }

    pub(crate) async fn ack(&mut self, through: &Checkpoint) {
        self.try_ack(through).await.unwrap();
    }

    pub(crate) async fn try_ack(&mut self, through: &Checkpoint) -> Result<(), SourceError> {
        self.session.ack(through).await
    }
}

/// Attaches as soon as the lock is free.
pub(crate) async fn attach_soon(source: &OutboxSource) -> Reading {
    let attaching = async {
        loop {
            match Reading::attach(source).await {
                Ok(reading) => return reading,
                Err(SourceError::Standby(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    timeout(SOON, attaching).await.expect("the lock is free soon")
}

/// An error and its causes.
pub(crate) fn said(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

pub(crate) fn texts(messages: &[Message]) -> Vec<String> {
    let text = |message: &Message| match &message.body {
        Body::Payload(payload) => String::from_utf8(payload.to_vec()).unwrap(),
        other => format!("{other:?}"),
    };
    messages.iter().map(text).collect()
}

pub(crate) struct Db(PgConnection);

impl Db {
    pub(crate) async fn open(postgres: &Postgres) -> Self {
        Self::at(&postgres.url()).await
    }

    pub(crate) async fn at(url: &str) -> Self {
        Self(connect(&settings(url)).await.unwrap())
    }

    pub(crate) async fn run(&mut self, sql: &str) -> Vec<PgRow> {
        query(&mut self.0, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Under a running flow. PostgreSQL may find a deadlock with it, and end this statement; whoever
    /// types it tries again.
    pub(crate) async fn drop_schema(&mut self) {
        while let Err(error) = query(&mut self.0, "DROP SCHEMA pgherald CASCADE").await {
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("40P01"), "{error}");
        }
    }

    pub(crate) async fn number(&mut self, sql: &str) -> i64 {
        self.run(sql).await[0].try_get(0).unwrap()
    }

    pub(crate) async fn text(&mut self, sql: &str) -> String {
        self.run(sql).await[0].try_get(0).unwrap()
    }

    /// Sends texts, one a transaction.
    pub(crate) async fn send(&mut self, channel: &str, texts: &[&str]) {
        for text in texts {
            self.run(&format!("SELECT pgherald.send('{channel}', '{text}'::text)")).await;
        }
    }

    pub(crate) async fn cursor(&mut self) -> String {
        self.text("SELECT high || ' ' || missing FROM pgherald.cursor WHERE sink = 'bus'").await
    }

    pub(crate) async fn until_cursor(&mut self, wanted: &str) {
        let db = tokio::sync::Mutex::new(self);
        let reached = || async { db.lock().await.cursor().await == wanted };
        eventually(&format!("the cursor at {wanted}"), SOON, reached).await.unwrap();
    }
}
