//! A source without positions: a queue that outlives its sessions, and gaps for what it missed.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Batch, Body, Checkpoint, ContentType, Gap, GapReason, Headers, Message, MessageId,
    Room, Session, Settled, Source, SourceError,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::scenario::{Scenario, Situation};

/// The world around one notify flow: announcements, and the queue of the process that hears them.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Everything that was announced, in order; gaps among it, where they were opened.
    pub(crate) announced: Vec<String>,
    /// What nobody heard, what was dropped, and what a killed process held.
    pub(crate) missed: BTreeSet<String>,
    pub(crate) rejected: BTreeSet<String>,
    pub(crate) seen: Vec<Situation>,
    session: Option<u64>,
    sessions: u64,
    queue: VecDeque<Message>,
    handed: u64,
    released: u64,
    held: VecDeque<(u64, usize)>,
    overflow: Option<u64>,
    numbers: u64,
    last_key: Option<u8>,
    behind_a_gap: bool,
    dice: SmallRng,
    scenario: Scenario,
}

pub(crate) type SharedListening = Arc<Mutex<Listening>>;

impl Listening {
    pub(crate) fn shared(scenario: &Scenario) -> SharedListening {
        Arc::new(Mutex::new(Self {
            announced: Vec::new(),
            missed: BTreeSet::new(),
            rejected: BTreeSet::new(),
            seen: Vec::new(),
            session: None,
            sessions: 0,
            queue: VecDeque::new(),
            handed: 0,
            released: 0,
            held: VecDeque::new(),
            overflow: None,
            numbers: 0,
            last_key: None,
            behind_a_gap: false,
            dice: SmallRng::seed_from_u64(scenario.seed ^ 0x115),
            scenario: scenario.clone(),
        }))
    }

    pub(crate) fn announce(&mut self) {
        self.numbers += 1;
        let id = MessageId::new(format_args!("s-{}", self.numbers));
        let key = self.dice.random_range(0..self.scenario.keys);
        let poison = self.dice.random_range(0..1_000) < self.scenario.poison;
        let message = Message {
            id,
            channel: "orders".into(),
            key: Some(Bytes::copy_from_slice(&[key])),
            headers: poison.then(|| ("poison".into(), "1".into())).into_iter().collect::<Headers>(),
            content_type: ContentType::Text,
            body: Body::Payload(Bytes::from(vec![0; self.dice.random_range(1..40)])),
            since: UNIX_EPOCH + Duration::from_secs(self.numbers),
        };
        self.announced.push(id.to_string());
        if poison {
            self.rejected.insert(id.to_string());
        }
        if self.session.is_none() {
            self.missed.insert(id.to_string());
        } else {
            self.hear(message, key);
        }
    }

    fn hear(&mut self, message: Message, key: u8) {
        let (messages, bytes) = self.occupied();
        let budget = self.scenario.budget;
        let fits = messages < budget.messages && bytes + message.size() <= budget.bytes;
        if self.overflow.is_none() && (fits || messages == 0) {
            if std::mem::take(&mut self.behind_a_gap) && self.last_key == Some(key) {
                self.seen.push(Situation::GapBetweenMessagesOfOneKey);
            }
            self.last_key = Some(key);
            self.queue.push_back(message);
            return;
        }
        self.missed.insert(message.id.to_string());
        *self.overflow.get_or_insert(0) += 1;
        self.seen.push(Situation::Overflow);
    }

    /// What counts against the budget: queued and not settled, gaps aside.
    fn occupied(&self) -> (usize, usize) {
        let queued = self.queue.iter().filter(|message| message.gap().is_none());
        let (count, bytes) = queued.fold((0, 0), |(n, b), message| (n + 1, b + message.size()));
        let held: usize = self.held.iter().map(|(_, size)| size).sum();
        (count + self.held.len(), bytes + held)
    }

    fn gap(&mut self, reason: GapReason, count: Option<u64>) {
        self.behind_a_gap = true;
        self.numbers += 1;
        let id = MessageId::new(format_args!("s-gap-{}", self.numbers));
        let at = UNIX_EPOCH + Duration::from_secs(self.numbers);
        let channels = [Arc::from("orders")].into();
        let gap = Gap { channels, from: None, to: at, reason, count, rejected: None };
        if let Some(Message { body: Body::Gap(last), .. }) = self.queue.back_mut()
            && last.absorb(gap.clone()).is_ok()
        {
            return;
        }
        self.announced.push(id.to_string());
        self.queue.push_back(Message {
            id,
            channel: "orders".into(),
            key: None,
            headers: Headers::default(),
            content_type: ContentType::Json,
            body: Body::Gap(gap),
            since: at,
        });
    }

