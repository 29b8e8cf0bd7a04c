//! One connection that listens and runs queries in turn. Nothing is lost, whatever arrives in the
//! middle of a query, and also where a call is cancelled.
//!
//! ```sh
//! DATABASE_URL=postgres://postgres@localhost/postgres cargo run --example shared
//! ```
//!
//! It announces a thousand messages to itself, a few with each query, and counts what it hears.

use std::time::Duration;

use pgherald_listener::{Heard, Listener, ListenerOptions, PostgresSettings, Row};

const QUERIES: u32 = 100;
const EACH: u32 = 10;
const DELAY: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let settings = PostgresSettings::parse(&std::env::var("DATABASE_URL")?);
    let settings = settings.map_err(|problems| problems.join("; "))?;
    let mut listener = Listener::connect(settings, ListenerOptions::default()).await?;
    listener.listen("shared").await?;
    let mut heard = Vec::new();
    for first in (0..QUERIES * EACH).step_by(EACH as usize) {
        // Announced while the session runs a query: the batch behind it has them.
        let last = first + EACH - 1;
        let sql = format!(
            "SELECT pg_notify('shared', n::text) FROM generate_series({first}, {last}) n; \
             SELECT count(*)::int FROM pg_stat_activity"
        );
        let rows = listener.query(&sql).await?;
        let sessions: i32 = rows.last().ok_or("no answer")?.try_get(0)?;
        // Channels come and go between queries, and a call may be given up in the middle.
        listener.listen("other").await?;
        listener.unlisten("other").await?;
        tokio::select! {
            biased;
            _ = listener.query("SELECT pg_sleep(0.01)") => {}
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        if first.is_multiple_of(EACH * 10) {
            let batch = listener.batch(1_000, DELAY).await;
            println!("{} sessions; heard {} in one batch", sessions, batch.len());
            heard.extend(batch);
        }
    }
    while heard.len() < (QUERIES * EACH) as usize {
        heard.extend(listener.batch(1_000, DELAY).await);
    }
    let payload = |heard: &Heard| match heard {
        Heard::Notification(notification) => notification.payload.parse().ok(),
        Heard::Gap(_) => None,
    };
    let numbers: Vec<Option<u32>> = heard.iter().map(payload).collect();
    let in_order = numbers.iter().copied().eq((0..QUERIES * EACH).map(Some));
    println!("announced {}, heard {}, in order: {in_order}", QUERIES * EACH, heard.len());
    Ok(())
}
