//! What holds where nothing is set: right for production.

use super::raw::{RawConfig, RawOnRejected, RawPipeline, RawSink};
use pgherald_core::Envelope;

pub(super) const ADMIN_LISTEN: &str = "127.0.0.1:9947";
/// Below the 10 s that container runtimes grant.
pub(super) const DRAIN_DEADLINE_MS: u64 = 8_000;
pub(super) const ENVELOPE: Envelope = Envelope::Binary;
pub(super) const MESSAGE_BYTES_MAX: usize = 1_048_576;
pub(super) const BUDGET_MESSAGES_MAX: usize = 10_000;
pub(super) const BUDGET_BYTES_MAX: usize = 67_108_864;
/// At most; a smaller budget makes smaller batches.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// At most; a smaller budget makes smaller batches.
pub(super) const BATCH_BYTES_MAX: usize = 1_048_576;
pub(super) const LINGER_MS: u64 = 0;

impl RawConfig {
    /// The same configuration with every default written out.
    pub(super) fn fill(&mut self) {
        self.admin.listen.get_or_insert_with(|| ADMIN_LISTEN.to_owned());
        self.admin.show_payloads.get_or_insert(false);
        self.shutdown.drain_deadline_ms.get_or_insert(DRAIN_DEADLINE_MS);
        self.pipelines.values_mut().for_each(RawPipeline::fill);
    }
}

impl RawPipeline {
    fn fill(&mut self) {
        self.cloudevents.fill();
        let (mut channels, mut on_rejected) = (None, RawOnRejected::Halt);
        if let Some(notify) = &mut self.source.notify {
            notify.fill();
            channels = Some(notify.channels.clone());
            // Its messages cannot be read again.
            on_rejected = RawOnRejected::Skip;
        }
        if let Some(outbox) = &mut self.source.outbox {
            outbox.fill();
            channels.clone_from(&outbox.channels);
        }
        for sink in self.sinks.values_mut() {
            sink.fill(on_rejected);
            if sink.channels.is_none() {
                sink.channels.clone_from(&channels);
            }
        }
    }
}

impl RawSink {
    /// At most; a smaller budget makes smaller batches. Over HTTP a message is a request.
    pub(super) fn batch_messages_max(&self) -> usize {
        if self.http.is_some() { 1 } else { BATCH_MESSAGES_MAX }
    }

    fn fill(&mut self, on_rejected: RawOnRejected) {
        self.envelope.get_or_insert(ENVELOPE);
        self.on_rejected.get_or_insert(on_rejected);
        self.message_bytes_max.get_or_insert(MESSAGE_BYTES_MAX);
        let messages = *self.budget_messages_max.get_or_insert(BUDGET_MESSAGES_MAX);
        let bytes = *self.budget_bytes_max.get_or_insert(BUDGET_BYTES_MAX);
        let batch_messages = self.batch_messages_max().min(messages);
        self.batch.messages_max.get_or_insert(batch_messages);
        self.batch.bytes_max.get_or_insert(BATCH_BYTES_MAX.min(bytes));
        self.batch.linger_ms.get_or_insert(LINGER_MS);
    }
}
