//! Delivery reports, counted for each batch.

use std::{collections::VecDeque, sync::Arc};

use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::oneshot;

const _: () = assert!(usize::BITS == 64, "a batch's number and a place share one opaque word");

/// One record that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its message's place in the batch.
    pub(crate) place: u32,
    pub(crate) code: RDKafkaErrorCode,
}

/// Resolves to the failures of a batch after its last report.
pub(crate) type Reports = oneshot::Receiver<Vec<Failure>>;

/// The batches whose reports have not all come, in the order of their numbers.
#[derive(Default)]
pub(crate) struct Deliveries {
    /// The number of the first batch; numbers wrap.
    first: u32,
    pending: VecDeque<PendingBatch>,
    watched: Option<Watched>,
}

/// One record whose report is awaited by itself. A gap has records in several topics.
struct Watched {
    opaque: usize,
    topic: Arc<str>,
    stored: oneshot::Sender<()>,
}

/// One batch: how many reports it still gets.
struct PendingBatch {
    /// Reports that came; and, after sealing, that did not come yet.
    reported: u32,
    sent: Option<u32>,
    failures: Vec<Failure>,
    done: Option<oneshot::Sender<Vec<Failure>>>,
}

impl Deliveries {
    /// A new batch, and where its end shows.
    pub(crate) fn begin(&mut self) -> (u32, Reports) {
        let (done, reports) = oneshot::channel();
        let number = self.first.wrapping_add(u32::try_from(self.pending.len()).unwrap_or(u32::MAX));
        let failures = Vec::new();
        self.pending.push_back(PendingBatch {
            reported: 0,
            sent: None,
            failures,
            done: Some(done),
        });
        (number, reports)
    }

    /// Nothing more is sent of a batch: it had that many records.
    pub(crate) fn seal(&mut self, number: u32, sent: u32) {
        if let Some(batch) = self.batch(number) {
            batch.sent = Some(sent);
            batch.finish();
        }
        self.forget_done();
    }

    /// Resolves when this record, which is about to be sent, is stored; an error: it is not stored. One
    /// record at a time is watched.
    pub(crate) fn watch(&mut self, opaque: usize, topic: &Arc<str>) -> oneshot::Receiver<()> {
        let (stored, seen) = oneshot::channel();
        self.watched = Some(Watched { opaque, topic: Arc::clone(topic), stored });
        seen
    }

    /// The broker's word for one record: it is stored, or why not.
    pub(crate) fn report(
        &mut self,
        opaque: usize,
        topic: &str,
        stored: Result<(), RDKafkaErrorCode>,
    ) {
        let is_it = |it: &mut Watched| it.opaque == opaque && *it.topic == *topic;
        if let (Some(watched), Ok(())) = (self.watched.take_if(is_it), stored) {
            // Whoever watched may have given up.
            let _ = watched.stored.send(());
        }
        let (number, place) = split(opaque);
        let Some(batch) = self.batch(number) else { return };
        batch.reported += 1;
        if let Err(code) = stored {
            batch.failures.push(Failure { place, code });
        }
        if batch.finish() {
            self.forget_done();
        }
    }

    /// Whether no batch waits for a report.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn batch(&mut self, number: u32) -> Option<&mut PendingBatch> {
        self.pending.get_mut(number.wrapping_sub(self.first) as usize)
    }

    fn forget_done(&mut self) {
        while self.pending.front().is_some_and(|batch| batch.done.is_none()) {
            self.pending.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

impl PendingBatch {
    fn finish(&mut self) -> bool {
        let complete = self.sent == Some(self.reported);
        if let (true, Some(done)) = (complete, self.done.take_if(|_| complete)) {
            let _ = done.send(std::mem::take(&mut self.failures));
        }
        complete
    }
}

/// What travels with a record: the number of its batch and its place there.
pub(crate) fn opaque(number: u32, place: u32) -> usize {
    (number as usize) << 32 | place as usize
}

fn split(opaque: usize) -> (u32, u32) {
    let low = u32::try_from(opaque & 0xffff_ffff).expect("masked to 32 bits");
    (u32::try_from(opaque >> 32).expect("32 bits are left"), low)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[test]
    fn a_batch_ends_with_its_last_report_in_any_order() {
        let mut deliveries = Deliveries { first: u32::MAX, ..Deliveries::default() };
        let (first, mut one) = deliveries.begin();
        let (second, mut two) = deliveries.begin();
        assert_eq!((first, second), (u32::MAX, 0));
        deliveries.report(opaque(second, 0), "t", Ok(()));
        deliveries.seal(second, 1);
        assert_eq!(two.try_recv(), Ok(vec![]));
        deliveries.report(opaque(first, 1), "t", Err(RDKafkaErrorCode::PurgeQueue));
        deliveries.report(opaque(first, 0), "t", Ok(()));
        assert!(one.try_recv().is_err());
        deliveries.seal(first, 2);
        let failed = Failure { place: 1, code: RDKafkaErrorCode::PurgeQueue };
        assert_eq!(one.try_recv(), Ok(vec![failed]));
        assert!(deliveries.is_empty());
    }

    #[test]
    fn a_watched_record_tells_whether_it_is_stored() {
        let mut deliveries = Deliveries::default();
        let (number, _reports) = deliveries.begin();
        let topic = Arc::from("t");
        let mut stored = deliveries.watch(opaque(number, 1), &topic);
        deliveries.report(opaque(number, 0), "t", Ok(()));
        deliveries.report(opaque(number, 1), "u", Ok(()));
        assert_eq!(stored.try_recv(), Err(TryRecvError::Empty), "others'");
        deliveries.report(opaque(number, 1), "t", Ok(()));
        assert_eq!(stored.try_recv(), Ok(()));
        let mut stored = deliveries.watch(opaque(number, 2), &topic);
        deliveries.report(opaque(number, 2), "t", Err(RDKafkaErrorCode::PurgeQueue));
        assert_eq!(stored.try_recv(), Err(TryRecvError::Closed));
    }

    #[test]
    fn an_empty_batch_ends_when_it_is_sealed() {
        let mut deliveries = Deliveries::default();
        let (number, mut reports) = deliveries.begin();
        deliveries.seal(number, 0);
        assert_eq!(reports.try_recv(), Ok(vec![]));
        assert!(deliveries.is_empty());
    }
}
