//! What becomes of a message that its destination will never take.

use std::time::Duration;

use super::{OnRejected, link::Link};
use crate::{
    Body, BoxError, ContentType, Gap, GapReason, Headers, Message, RejectedMessage, window::Place,
};

/// How often a halted flow offers its rejected message again, so that a repair needs no restart.
pub(super) const HALTED_TRIES_EVERY: Duration = Duration::from_secs(30);

/// After so many rejections in a row every policy halts: it is not the messages.
const REJECTIONS_IN_A_ROW_MAX: u32 = 100;

/// A rejected message, by its place in the window.
pub(super) struct Rejection {
    pub(super) place: Place,
    pub(super) error: BoxError,
}

/// Carries out the policy, and counts rejections in a row.
pub(super) struct Policy {
    on_rejected: OnRejected,
    in_a_row: u32,
}

/// What the policy says.
pub(super) enum Verdict {
    /// It is disposed of; go on behind it.
    GoOn,
    /// Send nothing behind it, because of this.
    Halt(String),
}

impl Policy {
    pub(super) fn new(on_rejected: OnRejected) -> Self {
        Self { on_rejected, in_a_row: 0 }
    }

    /// A message was confirmed.
    pub(super) fn confirmed(&mut self) {
        self.in_a_row = 0;
    }

    pub(super) fn apply(&mut self, link: &Link, rejection: &Rejection) -> Verdict {
        let Some(message) = link.window().message(rejection.place).cloned() else {
            return Verdict::GoOn;
        };
        link.metrics.rejected.increment(1);
        log(link, &message, rejection);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if message.gap().is_some() {
            link.window().dispose(rejection.place);
            return Verdict::GoOn;
        }
        if self.in_a_row >= REJECTIONS_IN_A_ROW_MAX {
            return Verdict::Halt(format!(
                "{REJECTIONS_IN_A_ROW_MAX} messages in a row were rejected, the last one: {}",
                rejection.error
            ));
        }
        match self.on_rejected {
            OnRejected::Halt => Verdict::Halt(format!(
                "message {} was rejected: {}; repair it or set on_rejected = \"skip\"",
                message.id, rejection.error
            )),
            OnRejected::Skip => {
                let gap = gap_in_place_of(&message);
                link.report(gap.gap().expect("a gap was just made"));
                link.window().replace(rejection.place, gap);
                Verdict::GoOn
            }
        }
    }
}

fn log(link: &Link, message: &Message, rejection: &Rejection) {
    tracing::warn!(
        pipeline = &*link.context.pipeline,
        sink = &*link.context.sink,
        id = %message.id,
        size = message.payload_size(),
        gap = message.gap().is_some(),
        error = &*super::link::chain(&*rejection.error),
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
