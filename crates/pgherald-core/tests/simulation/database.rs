//! A source with positions: rows, a cursor for each flow, one lock for each flow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{
    Attached, Batch, Body, BoxError, Checkpoint, ContentType, Headers, Message, MessageId, Room,
    Session, Settled, Source, SourceError,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::scenario::{Scenario, Situation};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Unique for ever, unlike the row's number.
    pub(crate) content: u64,
    pub(crate) key: u8,
    pub(crate) size: usize,
    pub(crate) poison: bool,
    pub(crate) unreadable: bool,
}

#[derive(Debug, Default)]
pub(crate) struct FlowRow {
    pub(crate) cursor: usize,
    /// The session that holds the flow's lock.
    holder: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) rows: Vec<Row>,
    pub(crate) flows: HashMap<&'static str, FlowRow>,
    pub(crate) seen: Vec<Situation>,
    pub(crate) calm: bool,
    /// Sessions were ended: what was on its way may arrive twice.
    pub(crate) lost_sessions: bool,
    /// The process that is to carry the flow; `None`: whoever comes first.
    pub(crate) carrier: Option<u64>,
    processes: u64,
    sessions: u64,
    contents: u64,
    dice: SmallRng,
    scenario: Scenario,
}

pub(crate) type SharedDatabase = Arc<Mutex<Database>>;

impl Database {
    pub(crate) fn shared(scenario: &Scenario) -> SharedDatabase {
        Arc::new(Mutex::new(Self {
            rows: Vec::new(),
            flows: HashMap::new(),
            seen: Vec::new(),
            calm: false,
            lost_sessions: false,
            carrier: None,
            processes: 0,
            sessions: 0,
            contents: 0,
            dice: SmallRng::seed_from_u64(scenario.seed ^ 0xdb),
            scenario: scenario.clone(),
        }))
    }

    pub(crate) fn new_process(&mut self) -> u64 {
        self.processes += 1;
        self.processes
    }

    pub(crate) fn commit(&mut self, rows: usize) {
        for _ in 0..rows {
            self.contents += 1;
            let scenario = &self.scenario;
            let poison = scenario.poison;
            let large = self.dice.random_range(0..200) == 0;
            let size = match large {
                true => scenario.budget.bytes + self.dice.random_range(1..500),
                false => self.dice.random_range(1..60),
            };
            if size > scenario.budget.bytes && size <= scenario.message_bytes_max {
                self.seen.push(Situation::AboveTheBudget);
            }
            let row = Row {
                content: self.contents,
                key: self.dice.random_range(0..scenario.keys),
                size,
                poison: self.dice.random_range(0..1_000) < poison,
                unreadable: self.dice.random_range(0..1_000) < poison / 8,
            };
            self.rows.push(row);
        }
        if rows > self.scenario.budget.messages {
            self.seen.push(Situation::TransactionAboveTheBudget);
        }
    }

    /// Every session ends.
    pub(crate) fn lose_sessions(&mut self) {
        self.lost_sessions = true;
        self.flows.values_mut().for_each(|flow| flow.holder = None);
    }

    /// A failover to a standby that lacks the last rows: their numbers are issued again.
    pub(crate) fn rewind(&mut self) {
        let kept = self.dice.random_range(0..=self.rows.len());
        if kept < self.rows.len() {
            self.seen.push(Situation::HistoryRewound);
        }
        self.rows.truncate(kept);
        self.flows.values_mut().for_each(|flow| flow.cursor = flow.cursor.min(kept));
        self.lose_sessions();
    }

    fn checkpoint(&self, through: usize) -> Checkpoint {
        let last = through.checked_sub(1).map_or(0, |last| self.rows[last].content);
        Checkpoint(Bytes::from([(through as u64).to_be_bytes(), last.to_be_bytes()].concat()))
    }

    /// A checkpoint counts only while the row that it names still exists unchanged.
    fn position(&self, checkpoint: &Checkpoint) -> Option<usize> {
        let number =
            |at: usize| Some(u64::from_be_bytes(checkpoint.0[at..at + 8].try_into().ok()?));
        let through = usize::try_from(number(0)?).ok()?;
        (through <= self.rows.len() && self.checkpoint(through) == *checkpoint).then_some(through)
    }

