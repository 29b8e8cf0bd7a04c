//! One outbox of this process: the flows that read it, and what serves them all.

use std::{sync::Arc, time::Duration};

use pgherald_core::FlowContext;
use pgherald_postgres::{Assignment, PostgresSettings};
use tokio_util::sync::CancellationToken;

use crate::{
    OutboxSettings, OutboxSource, TableName,
    doorbell::Bell,
    flow::FlowFacts,
    keeper::{Keeper, PATIENCE},
    waker::Waker,
};

/// One outbox table, and every flow of this process that reads it.
pub struct Outbox {
    postgres: PostgresSettings,
    table: TableName,
    stop: CancellationToken,
    bell: Arc<Bell>,
    flows: Vec<Arc<FlowFacts>>,
    patience: Duration,
}

impl Outbox {
    /// Nothing happens before [`Outbox::run`] and before its flows are attached.
    #[must_use]
    pub fn new(postgres: PostgresSettings, table: TableName, stop: CancellationToken) -> Self {
        let (bell, flows, patience) = (Arc::default(), Vec::new(), PATIENCE);
        Self { postgres, table, stop, bell, flows, patience }
    }

    /// For tests: how long the keeper may do nothing before its flows are not ready.
    #[doc(hidden)]
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Adds a flow. It attaches while the assignment says that this process runs its pipeline.
    pub fn flow(
        &mut self,
        context: &FlowContext,
        settings: &OutboxSettings,
        assignment: Assignment,
    ) -> OutboxSource {
        let flow = Arc::new(FlowFacts::new(
            context.clone(),
            settings.clone(),
            self.postgres.clone(),
            assignment,
            Arc::clone(&self.bell),
            self.stop.clone(),
        ));
        self.flows.push(Arc::clone(&flow));
        OutboxSource::new(flow)
    }

    /// Keeps the doorbell, deletes what is settled, and measures, until the process stops. Reading
    /// does not depend on it.
    pub async fn run(self) {
        let waker = Waker::new(self.postgres.clone(), self.table.clone(), self.bell);
        let keeper = Keeper::new(self.postgres, self.table, self.flows, self.patience);
        let stop = self.stop;
        tokio::select! {
            () = stop.cancelled() => {}
            () = waker.run() => {}
            () = keeper.run() => {}
        }
    }
}
