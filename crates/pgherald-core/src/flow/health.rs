//! From what the two sides know to one state.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{FlowState, Owner};

/// A message that stays unconfirmed for longer makes its flow stalled.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(5);

/// A flow that reads in vain for longer is stalled.
pub(super) const IN_VAIN_AFTER: Duration = Duration::from_secs(15);

/// A sink that takes longer to open makes its flow stalled.
const OPENS_WITHIN: Duration = Duration::from_secs(10);

/// What the source side is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourcePhase {
    Attaching(Arc<str>),
    Standby(Arc<str>),
    Blocked(Arc<str>),
    Halted(Arc<str>),
    /// Holds the flow's lock while the sink is being opened.
    Opening,
    /// No read of this session has succeeded yet.
    Reading,
    /// A read has succeeded.
    Attached,
    /// Another process is to run the flow; what was read is delivered first.
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
    source: SourcePhase,
    /// Since when no session has read with success, though one has begun to, and the latest fault.
    in_vain: Option<(Instant, Arc<str>)>,
    sink: SinkPhase,
    sink_since: Instant,
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
            in_vain: None,
            sink: SinkPhase::Closed,
            sink_since: Instant::now(),
            confirmed: true,
            stopping: false,
            waits_for: None,
        }
    }

    /// Returns the phase before.
    pub(super) fn set_source(&mut self, phase: SourcePhase) -> SourcePhase {
        match (&phase, &mut self.in_vain) {
            (SourcePhase::Reading, in_vain) => {
                in_vain.get_or_insert_with(|| (Instant::now(), "no read has succeeded yet".into()));
            }
            (SourcePhase::Attaching(why), Some((_, latest))) => *latest = Arc::clone(why),
            (SourcePhase::Attaching(_) | SourcePhase::Opening, _) => {}
            (_, in_vain) => *in_vain = None,
        }
        std::mem::replace(&mut self.source, phase)
    }

    pub(super) fn sink(&self) -> &SinkPhase {
        &self.sink
    }

    pub(super) fn set_sink(&mut self, phase: SinkPhase) {
        let same = std::mem::discriminant(&self.sink) == std::mem::discriminant(&phase);
        if !same {
            self.sink_since = Instant::now();
        }
        self.sink = phase;
    }

    /// Why a flow that reads in vain is stalled.
    fn stalled_reading(&self) -> Option<Arc<str>> {
        let in_vain = self.in_vain.as_ref().filter(|(since, _)| since.elapsed() >= IN_VAIN_AFTER);
        in_vain.map(|(_, why)| Arc::clone(why))
    }

    /// Why a flow that holds its lock and has not read yet is stalled.
    fn stalled(&self) -> Option<Arc<str>> {
        let slow = self.source == SourcePhase::Opening && self.sink_since.elapsed() >= OPENS_WITHIN;
        let sink = match &self.sink {
            SinkPhase::Failed(why) => Some(Arc::clone(why)),
            SinkPhase::Closed if slow => Some("the sink has not opened within 10 s".into()),
            _ => None,
        };
        self.stalled_reading().or(sink)
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
            (SourcePhase::Attaching(why), _) => match self.stalled_reading() {
                Some(why) => not_ready(Stalled, &why),
                None => not_ready(Attaching, why),
            },
            (SourcePhase::Opening | SourcePhase::Reading, sink) => match self.stalled() {
                Some(why) => not_ready(Stalled, &why),
                None if *sink == SinkPhase::Open => {
                    not_ready(Attaching, &"reading for the first time".into())
                }
                None => not_ready(Attaching, &"opening the sink".into()),
            },
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
            (SourcePhase::Opening | SourcePhase::Reading, _)
                if self.stalled_reading().is_some() =>
            {
                Owner::Source
            }
            (SourcePhase::Reading, SinkPhase::Open) => Owner::Source,
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
        health.set_source(SourcePhase::Opening);
        assert_eq!(state(&health, 0), (FlowState::Attaching, false));
        health.set_sink(SinkPhase::Failed("why".into()));
        assert_eq!(state(&health, 0), (FlowState::Stalled, false), "before anything is read, too");
        health.set_sink(SinkPhase::Open);
        health.set_source(SourcePhase::Reading);
        assert_eq!(state(&health, 0), (FlowState::Attaching, false));
        health.set_source(SourcePhase::Attached);
        assert_eq!(state(&health, 5), (FlowState::Running, true));
        assert_eq!(state(&health, 6), (FlowState::Stalled, false));
        health.confirmed = false;
        assert_eq!(state(&health, 0), (FlowState::Running, false));
        health.set_sink(SinkPhase::Halted("why".into()));
        assert_eq!(state(&health, 0), (FlowState::Halted, false));
        health.set_source(SourcePhase::HandingOver);
        assert_eq!(state(&health, 0), (FlowState::Draining, false));
        health.set_source(SourcePhase::Standby("who".into()));
        assert_eq!(state(&health, 60), (FlowState::Standby, true));
        health.stopping = true;
        assert_eq!(state(&health, 0), (FlowState::Draining, false));
    }

    #[tokio::test(start_paused = true)]
    async fn reading_in_vain_and_a_sink_that_does_not_open_are_told() {
        let mut health = Health::new();
        let state = |health: &Health| health.state(Duration::ZERO).0;
        health.set_source(SourcePhase::Opening);
        tokio::time::advance(OPENS_WITHIN).await;
        assert_eq!(state(&health), FlowState::Stalled);
        health.set_sink(SinkPhase::Open);
        for _ in 0..3 {
            health.set_source(SourcePhase::Reading);
            tokio::time::advance(IN_VAIN_AFTER / 3).await;
            health.set_source(SourcePhase::Attaching("no answer".into()));
        }
        assert_eq!(state(&health), FlowState::Stalled);
        let (.., reason) = health.state(Duration::ZERO);
        assert_eq!(reason.as_deref(), Some("no answer"));
        health.set_source(SourcePhase::Attached);
        assert_eq!(state(&health), FlowState::Running);
        // A server that was away is another matter.
        health.set_source(SourcePhase::Attaching("refused".into()));
        tokio::time::advance(IN_VAIN_AFTER * 2).await;
        assert_eq!(state(&health), FlowState::Attaching);
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
