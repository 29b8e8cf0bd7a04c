//! The sink against a receiver that records what it gets and breaks every rule it is told to.

mod checks;
mod clock;
mod configuration;
mod faults;
mod healing;
mod order;
mod refusals;
mod rig;
mod secrets;
mod suite;
