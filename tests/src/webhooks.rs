//! Webhooks: the binary between a real PostgreSQL and a receiver that records everything.

mod blocked;
mod envelopes;
mod faults;
mod history;
mod order;
mod rejected;

use std::ops::Range;

use pgherald_testkit::{Answer, Bridge, HttpReceiver, Postgres, Received, eventually};
use sqlx::{Connection, PgConnection};

use self::history::History;
use crate::stage::{Config, SOON, full_length, postgres};

/// Enough that most requests have another key than their neighbours.
const KEYS: usize = 500;

/// A budget that holds all messages of a test: announcing is faster than any receiver.
const ROOMY: &str = "[pipelines.p.sinks.hook]\nbudget_messages_max = 30000\n";

/// How many messages a test announces.
fn messages(short: usize) -> usize {
    if full_length() { 20_000 } else { short }
}

/// A pipeline `p` with the key in its payload, and a sink `hook` at `/events`.
struct Scene {
    postgres: Postgres,
    hook: HttpReceiver,
    bridge: Bridge,
}

impl Scene {
    /// `more`: further lines of the sink's `http` table, and tables behind it.
    async fn start(
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
        more: &str,
    ) -> Self {
        Self::start_with(postgres().await, script, more).await
    }

    /// The same on this server.
    async fn start_with(
        postgres: Postgres,
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
        more: &str,
    ) -> Self {
        let hook = HttpReceiver::start().await.unwrap();
        hook.answer(script);
        let config = Config::new(&postgres.url(), &["orders"]).with("key = \"json:/key\"");
        let table = format!("[pipelines.p.sinks.hook.http]\nurl = \"{}\"", hook.url("/events"));
        let bridge = Bridge::start(config.with(&table).with(more).text()).await.unwrap();
        let scene = Self { postgres, hook, bridge };
        let heard = "one source is attached, and heard from now on";
        scene.metric_reaches(heard, "pgherald_gaps_total", 1.0).await;
        scene
    }

    /// Announces messages with these numbers, in order, a hundred a transaction.
    async fn announce(&self, numbers: Range<usize>) {
        announce(&self.postgres, numbers).await;
    }

    /// Waits until every message of `count` was confirmed, and returns what happened.
    async fn history(&self, count: usize) -> History {
        let all = |received: &[Received]| History::new(received).confirmed().len() >= count;
        match self.hook.until(2 * SOON, all).await {
            Ok(received) => History::new(&received),
            Err(error) => panic!("{error}\n{}", self.bridge.explain().await),
        }
    }

    async fn metric(&self, name: &str) -> f64 {
        let metrics = self.bridge.metrics().await.expect("metrics");
        metrics.value(name, &[("sink", "hook")]).unwrap_or_default()
    }

    async fn metric_reaches(&self, what: &str, name: &str, least: f64) {
        let reached = || async {
            let metrics = self.bridge.metrics().await;
            metrics.is_ok_and(|it| it.value(name, &[("sink", "hook")]) >= Some(least))
        };
        if let Err(error) = eventually(what, SOON, reached).await {
            panic!("{error}\n{}", self.bridge.explain().await);
        }
    }

    /// Waits until `/readyz` is 503 with all of these words.
    async fn tells(&self, words: &[&str]) {
        let told = || async {
            let ready = self.bridge.readyz().await;
            ready
                .is_ok_and(|it| it.status == 503 && words.iter().all(|word| it.body.contains(word)))
        };
        if let Err(error) = eventually(&format!("/readyz says {words:?}"), SOON, told).await {
            panic!("{error}\n{}", self.bridge.explain().await);
        }
    }

    /// Everything is well in the end, and the process ends with that.
    async fn ends_well(&self) {
        if let Err(error) = self.bridge.wait_ready(SOON).await {
            panic!("{error}");
        }
        assert_eq!(self.bridge.terminate(SOON).await.unwrap(), Some(0), "{}", self.bridge.log());
    }
}

async fn announce(postgres: &Postgres, numbers: Range<usize>) {
    const NOTIFY: &str = "SELECT pg_notify('orders', json_build_object('key', 'k' || n * 7 % $1, \
                          'n', n)::text) FROM generate_series($2, $3) AS n";
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    for from in numbers.clone().step_by(100) {
        let to = (from + 100).min(numbers.end) - 1;
        let notify = sqlx::query(NOTIFY).bind(KEYS as i32).bind(from as i32).bind(to as i32);
        notify.execute(&mut connection).await.unwrap();
    }
}
