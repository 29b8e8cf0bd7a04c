//! A machine that is small, slow or far away: what the process does then, and how it heals.
//!
//! `cargo xtask prove machine` runs these at their full length.

mod container;
mod distance;
mod memory;
mod threads;
