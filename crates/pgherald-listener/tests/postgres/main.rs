//! The listener on a real PostgreSQL server, with real faults.

mod examples;
mod faults;
mod hostile;
mod listener;
mod names;
mod overflow;
mod pooler;
mod rig;
mod sharing;
mod stopping;
