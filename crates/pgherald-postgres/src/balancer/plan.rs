//! Which process is to carry which pipeline. Pure, and the same for everybody who sees the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A pipeline, as every process of the database knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PipelineId(pub(super) u32);

/// A process, by its membership's server process.
pub(super) type Member = i32;

/// Who may carry what, and who carries it, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Who offers to carry a pipeline. A process that hands it over, or stops, does not.
    pub(super) candidates: BTreeMap<PipelineId, BTreeSet<Member>>,
    pub(super) runners: BTreeMap<PipelineId, Member>,
}

/// Who is to carry what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    runners: BTreeMap<PipelineId, Member>,
    loads: BTreeMap<Member, usize>,
}

impl Snapshot {
    pub(super) fn is_candidate(&self, unit: PipelineId, member: Member) -> bool {
        self.candidates.get(&unit).is_some_and(|members| members.contains(&member))
    }

    /// A runner that goes on unless the plan says otherwise.
    fn settled(&self, unit: PipelineId) -> Option<Member> {
        self.runners.get(&unit).copied().filter(|runner| self.is_candidate(unit, *runner))
    }
}

impl Plan {
    /// Leaves every pipeline where it is run, gives the free ones to whoever has the least, and
    /// then moves as few as possible, until no process could give one away and still have as many
    /// as the one that gets it.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut plan = Self::default();
        for member in snapshot.candidates.values().flatten() {
            plan.loads.insert(*member, 0);
        }
        for unit in snapshot.candidates.keys() {
            if let Some(runner) = snapshot.settled(*unit) {
                plan.assign(*unit, runner);
            }
        }
        plan.assign_free(snapshot);
        while let Some(moves) = plan.relief(snapshot) {
            moves.into_iter().for_each(|(unit, to)| plan.assign(unit, to));
        }
        plan
    }

    pub(super) fn runner(&self, unit: PipelineId) -> Option<Member> {
        self.runners.get(&unit).copied()
    }

    /// How many pipelines a process is to carry.
    pub(super) fn load(&self, member: Member) -> usize {
        self.loads.get(&member).copied().unwrap_or(0)
    }

    /// Those with the fewest candidates first, while there is a choice.
    fn assign_free(&mut self, snapshot: &Snapshot) {
        let free = |(unit, _): &(&PipelineId, &BTreeSet<Member>)| !self.runners.contains_key(*unit);
        let mut free: Vec<_> = snapshot.candidates.iter().filter(free).collect();
        free.sort_by_key(|(_, candidates)| candidates.len());
        for (unit, candidates) in free {
            let least = candidates.iter().min_by_key(|member| (self.load(**member), **member));
            if let Some(least) = least {
                self.assign(*unit, *least);
            }
        }
    }

    fn assign(&mut self, unit: PipelineId, member: Member) {
        if let Some(former) = self.runners.insert(unit, member) {
            *self.loads.entry(former).or_default() -= 1;
        }
        *self.loads.entry(member).or_default() += 1;
    }

    /// The shortest chain of moves from a process with the most to one with at least two less; in
    /// between everybody gives one and gets one.
    fn relief(&self, snapshot: &Snapshot) -> Option<Vec<(PipelineId, Member)>> {
        let mut givers: Vec<Member> = self.loads.keys().copied().collect();
        givers.sort_by_key(|member| (std::cmp::Reverse(self.load(*member)), *member));
        givers.into_iter().find_map(|giver| self.chain_from(giver, snapshot))
    }

    fn chain_from(&self, giver: Member, snapshot: &Snapshot) -> Option<Vec<(PipelineId, Member)>> {
        // How each process that can be reached gets one: which, and from whom.
        let mut gets: BTreeMap<Member, (PipelineId, Member)> = BTreeMap::new();
        let mut ring = VecDeque::from([giver]);
        while !ring.is_empty() {
            let mut next = BTreeSet::new();
            for from in ring.drain(..) {
                for (unit, to) in self.offers(from, snapshot) {
                    if to != giver && !gets.contains_key(&to) {
                        gets.insert(to, (unit, from));
                        next.insert(to);
                    }
                }
            }
            let least = next.iter().min_by_key(|member| (self.load(**member), **member));
            if let Some(least) = least.filter(|least| self.load(**least) + 2 <= self.load(giver)) {
                return Some(walk_back(&gets, *least, giver));
            }
            ring.extend(next);
        }
        None
    }

    /// What a process could give, and to whom.
    fn offers(
        &self,
        from: Member,
        snapshot: &Snapshot,
    ) -> impl Iterator<Item = (PipelineId, Member)> {
        let theirs = self.runners.iter().filter(move |(_, runner)| **runner == from);
        let to = |unit: PipelineId| snapshot.candidates.get(&unit).into_iter().flatten();
        theirs.flat_map(move |(unit, _)| to(*unit).map(|member| (*unit, *member)))
    }
}

fn walk_back(
    gets: &BTreeMap<Member, (PipelineId, Member)>,
    last: Member,
    giver: Member,
) -> Vec<(PipelineId, Member)> {
    let mut moves = Vec::new();
    let mut to = last;
    while to != giver {
        let (unit, from) = gets[&to];
        moves.push((unit, to));
        to = from;
    }
    moves
}

#[cfg(test)]
mod tests;
