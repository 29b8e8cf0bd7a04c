//! The whole product from outside: the real binary between real servers, and what holds for the
//! workspace as a whole.
//!
//! `PGHERALD_FULL=1` runs every fault at its full length (`cargo xtask prove`).

#![cfg(test)]

mod brokers;
mod dependency_direction;
mod envelope;
mod knock;
mod stage;
mod ticker;
mod truth;
mod watch;
mod windows;

mod clusters;
mod command_line;
mod doctor;
mod first_light;
mod hard_knocks;
mod load;
mod names;
mod overflow;
mod pg_faults;
mod secrets;
mod security;
mod shutdown;
mod sink_faults;
mod standby;
