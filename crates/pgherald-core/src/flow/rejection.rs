//! What becomes of a message that its destination will never take.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    OnRejected,
    shared::{FlowShared, chain},
};
use crate::{
    Body, BoxError, ContentType, Gap, GapReason, Headers, Message, MessageId, RejectedMessage,
    window::MessageIndex,
};

/// How often a halted flow offers its rejected message again, so that a repair needs no restart.
pub(super) const HALTED_TRIES_EVERY: Duration = Duration::from_secs(30);

/// After so many rejections in a row every policy halts: it is not the messages.
const REJECTIONS_IN_A_ROW_MAX: u32 = 100;

/// A rejected message, by its place in the window.
pub(super) struct Rejection {
    pub(super) place: MessageIndex,
    pub(super) error: BoxError,
    /// When it was found to be rejected.
    pub(super) at: Instant,
}

impl Rejection {
    pub(super) fn new(place: MessageIndex, error: BoxError) -> Self {
        Self { place, error, at: Instant::now() }
    }
}

/// Carries out the policy, and counts rejected messages in a row.
pub(super) struct Policy {
    on_rejected: OnRejected,
    in_a_row: u32,
    /// The message that the flow halts at: offering it again is no other rejection.
    halted_at: Option<MessageId>,
}

/// What the policy says.
pub(super) enum Verdict {
    /// It is disposed of; go on behind it.
    GoOn,
    /// Keep it as a dead letter first; then it is disposed of.
    Keep(Box<Message>),
    /// Send nothing behind it, because of this.
    Halt(String),
}

impl Policy {
    pub(super) fn new(on_rejected: OnRejected) -> Self {
        Self { on_rejected, in_a_row: 0, halted_at: None }
    }

    /// A message was confirmed.
    pub(super) fn confirmed(&mut self) {
        self.in_a_row = 0;
    }

    pub(super) fn apply(&mut self, shared: &FlowShared, rejection: &Rejection) -> Verdict {
        // One that is settled already was only repeated.
        let Some(message) = shared.window().open_message(rejection.place).cloned() else {
            return Verdict::GoOn;
        };
        if self.halted_at != Some(message.id) {
            shared.metrics.rejected.increment(1);
            let reason = chain(&*rejection.error);
            log(shared, &message, &reason);
            shared.tap.rejected(&message, &reason);
        }
        if message.gap().is_some() {
            shared.window().dispose(rejection.place);
            return Verdict::GoOn;
        }
        if shared.window().is_replay(rejection.place.0) {
            return Verdict::Keep(Box::new(message));
        }
        let verdict = self.verdict(shared, &message, rejection);
        self.halted_at = matches!(verdict, Verdict::Halt(_)).then_some(message.id);
        verdict
    }

    fn verdict(
        &mut self,
        shared: &FlowShared,
        message: &Message,
        rejection: &Rejection,
    ) -> Verdict {
        if self.halted_at != Some(message.id) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        if self.in_a_row >= REJECTIONS_IN_A_ROW_MAX {
            return Verdict::Halt(format!(
                "{REJECTIONS_IN_A_ROW_MAX} messages in a row were rejected: check the destination and \
                 its limits (tried again every 30 s); the last one: {}",
                rejection.error
            ));
        }
        match self.on_rejected {
            OnRejected::Halt => Verdict::Halt(format!(
                "message {} was rejected: {}; repair it, or set on_rejected to \"dead_letter\" or \"skip\"",
                message.id, rejection.error
            )),
            OnRejected::DeadLetter => Verdict::Keep(Box::new(message.clone())),
            OnRejected::Skip => {
                let gap = gap_in_place_of(message);
                shared.report(gap.gap().expect("a gap was just made"));
                shared.tap.passed(std::slice::from_ref(&gap));
                shared.window().replace(rejection.place, gap);
                Verdict::GoOn
            }
        }
    }
}

fn log(shared: &FlowShared, message: &Message, reason: &str) {
    tracing::warn!(
        pipeline = &*shared.context.pipeline,
        sink = &*shared.context.sink,
        id = %message.id,
        size = message.payload_size(),
        gap = message.gap().is_some(),
        error = reason,
        "message rejected"
    );
}

fn gap_in_place_of(message: &Message) -> Message {
    let gap = Gap {
        channels: [message.channel.clone()].into(),
        from: Some(message.since),
        to: message.since,
        reason: GapReason::Rejected,
        count: None,
        rejected: Some(RejectedMessage { id: message.id, size: message.payload_size() }),
    };
    Message {
        id: message.id.of_gap(),
        channel: message.channel.clone(),
        key: None,
        headers: Headers::default(),
        content_type: ContentType::Json,
        body: Body::Gap(gap),
        since: message.since,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        Backoff, Batch, BatchLimits, Budget, Checkpoint, Envelope, EventNames, FlowContext,
        FlowSettings, FlowStatus, Ordering, flow::Tap,
    };

    fn shared() -> FlowShared {
        let settings = FlowSettings {
            context: FlowContext {
                pipeline: "p".into(),
                source: "notify",
                sink: "s".into(),
                channels: None,
                envelope: Envelope::Binary,
                events: EventNames::default(),
                budget: Budget { messages: 1_000, bytes: 1_000 },
                batch: BatchLimits { messages: 1_000, bytes: 1_000, linger: Duration::ZERO },
                message_bytes_max: 1,
            },
            on_rejected: OnRejected::Skip,
            backoff: Backoff::default(),
            jitter_seed: 0,
        };
        let status = watch::Sender::new(FlowStatus::new());
        let tap = Tap::new(&settings.context.pipeline, &settings.context.sink);
        FlowShared::new(&settings, Ordering::Flow, CancellationToken::new(), status, tap)
    }

    fn message(n: usize) -> Message {
        Message {
            id: MessageId::new(format_args!("5e55-{n}")),
            channel: "c".into(),
            key: None,
            headers: Headers::default(),
            content_type: ContentType::Text,
            body: Body::Payload(Bytes::new()),
            since: std::time::SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_hundred_messages_in_a_row_halt_and_their_gaps_do_not_count() {
        let (shared, mut policy) = (shared(), Policy::new(OnRejected::Skip));
        let messages = (0..100).map(message).collect();
        shared.push(Batch { messages, end: Some(Checkpoint(Bytes::new())) });
        let sequence = shared.window().take().unwrap().sequence;
        let mut halts = |place| {
            let rejection = Rejection::new((sequence, place), "no".into());
            matches!(policy.apply(&shared, &rejection), Verdict::Halt(_))
        };
        for place in 0..99 {
            assert!(!halts(place), "{place}");
            assert!(!halts(place), "the gap in its place");
        }
        assert!(halts(99) && halts(99), "also when it is offered again");
        assert_eq!(shared.undelivered(), 1);
    }
}
