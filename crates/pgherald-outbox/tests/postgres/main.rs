//! The outbox source on a real PostgreSQL.

mod attaching;
mod deleting;
mod reading;
mod rig;
mod sleeping;