    fn message(&self, row: &Row) -> Message {
        let headers = row.poison.then(|| ("poison".into(), "1".into()));
        Message {
            id: MessageId::new(format_args!("row-{}", row.content)),
            channel: "orders".into(),
            key: Some(Bytes::copy_from_slice(&[row.key])),
            headers: headers.into_iter().collect::<Headers>(),
            content_type: ContentType::Bytes,
            body: match row.unreadable {
                true => Body::Unreadable("not text".into()),
                false => Body::Payload(Bytes::from(vec![0; row.size])),
            },
            since: UNIX_EPOCH + Duration::from_secs(row.content),
        }
    }
}

pub(crate) struct SimSource {
    pub(crate) database: SharedDatabase,
    pub(crate) flow: &'static str,
    pub(crate) process: u64,
    pub(crate) stop: CancellationToken,
}

impl Source for SimSource {
    fn has_positions(&self) -> bool {
        true
    }

    fn attach(&self) -> BoxFuture<'_, Result<Box<dyn Attached>, SourceError>> {
        async {
            sleep(Duration::from_millis(2)).await;
            let mut database = self.database.lock().unwrap();
            if !database.calm && database.dice.random_bool(0.05) {
                return Err(SourceError::Transient("connection refused".into()));
            }
            if database.carrier.is_some_and(|carrier| carrier != self.process) {
                return Err(SourceError::Standby("another process is to carry it".into()));
            }
            database.sessions += 1;
            let number = database.sessions;
            let flow = database.flows.entry(self.flow).or_default();
            if let Some(holder) = flow.holder {
                return Err(SourceError::Standby(
                    format!("session {holder} holds the lock").into(),
                ));
            }
            flow.holder = Some(number);
            Ok(Box::new(SimSession {
                database: Arc::clone(&self.database),
                flow: self.flow,
                process: self.process,
                stop: self.stop.clone(),
                number,
                handed_over: false,
                read: 0,
                handed: Vec::new(),
            }) as Box<dyn Attached>)
        }
        .boxed()
    }
}

struct SimSession {
    database: SharedDatabase,
    flow: &'static str,
    process: u64,
    stop: CancellationToken,
    number: u64,
    /// Core was told once that another process is to carry the flow.
    handed_over: bool,
    read: usize,
    /// What was handed out and is not settled: (through, messages, bytes).
    handed: Vec<(usize, usize, usize)>,
}

impl Drop for SimSession {
    fn drop(&mut self) {
        let mut database = self.database.lock().unwrap();
        let flow = database.flows.get_mut(self.flow).unwrap();
        if flow.holder == Some(self.number) {
            flow.holder = None;
        }
    }
}

fn lost() -> SourceError {
    let why: BoxError = "the session was lost".into();
    SourceError::Transient(why)
}

impl Attached for SimSession {
    fn read_from(
        mut self: Box<Self>,
        resume: Option<Checkpoint>,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, SourceError>> {
        async move {
            {
                let database = self.database.lock().unwrap();
                let flow = &database.flows[self.flow];
                if flow.holder != Some(self.number) {
                    return Err(lost());
                }
                let remembered = resume.and_then(|resume| database.position(&resume));
                self.read = flow.cursor.max(remembered.unwrap_or(0));
            }
            Ok(self as Box<dyn Session>)
        }
        .boxed()
    }

    fn tend(&mut self) -> BoxFuture<'_, SourceError> {
        async {
            loop {
                if self.is_to_hand_over() {
                    self.note(Situation::HandedOverBeforeItRead);
                    return SourceError::HandOver;
                }
                sleep(Duration::from_millis(7)).await;
            }
        }
        .boxed()
    }
}

impl SimSession {
    /// True once, when another process is to carry the flow.
    fn is_to_hand_over(&mut self) -> bool {
        let carrier = self.database.lock().unwrap().carrier;
        let other = carrier.is_some_and(|carrier| carrier != self.process);
        other && !std::mem::replace(&mut self.handed_over, other)
    }

    fn hand_over(&self) -> SourceError {
        if !self.handed.is_empty() {
            self.note(Situation::HandedOver);
        }
        SourceError::HandOver
    }