    pub(crate) fn lose_session(&mut self) {
        self.session = None;
    }

    /// The process is gone, and what it held with it.
    pub(crate) fn kill(&mut self, delivered: &BTreeSet<String>) {
        self.session = None;
        self.queue.clear();
        self.held.clear();
        self.overflow = None;
        let lost = self.announced.iter().filter(|id| !delivered.contains(*id)).cloned();
        self.missed.extend(lost);
        self.released = self.handed;
    }

    fn release(&mut self, settled: &Settled) {
        let Some(checkpoint) = settled.newest() else { return };
        let through = u64::from_be_bytes(checkpoint.0[..8].try_into().unwrap());
        while self.held.front().is_some_and(|(number, _)| *number < through) {
            self.held.pop_front();
        }
        self.released = self.released.max(through);
        let (messages, bytes) = self.occupied();
        let budget = self.scenario.budget;
        if messages <= budget.messages / 2
            && bytes <= budget.bytes / 2
            && let Some(count) = self.overflow.take()
        {
            self.gap(GapReason::Overflow, Some(count));
        }
    }

    fn take(&mut self, room: Room) -> Option<Batch> {
        let (mut messages, mut bytes) = (Vec::<Message>::new(), 0);
        while let Some(message) = self.queue.front() {
            if !room.admits(messages.len(), bytes, message.size()) {
                break;
            }
            let message = self.queue.pop_front().unwrap();
            bytes += message.size();
            if message.gap().is_none() {
                self.held.push_back((self.handed, message.size()));
            }
            self.handed += 1;
            messages.push(message);
        }
        let waiting = !self.queue.is_empty();
        let end = Checkpoint(Bytes::copy_from_slice(&self.handed.to_be_bytes()));
        (waiting || !messages.is_empty()).then_some(Batch { messages, end: Some(end) })
    }
}

pub(crate) struct SimListener {
    pub(crate) world: SharedListening,
    pub(crate) stop: CancellationToken,
}

impl Source for SimListener {
    fn has_positions(&self) -> bool {
        false
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        async {
            sleep(Duration::from_millis(5)).await;
            let mut world = self.world.lock().unwrap();
            if !self.stop.is_cancelled() {
                if world.dice.random_bool(0.1) {
                    return Err(SourceError::Transient("connection refused".into()));
                }
                world.sessions += 1;
                world.session = Some(world.sessions);
                world.gap(GapReason::Disconnect, None);
            } else if world.queue.is_empty() {
                return Err(SourceError::Stopped);
            }
            let session = world.session;
            Ok(Box::new(SimHearing {
                world: Arc::clone(&self.world),
                stop: self.stop.clone(),
                session,
            }) as Box<dyn Attached>)
        }
        .boxed()
    }

    fn unread(&self) -> usize {
        self.world.lock().unwrap().queue.iter().filter(|message| message.gap().is_none()).count()
    }
}

struct SimHearing {
    world: SharedListening,
    stop: CancellationToken,
    session: Option<u64>,
}

impl Attached for SimHearing {
    fn read_from(
        self: Box<Self>,
        resume: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        assert_eq!(resume, None, "nobody remembers a source without positions");
        async move { Ok(self as Box<dyn Session>) }.boxed()
    }
}

impl Session for SimHearing {
    fn read<'a>(
        &'a mut self,
        room: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            loop {
                {
                    let mut world = self.world.lock().unwrap();
                    world.release(settled);
                    if let Some(batch) = world.take(room) {
                        return Ok(batch);
                    }
                    if self.stop.is_cancelled() {
                        if let Some(count) = world.overflow.take() {
                            world.gap(GapReason::Overflow, Some(count));
                            continue;
                        }
                        return Err(SourceError::Stopped);
                    }
                    if world.session != self.session {
                        return Err(SourceError::Transient("disconnected".into()));
                    }
                }
                sleep(Duration::from_millis(7)).await;
            }
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, _: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        async { Ok(()) }.boxed()
    }
}
