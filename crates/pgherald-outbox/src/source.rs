//! One flow of an outbox as core attaches to it.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{Attached, Checkpoint, Session, Source, SourceError};
use pgherald_postgres::{AssignmentGuard, NotHere, bounded, query};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, interval_at},
};

use crate::{
    OutboxReport,
    attach::{Attachment, Candidate},
    error::source_error,
    flow::{FlowFacts, HEARTBEAT, STATEMENT_WITHIN},
    lease::Lease,
    session::OutboxSession,
};

/// One flow of an [`Outbox`](crate::Outbox): what core attaches to.
///
/// A position is valid inside one attachment only; every attach reads the cursor from the database.
/// (Ids are issued again for other rows after a failover that lost rows.)
#[derive(Clone)]
pub struct OutboxSource {
    flow: Arc<FlowFacts>,
    /// A standby keeps its connection from try to try.
    standby: Arc<Mutex<Option<Candidate>>>,
}

impl OutboxSource {
    pub(crate) fn new(flow: Arc<FlowFacts>) -> Self {
        Self { flow, standby: Arc::default() }
    }

    /// How the flow stands, from now on.
    #[must_use]
    pub fn report(&self) -> watch::Receiver<OutboxReport> {
        self.flow.report()
    }

    async fn try_attach(&self) -> Result<(Attachment, AssignmentGuard), SourceError> {
        let pass = match self.flow.assignment.enter().await {
            Ok(pass) => pass,
            Err(not_here) => {
                *self.standby.lock().await = None;
                return Err(standby(not_here));
            }
        };
        let attachment = tokio::select! {
            biased;
            () = pass.revoked() => Err(SourceError::HandOver),
            attachment = self.try_flow() => attachment,
        };
        Ok((attachment?, pass))
    }

    /// The pipeline is run here; the flow's lock says whether that is so.
    async fn try_flow(&self) -> Result<Attachment, SourceError> {
        let mut standby = self.standby.lock().await;
        let candidate = match standby.take() {
            Some(candidate) => candidate,
            None => Candidate::connect(&self.flow).await?,
        };
        candidate.attach(&self.flow).await.map_err(|(error, candidate)| {
            *standby = candidate;
            error
        })
    }
}

impl Source for OutboxSource {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        async move {
            let (attachment, pass) = self.try_attach().await?;
            let carried = RunGuard::new(&self.flow, pass);
            Ok(Box::new(Waiting { attachment, carried }) as Box<dyn Attached>)
        }
        .boxed()
    }

    fn waits_for(&self) -> Option<Arc<str>> {
        self.flow.waits_for()
    }
}

fn standby(not_here: NotHere) -> SourceError {
    match not_here {
        NotHere::Elsewhere(holder) => SourceError::Standby(holder.as_ref().into()),
        NotHere::Unknown(fault) => source_error(fault),
    }
}

/// The flow is run by this process for as long as this lives.
pub(crate) struct RunGuard {
    pub(crate) flow: Arc<FlowFacts>,
    pub(crate) pass: AssignmentGuard,
}

impl RunGuard {
    fn new(flow: &Arc<FlowFacts>, pass: AssignmentGuard) -> Self {
        flow.set_carried(true);
        Self { flow: Arc::clone(flow), pass }
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.flow.set_carried(false);
        self.flow.set_waits_for(None);
        self.flow.metrics.held.set(0.0);
        self.flow.tell_nothing();
    }
}

/// Holds the lock while the sink is being opened.
struct Waiting {
    attachment: Attachment,
    carried: RunGuard,
}

impl Waiting {
    async fn beat(&mut self) -> SourceError {
        let mut beats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            tokio::select! {
                biased;
                () = self.carried.pass.revoked() => return SourceError::HandOver,
                _ = beats.tick() => {}
            }
            let asked = Instant::now();
            let beating = query(&mut self.attachment.connection, "SELECT 1");
            if let Err(fault) = bounded("send a heartbeat", STATEMENT_WITHIN, beating).await {
                return source_error(fault);
            }
            self.attachment.lease = Lease::answered(asked);
        }
    }
}

impl Attached for Waiting {
    fn read_from(
        self: Box<Self>,
        resume: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move {
            let session = OutboxSession::begin(self.attachment, self.carried, resume)?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    fn tend(&mut self) -> BoxFuture<'_, SourceError> {
        self.beat().boxed()
    }
}
