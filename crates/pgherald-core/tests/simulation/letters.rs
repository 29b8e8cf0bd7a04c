//! A place for dead letters that is away at times and loses answers, and an operator who asks for
//! them again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Body, DeadLetter, DeadLetters, DeadLettersError, Message, MessageId, OnRejected, Room,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::sleep;

use crate::scenario::{Scenario, Situation};

#[derive(Debug)]
struct Kept {
    message: Message,
    asked: bool,
    again: bool,
}

#[derive(Debug)]
pub(crate) struct Letters {
    kept: BTreeMap<String, Kept>,
    pub(crate) seen: Vec<Situation>,
    pub(crate) calm: bool,
    policy: OnRejected,
    dice: SmallRng,
}

pub(crate) type SharedLetters = Arc<Mutex<Letters>>;

impl Letters {
    pub(crate) fn shared(scenario: &Scenario) -> SharedLetters {
        Arc::new(Mutex::new(Self {
            kept: BTreeMap::new(),
            seen: Vec::new(),
            calm: false,
            policy: scenario.on_rejected,
            dice: SmallRng::seed_from_u64(scenario.seed ^ 0xdead),
        }))
    }

    /// Everything that was ever kept.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &String> {
        self.kept.keys()
    }

    pub(crate) fn holds(&self, id: &str) -> bool {
        self.kept.contains_key(id)
    }

    /// Whether it was kept and somebody asked for it since: one that is kept in the last drain rests.
    pub(crate) fn is_asked_for(&self, id: &str) -> bool {
        self.kept.get(id).is_some_and(|kept| kept.asked)
    }

    /// The operator asks for some again, or for all that did not arrive since, repaired.
    pub(crate) fn ask(&mut self, all: bool) {
        for kept in self.kept.values_mut().filter(|kept| !kept.again) {
            kept.asked |= all || self.dice.random_bool(0.3);
            if let (true, Body::Unreadable(_)) = (all, &kept.message.body) {
                kept.message.body = Body::Payload(Bytes::from_static(b"repaired"));
            }
        }
    }

    pub(crate) fn all_arrived(&self) -> bool {
        self.kept.values().all(|kept| kept.again)
    }

    fn fails(&mut self, chance: f64) -> bool {
        let fails = !self.calm && self.dice.random_bool(chance);
        if fails {
            self.seen.push(Situation::DeadLettersAway);
        }
        fails
    }

    fn put(&mut self, message: &Message) -> Result<(), DeadLettersError> {
        assert!(message.gap().is_none(), "a gap is no dead letter");
        let id = message.id.to_string();
        let asked = self.kept.get(&id).is_some_and(|kept| kept.asked);
        assert!(asked || self.policy == OnRejected::DeadLetter, "{id} is kept against the policy");
        if self.fails(0.2) {
            return Err(away());
        }
        self.seen.push(if asked { Situation::RejectedAgain } else { Situation::DeadLettered });
        self.kept.insert(id, Kept { message: message.clone(), asked: false, again: false });
        if self.fails(0.1) { Err(away()) } else { Ok(()) }
    }

    fn next(&mut self, room: Room) -> Result<Vec<Message>, DeadLettersError> {
        if self.fails(0.2) {
            return Err(away());
        }
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for kept in self.kept.values().filter(|kept| kept.asked && !kept.again) {
            let size = kept.message.size();
            if !messages.is_empty() && !room.admits(messages.len(), bytes, size) {
                break;
            }
            bytes += size;
            messages.push(kept.message.clone());
        }
        Ok(messages)
    }

    fn done(&mut self, ids: &[MessageId]) -> Result<(), DeadLettersError> {
        if self.fails(0.2) {
            return Err(away());
        }
        for id in ids {
            if let Some(kept) = self.kept.get_mut(id.as_str()).filter(|kept| kept.asked) {
                kept.again = true;
                self.seen.push(Situation::SentAgain);
            }
        }
        if self.fails(0.1) { Err(away()) } else { Ok(()) }
    }
}

fn away() -> DeadLettersError {
    DeadLettersError::Transient("the place for dead letters is away".into())
}

pub(crate) struct SimLetters(pub(crate) SharedLetters);

impl SimLetters {
    async fn after<T>(&self, work: impl FnOnce(&mut Letters) -> T) -> T {
        sleep(Duration::from_millis(2)).await;
        work(&mut self.0.lock().unwrap())
    }
}

impl DeadLetters for SimLetters {
    fn put<'a>(&'a self, letter: DeadLetter<'a>) -> BoxFuture<'a, Result<(), DeadLettersError>> {
        self.after(|letters| letters.put(letter.message)).boxed()
    }

    fn next(&self, room: Room) -> BoxFuture<'_, Result<Vec<Message>, DeadLettersError>> {
        self.after(move |letters| letters.next(room)).boxed()
    }

    fn done<'a>(&'a self, ids: &'a [MessageId]) -> BoxFuture<'a, Result<(), DeadLettersError>> {
        self.after(|letters| letters.done(ids)).boxed()
    }
}
