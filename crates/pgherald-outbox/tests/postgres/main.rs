//! The outbox source on a real PostgreSQL.

mod attaching;
mod reading;
mod rig;
mod sleeping;
