//! Attaches, reads, fills the window, and writes the last checkpoint.

use std::time::Duration;

use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    FlowSettings,
    health::SourcePhase,
    shared::{AttachPhase, FlowShared, chain},
};
use crate::{Attached, Backoff, Batch, Checkpoint, Room, Session, Settled, Source, SourceError};

/// How soon a standby asks again whether the flow's lock is free.
const STANDBY_ASKS_EVERY: Duration = Duration::from_millis(250);

pub(super) struct SourceSide<'a> {
    shared: &'a FlowShared,
    source: &'a dyn Source,
    backoff: Backoff,
    drain: Duration,
    attachments: u64,
    failures: u32,
    /// A read of the session has succeeded.
    runs: bool,
    random: SmallRng,
}

impl<'a> SourceSide<'a> {
    pub(super) fn new(
        shared: &'a FlowShared,
        source: &'a dyn Source,
        settings: &FlowSettings,
        drain: Duration,
    ) -> Self {
        let random = SmallRng::seed_from_u64(settings.jitter_seed);
        let backoff = settings.backoff;
        Self { shared, source, backoff, drain, attachments: 0, failures: 0, runs: false, random }
    }

    /// Runs until the process stops and the source has nothing more to give.
    pub(super) async fn run(mut self) {
        loop {
            let error = match self.attempt().await {
                Ok(()) | Err(SourceError::Stopped) => break,
                Err(error) => error,
            };
            if self.source.has_positions() {
                self.shared.forget();
            }
            if self.shared.stop.is_cancelled() {
                break;
            }
            self.wait_after(error).await;
        }
        self.shared.attachment.send_replace(AttachPhase::Over);
    }

    /// One attachment, from the lock to its end. `Ok`: the process is stopping.
    async fn attempt(&mut self) -> Result<(), SourceError> {
        let Some(attached) = self.attach().await else { return Ok(()) };
        let attached = attached?;
        self.attachments += 1;
        self.runs = !self.source.has_positions();
        self.shared.attachment.send_replace(AttachPhase::Held(self.attachments));
        if self.source.has_positions() {
            self.shared.source_phase(SourcePhase::Opening);
        }
        let Some(mut session) = self.begin(attached).await? else { return Ok(()) };
        let phase = match self.source.has_positions() {
            true => SourcePhase::Reading,
            false => SourcePhase::Attached,
        };
        self.shared.source_phase(phase);
        let end = self.read_until_end(&mut *session).await;
        match end {
            SourceError::Stopped if self.source.has_positions() => {
                self.shared.attachment.send_replace(AttachPhase::Over);
                self.ack_the_rest(&mut *session).await
            }
            SourceError::HandOver => Err(self.hand_over(&mut *session).await),
            end => Err(end),
        }
    }

    /// A source that holds messages in memory is asked for them even when the process is stopping.
    async fn attach(&self) -> Option<Result<Box<dyn Attached>, SourceError>> {
        match self.source.has_positions() {
            true => self.until_stop(self.source.attach()).await,
            false => Some(self.source.attach().await),
        }
    }

    /// Reading begins where the sink says, once it is open. A source without positions has
    /// nothing to ask it, and begins at once.
    async fn begin(
        &self,
        mut attached: Box<dyn Attached>,
    ) -> Result<Option<Box<dyn Session>>, SourceError> {
        let resume = match self.source.has_positions() {
            true => self.until_stop(self.sink_opened_beside(&mut *attached)).await,
            false => Some(Ok(None)),
        };
        let Some(resume) = resume else { return Ok(None) };
        attached.read_from(resume?).await.map(Some)
    }

    async fn sink_opened_beside(
        &self,
        attached: &mut dyn Attached,
    ) -> Result<Option<Checkpoint>, SourceError> {
        tokio::select! {
            biased;
            resume = self.sink_opened() => Ok(resume),
            error = attached.tend() => Err(error),
        }
    }

    async fn sink_opened(&self) -> Option<Checkpoint> {
        let mut opened = self.shared.opened.subscribe();
        let mine = |answer: &Option<super::shared::SinkOpened>| {
            answer.as_ref().is_some_and(|answer| answer.attachment == self.attachments)
        };
        let answer = opened.wait_for(mine).await.expect("the shared holds the sender");
        answer.as_ref().and_then(|answer| answer.resume.clone())
    }

    async fn read_until_end(&mut self, session: &mut dyn Session) -> SourceError {
        let settled = self.shared.settled();
        let mut last: Option<Checkpoint> = None;
        loop {
            let room = tokio::select! {
                biased;
                room = self.room() => room,
                error = session.tend(&settled) => return error,
            };
            let batch = match self.read(session, room, &settled).await {
                Ok(batch) => batch,
                Err(error) => return error,
            };
            self.failures = 0;
            if batch.messages.is_empty() && last == batch.end {
                tokio::select! {
                    biased;
                    () = self.more_room_than(room) => continue,
                    error = session.tend(&settled) => return error,
                }
            }
            last.clone_from(&batch.end);
            self.shared.push(batch);
        }
    }

