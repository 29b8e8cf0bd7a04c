//! From what the two sides know to one state.

use std::{sync::Arc, time::Duration};

use crate::{FlowState, Owner};

/// A message that stays unconfirmed for longer makes its flow stalled.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What the source side is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourcePhase {
    Attaching(Arc<str>),
    Standby(Arc<str>),
    Blocked(Arc<str>),
    Halted(Arc<str>),
    Attached,
    /// Another process is to carry the flow; what was read is delivered first.
    HandingOver,
}

/// What the sink side is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SinkPhase {
    /// Not open, and nothing has failed yet.
    Closed,
    /// Not open, or open without a connection, because of this.
    Failed(Arc<str>),
    Blocked(Arc<str>),
    Halted(Arc<str>),
    Open,
}

/// Everything that the state is made from.
#[derive(Clone, Debug)]
pub(super) struct Health {
    pub(super) source: SourcePhase,
    pub(super) sink: SinkPhase,
    /// The last publish was confirmed, or there was none.
    pub(super) confirmed: bool,
    pub(super) stopping: bool,
    /// What keeps the running source from handing over what is there.
    pub(super) waits_for: Option<Arc<str>>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            source: SourcePhase::Attaching("starting".into()),
            sink: SinkPhase::Closed,
            confirmed: true,
            stopping: false,
            waits_for: None,
        }
    }

    /// The state, whether it counts as ready, and why not. `waiting`: the age of the oldest
    /// unconfirmed message.
    pub(super) fn state(&self, waiting: Duration) -> (FlowState, bool, Option<Arc<str>>) {
        use FlowState::{Attaching, Blocked, Draining, Halted, Running, Stalled, Standby};
        let not_ready = |state, reason: &Arc<str>| (state, false, Some(Arc::clone(reason)));
        if self.stopping {
            return not_ready(Draining, &"the process is stopping".into());
        }
        match (&self.source, &self.sink) {
            (SourcePhase::Standby(holder), _) => (Standby, true, Some(Arc::clone(holder))),
            (SourcePhase::HandingOver, _) => {
                not_ready(Draining, &"another process takes the flow over".into())
            }
            (SourcePhase::Halted(why), _) | (_, SinkPhase::Halted(why)) => not_ready(Halted, why),
            (SourcePhase::Blocked(why), _) | (_, SinkPhase::Blocked(why)) => {
                not_ready(Blocked, why)
            }
            (SourcePhase::Attaching(why), _) => not_ready(Attaching, why),
            (_, SinkPhase::Failed(why)) => not_ready(Stalled, why),
            (_, SinkPhase::Closed) => not_ready(Attaching, &"opening the sink".into()),
            _ if waiting > STALLED_AFTER => {
                not_ready(Stalled, &"the oldest message has waited longer than 5 s".into())
            }
            _ if !self.confirmed => {
                not_ready(Running, &"the last publish has not been confirmed yet".into())
            }
            _ => (Running, true, self.waits_for.clone()),
        }
    }

    /// Where the reason of the state lies.
    pub(super) fn owner(&self) -> Owner {
        if self.stopping {
            return Owner::Process;
        }
        match (&self.source, &self.sink) {
            (SourcePhase::Standby(_) | SourcePhase::HandingOver, _) => Owner::Process,
            (SourcePhase::Halted(_), _) => Owner::Source,
            (_, SinkPhase::Halted(_)) => Owner::Sink,
            (SourcePhase::Blocked(_), _) => Owner::Source,
            (_, SinkPhase::Blocked(_)) => Owner::Sink,
            (SourcePhase::Attaching(_), _) => Owner::Source,
            // An open writer waits for its source to hand over what it holds back.
            (_, SinkPhase::Open) if self.confirmed && self.waits_for.is_some() => Owner::Source,
            _ => Owner::Sink,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_running_and_standby_are_ready() {
        let mut health = Health::new();
        let state = |health: &Health, seconds| {
            let (state, ready, _) = health.state(Duration::from_secs(seconds));
            (state, ready)
        };
        assert_eq!(state(&health, 0), (FlowState::Attaching, false));
        health.source = SourcePhase::Attached;
        assert_eq!(state(&health, 0), (FlowState::Attaching, false));
        health.sink = SinkPhase::Open;
        assert_eq!(state(&health, 5), (FlowState::Running, true));
        assert_eq!(state(&health, 6), (FlowState::Stalled, false));
        health.confirmed = false;
        assert_eq!(state(&health, 0), (FlowState::Running, false));
        health.sink = SinkPhase::Halted("why".into());
        assert_eq!(state(&health, 0), (FlowState::Halted, false));
        health.source = SourcePhase::HandingOver;
        assert_eq!(state(&health, 0), (FlowState::Draining, false));
        health.source = SourcePhase::Standby("who".into());
        assert_eq!(state(&health, 60), (FlowState::Standby, true));
        health.stopping = true;
        assert_eq!(state(&health, 0), (FlowState::Draining, false));
    }
}

#[cfg(test)]
mod owners {
    use super::*;

    /// What was mended is not told any more: the trouble that is left is, with its own owner.
    #[test]
    fn a_reason_names_who_has_to_look() {
        let mut health = Health::new();
        health.source = SourcePhase::Blocked("run setup".into());
        health.sink = SinkPhase::Blocked("no topic".into());
        assert_eq!(health.owner(), Owner::Source);
        health.source = SourcePhase::Attached;
        assert_eq!(health.owner(), Owner::Sink);
        assert_eq!(health.state(Duration::ZERO).2.as_deref(), Some("no topic"));
        health.sink = SinkPhase::Open;
        health.waits_for = Some("a transaction".into());
        assert_eq!(health.owner(), Owner::Source);
        health.stopping = true;
        assert_eq!(health.owner(), Owner::Process);
    }
}
