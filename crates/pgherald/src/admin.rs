//! The admin pages: `/`, `/livez`, `/readyz`, `/metrics`, `/status`, `/tail`.

mod answer;
mod flows;
mod hosts;
mod page;
mod server;
mod tail;

pub(crate) use self::{
    answer::Admin, flows::FlowView, hosts::Hosts, server::serve, tail::WATCHERS_MAX,
};
