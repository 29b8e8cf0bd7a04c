//! One flow between a source and a sink that only tests have.

mod tap;

mod after_a_fault;
mod asked_to_wait;
mod connection_state;
mod handing_over;
mod lease;
