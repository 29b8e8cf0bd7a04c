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

#[derive(Default)]
struct Shared {
    /// Held for each row.
    turn: Mutex<()>,
    sent: AtomicUsize,
    stop: AtomicBool,
    again: AtomicBool,
}

/// As [`pgherald_testkit::Announcement`] reads it; not all of it is ASCII.
fn payload(n: usize) -> String {
    format!("{{\"writer\":0,\"n\":{n},\"sent_us\":1,\"text\":\"Grüße €\"}}")
}

impl Rows {
    pub(super) fn start(url: String) -> Self {
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        task.spawn(send(url, Arc::clone(&shared)));
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

    /// The next row comes through a new session.
    pub(super) fn connect_again(&self) {
        self.shared.again.store(true, Ordering::SeqCst);
    }

    /// Nobody inserts while the guard lives.
    pub(super) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.shared.turn.lock().await
    }

    /// Every payload's id, in commit order.
    pub(super) async fn stop(mut self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.task.join_next().await.expect("one task").expect("it does not panic");
        (0..self.sent()).map(|n| format!("0-{n}")).collect()
    }
}

async fn send(url: String, shared: Arc<Shared>) {
    let mut connection = PgConnection::connect(&url).await.expect("the server is there");
    let mut n = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let turn = shared.turn.lock().await;
        if shared.again.swap(false, Ordering::SeqCst) {
            connection = PgConnection::connect(&url).await.expect("the server is there");
        }
        // Not prepared: the table may be another one the next time.
        let sending = sqlx::query(SEND).bind(payload(n)).bind(format!("k{}", n % 7));
        if sending.persistent(false).execute(&mut connection).await.is_ok() {
            n += 1;
            shared.sent.store(n, Ordering::SeqCst);
        }
        drop(turn);
        sleep(PAUSE).await;
    }
}
