//! The outbox from outside: rows reach Kafka and JetStream in order, whatever happens.

mod course;
mod faults;
mod states;

pub(crate) use self::course::{in_kafka, prepared};
