//! The whole product from outside: the real binary between real servers, and what holds for the
//! workspace as a whole.
//!
//! `PGHERALD_FULL=1` runs every fault at its full length (`cargo xtask prove`).

#![cfg(test)]

mod brokers;
mod dependency_direction;
mod envelope;
mod knock;
mod latency;
mod outbox_model;
mod outbox_stage;
mod stage;
mod ticker;
mod truth;
mod watch;
mod windows;

mod bench;
mod clients;
mod clusters;
mod command_line;
mod dead_letters;
mod deployment;
mod doctor;
mod environments;
mod first_light;
mod hard_knocks;
mod isolation;
mod kafka_access;
mod load;
mod machine;
mod names;
mod outbox;
mod outbox_chaos;
mod outbox_failover;
mod outbox_race;
mod outbox_writers;
mod overflow;
mod pages;
mod pg_faults;
mod secrets;
mod security;
mod setup;
mod shutdown;
mod sink_faults;
mod soak;
mod spread;
mod standby;
mod tail;
mod tap;
mod webhooks;
mod writers;
