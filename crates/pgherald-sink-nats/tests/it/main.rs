//! The sink against a real nats-server.

mod bridge;
mod checks;
mod configuration;
mod faults;
mod gaps;
mod healing;
mod names;
mod order;
mod refusals;
mod stored;
mod suite;
mod tls;
