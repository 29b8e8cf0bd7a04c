//! Real servers, the bridge between them, and what can be done to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use pgherald_testkit::{
    Answer, Bridge, FaultProxy, HttpReceiver, Kafka, Nats, Postgres, eventually,
};
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use super::{CHANNEL, arrivals::Arrivals, producer::Truth, verdict::Order};
use crate::stage::{Config, SOON, nats, postgres};

const TOPIC: &str = "soak";
const STREAM: &str = "SOAK";
/// How long the last messages may take after the last fault.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// How the hook answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    /// 503
    Refusing,
    /// 429 with `Retry-After: 1`
    Busy,
    /// Not at all.
    Silent,
}

/// One pipeline into every kind of sink.
pub(super) struct Scene {
    pub(super) postgres: Postgres,
    pub(super) proxy: FaultProxy,
    pub(super) kafka: Kafka,
    pub(super) nats: Nats,
    hook: HttpReceiver,
    mood: Arc<AtomicU8>,
    pub(super) bridge: Bridge,
}

impl Scene {
    pub(super) async fn start() -> Self {
        let (postgres, nats) = (postgres().await, nats().await);
        let kafka = Kafka::start().await.unwrap();
        let proxy = FaultProxy::start(postgres.port()).await.unwrap();
        let hook = HttpReceiver::start().await.unwrap();
        hook.forget();
        let url = hook.url("/events");
        let config = Config::new(&postgres.url_at(proxy.port()), &[CHANNEL])
            .with("key = \"json:/key\"")
            .kafka("bus", &kafka, TOPIC, 1)
            .nats("live", &nats, STREAM, "soak")
            .with(&format!("[pipelines.p.sinks.hook.http]\nurl = \"{url}\"\ntimeout_ms = 2000"));
        let bridge = Bridge::start(config.text()).await.unwrap();
        bridge.wait_ready(SOON).await.unwrap();
        Self { postgres, proxy, kafka, nats, hook, mood: Arc::default(), bridge }
    }

    /// Readers of every sink, from its beginning.
    pub(super) async fn read(&self) -> Arrivals {
        let mut arrivals = Arrivals::default();
        arrivals.kafka("bus", self.kafka.bootstrap(), TOPIC);
        arrivals.jetstream("live", self.nats.url(), STREAM);
        let (log, mood) = (arrivals.sink("hook", Order::ByKey), Arc::clone(&self.mood));
        self.hook.answer(move |request| match Mood::of(mood.load(Ordering::SeqCst)) {
            Mood::Fine => {
                log.note(&request.body);
                Answer::Status(204)
            }
            Mood::Refusing => Answer::Status(503),
            Mood::Busy => Answer::With(429, "retry-after", "1".into()),
            Mood::Silent => Answer::Hang,
        });
        arrivals
    }

    pub(super) async fn hurt_hook(&self, mood: Mood, length: Duration) {
        self.mood.store(mood as u8, Ordering::SeqCst);
        sleep(length).await;
        self.mood.store(Mood::Fine as u8, Ordering::SeqCst);
    }

    /// The latest session may be dead and not know it yet: the next one is heard from its beginning.
    pub(super) async fn begin_a_session(&self) {
        self.proxy.refuse();
        self.proxy.reset();
        let not_ready = || async { self.bridge.readyz().await.is_ok_and(|it| it.status == 503) };
        eventually("/readyz says 503", SOON, not_ready).await.unwrap();
        self.proxy.heal();
        self.bridge.wait_ready(SOON).await.unwrap();
    }

    pub(super) async fn terminate_the_listener(&self) {
        let mut admin = PgConnection::connect(&self.postgres.url()).await.unwrap();
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            .execute(&mut admin)
            .await
            .unwrap();
    }

    /// Waits until every sink has the last message.
    pub(super) async fn settled(&self, arrivals: &Arrivals, truth: &Truth) {
        let last = truth.len() - 1;
        let all = || async { arrivals.without(last).is_empty() };
        if let Err(error) = eventually("every sink has everything", SETTLED_WITHIN, all).await {
            let without = arrivals.without(last);
            panic!("{error}: {without:?} lack number {last}: {}", self.bridge.explain().await);
        }
    }
}

impl Mood {
    fn of(number: u8) -> Self {
        let all = [Self::Fine, Self::Refusing, Self::Busy, Self::Silent];
        all[usize::from(number)]
    }
}
