//! An outbox table, read without loss: every committed row, in causal or in strict order.
//!
//! Ids are taken at INSERT and become visible at COMMIT, so a reader that goes on from the highest
//! id it saw loses rows. This one knows from the locks which transactions may still make rows
//! visible. Lock, reads and the cursor share one session, and the cursor lives in the same database
//! as the rows: a position is never kept anywhere else.

mod config;
mod table;

mod incarnation;
mod inheritors;
mod position;
mod ranges;
mod visibility;
mod writers;

mod decode;
mod page;
mod reader;
mod server;

mod ahead;
mod attach;
mod blocker;
mod cursor;
mod lease;
mod poll_backoff;
mod session;
mod source;
mod token;
mod traits;
mod widening;

mod doorbell;
mod waker;

mod retention;
mod xid;

mod cursors;
mod deletion;
mod late;

mod attempt;
mod keeper;
mod measure;
mod report;
mod unrouted;

mod check;
mod oldest;
mod removal;
mod tail;

mod error;
mod events;
mod flow;
mod metrics;
mod outbox;

pub use self::{
    check::check,
    config::{
        CHANNEL_BYTES_MAX, DEFAULT_TABLE, Order, OutboxConfig, OutboxSettings, Retain, Start,
    },
    late::{LateDone, LateDropped, LateFilter, LateFlow, LateRow, late_drop, late_list, late_send},
    metrics::describe_metrics,
    oldest::oldest_waiting,
    outbox::Outbox,
    removal::{Forecast, Removal, forecast, remove},
    report::{Late, OutboxReport},
    source::OutboxSource,
    table::TableName,
    tail::{OutboxTail, StoredRows, TAIL_PAYLOAD_BYTES_MAX, TailOptions, Tailed},
};
