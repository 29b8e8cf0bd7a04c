//! One session: it holds the flow's lock, reads, and writes the cursor.

mod polling;

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{Batch, Checkpoint, Room, Session, Settled, SourceError};
use pgherald_postgres::{bounded, query};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep_until};

use crate::{
    ahead::Ahead,
    attach::Attachment,
    blocker::BlockerWatch,
    cursor::{self, Stored},
    doorbell::Ticket,
    error::source_error,
    flow::FlowFacts,
    incarnation::Incarnation,
    lease::Lease,
    poll_backoff::PollBackoff,
    position::Position,
    reader::Reader,
    server::TableFacts,
    source::RunGuard,
    token::Tokens,
    visibility::Visibility,
};

/// A page has room for so much, if the budget has, though a batch may be smaller: one round trip
/// brings many batches. And for no more, so that it comes through a slow network in time.
const PAGE_MESSAGES: usize = 1_000;
const PAGE_BYTES: usize = 1 << 20;

/// The cursor is written at most so often.
const ACK_EVERY: Duration = Duration::from_millis(100);
/// The same for a cursor with more missing ranges than [`MISSING_MANY`]: its row is large.
const LARGE_ACK_EVERY: Duration = Duration::from_secs(1);
const MISSING_MANY: usize = 1_000;
/// Above so many missing ranges not every batch gets a checkpoint of its own: they are large, and
/// the window holds one for each batch. An older one is as true; it says less.
const MISSING_FEW: usize = 200;

pub(crate) struct OutboxSession {
    connection: PgConnection,
    facts: TableFacts,
    /// What the position belongs to, and what was verified.
    incarnation: Incarnation,
    tokens: Tokens,
    carried: RunGuard,
    visibility: Visibility,
    reader: Reader,
    /// The rest of the latest page.
    ahead: Option<Ahead>,
    lease: Lease,
    held: BlockerWatch,
    /// The checkpoint of the latest batch.
    given: Checkpoint,
    given_at: Instant,
    /// The position has moved since.
    moved: bool,
    acked: Option<Checkpoint>,
    acked_at: Instant,
    /// Core was told that the flow is to be handed over; it is told once.
    hands_over: bool,
}

/// Why a rest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Time,
    Rung,
    Stop,
    Revoked,
}

impl OutboxSession {
    pub(crate) fn begin(
        attachment: Attachment,
        carried: RunGuard,
        resume: Option<Checkpoint>,
    ) -> Result<Self, SourceError> {
        let Attachment { connection, facts, incarnation, stored, lease } = attachment;
        let Stored { position, token } = stored;
        carried.flow.set_written(token.as_deref(), &position);
        if resume.is_some() {
            // No sink keeps positions yet, and one may be used only if its row still exists.
            let text = "a position that a sink keeps is of no use to an outbox";
            return Err(SourceError::Halted(text.into()));
        }
        let flow = &carried.flow;
        let given = position.to_checkpoint();
        let reader = Reader::of_flow(flow);
        let visibility = Visibility::new(flow.settings.order, position);
        let now = Instant::now();
        Ok(Self {
            connection,
            facts,
            incarnation,
            tokens: Tokens::new(token),
            carried,
            visibility,
            reader,
            ahead: None,
            lease,
            held: BlockerWatch::default(),
            acked: Some(given.clone()),
            given,
            given_at: now,
            moved: false,
            acked_at: now,
            hands_over: false,
        })
    }

    fn flow(&self) -> &FlowFacts {
        &self.carried.flow
    }

    async fn read_some(&mut self, room: Room, settled: &Settled) -> Result<Batch, SourceError> {
        let mut poll_backoff = PollBackoff::default();
        let mut ticket: Option<Ticket> = None;
        loop {
            if self.flow().stop.is_cancelled() {
                return Err(SourceError::Stopped);
            }
            if self.carried.pass.is_revoked() {
                self.hand_over();
                return Err(SourceError::HandOver);
            }
            self.flow().require_still_ahead(self.visibility.position().high)?;
            self.keep_lease(settled).await?;
            self.ack_if_due(settled).await?;
            if self.flow().take_doubt() {
                self.require_own_cursor().await?;
            }
            if let Some(batch) = self.hand_on(room) {
                return Ok(batch);
            }
            let began = Instant::now();
            if let Some(batch) = self.poll(room, settled).await? {
                return Ok(batch);
            }
            let took = began.elapsed();
            match ticket.filter(|ticket| self.flow().bell.holds(*ticket)) {
                Some(armed) => {
                    let until = Instant::now() + PollBackoff::asleep();
                    if self.rest(until, Some(armed), settled).await? == Woken::Rung {
                        (ticket, poll_backoff) = (None, PollBackoff::default());
                    }
                }
                None => {
                    ticket = self.try_to_sleep(&mut poll_backoff).await;
                    if ticket.is_none() {
                        self.rest(Instant::now() + poll_backoff.awake(took), None, settled).await?;
                    }
                }
            }
        }
    }

