//! Atomic batches (ADR-50): stored as a whole or not at all, one in flight.

use async_nats::{HeaderMap, HeaderValue, header};

use super::{Answer, Delivery, Stop, Way};
use crate::{
    acks::Reply,
    error::{Class, NatsError},
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
/// The first and the last: everything that the server knows of a batch.
const FIRST: usize = 0;

impl Delivery {
    /// Sends what waits as one batch and settles it.
    pub(super) async fn atomic(&mut self) -> Result<(), Stop> {
        let count = self.atomic_count();
        if count <= CHAINED_MAX {
            return self.chain(count).await;
        }
        let first = self.link.next();
        self.send_batch(count).await?;
        match self.atomic_answer(first, count).await? {
            Ok(()) => {
                self.pace.stored_anew();
                self.confirm(count);
                Ok(())
            }
            Err(error) => self.refused_batch(count, error).await,
        }
    }

    fn atomic_count(&self) -> usize {
        let mut bytes = 0;
        let fits = self.jobs.pieces().take(MESSAGES_MAX).take_while(|piece| {
            bytes += piece.payload.len();
            bytes <= BYTES_MAX
        });
        fits.count().max(1)
    }

    async fn send_batch(&mut self, count: usize) -> Result<(), Stop> {
        let id = format!("{}-{}", self.link.unique(), self.link.next());
        for index in 0..count {
            let piece = self.jobs.piece(index);
            let (subject, payload) = (piece.subject.clone(), piece.payload.clone());
            let mut headers = piece.headers.clone();
            let last = index + 1 == count;
            mark(&mut headers, &id, index + 1, last);
            self.sent = index + 1;
            self.link.send(subject, headers, payload, last || index == FIRST).await?;
        }
        Ok(())
    }

    /// The batch's fate: the answer to its last message, or the refusal of any.
    async fn atomic_answer(
        &mut self,
        first: u64,
        count: usize,
    ) -> Result<Result<(), NatsError>, Stop> {
        loop {
            match self.answer(first).await? {
                Answer::Denied(subject) => return Ok(Err(NatsError::Denied(subject))),
                Answer::Reply(_, Reply::Refused(error)) => return Ok(Err(error)),
                Answer::Reply(index, Reply::Stored { .. }) if index + 1 == count => {
                    return Ok(Ok(()));
                }
                // The server has begun the batch.
                Answer::Reply(_, Reply::Taken | Reply::Stored { .. }) => {}
            }
        }
    }

    /// Nothing of the batch is stored. Where its fault may lie in one message, or in messages that
    /// are stored already, the same messages go as a chain, which finds out which.
    async fn refused_batch(&mut self, count: usize, error: NatsError) -> Result<(), Stop> {
        match &error {
            NatsError::Refused { code: DISABLED, .. } => self.way = Way::Chain,
            NatsError::Refused { code, .. } if about_the_batch(*code) => {}
            NatsError::Denied(_) => {}
            error if error.class() == Class::Rejected => {}
            _ => return Err(error.into()),
        }
        self.sent = 0;
        self.chain(count).await
    }
}

/// Duplicates (10201), and everything that the server says about batches as such.
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