    /// One read. The flow runs from the first one on that succeeds, also if nothing is there.
    async fn read(
        &mut self,
        session: &mut dyn Session,
        room: Room,
        settled: &Settled,
    ) -> Result<Batch, SourceError> {
        if self.runs {
            return session.read(room, settled).await;
        }
        let mut reading = session.read(room, settled);
        let first = tokio::select! {
            biased;
            batch = &mut reading => Some(batch),
            () = settled.first_read() => None,
        };
        if matches!(first, None | Some(Ok(_))) {
            self.runs = true;
            self.shared.source_phase(SourcePhase::Attached);
        }
        match first {
            Some(batch) => batch,
            None => reading.await,
        }
    }

    async fn room(&self) -> Room {
        loop {
            if let Some(room) = self.shared.window().room() {
                return room;
            }
            self.shared.freed.notified().await;
        }
    }

    async fn more_room_than(&self, room: Room) {
        let holds_nothing = room.first_bytes == usize::MAX;
        while !holds_nothing
            && self.shared.window().room().is_none_or(|now| now.first_bytes <= room.first_bytes)
        {
            self.shared.freed.notified().await;
        }
    }

    /// Another process is to run the flow: what was read is delivered before the session ends. If the sink
    /// does not accept it within the drain deadline, the other process does not wait any longer: it reads
    /// those messages again.
    async fn hand_over(&self, session: &mut dyn Session) -> SourceError {
        // The session still holds the lock, so nobody else reads while the rest is delivered.
        self.shared.source_phase(SourcePhase::HandingOver);
        self.shared.attachment.send_replace(AttachPhase::Standby);
        let deadline = Instant::now() + self.drain;
        let error = match timeout_at(deadline, self.settle_the_rest(session)).await {
            Ok(Ok(())) => return SourceError::HandOver,
            Ok(Err(error)) => error,
            Err(_) => {
                self.shared.not_drained();
                SourceError::HandOver
            }
        };
        // Out of time. Clear the window, so that the sink side drops its writer, and keep the session and its
        // lock until the writer is gone. Otherwise this process could still send while the next one does.
        self.shared.forget();
        self.shared.attachment.send_replace(AttachPhase::None);
        let mut writing = self.shared.writing.subscribe();
        writing.wait_for(|writing| !writing).await.expect("the shared holds the sender");
        error
    }

    async fn settle_the_rest(&self, session: &mut dyn Session) -> Result<(), SourceError> {
        self.ack_the_rest(session).await?;
        let settled = self.shared.settled();
        tokio::select! {
            biased;
            () = self.shared.replayed.told() => Ok(()),
            error = session.tend(&settled) => Err(error),
        }
    }

    /// Reads nothing more, waits until everything that was read is settled, and acknowledges it.
    async fn ack_the_rest(&self, session: &mut dyn Session) -> Result<(), SourceError> {
        let settled = self.shared.settled();
        {
            // The session must keep its lock until the last message is settled: go on with heartbeats.
            let mut tending = session.tend(&settled);
            while !self.shared.window().is_empty() {
                tokio::select! {
                    biased;
                    () = self.shared.freed.notified() => {}
                    error = &mut tending => return Err(error),
                }
            }
        }
        match settled.newest() {
            Some(checkpoint) => session.ack(&checkpoint).await,
            None => Ok(()),
        }
    }

    async fn wait_after(&mut self, error: SourceError) {
        self.shared.attachment.send_replace(match error {
            SourceError::Standby(_) | SourceError::HandOver => AttachPhase::Standby,
            _ => AttachPhase::None,
        });
        let why = chain(&error);
        let wait = match error {
            SourceError::Standby(_) | SourceError::HandOver => {
                self.failures = 0;
                self.shared.source_phase(SourcePhase::Standby(why));
                STANDBY_ASKS_EVERY
            }
            SourceError::Transient(_) | SourceError::Stopped => {
                self.shared.source_phase(SourcePhase::Attaching(why));
                self.next_backoff()
            }
            SourceError::Blocked(_) => {
                self.shared.source_phase(SourcePhase::Blocked(why));
                self.next_backoff()
            }
            SourceError::Halted(_) => {
                self.shared.source_phase(SourcePhase::Halted(why));
                super::rejection::HALTED_TRIES_EVERY
            }
        };
        self.until_stop(sleep(wait)).await;
    }

    fn next_backoff(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.wait(self.failures, &mut self.random)
    }

    async fn until_stop<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => None,
            value = future => Some(value),
        }
    }
}
