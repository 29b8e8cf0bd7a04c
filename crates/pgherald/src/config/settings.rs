//! The configuration as the rest of the program sees it: complete and without contradictions.

use std::{net::SocketAddr, time::Duration};

use pgherald_core::{FlowSettings, Secret};
use pgherald_postgres::PostgresSettings;

use crate::{sinks::SinkSettings, sources::SourceSettings};

/// Everything that a running bridge needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) postgres: PostgresSettings,
    /// Where the admin pages are served.
    pub(crate) listen: SocketAddr,
    /// Who may see what messages hold.
    pub(crate) access: AdminAccess,
    /// How long a drain may take.
    pub(crate) drain: Duration,
    /// One for each sink of each pipeline, ordered by name.
    pub(crate) flows: Vec<FlowPlan>,
}

/// What the admin pages show to whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdminAccess {
    /// Whoever has it is an operator.
    pub(crate) token: Option<Secret>,
    /// Whether an operator sees keys, headers and payloads.
    pub(crate) show_payloads: bool,
}

/// One source into one sink.
#[derive(Clone, Debug)]
pub(crate) struct FlowPlan {
    /// The key of the sink: `pipelines.<pipeline>.sinks.<sink>`.
    pub(crate) key: String,
    pub(crate) flow: FlowSettings,
    pub(crate) source: SourceSettings,
    pub(crate) sink: SinkSettings,
}
