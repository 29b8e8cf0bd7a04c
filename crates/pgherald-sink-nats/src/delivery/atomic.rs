//! Atomic batches (ADR-50): stored as a whole or not at all, one after the other.
//!
//! While the server stores one batch, the next one is staged there: the writer sends all of it except its
//! last message, and without that message the server stores nothing of the batch. The writer sends the last
//! message when the batch before is confirmed, so no batch overtakes one that is refused. A batch that was
//! staged after a refused one is sent again; the server forgets the staged messages after ten seconds.

use async_nats::{HeaderMap, HeaderValue, header};

use super::{Delivery, PublishMode, ServerAnswer, Stop};
use crate::{
    acks::Reply,
    error::{Class, NatsError},
    jobs::Outgoing,
};

/// The server's limit.
const MESSAGES_MAX: usize = 1_000;
/// So few messages go as a chain: the server stores each at once, while it commits a batch only
/// after its last message and a flush. Many waiting messages are quicker as one batch.
const CHAINED_MAX: usize = 32;
/// The server holds a batch back until it is complete.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// The stream's `allow_atomic` was taken away.
const DISABLED: u64 = 10174;

/// A batch that the server knows, without its last message or as a whole.
struct AtomicBatch {
    id: String,
    /// The number of its first message.
    first: u64,
    count: usize,
    /// What the server said against it before it was complete.
    refused: Option<NatsError>,
}

impl Delivery {
    /// Sends what waits as batches, until so little is left that a chain is quicker.
    pub(super) async fn atomic(&mut self) -> Result<(), Stop> {
        let mut storing: Option<AtomicBatch> = None;
        loop {
            // Step 1: stage the next batch while `storing`, if there is one, waits for its answer.
            self.take_waiting();
            let mut staged = self.stage_behind(storing.as_ref()).await?;
            // Step 2: wait until `storing` is stored. If it is refused, nothing of it and nothing of the
            // staged batch is in the stream, so both can be sent again in order.
            match storing.take() {
                Some(batch) => {
                    if let Err(error) = self.fate(&batch, staged.as_mut()).await? {
                        return self.refused_batch(batch.count, error).await;
                    }
                    self.send_window.stored_anew();
                    self.confirm(batch.count);
                }
                None if staged.is_none() => return self.chain(CHAINED_MAX).await,
                None => {}
            }
            // Step 3: everything before is stored, so the staged batch may be completed.
            if let Some(mut batch) = staged {
                if let Some(error) = batch.refused.take() {
                    return self.refused_batch(batch.count, error).await;
                }
                self.send_batched(&batch, batch.count - 1, 0).await?;
                storing = Some(batch);
            }
        }
    }

    /// Sends the next batch except its last message. `None`: so little waits that it goes as a chain, or the
    /// answer to the batch that is being stored has to show first whether this is a replay.
    async fn stage_behind(
        &mut self,
        storing: Option<&AtomicBatch>,
    ) -> Result<Option<AtomicBatch>, Stop> {
        let before = storing.map_or(0, |batch| batch.count);
        let count = self.atomic_count(before);
        if count <= CHAINED_MAX || (storing.is_some() && self.send_window.is_replaying()) {
            return Ok(None);
        }
        let first = self.publisher.next();
        let id = format!("{}-{first}", self.publisher.unique());
        let batch = AtomicBatch { id, first, count, refused: None };
        for index in 0..count - 1 {
            self.send_batched(&batch, index, before).await?;
        }
        Ok(Some(batch))
    }

    /// How many of the outgoing messages behind the first `before` make a batch.
    fn atomic_count(&self, before: usize) -> usize {
        let mut bytes = 0;
        let fits = self.jobs.outgoings().skip(before).take(MESSAGES_MAX).take_while(|outgoing| {
            bytes += outgoing.payload.len();
            bytes <= BYTES_MAX
        });
        fits.count()
    }

    /// Sends one message of a batch that begins behind the first `before` outgoing messages. The last one
    /// makes the server store the batch.
    async fn send_batched(
        &mut self,
        batch: &AtomicBatch,
        index: usize,
        before: usize,
    ) -> Result<(), Stop> {
        let outgoing = self.jobs.outgoing(before + index);
        let (subject, payload) = (outgoing.subject.clone(), outgoing.payload.clone());
        let mut headers = outgoing.headers.to_map(&mut self.names);
        let last = index + 1 == batch.count;
        mark(&mut headers, &batch.id, index + 1, last);
        self.sent = before + index + 1;
        // The answer to the first one tells whether the server takes the batch.
        self.publisher.send(subject, headers, payload, last || index == 0).await?;
        Ok(())
    }

    /// The fate of the batch that is being stored: the answer to its last message, or the refusal of any of
    /// its messages. A refusal of the staged batch is kept in `staged`, until its turn comes.
    async fn fate(
        &mut self,
        batch: &AtomicBatch,
        mut staged: Option<&mut AtomicBatch>,
    ) -> Result<Result<(), NatsError>, Stop> {
        loop {
            let (index, refused) = match self.answer(batch.first).await? {
                ServerAnswer::Denied(subject) => {
                    let denied = |outgoing: &Outgoing| outgoing.subject.as_str() == subject;
                    let index = self.jobs.outgoings().position(denied).unwrap_or_default();
                    (index, NatsError::Denied(subject))
                }
                ServerAnswer::Reply(index, Reply::Refused(error)) => (index, error),
                ServerAnswer::Reply(index, Reply::Stored { .. }) if index + 1 == batch.count => {
                    return Ok(Ok(()));
                }
                // The server has begun a batch.
                ServerAnswer::Reply(_, Reply::Taken | Reply::Stored { .. }) => continue,
            };
            match staged.as_deref_mut().filter(|_| index >= batch.count) {
                Some(staged) => staged.refused = Some(refused),
                None => return Ok(Err(refused)),
            }
        }
    }

    /// Nothing of the batch is stored. The cause may be one message, or messages that were stored before (a
    /// replay). Then the same messages go as a chain, whose answers say which message it is.
    async fn refused_batch(&mut self, count: usize, error: NatsError) -> Result<(), Stop> {
        match &error {
            NatsError::Refused { code: DISABLED, .. } => self.mode = PublishMode::Chain,
            NatsError::Refused { code, .. } if about_the_batch(*code) => {}
            NatsError::Denied(_) => {}
            error if error.class() == Class::Rejected => {}
            _ => return Err(error.into()),
        }
        self.sent = 0;
        self.chain(count).await
    }
}

/// Duplicates (10201), and everything that the server refuses about batches as such.
fn about_the_batch(code: u64) -> bool {
    matches!(code, 10175..=10177 | 10179 | 10199..=10201 | 10210)
}

fn mark(headers: &mut HeaderMap, id: &str, sequence: usize, last: bool) {
    headers.insert(header::NATS_BATCH_ID, id);
    headers.insert(header::NATS_BATCH_SEQUENCE, HeaderValue::from(sequence));
    if last {
        headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
    }
}
