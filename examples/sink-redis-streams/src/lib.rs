//! A sink that appends every message to a Redis stream. It is the example of
//! [`docs/writing-a-sink.md`](https://github.com/pgherald/pgherald/blob/main/docs/writing-a-sink.md),
//! and not part of the program `pgherald`.
//!
//! [`RedisConfig`] is what a user writes, [`RedisSettings`] what is left of it after every check,
//! [`RedisSink`] opens writers from it, and [`check`] looks at the server.
//!
//! A batch is one transaction (`MULTI` … `EXEC`), and the writer waits for its answer before it takes
//! the next one. So Redis stores a batch as a whole or not at all, and order follows from that.

mod check;
mod config;
mod connection;
mod entry;
mod error;
mod settings;
mod sink;
mod writer;

pub use self::{check::check, config::RedisConfig, settings::RedisSettings, sink::RedisSink};