    /// `Some`: the bell is armed; whoever polls once more may sleep.
    async fn try_to_sleep(&self, poll_backoff: &mut PollBackoff) -> Option<Ticket> {
        if self.visibility.is_waiting() {
            poll_backoff.stay_awake();
            return None;
        }
        if !poll_backoff.is_drowsy() {
            return None;
        }
        let ticket = tokio::select! {
            ticket = self.flow().bell.arm() => ticket,
            () = self.flow().stop.cancelled() => None,
            () = self.carried.pass.revoked() => None,
        };
        if ticket.is_none() && !self.flow().bell.is_absent() {
            poll_backoff.stay_awake();
        }
        ticket
    }

    /// Waits; writes the cursor meanwhile.
    async fn rest(
        &mut self,
        until: Instant,
        ticket: Option<Ticket>,
        settled: &Settled,
    ) -> Result<Woken, SourceError> {
        loop {
            let flow = &self.carried.flow;
            tokio::select! {
                biased;
                () = flow.stop.cancelled() => return Ok(Woken::Stop),
                () = self.carried.pass.revoked() => return Ok(Woken::Revoked),
                () = rung(flow, ticket) => return Ok(Woken::Rung),
                () = sleep_until(until) => return Ok(Woken::Time),
                () = self.ack_due(settled) => {}
            }
            self.ack_if_due(settled).await?;
        }
    }

    /// Resolves when there is a newer checkpoint to write, and time to.
    async fn ack_due(&self, settled: &Settled) {
        let mut news = settled.subscribe();
        while self.unacked(settled).is_none() {
            // Core holds the sender for as long as the session lives.
            let _ = news.changed().await;
        }
        sleep_until(self.acked_at + self.ack_every()).await;
    }

    fn ack_every(&self) -> Duration {
        let many = self.visibility.position().missing.len() > MISSING_MANY;
        if many { LARGE_ACK_EVERY } else { ACK_EVERY }
    }

    fn unacked(&self, settled: &Settled) -> Option<Checkpoint> {
        settled.newest().filter(|newest| self.acked.as_ref() != Some(newest))
    }

    async fn ack_if_due(&mut self, settled: &Settled) -> Result<(), SourceError> {
        if self.acked_at.elapsed() < self.ack_every() {
            return Ok(());
        }
        match self.unacked(settled) {
            Some(newest) => self.write_cursor(&newest).await,
            None => Ok(()),
        }
    }

    /// The cursor is as this session wrote it: an idle flow does not write, and would not find out.
    async fn require_own_cursor(&mut self) -> Result<(), SourceError> {
        let (asked, within) = (Instant::now(), self.lease.statement_within());
        let asking = cursor::read_token(&mut self.connection, &self.carried.flow);
        let known = bounded("read the cursor", within, asking).await.map_err(source_error)?;
        self.lease = Lease::answered(asked);
        match known {
            Some(token) if self.tokens.are_own(&token) => Ok(()),
            _ => Err(cursor::lost()),
        }
    }

    async fn write_cursor(&mut self, through: &Checkpoint) -> Result<(), SourceError> {
        let position = Position::from_checkpoint(through)
            .ok_or_else(|| SourceError::Halted("a checkpoint of another source".into()))?;
        let (asked, within) = (Instant::now(), self.lease.statement_within());
        let Self { connection, carried, incarnation, tokens, .. } = self;
        let writing = cursor::write(connection, &carried.flow, incarnation, &position, tokens);
        let written = bounded("write the cursor", within, writing).await;
        self.lease = Lease::answered(asked);
        if !written.map_err(source_error)? {
            return Err(cursor::lost());
        }
        self.carried.flow.set_written(self.tokens.stored(), &position);
        self.acked = Some(through.clone());
        self.acked_at = Instant::now();
        Ok(())
    }

    /// Keeps the session while there is no room to read into.
    async fn keep(&mut self, settled: &Settled) -> SourceError {
        loop {
            settled.hold_until(self.lease.until());
            let beats_at = self.lease.beats_at();
            let kept = tokio::select! {
                biased;
                () = self.carried.pass.revoked(), if !self.hands_over => {
                    self.hand_over();
                    return SourceError::HandOver;
                }
                () = self.ack_due(settled) => self.ack_if_due(settled).await,
                () = sleep_until(beats_at) => self.beat().await,
            };
            if let Err(error) = kept {
                return error;
            }
        }
    }

    fn hand_over(&mut self) {
        self.hands_over = true;
        self.flow().set_attached(false);
    }

    async fn beat(&mut self) -> Result<(), SourceError> {
        let (asked, within) = (Instant::now(), self.lease.statement_within());
        let beating = query(&mut self.connection, "SELECT 1");
        bounded("send a heartbeat", within, beating).await.map_err(source_error)?;
        self.lease = Lease::answered(asked);
        Ok(())
    }
}

impl Session for OutboxSession {
    fn read<'a>(
        &'a mut self,
        room: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        self.read_some(room, settled).boxed()
    }

    fn tend<'a>(&'a mut self, settled: &'a Settled) -> BoxFuture<'a, SourceError> {
        self.keep(settled).boxed()
    }

    fn ack<'a>(&'a mut self, through: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        self.write_cursor(through).boxed()
    }
}

async fn rung(flow: &FlowFacts, ticket: Option<Ticket>) {
    match ticket {
        Some(ticket) => flow.bell.rung(ticket).await,
        None => std::future::pending().await,
    }
}
