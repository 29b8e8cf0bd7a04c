//! What is printed: messages, and what was missed, in its place.

use std::sync::Arc;

use pgherald_core::{Gap, Message};

/// One line of the stream.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A message of a pipeline.
    Message { pipeline: Arc<str>, message: Message },
    /// A window in which this command did not listen, or standard output did not keep up.
    Gap(Gap),
    /// Ids of an outbox whose row was never seen.
    Unseen { table: Arc<str>, ids: u64, first: i64, last: i64 },
    /// An outbox was replaced, or its ids began anew.
    Anew { table: Arc<str> },
}

/// A pipeline, and which channels of it are printed.
#[derive(Clone, Debug)]
pub(super) struct Taker<S> {
    pub(super) pipeline: Arc<str>,
    /// `None`: all.
    pub(super) channels: Option<Vec<Arc<str>>>,
    /// Of its source.
    pub(super) settings: S,
}

impl<S> Taker<S> {
    pub(super) fn takes(&self, channel: &str) -> bool {
        self.channels.as_ref().is_none_or(|names| names.iter().any(|name| **name == *channel))
    }
}

/// Every channel that one of them takes; `None`: all.
pub(super) fn union<S>(takers: &[Taker<S>]) -> Option<Vec<Arc<str>>> {
    let mut all: Vec<Arc<str>> = Vec::new();
    for taker in takers {
        for name in taker.channels.as_ref()? {
            if !all.contains(name) {
                all.push(Arc::clone(name));
            }
        }
    }
    Some(all)
}