    fn note(&self, situation: Situation) {
        self.database.lock().unwrap().seen.push(situation);
    }

    fn holds(&self) -> bool {
        self.database.lock().unwrap().flows[self.flow].holder == Some(self.number)
    }

    /// Writes the newest settled checkpoint, and asserts what core promises about it.
    fn write(&mut self, settled: &Settled) -> Result<(), SourceError> {
        let Some(checkpoint) = settled.newest() else { return Ok(()) };
        let mut database = self.database.lock().unwrap();
        if database.flows[self.flow].holder != Some(self.number) {
            database.seen.push(Situation::SessionLostDuringAck);
            return Err(lost());
        }
        let through =
            database.position(&checkpoint).expect("a settled checkpoint is of this session");
        assert!(through <= self.read, "settled before it was read");
        let flow = database.flows.get_mut(self.flow).unwrap();
        assert!(through >= flow.cursor, "an ack goes forward only");
        flow.cursor = through;
        self.handed.retain(|(end, ..)| *end > through);
        Ok(())
    }

    fn next(&mut self, room: Room) -> Option<Batch> {
        let mut database = self.database.lock().unwrap();
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut through = self.read;
        while through < database.rows.len() {
            let message = database.message(&database.rows[through]);
            if !room.admits(messages.len(), bytes, message.size()) {
                break;
            }
            bytes += message.size();
            messages.push(message);
            through += 1;
        }
        let waiting = through < database.rows.len();
        let keepalive = messages.is_empty() && !waiting && database.dice.random_range(0..50) == 0;
        if messages.is_empty() && !waiting && !keepalive {
            return None;
        }
        if keepalive {
            database.seen.push(Situation::EmptyBatch);
        }
        let end = database.checkpoint(through);
        self.read = through;
        let count = messages.len();
        drop(database);
        self.hand_out(through, count, bytes);
        Some(Batch { messages, end: Some(end) })
    }

    fn hand_out(&mut self, through: usize, messages: usize, bytes: usize) {
        if messages == 0 {
            return;
        }
        self.handed.push((through, messages, bytes));
        let held: usize = self.handed.iter().map(|(_, messages, _)| messages).sum();
        let held_bytes: usize = self.handed.iter().map(|(_, _, bytes)| bytes).sum();
        let Scenario { budget, poison, .. } = self.database.lock().unwrap().scenario;
        // A skipped message makes room for more: the gap in its place weighs nothing.
        if poison > 0 {
            return;
        }
        assert!(held <= budget.messages, "{held} messages handed out, budget {budget:?}");
        assert!(held_bytes <= budget.bytes || held == 1, "{held_bytes} bytes, budget {budget:?}");
    }
}

impl Session for SimSession {
    fn read<'a>(
        &'a mut self,
        room: Room,
        settled: &'a Settled,
    ) -> BoxFuture<'a, Result<Batch, SourceError>> {
        async move {
            let mut waited = false;
            loop {
                if self.stop.is_cancelled() {
                    if waited {
                        self.database.lock().unwrap().seen.push(Situation::StoppedInMidRead);
                    }
                    return Err(SourceError::Stopped);
                }
                if !self.holds() {
                    return Err(lost());
                }
                if self.is_to_hand_over() {
                    return Err(self.hand_over());
                }
                self.write(settled)?;
                if let Some(batch) = self.next(room) {
                    return Ok(batch);
                }
                settled.read_succeeded();
                waited = true;
                sleep(Duration::from_millis(7)).await;
            }
        }
        .boxed()
    }

    fn tend<'a>(&'a mut self, settled: &'a Settled) -> BoxFuture<'a, SourceError> {
        async move {
            loop {
                if !self.holds() {
                    return lost();
                }
                if self.is_to_hand_over() {
                    return self.hand_over();
                }
                if let Err(error) = self.write(settled) {
                    return error;
                }
                sleep(Duration::from_millis(7)).await;
            }
        }
        .boxed()
    }

    fn ack<'a>(&'a mut self, through: &'a Checkpoint) -> BoxFuture<'a, Result<(), SourceError>> {
        async move {
            let settled = Settled::default();
            settled.advance(through.clone());
            self.write(&settled)
        }
        .boxed()
    }
}
