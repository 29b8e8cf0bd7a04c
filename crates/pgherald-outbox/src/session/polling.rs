//! One look at the outbox: the writers, a page, and whether both rest on what was verified.

use std::sync::Arc;

use bytes::BytesMut;
use pgherald_core::{Batch, Body, Checkpoint, Room, Settled, SourceError};
use pgherald_postgres::{PostgresError, bounded};
use tokio::time::Instant;

use super::{ACK_EVERY, MISSING_FEW, OutboxSession, PAGE_BYTES, PAGE_MESSAGES};
use crate::{
    ahead::{Ahead, Part},
    attach::verify,
    error::source_error,
    flow::STATEMENT_WITHIN,
    incarnation::Change,
    lease::Lease,
    reader::Page,
    visibility::{Scan, Taken},
};

impl OutboxSession {
    /// The next part of the page that was read.
    pub(super) fn hand_on(&mut self, room: Room) -> Option<Batch> {
        let ahead = self.ahead.as_mut()?;
        let Part { ids, messages, complete } = ahead.part(room);
        if ahead.is_empty() {
            self.ahead = None;
        }
        if messages.is_empty() {
            // Core reads again when there is more room.
            return Some(Batch { messages, end: Some(self.given.clone()) });
        }
        self.take(&ids, complete);
        Some(Batch { messages, end: Some(self.checkpoint()) })
    }

    fn take(&mut self, ids: &[i64], complete: bool) {
        let before = self.progress();
        self.visibility.take(Taken { ids, complete });
        self.moved |= !ids.is_empty() || self.progress() != before;
    }

    /// One look; `None`: nothing to hand over.
    pub(super) async fn poll(
        &mut self,
        room: Room,
        settled: &Settled,
    ) -> Result<Option<Batch>, SourceError> {
        if !self.look_at_writers().await? {
            return Ok(None);
        }
        let Some(scan) = self.visibility.scan() else {
            self.has_read(settled);
            return Ok(self.moved_batch());
        };
        let page = self.page(&scan, room).await?;
        if page.incarnation.as_ref() != Some(&self.incarnation) {
            self.verify_again().await?;
            return Ok(None);
        }
        self.require_ahead(&page).await?;
        self.has_read(settled);
        let page = self.with_large(page, settled).await?;
        if !page.messages.is_empty() {
            self.ahead = Some(Ahead::of(page));
            return Ok(self.hand_on(room));
        }
        let Page { ids, messages: _, complete, beyond, .. } = page;
        self.take(&ids, complete);
        if beyond {
            // Core reads again when there is more room.
            return Ok(Some(Batch { messages: Vec::new(), end: Some(self.given.clone()) }));
        }
        Ok(self.moved_batch())
    }

    async fn page(&mut self, scan: &Scan, room: Room) -> Result<Page, SourceError> {
        let room = Room {
            messages: room.budget.messages.min(room.messages.max(PAGE_MESSAGES)),
            bytes: room.budget.bytes.min(room.bytes.max(PAGE_BYTES)),
            ..room
        };
        let (asked, within) = (Instant::now(), self.lease.statement_within());
        let Self { reader, connection, facts, .. } = self;
        let reading = reader.page(connection, facts.sequence, scan, room);
        let page = bounded("read the outbox", within, reading).await.map_err(hinting_at_size)?;
        self.lease = Lease::answered(asked);
        Ok(page)
    }

    /// Large payloads come in pieces. A row that is gone meanwhile ends the session: another page
    /// does not show it.
    async fn with_large(&mut self, mut page: Page, settled: &Settled) -> Result<Page, SourceError> {
        for (place, id, size) in std::mem::take(&mut page.large) {
            let mut payload = BytesMut::with_capacity(size);
            while payload.len() < size {
                let (asked, within) = (Instant::now(), self.lease.statement_within());
                let reading = self.reader.piece(&mut self.connection, id, payload.len());
                let piece = bounded("read a large row", within, reading).await;
                let piece = piece.map_err(hinting_at_size)?.filter(|piece| !piece.is_empty());
                self.lease = Lease::answered(asked);
                settled.hold_until(self.lease.until());
                payload.extend_from_slice(&piece.ok_or_else(changed)?);
            }
            page.messages[place].1.body = Body::Payload(payload.freeze());
        }
        Ok(page)
    }

    fn has_read(&self, settled: &Settled) {
        settled.hold_until(self.lease.until());
        settled.read_succeeded();
    }

    /// Asks the server for a sign of life, if it has been silent.
    pub(super) async fn keep_lease(&mut self, settled: &Settled) -> Result<(), SourceError> {
        if Instant::now() >= self.lease.beats_at() {
            self.beat().await?;
        }
        settled.hold_until(self.lease.until());
        Ok(())
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
        let high = self.visibility.position().high;
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
        if !self.visibility.wants_writers() {
            return Ok(true);
        }
        let (asked, within) = (Instant::now(), self.lease.statement_within());
        let Self { facts, connection, carried, .. } = self;
        let looking = facts.writers(connection, &carried.flow.settings.table);
        let looked = bounded("look at the outbox's writers", within, looking).await;
        let (incarnation, writers) = looked.map_err(source_error)?;
        self.lease = Lease::answered(asked);
        if incarnation.as_ref() != Some(&self.incarnation) {
            self.verify_again().await?;
            return Ok(false);
        }
        self.visibility.observe(&writers);
        let held = self.visibility.held();
        let watching = self.held.watch(held, &self.facts, &mut self.connection, &self.carried.flow);
        watching.await.map(|()| true)
    }

    fn progress(&self) -> (i64, usize) {
        let position = self.visibility.position();
        (position.high, position.missing.len())
    }

    /// Rows that the flow does not take move it on, too.
    fn moved_batch(&mut self) -> Option<Batch> {
        let due = self.moved && self.given_at.elapsed() >= ACK_EVERY;
        due.then(|| Batch { messages: Vec::new(), end: Some(self.checkpoint()) })
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let position = self.visibility.position();
        let few = position.missing.len() <= MISSING_FEW;
        if few || self.given_at.elapsed() >= ACK_EVERY {
            self.given = position.to_checkpoint();
            self.given_at = Instant::now();
            self.moved = false;
        }
        self.given.clone()
    }
}

fn changed() -> SourceError {
    source_error(PostgresError::transient("a large row was changed while it was read"))
}

/// Small answers come and a page does not: its packets may be lost on the way.
fn hinting_at_size(mut fault: PostgresError) -> SourceError {
    if fault.fix.is_empty() && fault.text.contains("no answer") {
        fault.fix =
            "if the table is not locked, large packets may be lost on the way: check the MTU of \
                     the network"
                .into();
    }
    source_error(fault)
}
