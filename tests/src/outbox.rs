//! The outbox from outside: rows reach Kafka and JetStream in order, whatever happens.

pub(crate) mod course;
mod faults;
mod isolation;
mod late;
mod reasons;
mod shadowed;
mod states;

pub(crate) use self::course::{in_kafka, prepared};
