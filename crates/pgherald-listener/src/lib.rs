//! LISTEN that loses nothing silently.
//!
//! PostgreSQL keeps no notification for a session that is not there. So the honest answer to every
//! disconnect is a *gap*: a window, with its edges in the database's clock, in which messages may
//! have been missed. This crate receives notifications and reports every such window, in its place
//! between them. There are two ways to use it:
//!
//! - [`Listener`], the **dedicated connection**: one task owns one session, listens, runs
//!   statements on it in between, and takes batches of [`Heard`].
//! - [`Hub`], the **shared connection**: one session for each database, always drained, feeds the
//!   bounded queue of each flow that takes a channel. Every listener costs the database (up to
//!   PostgreSQL 18 each NOTIFY wakes all of them), so whoever has several consumers shares one
//!   session.

mod beat;
mod check;
mod clock;
mod config;
mod error;
mod floors;
mod hub;
mod key;
mod listener;
mod memory;
mod metrics;
mod queue;
mod router;
mod session;
mod slot;
mod source;

pub use self::{
    beat::HEARTBEAT_CHANNEL,
    check::check,
    config::{CHANNEL_BYTES_MAX, NotifyConfig, NotifySettings, PAYLOAD_BYTES_MAX},
    error::ListenError,
    hub::{Hub, HubOptions},
    key::KeyRule,
    listener::{Heard, Listener, ListenerOptions, Notification},
    metrics::{QUEUE_USAGE, RECONNECTS, describe_metrics},
    source::NotifySource,
};
