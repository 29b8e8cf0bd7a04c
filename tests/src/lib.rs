//! The whole product from outside: the real binary between real servers, and what holds for the
//! workspace as a whole.
//!
//! `PGHERALD_FULL=1` runs every fault at its full length (`cargo xtask prove`).

#![cfg(test)]

mod brokers;
mod dependency_direction;
mod envelope;
mod outbox_model;
mod outbox_stage;
mod stage;
mod ticker;
mod truth;
mod watch;
mod windows;

mod command_line;
mod first_light;
mod load;
mod names;
mod outbox;
mod outbox_chaos;
mod outbox_failover;
mod outbox_race;
mod outbox_writers;
mod overflow;
mod pg_faults;
mod secrets;
mod security;
mod shutdown;
mod sink_faults;
mod standby;
