//! What every PostgreSQL source needs: configuration, connections, quoting, advisory locks, which
//! process runs which pipeline, and the objects in schema `pgherald`.
//!
//! Statements go through the simple protocol everywhere ([`query`]), because poolers without
//! prepared statements exist; nothing here leaves a transaction open. A session that lasts is made by
//! [`open`]; a connection that only [`connect`] made runs its statements through [`once`].

mod certificates;
mod config;
mod connect;
mod error;
mod lock;
mod open;
mod parameters;
mod pins;
mod quote;
mod reach;
mod relay;

mod listen_connection;
mod server;
mod target;
mod url;
mod valve;

mod identity;
mod inspect;
mod objects;
mod schema;
mod setup;

mod dead_letters;

mod balancer;

pub use self::{
    balancer::{Assignment, AssignmentGuard, Balancer, NotHere},
    config::{PostgresConfig, PostgresSettings},
    connect::{CONNECT_TIMEOUT, bounded, connect, query},
    dead_letters::{
        DeadLetterAdmin, DeadLetterRow, DeadLetterStore, Filter, FlowDeadLetters, Letter,
    },
    error::{Class, PostgresError},
    identity::{Adopt, Adopted, Identity, require_home},
    inspect::check_schema,
    listen_connection::ListenConnection,
    lock::{Holder, LockKey, holder, lock_holder_settings, try_locks},
    objects::require_readable,
    open::{Purpose, open, open_listen_connection},
    pins::{look, once, pin_session},
    quote::{dollar_quoted, identifier, literal},
    schema::{SCHEMA_VERSION, SchemaState, schema_state},
    server::{Backend, NOW_MICROS, ServerFacts, end_backend, from_micros, read_clock, to_micros},
    setup::{Progress, SetupOptions, ShadowNotify, setup, setup_script},
    valve::Meter,
};
