//! The sink against a real Apache Kafka.

mod cluster;
mod contact;
mod delivery;
mod faults;
mod flow;
mod topics;
