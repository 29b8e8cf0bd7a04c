//! How long a message got nothing but answers that ask for another attempt.
//!
//! One message that is answered 500 for ever holds up everything behind it. It counts as rejected
//! when that has lasted for `retry_max_seconds`, counted only while the receiver took other messages,
//! or gave the same status to a message that nothing else could be sent beside. A receiver that
//! answers nobody is never held against a message.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use pgherald_core::MessageId;
use tokio::time::Instant;

use crate::error::Said;

/// Attempts that are further apart say nothing about the time between: a receiver may ask for five
/// minutes, and a request may take ten.
const APART_MAX: Duration = Duration::from_secs(1_000);
/// A message that comes back later than this after it was given up was sent again by an operator.
const GIVEN_UP_FOR: Duration = Duration::from_secs(60);
/// After so many attempts in company a message shares its request with no other one.
const TOGETHER_MAX: u32 = 2;

/// What is known of messages that were not taken; outlives writers.
#[derive(Debug)]
pub(crate) struct Patience {
    /// `None`: without end.
    limit: Option<Duration>,
    /// How many messages are remembered; a flow holds no more.
    capacity: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tries: HashMap<MessageId, Tries>,
    /// How many messages were taken, and how many requests were answered or failed.
    taken: u64,
    ended: u64,
}

#[derive(Debug)]
struct Tries {
    count: u32,
    /// While others were taken.
    blamed: Duration,
    /// With the same status all the time.
    same_status: Duration,
    last: Said,
    last_at: Instant,
    text: Arc<str>,
    taken_then: u64,
    ended_then: u64,
    given_up: bool,
}

impl Patience {
    pub(crate) fn new(limit: Option<Duration>, capacity: usize) -> Self {
        Self { limit, capacity: capacity.max(1), known: Mutex::default() }
    }

    /// A message was taken.
    pub(crate) fn taken(&self, id: &MessageId) {
        let mut known = self.known();
        known.taken += 1;
        known.tries.remove(id);
    }

    /// A request has ended, however.
    pub(crate) fn ended(&self) {
        self.known().ended += 1;
    }

    /// Whether a message shares its request with no other one, so that its answers are its own.
    pub(crate) fn goes_alone(&self, id: &MessageId) -> bool {
        self.known().tries.get(id).is_some_and(|tries| tries.count >= TOGETHER_MAX)
    }

    /// What the receiver said of it last.
    pub(crate) fn last_answer(&self, id: &MessageId) -> Option<Arc<str>> {
        self.known().tries.get(id).map(|tries| Arc::clone(&tries.text))
    }

    /// A message was not taken and goes again; `alone`: it has its request for itself.
    /// Returns how long that has lasted if it is enough.
    pub(crate) fn blame(
        &self,
        id: MessageId,
        said: Said,
        text: Arc<str>,
        alone: bool,
    ) -> Option<Duration> {
        let now = Instant::now();
        let mut known = self.known();
        let Known { tries, taken, ended } = &mut *known;
        let fresh = || Tries::new(said, now, *taken, *ended);
        let one = tries.entry(id).or_insert_with(fresh);
        if one.given_up && now.duration_since(one.last_at) > GIVEN_UP_FOR {
            *one = fresh();
        }
        if alone {
            one.count_time(said, now, *taken, *ended);
        }
        one.count += 1;
        (one.last, one.last_at, one.text) = (said, now, text);
        (one.taken_then, one.ended_then) = (*taken, *ended);
        let lasted = one.blamed.max(one.same_status);
        let enough = alone && self.limit.is_some_and(|limit| lasted >= limit);
        one.given_up |= enough;
        if tries.len() > self.capacity {
            forget_oldest(tries);
        }
        enough.then_some(lasted)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic happens under this lock")
    }
}

impl Tries {
    fn new(said: Said, now: Instant, taken: u64, ended: u64) -> Self {
        Self {
            count: 0,
            blamed: Duration::ZERO,
            same_status: Duration::ZERO,
            last: said,
            last_at: now,
            text: "".into(),
            taken_then: taken,
            ended_then: ended,
            given_up: false,
        }
    }

    /// Counts the time since the last attempt.
    fn count_time(&mut self, said: Said, now: Instant, taken: u64, ended: u64) {
        let apart = now.duration_since(self.last_at);
        if apart > APART_MAX || said == Said::Unheard {
            self.same_status = Duration::ZERO;
            return;
        }
        let others_taken = taken > self.taken_then;
        // Its own request is the one that has ended since.
        let by_itself = ended <= self.ended_then + 1;
        if others_taken {
            self.blamed += apart;
        }
        match (self.last, said) {
            (Said::Status(before), Said::Status(now)) if before == now => {
                if others_taken || by_itself {
                    self.same_status += apart;
                }
            }
            _ => self.same_status = Duration::ZERO,
        }
    }
}

fn forget_oldest(tries: &mut HashMap<MessageId, Tries>) {
    let oldest = tries.iter().min_by_key(|(_, tries)| tries.last_at).map(|(id, _)| *id);
    if let Some(id) = oldest {
        tries.remove(&id);
    }
}

#[cfg(test)]
mod tests;
