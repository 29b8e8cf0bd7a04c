//! A broker that stores what it is sent, in order, and loses answers, sessions and patience.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Batch, BoxError, Checkpoint, Event, Message, Only, Open, Opened, Ordering, Outcome, Published,
    Sink, SinkError, Writer,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep, sleep_until};

use crate::scenario::{Scenario, Situation};

/// One stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) gap: bool,
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) log: Vec<Stored>,
    pub(crate) seen: Vec<Situation>,
    pub(crate) dead: bool,
    /// Heals: no more faults, and poison is taken.
    pub(crate) calm: bool,
    down_until: Option<Instant>,
    committed: Option<Checkpoint>,
    writer: u64,
    dice: SmallRng,
    scenario: Scenario,
}

pub(crate) type SharedBroker = Arc<Mutex<Broker>>;

pub(crate) fn is_poison(message: &Message) -> bool {
    message.headers.get("poison").is_some()
}

impl Broker {
    pub(crate) fn shared(scenario: &Scenario) -> SharedBroker {
        Arc::new(Mutex::new(Self {
            log: Vec::new(),
            seen: Vec::new(),
            dead: false,
            calm: false,
            down_until: None,
            committed: None,
            writer: 0,
            dice: SmallRng::seed_from_u64(scenario.seed ^ 0xb0b),
            scenario: scenario.clone(),
        }))
    }

    pub(crate) fn outage(&mut self, length: Duration) {
        self.down_until = Some(Instant::now() + length);
        self.writer += 1;
    }

    fn is_down(&self) -> bool {
        self.dead || self.down_until.is_some_and(|until| Instant::now() < until)
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        !self.calm && self.dice.random_range(0..1_000) < thousandths
    }

    fn store(&mut self, message: &Message) {
        self.log.push(Stored {
            id: message.id.to_string(),
            key: message.key.as_ref().map(|key| key.to_vec()),
            gap: message.gap().is_some(),
        });
    }
}

pub(crate) struct SimSink {
    pub(crate) broker: SharedBroker,
    pub(crate) ordering: Ordering,
}

impl Sink for SimSink {
    fn ordering(&self) -> Ordering {
        self.ordering
    }

    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        async {
            sleep(Duration::from_millis(3)).await;
            let mut broker = self.broker.lock().unwrap();
            if broker.is_down() {
                let why: BoxError = "down".into();
                return Err(match broker.dice.random_range(0..3) {
                    0 => SinkError::Transient(why),
                    1 => SinkError::Blocked(why),
                    _ => SinkError::Later { why, wait: Duration::from_millis(700) },
                });
            }
            broker.writer += 1;
            let writer = SimWriter {
                broker: Arc::clone(&self.broker),
                ordering: self.ordering,
                number: broker.writer,
                due: Instant::now(),
                poisoned: false,
                pending: Arc::default(),
            };
            let resume = broker.committed.clone().filter(|_| broker.scenario.exactly_once);
            Ok(Opened { writer: Box::new(writer), resume })
        }
        .boxed()
    }
}

/// Batches that were published and not yet stored, in order.
type Pending = Arc<Mutex<Vec<(u64, Vec<Message>)>>>;

struct SimWriter {
    broker: SharedBroker,
    ordering: Ordering,
    number: u64,
    due: Instant,
    poisoned: bool,
    pending: Pending,
}

/// What becomes of one published batch.
enum Fate {
    Stored,
    /// The session ends: a part is stored, nobody hears of it.
    Torn(usize),
    /// Stored, and the answer is lost.
    AnswerLost,
}

impl Drop for SimWriter {
    /// What was on the wire may arrive when its writer is gone: a prefix of it.
    fn drop(&mut self) {
        let mut broker = self.broker.lock().unwrap();
        if broker.writer != self.number || broker.scenario.exactly_once {
            return;
        }
        let on_the_wire: Vec<Message> =
            self.pending.lock().unwrap().drain(..).flat_map(|(_, messages)| messages).collect();
        let arrives = broker.dice.random_range(0..=on_the_wire.len());
        on_the_wire[..arrives].iter().for_each(|message| broker.store(message));
    }
}

impl Writer for SimWriter {
    fn publish<'a>(
        &'a mut self,
        batch: &'a Batch,
        only: &'a Only,
    ) -> BoxFuture<'a, Result<Published, SinkError>> {
        async move {
            if self.broker.lock().unwrap().dice.random_bool(0.3) {
                sleep(Duration::from_millis(2)).await;
            }
            let fault = self.broker.lock().unwrap().scenario.publish_fault / 4;
            if self.broker.lock().unwrap().chance(fault) {
                return Err(SinkError::Transient("refused to publish".into()));
            }
            Ok(self.accept(batch, only))
        }
        .boxed()
    }

    fn event(&mut self) -> BoxFuture<'_, Event> {
        async {
            while self.broker.lock().unwrap().writer == self.number {
                sleep(Duration::from_millis(10)).await;
            }
            Event::Ended(SinkError::Transient("connection lost".into()))
        }
        .boxed()
    }
}

