//! What the hub remembers from one LISTEN session to the next: where gaps begin.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use pgherald_core::GapReason;
use pgherald_postgres::from_micros;

use crate::{heartbeat::Heartbeat, slot::Slot};

/// Where the next gap of each flow begins, and why.
pub(crate) struct NextGaps {
    places: HashMap<Arc<str>, usize>,
    flows: Vec<Flow>,
}

#[derive(Clone, Debug, Default)]
struct Flow {
    /// Whatever was committed before this time was heard by this process, or lies in an older gap.
    covered: Option<SystemTime>,
    /// How the latest session of this process that ran the flow ended.
    ended: Option<GapReason>,
    /// Another session held the lock since then.
    taken: bool,
    /// The server process that holds the lock, as far as this process knows.
    holder: Option<i32>,
    /// How far that owner had settled, by its latest heartbeat.
    settled: Option<SystemTime>,
    /// What other server processes said, in case one of them turns out to be the holder.
    unproven: VecDeque<(i32, SystemTime)>,
}

/// How many unverified senders of heartbeats are remembered for each flow: any role may announce anything.
const UNPROVEN_MAX: usize = 4;

impl NextGaps {
    pub(crate) fn new(slots: &[Arc<Slot>]) -> Self {
        let places = slots.iter().enumerate().map(|(place, slot)| (Arc::clone(&slot.name), place));
        Self { places: places.collect(), flows: vec![Flow::default(); slots.len()] }
    }

    /// Another session's heartbeat, announced by the server process `sender`. Untrusted: flows of
    /// others are passed over, nobody can have settled what is later than `now`, and only the
    /// holder of a flow's lock speaks for it.
    pub(crate) fn heard(&mut self, heartbeat: &Heartbeat, sender: i32, now: SystemTime) {
        for (name, settled) in &heartbeat.flows {
            if let Some(place) = self.places.get(name.as_str()) {
                self.flows[*place].heard(sender, from_micros(*settled).min(now));
            }
        }
    }

    /// Another session holds the flow's lock: that of the server process `holder`, if it could
    /// still be seen.
    pub(crate) fn taken(&mut self, flow: usize, holder: Option<i32>) {
        self.flows[flow].taken = true;
        if let Some(holder) = holder {
            self.flows[flow].is_held_by(holder);
        }
    }

    /// A nonce that was sent at `at` came back while the flow was open.
    pub(crate) fn covered(&mut self, flow: usize, at: SystemTime) {
        self.flows[flow].covered = Some(at);
    }

    /// The session that ran the flow ended, for that reason.
    pub(crate) fn ended(&mut self, flow: usize, reason: GapReason) {
        self.flows[flow].ended = Some(reason);
    }

    /// The flow opens now: why its gap is there and where it begins.
    pub(crate) fn open(&mut self, flow: usize) -> (GapReason, Option<SystemTime>) {
        let flow = &mut self.flows[flow];
        let taken = std::mem::take(&mut flow.taken);
        match (flow.covered, flow.ended) {
            (Some(covered), Some(ended)) if !taken => (ended, Some(covered)),
            _ => match flow.settled.max(flow.covered) {
                Some(from) => (GapReason::Takeover, Some(from)),
                None => (GapReason::Start, None),
            },
        }
    }
}

impl Flow {
    fn heard(&mut self, sender: i32, settled: SystemTime) {
        if self.holder == Some(sender) {
            self.settled = Some(settled);
            return;
        }
        self.unproven.retain(|(known, _)| *known != sender);
        if self.unproven.len() == UNPROVEN_MAX {
            self.unproven.pop_front();
        }
        self.unproven.push_back((sender, settled));
    }

    /// Until a new holder is heard, what the one before had settled still holds.
    fn is_held_by(&mut self, holder: i32) {
        self.holder = Some(holder);
        let said = self.unproven.iter().find(|(sender, _)| *sender == holder);
        if let Some((_, settled)) = said {
            self.settled = Some(*settled);
            self.unproven.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn next_gaps() -> NextGaps {
        NextGaps {
            places: HashMap::from([(Arc::from("p/a"), 0), (Arc::from("p/b"), 1)]),
            flows: vec![Flow::default(); 2],
        }
    }

    fn heartbeat(settled: u64) -> Heartbeat {
        let settled = i64::try_from(settled * 1_000_000).unwrap();
        let flows = vec![("p/a".to_owned(), settled), ("p/foreign".to_owned(), 1)];
        Heartbeat { session: 1, number: 1, flows }
    }

    #[test]
    fn the_first_session_knows_nothing() {
        assert_eq!(next_gaps().open(0), (GapReason::Start, None));
    }

    #[test]
    fn a_lost_session_begins_at_its_last_echo() {
        let mut next_gaps = next_gaps();
        next_gaps.open(0);
        next_gaps.covered(0, at(5));
        next_gaps.ended(0, GapReason::Deaf);
        assert_eq!(next_gaps.open(0), (GapReason::Deaf, Some(at(5))));
        assert_eq!(next_gaps.open(1), (GapReason::Start, None), "flows are told apart");
    }

    #[test]
    fn a_takeover_begins_where_the_other_had_settled() {
        let mut next_gaps = next_gaps();
        next_gaps.heard(&heartbeat(7), 70, at(100));
        next_gaps.taken(0, Some(70));
        assert_eq!(next_gaps.open(0), (GapReason::Takeover, Some(at(7))));
        // We carried it, somebody else did, and we do again.
        next_gaps.covered(0, at(20));
        next_gaps.ended(0, GapReason::Disconnect);
        next_gaps.taken(0, None);
        assert_eq!(next_gaps.open(0), (GapReason::Takeover, Some(at(20))));
    }

    #[test]
    fn nobody_settles_the_future() {
        let mut next_gaps = next_gaps();
        next_gaps.taken(0, Some(70));
        next_gaps.heard(&heartbeat(1_000), 70, at(100));
        assert_eq!(next_gaps.open(0), (GapReason::Takeover, Some(at(100))));
    }

    #[test]
    fn only_the_holder_of_the_lock_is_believed() {
        let mut next_gaps = next_gaps();
        next_gaps.taken(0, Some(70));
        next_gaps.heard(&heartbeat(7), 70, at(100));
        next_gaps.heard(&heartbeat(50), 666, at(100));
        assert_eq!(next_gaps.open(0), (GapReason::Takeover, Some(at(7))));
    }
}
