//! Reading an outbox beside the bridge, for an operator: consumes nothing and takes none of the
//! bridge's locks, so that no row is sent, deleted or delayed for it.
//!
//! [`StoredRows`] is what the table holds now. [`OutboxTail`] goes on with new rows, in the source's
//! own order and by the same decision ([`crate::visibility`]) as a flow, so that a row whose transaction
//! commits late is not missed. Each look is one autocommit statement.

mod follow;
mod session;
mod stored;

use std::sync::Arc;

use pgherald_core::Message;

pub use self::{follow::OutboxTail, stored::StoredRows};
use crate::{Order, TableName};

/// A larger payload is not read; its size is told.
pub const TAIL_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// What is read.
#[derive(Clone, Debug)]
pub struct TailOptions {
    /// The outbox.
    pub table: TableName,
    /// The order of rows that come in while it is followed.
    pub order: Order,
    /// Only these channels; `None`: all.
    pub channels: Option<Arc<[Arc<str>]>>,
    /// Begin with so many of the newest rows; `None`: with the oldest row.
    pub last: Option<u64>,
}

/// What happens in an outbox that is followed. Nearly all of it are messages.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Tailed {
    /// A row can be read.
    Message(Message),
    /// Ids that were handed out while the table was followed and whose row was never seen: rolled
    /// back, or deleted before the look that would have shown it.
    Unseen {
        /// How many ids.
        ids: u64,
        /// The lowest of them.
        first: i64,
        /// The highest of them.
        last: i64,
    },
    /// Another table or sequence has taken the name, or ids began anew: reading begins with the
    /// oldest row.
    Anew,
}
