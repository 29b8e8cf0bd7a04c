//! The outbox source on a real PostgreSQL.

mod altering;
mod attaching;
mod channels;
mod deleting;
mod hostile;
mod incarnations;
mod reading;
mod rig;
mod sleeping;
mod watching;
