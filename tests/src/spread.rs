//! Outbox pipelines spread over the processes that run them, and move without a loss or a double.

mod crowd;
mod handing_over;
mod idle;
mod sharing;
