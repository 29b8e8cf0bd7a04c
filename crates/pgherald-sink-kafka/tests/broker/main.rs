//! The sink against a real Apache Kafka.

mod access;
mod cluster;
mod contact;
mod creation;
mod delivery;
mod faults;
mod files;
mod flow;
mod partitions;
mod reach;
mod timestamps;
mod topics;
