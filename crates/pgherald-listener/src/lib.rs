//! LISTEN that loses nothing silently.
//!
//! PostgreSQL keeps no notification for a session that is not there. So the honest answer to every
//! disconnect is a *gap*: a window, with its edges in the database's clock, in which messages may
//! have been missed. This crate receives notifications and reports every such window, in its place
//! between them. [`Listener`] is one session of one task; [`Hub`] is what the bridge is built on.
//!
//! # One connection or two
//!
//! Many services read notifications from the connection that also runs their queries, and lose
//! some: clients throw away what arrives in the middle of a query, or hold it until the next one.
//! A `Listener` does neither, and so both patterns work:
//!
//! | | dedicated | shared |
//! |---|---|---|
//! | what runs on it | LISTEN and nothing else; queries have connections of their own | LISTEN, UNLISTEN and short queries in turn |
//! | use it when | a service listens for long; handling a message takes longer than a moment or needs a transaction | what a message triggers is one short statement; connections are scarce; a query must see what was announced before it |
//! | what it costs | one more session | while a query runs nothing is heard, and what arrives waits in memory |
//! | example | `examples/dedicated.rs` | `examples/shared.rs` |
//!
//! When in doubt take the **dedicated** connection: one task that does nothing but
//! [`batch`](Listener::batch) and hands over through a bounded queue. A socket that is not read
//! holds back vacuum and the notification queue of the whole cluster, and a session from which the
//! server hears nothing for three heartbeats is ended by it (that is a gap). So on the **shared**
//! one keep statements short, open no transaction, and come back to `batch` at once.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use pgherald_listener::{Listener, ListenerOptions, PostgresSettings, Row};
//! # async fn dedicated(settings: PostgresSettings) -> Result<(), Box<dyn std::error::Error>> {
//! # let (queue, mut work) = tokio::sync::mpsc::channel(100);
//! // Dedicated: this task only listens. Somebody else works through `work`.
//! let mut listener = Listener::connect(settings, ListenerOptions::default()).await?;
//! listener.listen("orders").await?;
//! loop {
//!     let batch = listener.batch(1_000, Duration::from_millis(5)).await;
//!     queue.try_send(batch)?; // bounded, and not awaited: the socket is always read
//! }
//! # }
//! # async fn shared(mut listener: Listener) -> Result<(), Box<dyn std::error::Error>> {
//! // Shared: the same session asks the database in between.
//! loop {
//!     for heard in listener.batch(1_000, Duration::from_millis(5)).await {
//!         let rows = listener.query("SELECT count(*) FROM orders").await?;
//!         println!("{heard:?}: now {} orders", rows[0].try_get::<i64, _>(0)?);
//!     }
//! }
//! # }
//! ```
//!
//! Several consumers in one process share one session whatever the pattern: every listener costs
//! the database (up to PostgreSQL 18 each NOTIFY wakes all of them).
//!
//! # What it promises
//!
//! - LISTEN, UNLISTEN, queries and receiving interleave in any order without loss.
//! - Every call may be cancelled; what was heard comes with the next [`batch`](Listener::batch).
//! - Batches by count and delay.
//! - It reconnects by itself and listens again; then a [`Gap`] stands where messages may be missing.
//!
//! `examples/callback.rs` forwards what is announced to an HTTP callback.

mod check;
mod clock;
mod config;
mod error;
mod heartbeat;
mod hub;
mod key;
mod listener;
mod metrics;
mod next_gaps;
mod queue;
mod router;
mod session;
mod slot;
mod source;
mod watermarks;

pub use pgherald_core::{Backoff, Gap, GapReason};
pub use pgherald_postgres::{PostgresSettings, connect, identifier, literal, query};
pub use sqlx::{Row, postgres::PgRow};

pub use self::{
    check::check,
    config::{CHANNEL_BYTES_MAX, NotifyConfig, NotifySettings, PAYLOAD_BYTES_MAX},
    error::ListenError,
    heartbeat::HEARTBEAT_CHANNEL,
    hub::{Hub, HubOptions},
    key::KeyRule,
    listener::{Heard, Listener, ListenerOptions, Notification},
    metrics::{QUEUE_USAGE, RECONNECTS, describe_metrics},
    source::NotifySource,
};

/// The example of the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
