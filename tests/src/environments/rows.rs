//! One connection that sends rows while an environment changes, and holds still when it is asked to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pgherald_testkit::eventually;
use sqlx::{Connection, PgConnection};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinSet,
    time::sleep,
};

use crate::stage::SOON;

const PAUSE: Duration = Duration::from_millis(5);
const SEND: &str = "SELECT pgherald.send('orders', $1::text, $2::text)";

/// Sends until it is stopped. A row that the database refuses is sent again.
pub(super) struct Rows {
    shared: Arc<Shared>,
    task: JoinSet<()>,
}

struct Shared {
    turn: Mutex<Turn>,
    sent: AtomicUsize,
    stop: AtomicBool,
}

/// Whoever holds it decides over the connection; it is held for each row.
pub(super) struct Turn {
    url: String,
    connection: Option<PgConnection>,
}

/// As [`pgherald_testkit::Announcement`] reads it; not all of it is ASCII.
fn payload(n: usize) -> String {
    format!("{{\"writer\":0,\"n\":{n},\"sent_us\":1,\"text\":\"Grüße €\"}}")
}

impl Turn {
    /// The next row comes through a new session.
    pub(super) async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Closed on both sides when this returns, or broken already.
            let _ = connection.close().await;
        }
    }

    /// The next row goes to another database.
    pub(super) async fn move_to(&mut self, url: String) {
        self.disconnect().await;
        self.url = url;
    }

    async fn send(&mut self, n: usize) -> bool {
        if self.connection.is_none() {
            self.connection = PgConnection::connect(&self.url).await.ok();
        }
        let Some(connection) = &mut self.connection else { return false };
        // Not prepared: the table may be another one the next time.
        let sending = sqlx::query(SEND).bind(payload(n)).bind(format!("k{}", n % 7));
        match sending.persistent(false).execute(connection).await {
            Ok(_) => true,
            Err(sqlx::Error::Database(_)) => false,
            Err(_) => {
                self.connection = None;
                false
            }
        }
    }
}

impl Rows {
    pub(super) fn start(url: String) -> Self {
        let turn = Mutex::new(Turn { url, connection: None });
        let (sent, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { turn, sent, stop });
        let mut task = JoinSet::new();
        task.spawn(send(Arc::clone(&shared)));
        Self { shared, task }
    }

    pub(super) fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Waits until so many more are committed.
    pub(super) async fn more(&self, count: usize) {
        let wanted = self.sent() + count;
        eventually("rows", SOON, || async { self.sent() >= wanted }).await.unwrap();
    }

    /// Nobody inserts while the guard lives.
    pub(super) async fn hold(&self) -> MutexGuard<'_, Turn> {
        self.shared.turn.lock().await
    }

    /// Sends no more.
    pub(super) async fn stop(mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.task.join_next().await.expect("one task").expect("it does not panic");
    }
}

async fn send(shared: Arc<Shared>) {
    let mut n = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let mut turn = shared.turn.lock().await;
        if turn.send(n).await {
            n += 1;
            shared.sent.store(n, Ordering::SeqCst);
        }
        drop(turn);
        sleep(PAUSE).await;
    }
}
