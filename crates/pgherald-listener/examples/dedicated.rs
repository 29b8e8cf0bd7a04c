//! A dedicated connection: one that only listens, beside another one for the work.
//!
//! ```sh
//! DATABASE_URL=postgres://postgres@localhost/postgres cargo run --example dedicated -- orders
//! ```
//!
//! However long the work takes, and whatever transactions it opens, the listening connection is
//! read: batches wait in a bounded queue, and a full one says so.

use std::time::Duration;

use pgherald_listener::{
    Heard, Listener, ListenerOptions, Notification, PostgresSettings, connect, literal, query,
};
use tokio::sync::mpsc;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let settings = PostgresSettings::parse(&std::env::var("DATABASE_URL")?);
    let settings = settings.map_err(|problems| problems.join("; "))?;
    let channel = std::env::args().nth(1).unwrap_or_else(|| "orders".to_owned());
    let mut listener = Listener::connect(settings.clone(), ListenerOptions::default()).await?;
    listener.listen(&channel).await?;
    println!("listening to {channel}");
    let (queue, batches) = mpsc::channel(100);
    tokio::select! {
        ended = listen(listener, queue) => ended,
        ended = work(settings, batches) => ended,
    }
}

/// Does nothing but listen, so that the socket is always read.
async fn listen(mut listener: Listener, queue: mpsc::Sender<Vec<Heard>>) -> Result<(), BoxError> {
    loop {
        let batch = listener.batch(1_000, Duration::from_millis(5)).await;
        if let Err(error) = queue.try_send(batch) {
            return Err(format!("the work does not keep up: {error}").into());
        }
    }
}

/// Works through the batches on a connection of its own.
async fn work(
    settings: PostgresSettings,
    mut batches: mpsc::Receiver<Vec<Heard>>,
) -> Result<(), BoxError> {
    let mut connection = connect(&settings).await?;
    while let Some(batch) = batches.recv().await {
        for heard in batch {
            match heard {
                Heard::Notification(Notification { channel, payload, .. }) => {
                    // Any role may announce anything: what was announced is data, never SQL.
                    let sql = format!("SELECT pg_sleep(0.01), {}", literal(&payload));
                    query(&mut connection, &sql).await?;
                    println!("{channel}: worked on {payload}");
                }
                Heard::Gap(gap) => println!(
                    "{}: read the table again, some may be missing: {}",
                    gap.channels.join(", "),
                    String::from_utf8_lossy(&gap.to_json())
                ),
            }
        }
    }
    Ok(())
}
