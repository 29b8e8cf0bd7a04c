//! The fate of a published batch.

use std::sync::Arc;

use futures_util::FutureExt as _;
use pgherald_core::{BoxError, Confirmation, Only, Open, Outcome};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::{
    delivery::{Failure, Reports},
    error::Fault,
    producer_events::ProducerEvents,
};

/// Why a batch was not published to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This message will never be accepted.
    Rejected(BoxError),
    /// The session is over.
    Fault(Fault),
}

/// The part of a batch that was not published.
pub(crate) struct Rest {
    /// The place of the first message that was not taken.
    pub(crate) from: usize,
    pub(crate) stop: Stop,
}

/// The places of a batch that a publish was asked for.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) only: Only,
    pub(crate) len: usize,
}

impl Asked {
    fn places(&self, from: usize, to: usize) -> impl Iterator<Item = u32> + '_ {
        let places = self.only.places(self.len);
        places
            .filter(move |place| (from..to).contains(place))
            .map(|place| u32::try_from(place).expect("a batch has fewer than 2^32 messages"))
    }
}

/// Waits for the last report of what was sent.
pub(crate) fn confirmation(
    events: Arc<ProducerEvents>,
    reports: Reports,
    asked: Asked,
    rest: Option<Rest>,
) -> Confirmation {
    async move {
        match reports.await {
            Ok(failures) => settle(&failures, events.ended(), &asked, rest),
            Err(_) => abandoned(&asked, rest),
        }
    }
    .boxed()
}

/// The fate of a batch whose reports have all come. `ended`: why the session is over, if it is.
pub(crate) fn settle(
    failures: &[Failure],
    ended: Option<Fault>,
    asked: &Asked,
    rest: Option<Rest>,
) -> Outcome {
    let mut open: Vec<_> =
        failures.iter().map(|failed| (failed.place, fate(failed.code))).collect();
    // A gap may have gone to several topics; where any is unknown, so is the message.
    open.sort_by_key(|(place, fate)| (*place, matches!(fate, Open::Unsent)));
    open.dedup_by_key(|(place, _)| *place);
    let ended = failures.first().map(|_| ended.unwrap_or(Fault::Dropped));
    finish(open, ended, asked, rest)
}

/// The fate of a batch whose writer is gone.
fn abandoned(asked: &Asked, rest: Option<Rest>) -> Outcome {
    let to = rest.as_ref().map_or(asked.len, |rest| rest.from);
    let open = asked.places(0, to).map(|place| (place, Open::Unknown)).collect();
    finish(open, Some(Fault::Dropped), asked, rest)
}

fn finish(
    mut open: Vec<(u32, Open)>,
    mut ended: Option<Fault>,
    asked: &Asked,
    rest: Option<Rest>,
) -> Outcome {
    if let Some(Rest { from, stop }) = rest {
        // A gap that was rejected may have reached some of its topics.
        open.retain(|(place, _)| (*place as usize) < from);
        let mut unsent = asked.places(from, asked.len).map(|place| (place, Open::Unsent));
        match stop {
            Stop::Rejected(reason) => {
                open.extend(unsent.next().map(|(place, _)| (place, Open::Rejected(reason))));
            }
            Stop::Fault(fault) => ended = ended.or(Some(fault)),
        }
        open.extend(unsent);
    }
    Outcome { open, session: ended.map(Into::into) }
}

fn fate(code: Code) -> Open {
    match code {
        Code::PurgeQueue => Open::Unsent,
        _ => Open::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(outcome: &Outcome) -> Vec<(u32, &'static str)> {
        let name = |fate: &Open| match fate {
            Open::Unknown => "unknown",
            Open::Unsent => "unsent",
            Open::Rejected(_) => "rejected",
        };
        outcome.open.iter().map(|(place, fate)| (*place, name(fate))).collect()
    }

    fn all(len: usize) -> Asked {
        Asked { only: Only::All, len }
    }

    fn failed(place: u32, code: Code) -> Failure {
        Failure { place, code }
    }

    #[test]
    fn messages_that_are_not_named_are_confirmed() {
        let outcome = settle(&[], None, &all(3), None);
        assert!(outcome.open.is_empty() && outcome.session.is_none());
    }

    #[test]
    fn a_failure_ends_the_session() {
        let failures =
            [failed(2, Code::PurgeQueue), failed(1, Code::Unknown), failed(1, Code::PurgeQueue)];
        let outcome = settle(&failures, Some(Fault::Lingering), &all(3), None);
        assert_eq!(shown(&outcome), [(1, "unknown"), (2, "unsent")]);
        assert!(outcome.session.is_some());
    }

    #[test]
    fn behind_a_rejection_nothing_was_sent() {
        let asked = Asked { only: Only::Marked([true, false, true, false, true].into()), len: 5 };
        let rest = Rest { from: 2, stop: Stop::Rejected("no".into()) };
        let outcome = settle(&[], None, &asked, Some(rest));
        assert_eq!(shown(&outcome), [(2, "rejected"), (4, "unsent")]);
        assert!(outcome.session.is_none());
    }

    #[test]
    fn a_writer_that_is_gone_leaves_what_it_sent_unknown() {
        let rest = Rest { from: 1, stop: Stop::Fault(Fault::Lingering) };
        let outcome = abandoned(&all(3), Some(rest));
        assert_eq!(shown(&outcome), [(0, "unknown"), (1, "unsent"), (2, "unsent")]);
        assert!(outcome.session.is_some());
    }
}
