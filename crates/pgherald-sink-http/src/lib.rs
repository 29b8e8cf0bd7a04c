//! The HTTP sink: one request a message, equal keys in order, keys side by side, signed as Standard
//! Webhooks.
//!
//! An [`HttpSink`] opens writers. A writer hands messages to one task of its own, which owns the
//! connections:
//!
//! ```text
//! publish ──▶ composer (is it legal?) ──▶ schedule ──requests──▶ client, at most `concurrency` at once
//!                                            ▲                     └── answers settle their jobs
//!                                            └── a key is free again, a refused batch comes back
//! ```
//!
//! Two requests with messages of one key are never under way at once, and nothing overtakes a gap.
//! The first answer that is neither 2xx nor a refusal of its own message ends the writer: core
//! waits and publishes again what is open.

mod access;
mod check;
mod client;
mod clock;
mod composer;
mod config;
mod delivery;
mod error;
mod exchange;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod jobs;
mod patience;
mod schedule;
mod settings;
mod sign;
mod sink;
mod target;
mod tls;

pub use self::{
    check::check,
    clock::DatabaseOffset,
    config::{Address, HttpConfig, TlsConfig},
    settings::HttpSettings,
    sink::HttpSink,
};
