//! The sink against a real Apache Kafka.

mod access;
mod cluster;
mod creation;
mod delivery;
mod faults;
mod files;
mod first_produce;
mod flow;
mod partitions;
mod reach;
mod suite;
mod timestamps;
mod topics;
