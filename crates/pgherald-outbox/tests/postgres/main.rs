//! The outbox source on a real PostgreSQL.

mod altering;
mod attaching;
mod deleting;
mod reading;
mod rig;
mod sleeping;
