//! What these tests share: pipelines of one configuration, a load, and who carries what.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pgherald_testkit::{Bridge, Postgres, eventually};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::stage::SOON;

/// A configuration with outbox pipelines `p0`, `p1`, …; each takes the channel of its name, and
/// `sink` writes the rest of the table of its sink `out`.
pub(super) fn configuration(
    postgres: &Postgres,
    pipelines: usize,
    sink: impl Fn(usize) -> String,
) -> String {
    let mut text = format!("[postgres]\nurl = \"{}\"\n", postgres.url());
    for n in 0..pipelines {
        let _ = write!(
            text,
            "[pipelines.p{n}.source.outbox]\nchannels = [\"p{n}\"]\n\
             [pipelines.p{n}.sinks.out.{}\n",
            sink(n)
        );
    }
    text
}

/// One connection that sends one row a transaction, to one pipeline after the other.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    pipelines: usize,
    task: JoinSet<()>,
}

impl Load {
    pub(super) fn start(postgres: &Postgres, pipelines: usize, pause: Duration) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut task = JoinSet::new();
        let (url, flag, count) = (postgres.url(), Arc::clone(&stop), Arc::clone(&sent));
        task.spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            for n in 0.. {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                send(&mut connection, n % pipelines, n / pipelines).await;
                count.store(n + 1, Ordering::SeqCst);
                tokio::time::sleep(pause).await;
            }
        });
        Self { stop, sent, pipelines, task }
    }

    /// Waits until so many more are committed.
    pub(super) async fn more(&self, count: usize) {
        let wanted = self.sent.load(Ordering::SeqCst) + count;
        let reached = || async { self.sent.load(Ordering::SeqCst) >= wanted };
        eventually("rows", SOON, reached).await.unwrap();
    }

    /// Every payload's id, by pipeline, in commit order.
    pub(super) async fn stop(mut self) -> Vec<Vec<String>> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.join_next().await.expect("one task").expect("the sender does not panic");
        let sent = self.sent.load(Ordering::SeqCst);
        let of = |pipeline: usize| {
            let count = (pipeline..sent).step_by(self.pipelines).count();
            (0..count).map(|n| format!("{pipeline}-{n}")).collect()
        };
        (0..self.pipelines).map(of).collect()
    }
}

async fn send(connection: &mut PgConnection, pipeline: usize, n: usize) {
    let payload = format!("{{\"writer\":{pipeline},\"n\":{n},\"sent_us\":0}}");
    let sending = sqlx::query("SELECT pgherald.send($1, $2::text, $3::text)");
    let sending = sending.bind(format!("p{pipeline}")).bind(payload).bind(format!("k{}", n % 7));
    sending.execute(connection).await.unwrap();
}

/// The pipelines that a process carries: attached, whatever their sink does.
pub(super) async fn carried(bridge: &Bridge) -> BTreeSet<String> {
    let status = bridge.status().await.unwrap_or_default();
    let flows = status["flows"].as_array().cloned().unwrap_or_default();
    let here = flows.iter().filter(|flow| {
        flow["source"] == "outbox" && (flow["state"] == "running" || flow["state"] == "stalled")
    });
    here.filter_map(|flow| flow["pipeline"].as_str().map(str::to_owned)).collect()
}

/// Waits until the processes carry so many pipelines each; says how long that took.
pub(super) async fn until_carried(bridges: &[&Bridge], counts: &[usize]) -> Duration {
    let began = Instant::now();
    let there = || async {
        for (bridge, count) in bridges.iter().zip(counts) {
            if carried(bridge).await.len() != *count {
                return false;
            }
        }
        true
    };
    if let Err(late) = eventually(&format!("{counts:?} pipelines are carried"), SOON, there).await {
        let mut said = String::new();
        for bridge in bridges {
            let _ = writeln!(said, "{:?}\n{}", carried(bridge).await, bridge.explain().await);
        }
        panic!("{late}\n{said}");
    }
    began.elapsed()
}

/// No pipeline is carried twice, and none by nobody.
pub(super) async fn assert_apart(bridges: &[&Bridge], pipelines: usize) {
    let mut all = BTreeSet::new();
    let mut count = 0;
    for bridge in bridges {
        let carried = carried(bridge).await;
        count += carried.len();
        all.extend(carried);
    }
    assert_eq!((count, all.len()), (pipelines, pipelines), "{all:?}");
}

pub(super) async fn doubled(bridges: &[&Bridge]) -> f64 {
    let mut doubled = 0.0;
    for bridge in bridges {
        let metrics = bridge.metrics().await.unwrap();
        for n in 0..16 {
            let pipeline = format!("p{n}");
            let labels = [("pipeline", pipeline.as_str())];
            let value = metrics.value("pgherald_broker_duplicates_total", &labels);
            doubled += value.unwrap_or_default();
        }
    }
    doubled
}
