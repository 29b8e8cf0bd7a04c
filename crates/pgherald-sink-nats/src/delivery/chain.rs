//! A chain: the server stores each message only directly after its predecessor.
//!
//! `Nats-Expected-Last-Msg-Id` names the message that must be the last one of the stream. If a message is
//! refused or lost, the server therefore refuses all messages after it, whoever else writes to the stream.
//! A replay passes through the messages that are stored already, because the server answers `duplicate`
//! before it checks the expectation. The first message of a run, with nothing unanswered before it, has no
//! expectation.
//!
//! A replay may have another order than the first time: rows that were invisible then now come between the
//! stored ones. Suppose that such a new message is refused, and that its successor, which is stored already,
//! is the last message of the stream. Then the message after that successor would be stored, before the new
//! one. So a writer has only one message in flight until it has stored one itself: from then on no message
//! of an earlier writer can be the last one.

use std::collections::VecDeque;

use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_MESSAGE_ID, NATS_MESSAGE_ID},
};

use super::{Delivery, ServerAnswer, Stop};
use crate::{acks::Reply, error::NatsError, headers::Headers, jobs::Outgoing};

/// The server's answer to a message whose predecessor is not the last one of the stream.
const WRONG_LAST_MESSAGE_ID: u64 = 10070;

/// How many messages may be unanswered: one while everything may be a replay, then fewer after the
/// chain broke, and more again while it holds. On a stream with many writers this comes down to one
/// message in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow {
    /// Nothing but what was stored before has been confirmed so far.
    replaying: bool,
    window: usize,
    /// Confirmed since the window last changed.
    held: usize,
}

/// Far below what a server buffers for a stream (10,000 messages).
const WINDOW_MAX: usize = 1_000;

impl Default for SendWindow {
    fn default() -> Self {
        Self { replaying: true, window: WINDOW_MAX, held: 0 }
    }
}

impl SendWindow {
    fn window(&self) -> usize {
        if self.replaying { 1 } else { self.window }
    }

    fn broke(&mut self) {
        (self.window, self.held) = ((self.window / 4).max(1), 0);
    }

    fn held(&mut self) {
        self.held += 1;
        if self.held >= self.window * 4 && self.window < WINDOW_MAX {
            (self.window, self.held) = ((self.window * 2).min(WINDOW_MAX), 0);
        }
    }

    /// Whether what is sent next may be stored already.
    pub(super) fn is_replaying(&self) -> bool {
        self.replaying
    }

    /// A message was stored that was not there before.
    pub(super) fn stored_anew(&mut self) {
        self.replaying = false;
    }
}

/// What is unanswered, from the front of the jobs on.
#[derive(Default)]
struct Unanswered {
    /// The number of the first one.
    first: u64,
    replies: VecDeque<Option<Reply>>,
}

impl Delivery {
    /// Sends outgoing messages as a chain until none is left, or `limit` of them are confirmed.
    pub(super) async fn chain(&mut self, limit: usize) -> Result<(), Stop> {
        let mut left = limit;
        let mut unanswered = Unanswered { first: self.publisher.next(), ..Unanswered::default() };
        loop {
            self.extend_chain(&mut unanswered, left).await?;
            if unanswered.replies.is_empty() {
                return Ok(());
            }
            self.hear_chain(&mut unanswered, limit).await?;
            // Answers may arrive in any order; only the front one decides, since all others depend on it.
            while let Some(Some(reply)) = unanswered.replies.front_mut().map(Option::take) {
                match reply {
                    Reply::Stored { duplicate, .. } => {
                        self.duplicates.increment(u64::from(duplicate));
                        if !duplicate {
                            self.send_window.stored_anew();
                        }
                        unanswered.replies.pop_front();
                        unanswered.first += 1;
                        left -= 1;
                        self.confirm(1);
                        self.send_window.held();
                    }
                    Reply::Taken => return Err(unexpected().into()),
                    Reply::Refused(error) => return self.break_chain(unanswered, error).await,
                }
            }
        }
    }

    async fn extend_chain(&mut self, run: &mut Unanswered, left: usize) -> Result<(), Stop> {
        let room = self.send_window.window().min(left);
        while run.replies.len() < room && self.sent < self.jobs.len() {
            let outgoing = self.jobs.outgoing(self.sent);
            let (subject, payload) = (outgoing.subject.clone(), outgoing.payload.clone());
            let mut headers = outgoing.headers.to_map(&mut self.names);
            if let Some(before) = self.sent.checked_sub(1) {
                expect_behind(&mut headers, &self.jobs.outgoing(before).headers);
            }
            self.sent += 1;
            run.replies.push_back(None);
            self.publisher.send(subject, headers, payload, true).await?;
        }
        Ok(())
    }

    /// Takes one answer in, and batches that came meanwhile if the chain may go on for ever.
    async fn hear_chain(&mut self, run: &mut Unanswered, limit: usize) -> Result<(), Stop> {
        if limit == usize::MAX {
            self.take_waiting();
        }
        let (index, reply) = match self.answer(run.first).await? {
            ServerAnswer::Reply(index, reply) => (index, reply),
            ServerAnswer::Denied(subject) => {
                let open = |(reply, outgoing): (&Option<Reply>, &Outgoing)| {
                    reply.is_none() && outgoing.subject.as_str() == subject
                };
                match run.replies.iter().zip(self.jobs.outgoings()).position(open) {
                    Some(index) => (index, Reply::Refused(NatsError::Denied(subject))),
                    None => return Ok(()),
                }
            }
        };
        if let Some(slot @ None) = run.replies.get_mut(index) {
            *slot = Some(reply);
        }
        Ok(())
    }

    /// The front is refused. Messages that were sent after it are refused too, or were stored before. Wait for
    /// their answers, so that nothing is in flight when the run starts again.
    async fn break_chain(&mut self, mut run: Unanswered, error: NatsError) -> Result<(), Stop> {
        run.replies[0] = Some(Reply::Taken);
        while run.replies.iter().any(Option::is_none) {
            self.hear_chain(&mut run, 0).await?;
        }
        // Somebody else's message is the last one of the stream: send again, without an expectation at the
        // front. Any other refusal is about the front message itself.
        if matches!(error, NatsError::Refused { code: WRONG_LAST_MESSAGE_ID, .. }) {
            self.send_window.broke();
            self.sent = 0;
            return Ok(());
        }
        self.refuse_front(error)
    }
}

fn expect_behind(headers: &mut HeaderMap, predecessor: &Headers) {
    if let Some(id) = predecessor.get(NATS_MESSAGE_ID.as_ref()) {
        headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, id);
    }
}

fn unexpected() -> NatsError {
    NatsError::Unreadable("an empty answer, where the stream's word was due".into())
}
