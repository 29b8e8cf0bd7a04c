//! What every PostgreSQL source needs: configuration, connections, quoting, advisory locks.
//!
//! Statements go through the simple protocol everywhere ([`query`]), because poolers without
//! prepared statements exist; nothing here opens a transaction.

mod config;
mod connect;
mod error;
mod lock;
mod quote;
mod server;
mod wire;

pub use self::{
    config::{PostgresConfig, PostgresSettings},
    connect::{CONNECT_TIMEOUT, bounded, connect, query},
    error::{Class, PostgresError},
    lock::{Holder, LockKey, holder, try_locks},
    quote::{identifier, literal},
    server::{Backend, NOW_MICROS, ServerFacts, end_backend, from_micros, to_micros},
    wire::Wire,
};
