//! The admin pages: `/`, `/livez`, `/readyz`, `/metrics`, `/status`.

mod answer;
mod flows;
mod hosts;
mod page;
mod server;

pub(crate) use self::{answer::Admin, flows::FlowView, hosts::Hosts, server::serve};
