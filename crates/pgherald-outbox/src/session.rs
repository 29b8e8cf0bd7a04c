//! One session: it holds the flow's lock, reads, and writes the cursor.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{Batch, Checkpoint, Room, Session, Settled, SourceError};
use pgherald_postgres::{PostgresError, bounded, query};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep_until};

use crate::{
    attach::{Attachment, verify},
    cursor::{self, Stored, Token},
    doorbell::Ticket,
    error::source_error,
    fence::{Fence, Taken},
    flow::{FlowFacts, HEARTBEAT, STATEMENT_WITHIN},
    held::HeldWatch,
    incarnation::{Change, Incarnation},
    pace::Pace,
    position::Position,
    reader::{Page, Reader},
    server::TableFacts,
    source::Carried,
};

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
    /// The token of the latest write of the cursor.
    token: Token,
    carried: Carried,
    fence: Fence,
    reader: Reader,
    held: HeldWatch,
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
        carried: Carried,
        resume: Option<Checkpoint>,
    ) -> Result<Self, SourceError> {
        let Attachment { connection, facts, incarnation, stored } = attachment;
        let Stored { position, token } = stored;
        carried.flow.set_written(token.as_deref(), &position);
        if resume.is_some() {
            // No sink keeps positions yet, and one may be used only if its row still exists.
            let text = "a position that a sink keeps is of no use to an outbox";
            return Err(SourceError::Halted(text.into()));
        }
        let flow = &carried.flow;
        let given = position.to_checkpoint();
        let reader = Reader::new(flow);
        let fence = Fence::new(flow.settings.order, position);
        let now = Instant::now();
        Ok(Self {
            connection,
            facts,
            incarnation,
            token,
            carried,
            fence,
            reader,
            held: HeldWatch::default(),
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
        let mut pace = Pace::default();
        let mut ticket: Option<Ticket> = None;
        loop {
            if self.flow().stop.is_cancelled() {
                return Err(SourceError::Stopped);
            }
            if self.carried.pass.is_revoked() {
                self.hand_over();
                return Err(SourceError::HandOver);
            }
            self.flow().require_still_ahead(self.fence.position().high)?;
            self.ack_if_due(settled).await?;
            if self.flow().take_doubt() {
                self.require_own_cursor().await?;
            }
            let began = Instant::now();
            if let Some(batch) = self.poll(room).await? {
                return Ok(batch);
            }
            let took = began.elapsed();
            match ticket.filter(|ticket| self.flow().bell.holds(*ticket)) {
                Some(armed) => {
                    let until = Instant::now() + Pace::asleep();
                    if self.rest(until, Some(armed), settled).await? == Woken::Rung {
                        (ticket, pace) = (None, Pace::default());
                    }
                }
                None => {
                    ticket = self.try_to_sleep(&mut pace).await;
                    if ticket.is_none() {
                        self.rest(Instant::now() + pace.awake(took), None, settled).await?;
                    }
                }
            }
        }
    }

    /// `Some`: the bell is armed; whoever polls once more may sleep.
    async fn try_to_sleep(&self, pace: &mut Pace) -> Option<Ticket> {
        if self.fence.is_waiting() {
            pace.stay_awake();
            return None;
        }
        if !pace.is_drowsy() {
            return None;
        }
        let ticket = tokio::select! {
            ticket = self.flow().bell.arm() => ticket,
            () = self.flow().stop.cancelled() => None,
            () = self.carried.pass.revoked() => None,
        };
        if ticket.is_none() && !self.flow().bell.is_absent() {
            pace.stay_awake();
        }
        ticket
    }

    /// One look; `None`: nothing to hand over.
    async fn poll(&mut self, room: Room) -> Result<Option<Batch>, SourceError> {
        if !self.look_at_writers().await? {
            return Ok(None);
        }
        let Some(scan) = self.fence.scan() else { return Ok(self.moved_batch()) };
        let within = self.flow().page_within();
        let sequence = self.facts.sequence;
        let reading = self.reader.page(&mut self.connection, sequence, &scan, room);
        let page = bounded("read the outbox", within, reading).await.map_err(source_error)?;
        if page.incarnation.as_ref() != Some(&self.incarnation) {
            self.verify_again().await?;
            return Ok(None);
        }
        self.require_ahead(&page).await?;
        let Page { ids, messages, complete, beyond, .. } = page;
        let before = self.standing();
        self.fence.take(Taken { ids: &ids, complete });
        self.moved |= !ids.is_empty() || self.standing() != before;
        if !messages.is_empty() {
            let end = Some(self.checkpoint());
            return Ok(Some(Batch { messages, end }));
        }
        if beyond {
            // Core reads again when there is more room.
            return Ok(Some(Batch { messages, end: Some(self.given.clone()) }));
        }
        Ok(self.moved_batch())
    }

    /// A page rests on something else than what was verified: it is void. Reading goes on if nothing
    /// that is not delivered can be passed over.
    async fn verify_again(&mut self) -> Result<(), SourceError> {
        let flow = Arc::clone(&self.carried.flow);
        let (facts, now) = verify(&mut self.connection, &flow).await?;
        let table = &flow.settings.table;
        let what = match self.incarnation.change(&now) {
            None => return Ok(()),
            Some(Change::Replaced) => {
                let text = format!("{table} was replaced; the flow goes on from what is stored");
                return Err(source_error(PostgresError::transient(text)));
            }
            Some(Change::Restarted) => {
                let text = format!("{table} was truncated with RESTART IDENTITY");
                return Err(source_error(PostgresError::transient(text)));
            }
            Some(Change::Rewritten) => "rewritten or emptied",
            Some(Change::Altered) => "altered",
        };
        let (pipeline, sink) = (flow.pipeline(), flow.sink());
        tracing::info!(pipeline, sink, "{table} was {what}; its ids go on, and so does the flow");
        (self.facts, self.incarnation) = (facts, now);
        let acked = self.acked.clone().unwrap_or_else(|| self.given.clone());
        self.write_cursor(&acked).await
    }

    /// The sequence stands below nothing that was read.
    async fn require_ahead(&mut self, page: &Page) -> Result<(), SourceError> {
        let high = self.fence.position().high;
        let highest_id = page.ids.last().copied().unwrap_or(high);
        if page.newest >= high.max(highest_id) {
            return Ok(());
        }
        let looking = self.facts.newest(&mut self.connection);
        let newest = bounded("read the outbox's sequence", STATEMENT_WITHIN, looking).await;
        let newest = newest.map_err(source_error)?;
        Ok(self.carried.flow.require_ahead(newest, high, highest_id)?)
    }

    /// False: the look is void, because the table's name stands for something else.
    async fn look_at_writers(&mut self) -> Result<bool, SourceError> {
        if !self.fence.wants_writers() {
            return Ok(true);
        }
        let Self { facts, connection, carried, .. } = self;
        let looking = facts.writers(connection, &carried.flow.settings.table);
        let looked = bounded("look at the outbox's writers", STATEMENT_WITHIN, looking).await;
        let (incarnation, writers) = looked.map_err(source_error)?;
        if incarnation.as_ref() != Some(&self.incarnation) {
            self.verify_again().await?;
            return Ok(false);
        }
        self.fence.observe(&writers);
        let held = self.fence.held();
        let watching = self.held.watch(held, &self.facts, &mut self.connection, &self.carried.flow);
        watching.await.map(|()| true)
    }

    fn standing(&self) -> (i64, usize) {
        let position = self.fence.position();
        (position.high, position.missing.len())
    }

    /// Rows that the flow does not take move it on, too.
    fn moved_batch(&mut self) -> Option<Batch> {
        let due = self.moved && self.given_at.elapsed() >= ACK_EVERY;
        due.then(|| Batch { messages: Vec::new(), end: Some(self.checkpoint()) })
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let position = self.fence.position();
        let few = position.missing.len() <= MISSING_FEW;
        if few || self.given_at.elapsed() >= ACK_EVERY {
            self.given = position.to_checkpoint();
            self.given_at = Instant::now();
            self.moved = false;
        }
        self.given.clone()
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
        let many = self.fence.position().missing.len() > MISSING_MANY;
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
        let asking = cursor::read_token(&mut self.connection, &self.carried.flow);
        let known = bounded("read the cursor", STATEMENT_WITHIN, asking).await;
        match known.map_err(source_error)? {
            Some(token) if token == self.token => Ok(()),
            _ => Err(cursor::lost()),
        }
    }

    async fn write_cursor(&mut self, through: &Checkpoint) -> Result<(), SourceError> {
        let position = Position::from_checkpoint(through)
            .ok_or_else(|| SourceError::Halted("a checkpoint of another source".into()))?;
        let stored = Stored { position, token: self.token.take() };
        let Self { connection, carried, incarnation, .. } = self;
        let writing = cursor::write(connection, &carried.flow, incarnation, &stored);
        let written = bounded("write the cursor", STATEMENT_WITHIN, writing).await;
        self.token = written.map_err(source_error)?.ok_or_else(cursor::lost)?;
        self.carried.flow.set_written(self.token.as_deref(), &stored.position);
        self.acked = Some(through.clone());
        self.acked_at = Instant::now();
        Ok(())
    }

    /// Keeps the session while there is no room to read into.
    async fn keep(&mut self, settled: &Settled) -> SourceError {
        let mut beat_at = Instant::now() + HEARTBEAT;
        loop {
            let kept = tokio::select! {
                biased;
                () = self.carried.pass.revoked(), if !self.hands_over => {
                    self.hand_over();
                    return SourceError::HandOver;
                }
                () = self.ack_due(settled) => self.ack_if_due(settled).await,
                () = sleep_until(beat_at) => {
                    beat_at = Instant::now() + HEARTBEAT;
                    self.beat().await
                }
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
        let beating = query(&mut self.connection, "SELECT 1");
        let beaten = bounded("send a heartbeat", STATEMENT_WITHIN, beating).await;
        beaten.map(drop).map_err(source_error)
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
