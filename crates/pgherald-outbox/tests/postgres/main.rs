//! The outbox source on a real PostgreSQL.

mod altering;
mod attaching;
mod channels;
mod deleting;
mod hostile;
mod incarnations;
mod late;
mod neglect;
mod networks;
mod partitions;
mod pump;
mod reading;
mod rig;
mod sleeping;
mod tailing;
mod watching;