impl SimWriter {
    /// Splits a batch into what is sent and what is refused, and says later what became of it.
    fn accept(&mut self, batch: &Batch, only: &Only) -> Published {
        let mut open: Vec<(u32, Open)> = Vec::new();
        let mut sent: Vec<(usize, Message)> = Vec::new();
        let mut broker = self.broker.lock().unwrap();
        let mut refused_keys: Vec<Option<Vec<u8>>> = Vec::new();
        for place in only.places(batch.messages.len()) {
            let message = &batch.messages[place];
            let key = message.key.as_ref().map(|key| key.to_vec());
            let behind = match self.ordering {
                Ordering::Flow => self.poisoned,
                Ordering::Key => refused_keys.contains(&key),
            };
            if behind {
                open.push((place as u32, Open::Unsent));
            } else if is_poison(message) && !broker.calm {
                open.push((place as u32, Open::Rejected("poison".into())));
                self.poisoned = true;
                refused_keys.push(key);
            } else {
                sent.push((place, message.clone()));
            }
        }
        let stopped = !open.is_empty();
        if let (Some((first, _)), Some((last, _))) = (open.first(), sent.last())
            && *last > *first as usize
        {
            broker.seen.push(Situation::RefusalWithLaterOnesConfirmed);
        }
        self.poisoned = false;
        let rate = broker.scenario.publish_fault;
        let fate = match broker.chance(rate) {
            false => Fate::Stored,
            true if broker.dice.random_bool(0.5) => Fate::AnswerLost,
            true => Fate::Torn(broker.dice.random_range(0..=sent.len())),
        };
        let pause = Duration::from_millis(broker.dice.random_range(1..15));
        drop(broker);
        self.due = self.due.max(Instant::now()) + pause;
        let end = batch.end.clone();
        let confirmation = self.confirm(sent, open, fate, end);
        Published { confirmation, stopped }
    }

    fn confirm(
        &self,
        sent: Vec<(usize, Message)>,
        mut open: Vec<(u32, Open)>,
        fate: Fate,
        end: Option<Checkpoint>,
    ) -> BoxFuture<'static, Outcome> {
        let (due, number) = (self.due, self.number);
        let (broker, pending) = (Arc::clone(&self.broker), Arc::clone(&self.pending));
        let ticket = {
            let mut pending = pending.lock().unwrap();
            let ticket = pending.last().map_or(0, |(ticket, _)| ticket + 1);
            pending.push((ticket, sent.iter().map(|(_, message)| message.clone()).collect()));
            ticket
        };
        async move {
            sleep_until(due).await;
            // The wire is in order: an earlier batch that is still on it goes first.
            while pending.lock().unwrap().first().is_some_and(|(first, _)| *first < ticket) {
                sleep(Duration::from_millis(1)).await;
            }
            let mut broker = broker.lock().unwrap();
            pending.lock().unwrap().retain(|(waiting, _)| *waiting != ticket);
            let (stored, lost) = match fate {
                _ if broker.writer != number || broker.is_down() => (0, true),
                Fate::Stored => (sent.len(), false),
                Fate::AnswerLost => (sent.len(), true),
                Fate::Torn(_) if broker.scenario.exactly_once => (0, true),
                Fate::Torn(stored) => (stored, true),
            };
            sent[..stored].iter().for_each(|(_, message)| broker.store(message));
            if broker.scenario.exactly_once && stored == sent.len() && open.is_empty() {
                // What is sent again moves no position.
                broker.committed = end.or(broker.committed.take());
                if lost {
                    broker.seen.push(Situation::CommitAnswerLost);
                }
            }
            if !lost {
                open.sort_by_key(|(place, _)| *place);
                return Outcome { open, session: None };
            }
            broker.seen.push(Situation::OutcomeLost);
            broker.writer += u64::from(broker.writer == number);
            // Each message has an answer of its own: some of those that were stored are known to be.
            let told = |broker: &mut Broker, at: usize| {
                at < stored && !broker.scenario.exactly_once && broker.dice.random_bool(0.5)
            };
            let unknown = sent.iter().enumerate().filter(|(at, _)| !told(&mut broker, *at));
            open.extend(unknown.map(|(_, (place, _))| (*place as u32, Open::Unknown)));
            open.sort_by_key(|(place, _)| *place);
            Outcome { open, session: Some(SinkError::Transient("the answer was lost".into())) }
        }
        .boxed()
    }
}
