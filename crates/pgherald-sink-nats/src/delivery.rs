//! The task that owns a connection: takes batches in, sends them in order, settles them in order.

mod atomic;
mod chain;
mod core;

use async_nats::header::NATS_MESSAGE_ID;
use metrics::Counter;
use tokio::sync::{mpsc, watch};

use crate::{
    acks::{Heard, Publisher, Reply},
    error::{Class, Fault, NatsError},
    headers::Names,
    jobs::{Job, Jobs},
};

pub(crate) use self::chain::SendWindow;

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublishMode {
    /// Atomic batches, one in flight; the stream allows them.
    Atomic,
    /// A chain of messages, each stored only directly behind its predecessor.
    Chain,
    /// Core NATS: nobody stores anything.
    Core,
}

/// Everything that the task of one writer owns.
pub(crate) struct Delivery {
    publisher: Publisher,
    jobs: Jobs,
    inbound: mpsc::Receiver<Job>,
    mode: PublishMode,
    send_window: SendWindow,
    /// The stream whose word counts.
    stream: String,
    duplicates: Counter,
    names: Names,
    /// How many outgoing messages at the front of the jobs may have arrived.
    sent: usize,
}

/// What the server says while something is unanswered.
enum ServerAnswer {
    /// About one message, counted from the first unanswered one.
    Reply(usize, Reply),
    /// About some message to this subject: no permission.
    Denied(String),
}

/// Why a delivery stops: the writer was dropped, or the session is over.
enum Stop {
    Dropped,
    Fault(Fault),
}

impl From<NatsError> for Stop {
    fn from(error: NatsError) -> Self {
        Self::Fault(error.into())
    }
}

impl Delivery {
    pub(crate) fn new(
        publisher: Publisher,
        inbound: mpsc::Receiver<Job>,
        mode: PublishMode,
        stream: String,
        duplicates: Counter,
    ) -> Self {
        let (jobs, send_window, names) = (Jobs::default(), SendWindow::default(), Names::default());
        Self { publisher, jobs, inbound, mode, send_window, stream, duplicates, names, sent: 0 }
    }

    /// Delivers until the writer is dropped or the session is over; then says why.
    pub(crate) async fn run(mut self, ended: watch::Sender<Option<Fault>>) {
        let fault = loop {
            match self.round().await {
                Ok(()) => {}
                Err(Stop::Dropped) => return,
                Err(Stop::Fault(fault)) => break fault,
            }
        };
        ended.send_replace(Some(fault.clone()));
        self.jobs.fail(self.sent, &fault);
        self.inbound.close();
        while let Ok(job) = self.inbound.try_recv() {
            self.jobs.take(job);
            self.jobs.fail(0, &fault);
        }
    }

    async fn round(&mut self) -> Result<(), Stop> {
        self.take_waiting();
        if self.jobs.is_empty() {
            return self.idle().await;
        }
        match self.mode {
            PublishMode::Atomic => self.atomic().await,
            PublishMode::Chain => self.chain(usize::MAX).await,
            PublishMode::Core => self.core().await,
        }
    }

    /// Waits for a batch.
    async fn idle(&mut self) -> Result<(), Stop> {
        tokio::select! {
            biased;
            error = self.publisher.ended() => Err(error.into()),
            job = self.inbound.recv() => {
                self.jobs.take(job.ok_or(Stop::Dropped)?);
                Ok(())
            }
        }
    }

    /// Takes in every batch that waits.
    fn take_waiting(&mut self) {
        while let Ok(job) = self.inbound.try_recv() {
            self.jobs.take(job);
        }
    }

    /// Waits for an answer to one of the messages from number `first` on.
    async fn answer(&mut self, first: u64) -> Result<ServerAnswer, Stop> {
        loop {
            match self.publisher.hear().await? {
                Heard::Reply(number, reply) if number >= first => {
                    let index = usize::try_from(number - first).expect("a window fits");
                    return Ok(ServerAnswer::Reply(index, self.of_our_stream(reply)));
                }
                // An answer to something that is long settled.
                Heard::Reply(..) => {}
                Heard::Denied(subject) => return Ok(ServerAnswer::Denied(subject)),
            }
        }
    }

    /// Confirmed means a word from the expected stream.
    fn of_our_stream(&self, reply: Reply) -> Reply {
        match reply {
            Reply::Stored { stream, .. } if stream != self.stream => {
                Reply::Refused(NatsError::OtherStream { wanted: self.stream.clone(), got: stream })
            }
            reply => reply,
        }
    }

    /// The first outgoing message is refused: either that message's fault, or the end of the session.
    fn refuse_front(&mut self, error: NatsError) -> Result<(), Stop> {
        let configured = self.jobs.outgoing(0).configured;
        let class = match &error {
            // A destination that a message's own data names, and that is denied to us.
            NatsError::Denied(_) if !configured => Class::Rejected,
            error => error.class(),
        };
        if class != Class::Rejected {
            let id = self.jobs.outgoing(0).headers.get(NATS_MESSAGE_ID.as_ref());
            let fault = match id {
                Some(id) => Fault::about(error, id),
                None => error.into(),
            };
            return Err(Stop::Fault(fault));
        }
        self.sent = 0;
        self.jobs.reject_front(Box::new(Fault::from(error)));
        Ok(())
    }

    fn confirm(&mut self, count: usize) {
        self.jobs.confirm(count);
        self.sent = self.sent.saturating_sub(count);
    }
}
