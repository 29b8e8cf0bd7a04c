//! Batches that have no outcome yet: what is left of each, and what became of the rest.

use std::collections::HashMap;

use pgherald_core::{Open, Outcome};
use tokio::sync::oneshot;

use crate::{error::Fault, schedule::Item};

/// One batch, as the writer hands it over.
pub(crate) struct Job {
    /// What is to be sent; their job is not known yet.
    pub(crate) items: Vec<Item>,
    /// What the writer itself found: a rejected message, and the unsent ones behind it.
    pub(crate) open: Vec<(u32, Open)>,
    /// Core had heard of every earlier outcome when it published this batch.
    pub(crate) informed: bool,
    pub(crate) done: oneshot::Sender<Outcome>,
}

#[derive(Default)]
pub(crate) struct Jobs {
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// Told to every job from the first fault on.
    fault: Option<Fault>,
}

struct Waiting {
    left: usize,
    open: Vec<(u32, Open)>,
    done: oneshot::Sender<Outcome>,
}

impl Jobs {
    /// Takes a job in, and gives its items back with its number on them.
    pub(crate) fn take(&mut self, job: Job) -> Vec<Item> {
        let Job { mut items, open, done, .. } = job;
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, Waiting { left: items.len(), open, done });
        items.iter_mut().for_each(|item| item.job = number);
        if items.is_empty() {
            self.resolve(number);
        }
        items
    }

    /// One message is confirmed.
    pub(crate) fn confirm(&mut self, item: &Item) {
        self.count(item.job, None);
    }

    /// One message stays open.
    pub(crate) fn leave(&mut self, item: &Item, open: Open) {
        self.count(item.job, Some((item.place, open)));
    }

    /// The session is over.
    pub(crate) fn fail(&mut self, fault: &Fault) {
        self.fault.get_or_insert_with(|| fault.clone());
    }

    fn count(&mut self, job: u64, open: Option<(u32, Open)>) {
        let Some(waiting) = self.waiting.get_mut(&job) else { return };
        waiting.open.extend(open);
        waiting.left -= 1;
        if waiting.left == 0 {
            self.resolve(job);
        }
    }

    fn resolve(&mut self, job: u64) {
        let Some(Waiting { mut open, done, .. }) = self.waiting.remove(&job) else { return };
        open.sort_by_key(|(place, _)| *place);
        let session = self.fault.as_ref().map(Fault::session);
        // Core may have dropped the confirmation together with the writer.
        let _ = done.send(Outcome { open, session });
    }
}
