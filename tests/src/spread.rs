//! Outbox pipelines spread over the processes that run them, and move without loss or duplicates.

mod crowd;
mod handing_over;
mod idle;
mod sharing;
