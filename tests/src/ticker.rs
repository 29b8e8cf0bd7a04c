//! A producer that goes on until it is told to stop, and knows when each commit happened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pgherald_testkit::eventually;
use sqlx::{Connection, PgConnection};
use tokio::{sync::Mutex, task::JoinSet, time::sleep};

use crate::stage::SOON;

/// One announcement, alone in its transaction.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    /// As [`pgherald_testkit::Announcement::id_of`] reads it from the payload.
    pub(crate) id: String,
    /// It was committed after this time and before `answered`, if it was.
    pub(crate) sent: SystemTime,
    pub(crate) answered: SystemTime,
    /// The server said so; otherwise it is not known.
    pub(crate) committed: bool,
}

/// One connection that announces at a steady rate, one message a transaction: commit order is the
/// order of its ticks. A connection that is lost is opened again.
pub(crate) struct Ticker {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
    task: Mutex<JoinSet<Vec<Tick>>>,
}

impl Ticker {
    /// Announces on these channels, in turn, so many times a second.
    pub(crate) fn start(url: &str, channels: &[&str], rate: f64) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let ticking = Ticking {
            url: url.to_owned(),
            channels: channels.iter().map(|&channel| channel.to_owned()).collect(),
            every: Duration::from_secs_f64(1.0 / rate),
            stop: Arc::clone(&stop),
            committed: Arc::clone(&committed),
        };
        let mut task = JoinSet::new();
        task.spawn(ticking.run());
        Self { stop, committed, task: Mutex::new(task) }
    }

    /// Waits until so many more are committed.
    pub(crate) async fn more(&self, count: usize) {
        let wanted = self.committed.load(Ordering::SeqCst) + count;
        let reached = || async { self.committed.load(Ordering::SeqCst) >= wanted };
        eventually("announcements", SOON, reached).await.unwrap();
    }

    /// Everything that it announced.
    pub(crate) async fn stop(&self) -> Vec<Tick> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.task.lock().await.join_next().await;
        ended.expect("one task").expect("the ticker does not panic")
    }
}

struct Ticking {
    url: String,
    channels: Vec<String>,
    every: Duration,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
}

impl Ticking {
    /// Goes on until it is stopped and its last announcement is certain.
    async fn run(self) -> Vec<Tick> {
        let mut connection = self.connect().await;
        let mut ticks: Vec<Tick> = Vec::new();
        let mut due = Instant::now();
        while !self.stop.load(Ordering::SeqCst) || ticks.last().is_none_or(|it| !it.committed) {
            tokio::time::sleep_until(due.into()).await;
            due = (due + self.every).max(Instant::now() - self.every);
            let sent = SystemTime::now();
            let committed = self.announce(&mut connection, ticks.len(), sent).await;
            if !committed {
                connection = self.connect().await;
            }
            self.committed.fetch_add(usize::from(committed), Ordering::SeqCst);
            let id = format!("0-{}", ticks.len());
            ticks.push(Tick { id, sent, answered: SystemTime::now(), committed });
        }
        ticks
    }

    async fn announce(&self, connection: &mut PgConnection, n: usize, sent: SystemTime) -> bool {
        let sent_us = sent.duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let announcing = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(&self.channels[n % self.channels.len()])
            .bind(format!("{{\"writer\":0,\"n\":{n},\"sent_us\":{sent_us}}}"))
            .execute(connection);
        announcing.await.is_ok()
    }

    async fn connect(&self) -> PgConnection {
        loop {
            match PgConnection::connect(&self.url).await {
                Ok(connection) => return connection,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}
