//! The task that owns a writer's connections: takes batches in, sends requests, settles jobs.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use pgherald_core::Open;
use tokio::sync::{mpsc, watch};

use crate::{
    error::{Fault, HttpError, Said},
    exchange::{Exchange, RequestOutcome},
    jobs::{Job, Jobs},
    patience::Patience,
    schedule::{Item, RequestBatch, Schedule},
};

/// Everything that the task of one writer owns.
pub(crate) struct Delivery {
    exchange: Exchange,
    patience: Arc<Patience>,
    concurrency: usize,
    inbound: mpsc::Receiver<Job>,
    schedule: Schedule,
    jobs: Jobs,
    requests: FuturesUnordered<BoxFuture<'static, (RequestBatch, RequestOutcome)>>,
    /// A message was refused, and core has not heard of it: nothing is sent behind it.
    refused: bool,
    /// The session is over.
    failed: bool,
    tell: watch::Sender<Option<Fault>>,
}

impl Delivery {
    pub(crate) fn new(
        exchange: Exchange,
        patience: Arc<Patience>,
        schedule: Schedule,
        concurrency: usize,
        inbound: mpsc::Receiver<Job>,
        tell: watch::Sender<Option<Fault>>,
    ) -> Self {
        Self {
            exchange,
            patience,
            concurrency,
            inbound,
            schedule,
            jobs: Jobs::default(),
            requests: FuturesUnordered::new(),
            refused: false,
            failed: false,
            tell,
        }
    }

    /// Runs until the session is over and every request under way has its answer.
    pub(crate) async fn run(mut self) {
        loop {
            self.start();
            if self.failed && self.requests.is_empty() {
                return self.refuse_what_comes();
            }
            tokio::select! {
                biased;
                Some((request_batch, answer)) = self.requests.next() => self.settle(request_batch, answer),
                job = self.inbound.recv(), if !self.failed => match job {
                    Some(job) => self.take(job),
                    None => return,
                },
            }
        }
    }

    fn take(&mut self, job: Job) {
        self.refused &= !job.informed;
        let items = self.jobs.take(job);
        for item in items {
            match self.refused {
                true => self.jobs.leave(&item, Open::Unsent),
                false => self.schedule.push(item),
            }
        }
    }

    /// Sends what may be sent.
    fn start(&mut self) {
        while self.requests.len() < self.concurrency {
            let Some(request_batch) = self.schedule.next() else { return };
            let exchange = self.exchange.clone();
            let sending = async move {
                let answer = exchange.run(&request_batch).await;
                (request_batch, answer)
            };
            self.requests.push(sending.boxed());
        }
    }

    fn settle(&mut self, request_batch: RequestBatch, answer: RequestOutcome) {
        self.patience.ended();
        match answer {
            RequestOutcome::Confirmed => {
                self.schedule.settle(&request_batch);
                for item in &request_batch {
                    self.patience.taken(&item.message.id);
                    self.jobs.confirm(item);
                }
            }
            RequestOutcome::Rejected(why) => self.reject(request_batch, why),
            RequestOutcome::Fault { fault, sent, said } => {
                if let Some(why) = self.blame(&request_batch, &fault, said) {
                    return self.reject(request_batch, why.into());
                }
                self.fail(&fault);
                for item in &request_batch {
                    self.jobs.leave(item, if sent { Open::Unknown } else { Open::Unsent });
                }
            }
        }
    }

    /// The messages go again, unless that has lasted too long.
    fn blame(&self, request_batch: &RequestBatch, fault: &Fault, said: Said) -> Option<HttpError> {
        let (last, alone): (Arc<str>, bool) = (fault.to_string().into(), request_batch.len() == 1);
        let blame =
            |item: &Item| self.patience.blame(item.message.id, said, Arc::clone(&last), alone);
        let lasted = request_batch.iter().filter_map(blame).max()?;
        Some(HttpError::GivenUp { last, lasted })
    }

    /// A request batch will never be taken: several messages go again, each alone; one is rejected, and
    /// nothing is sent behind it before core has dealt with it.
    fn reject(&mut self, request_batch: RequestBatch, why: pgherald_core::BoxError) {
        let is_over = self.failed || self.refused;
        match &request_batch[..] {
            [single] => {
                self.schedule.settle(&request_batch);
                self.jobs.leave(single, Open::Rejected(why));
                self.refused = true;
                self.leave_waiting();
            }
            several if is_over => {
                self.schedule.settle(several);
                several.iter().for_each(|item| self.jobs.leave(item, Open::Unsent));
            }
            _ => self.schedule.split(request_batch),
        }
    }

    /// The first fault ends the session. What is under way keeps its chance of an answer.
    fn fail(&mut self, fault: &Fault) {
        self.failed = true;
        self.jobs.fail(fault);
        self.tell.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert_with(|| fault.clone());
            first
        });
        self.leave_waiting();
    }

    fn leave_waiting(&mut self) {
        for item in self.schedule.take_waiting() {
            self.jobs.leave(&item, Open::Unsent);
        }
    }

    /// Batches that came in when nothing was taken any more.
    fn refuse_what_comes(&mut self) {
        self.inbound.close();
        while let Ok(job) = self.inbound.try_recv() {
            for item in self.jobs.take(job) {
                self.jobs.leave(&item, Open::Unsent);
            }
        }
    }
}
