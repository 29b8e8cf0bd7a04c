//! A machine that is small, slow or far away, or that changes under the process: what it does then, and
//! how it heals.
//!
//! `cargo xtask prove machine` runs these at their full length.

mod clock;
mod container;
mod distance;
mod files;
mod memory;
mod names;
mod path;
mod threads;
