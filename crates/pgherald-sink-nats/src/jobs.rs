//! Batches on their way: outgoing messages in one order, settled from the front.

use std::collections::VecDeque;

use async_nats::Subject;
use bytes::Bytes;
use pgherald_core::{BoxError, Open, Outcome};
use tokio::sync::oneshot;

use crate::{error::Fault, headers::Headers};

/// One message as it goes to the server. A message is one of these; a gap is one for each destination.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// The message's place in its batch.
    pub(crate) place: u32,
    pub(crate) subject: Subject,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    /// The configuration alone names the subject.
    pub(crate) configured: bool,
}

/// One batch, as the writer hands it over.
pub(crate) struct Job {
    pub(crate) outgoings: Vec<Outgoing>,
    /// What the writer itself found: a rejected message, and the unsent ones behind it.
    pub(crate) open: Vec<(u32, Open)>,
    /// Core had heard of every earlier outcome when it published this batch.
    pub(crate) informed: bool,
    pub(crate) done: oneshot::Sender<Outcome>,
}

/// Batches that have no outcome yet.
#[derive(Default)]
pub(crate) struct Jobs {
    /// The outgoing messages of all jobs, in order.
    outgoings: VecDeque<Outgoing>,
    /// The first job owns the first `left` outgoing messages.
    jobs: VecDeque<Waiting>,
    /// A message was refused, and core has not heard of it: nothing may overtake it.
    refused: bool,
}

struct Waiting {
    left: usize,
    open: Vec<(u32, Open)>,
    done: oneshot::Sender<Outcome>,
}

impl Jobs {
    /// Takes a batch in; behind a refusal that core has not heard of, it comes back unsent.
    pub(crate) fn take(&mut self, job: Job) {
        self.refused &= !job.informed;
        let waiting = Waiting { left: job.outgoings.len(), open: job.open, done: job.done };
        if self.refused {
            let open = unsent(job.outgoings.iter());
            waiting.resolve(open, None);
            return;
        }
        self.outgoings.extend(job.outgoings);
        self.jobs.push_back(waiting);
        self.settle_front();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outgoings.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.outgoings.len()
    }

    pub(crate) fn outgoing(&self, index: usize) -> &Outgoing {
        &self.outgoings[index]
    }

    pub(crate) fn outgoings(&self) -> impl Iterator<Item = &Outgoing> {
        self.outgoings.iter()
    }

    /// The first `count` outgoing messages are confirmed.
    pub(crate) fn confirm(&mut self, count: usize) {
        self.outgoings.drain(..count);
        let mut rest = count;
        while rest > 0 {
            let front = self.jobs.front_mut().expect("every outgoing has its job");
            let taken = rest.min(front.left);
            front.left -= taken;
            rest -= taken;
            self.settle_front();
        }
    }

    fn settle_front(&mut self) {
        while self.jobs.front().is_some_and(|job| job.left == 0) {
            let job = self.jobs.pop_front().expect("there is a front");
            job.resolve(Vec::new(), None);
        }
    }

    /// The first outgoing message is refused for good: its message is rejected, and everything behind it
    /// comes back unsent.
    pub(crate) fn reject_front(&mut self, why: BoxError) {
        let mut why = Some(why);
        self.resolve_all(None, |_| why.take().map_or(Open::Unsent, Open::Rejected));
        self.refused = true;
    }

    /// The session is over: the first `sent` outgoing messages may have arrived, the rest was not sent.
    pub(crate) fn fail(&mut self, sent: usize, fault: &Fault) {
        self.resolve_all(
            Some(fault),
            |index| {
                if index < sent { Open::Unknown } else { Open::Unsent }
            },
        );
    }

    fn resolve_all(&mut self, fault: Option<&Fault>, mut open: impl FnMut(usize) -> Open) {
        let outgoings = std::mem::take(&mut self.outgoings);
        let mut outgoings = outgoings.iter().enumerate();
        for job in self.jobs.drain(..) {
            let mut named: Vec<(u32, Open)> = Vec::new();
            for (index, outgoing) in outgoings.by_ref().take(job.left) {
                let fate = open(index);
                if named.last().is_none_or(|(place, _)| *place != outgoing.place) {
                    named.push((outgoing.place, fate));
                }
            }
            job.resolve(named, fault);
        }
    }
}

fn unsent<'a>(outgoings: impl Iterator<Item = &'a Outgoing>) -> Vec<(u32, Open)> {
    let mut open: Vec<(u32, Open)> = Vec::new();
    for outgoing in outgoings {
        if open.last().is_none_or(|(place, _)| *place != outgoing.place) {
            open.push((outgoing.place, Open::Unsent));
        }
    }
    open
}

impl Waiting {
    fn resolve(self, mut open: Vec<(u32, Open)>, fault: Option<&Fault>) {
        open.extend(self.open);
        let outcome = Outcome { open, session: fault.map(Fault::session) };
        // Core may have dropped the confirmation together with the writer.
        let _ = self.done.send(outcome);
    }
}
