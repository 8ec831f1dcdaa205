//! Coincidences: ordinary events that meet at a moment at which they seldom meet by chance.
//!
//! Each is a few faults and operations of the kinds that there are, timed to one another. They are drawn from
//! a stream of their own, so they leave all other draws as they are.

use super::{
    Alteration, Fault, Leading, Operation, ReplicaSpec, Scenario, Target, TimedFault, TimedOperation,
};
use crate::stream::Stream;
use kontiki_core::types::NodeId;

/// Events that meet in any group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Coincidence {
    /// All members stand still until every election timeout is over, and then go on in the same instant.
    StandTogether,
    /// Leaders fall within a few timeouts of one another, so that one of them is elected again.
    ElectedAgain,
    /// The leader is lost and heard again within its term, over and over.
    LostAndRegained,
    /// Votes come and go, and the members are parted meanwhile.
    PartedInChange,
    /// The leader never comes back.
    NeverReturns,
    /// Leaders fail before they have told a follower the commit index, while snapshots are taken all the
    /// time.
    SnapshotOfTheUninformed,
}

impl Coincidence {
    const ALL: [Self; 6] = [
        Self::StandTogether,
        Self::ElectedAgain,
        Self::LostAndRegained,
        Self::PartedInChange,
        Self::NeverReturns,
        Self::SnapshotOfTheUninformed,
    ];
}

/// What is drawn, and from what.
struct Draw<'a> {
    stream: Stream,
    scenario: &'a mut Scenario,
    /// The shortest and the longest election timeout.
    min: u64,
    max: u64,
}

const LEADER: Target = Target::Leading(Leading::Leader);

impl Scenario {
    /// Adds coincidences to a third of all scenarios.
    pub(super) fn add_coincidences(&mut self) {
        let mut stream = Stream::named(self.seed, "coincidences", 0);
        if stream.below(3) > 0 {
            return;
        }
        let us = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let (min, max) = (us(self.options.election_timeout_min), us(self.options.election_timeout_max));
        Draw { stream, scenario: self, min, max }.coincide();
        self.operations.sort_by_key(|timed| timed.at_us);
    }

    /// Asks, in a sixth of all scenarios, for transfers to a member whose disk is full.
    pub(super) fn add_full_successors(&mut self) {
        let mut stream = Stream::named(self.seed, "full successors", 0);
        if stream.below(6) > 0 {
            return;
        }
        let max = u64::try_from(self.options.election_timeout_max.as_micros()).unwrap_or(u64::MAX);
        for _ in 0..stream.between(1, 4) {
            let id = *stream.pick(&self.ids());
            let at_us = stream.below(self.chaos_us);
            let for_us = stream.between(max / 4, 4 * max);
            let fault = Fault::DiskFull { member: Target::Member(id) };
            self.faults.push(TimedFault { at_us, for_us, fault });
            for _ in 0..stream.between(1, 6) {
                let operation = Operation::Transfer { to: Some(id) };
                // Soon: while the member lacks nothing yet that it has no space for.
                let at_us = at_us + stream.skewed(1, for_us);
                self.operations.push(TimedOperation { at_us, operation });
            }
        }
        self.operations.sort_by_key(|timed| timed.at_us);
    }
}

impl Draw<'_> {
    fn coincide(&mut self) {
        // Version 1 of the wire format has no words for snapshots on their way either.
        let snapshots = self.scenario.replica.as_ref().is_none_or(ReplicaSpec::can_repair);
        let possible = |it: &Coincidence| snapshots || *it != Coincidence::SnapshotOfTheUninformed;
        let kinds: Vec<_> = Coincidence::ALL.into_iter().filter(possible).collect();
        let kind = *self.stream.pick(&kinds);
        for _ in 0..self.stream.between(1, 4) {
            let at_us = self.moment();
            self.add(kind, at_us);
        }
    }

    fn add(&mut self, kind: Coincidence, mut at_us: u64) {
        let (min, max) = (self.min, self.max);
        match kind {
            Coincidence::StandTogether => {
                let for_us = self.stream.between(max, 2 * max);
                for member in self.all_members() {
                    self.fault(at_us, for_us, Fault::Pause { member });
                }
            }
            Coincidence::ElectedAgain => {
                for _ in 0..self.stream.between(2, 5) {
                    let for_us = self.stream.between(min, 2 * max);
                    self.fault(at_us, for_us, Fault::Isolate { member: LEADER });
                    at_us += for_us + self.stream.between(min / 4, max);
                }
            }
            Coincidence::LostAndRegained => {
                for _ in 0..self.stream.between(3, 8) {
                    let for_us = self.stream.skewed(min / 20, min);
                    self.fault(at_us, for_us, Fault::Isolate { member: LEADER });
                    at_us += for_us + self.stream.skewed(min / 20, min);
                }
            }
            Coincidence::PartedInChange => {
                let changes = self.changes();
                self.operation(at_us, Operation::Reconfigure { changes });
                for _ in 0..self.stream.between(1, 3) {
                    at_us += self.stream.skewed(1, max);
                    let side = self.side();
                    let for_us = self.stream.between(max, 4 * max);
                    self.fault(at_us, for_us, Fault::Partition { side });
                }
            }
            Coincidence::NeverReturns => {
                let after_actions = self.stream.below(8) as u32;
                let fault = match self.stream.coin() {
                    true => Fault::Crash { member: LEADER, after_actions },
                    false => Fault::Isolate { member: LEADER },
                };
                self.fault(at_us, self.scenario.chaos_us, fault);
            }
            Coincidence::SnapshotOfTheUninformed => {
                self.scenario.snapshots.every = self.stream.between(1, 3);
                self.scenario.options.retained_entries = self.stream.below(2);
                for _ in 0..self.stream.between(2, 6) {
                    let next = if self.stream.coin() { Leading::Leader } else { Leading::NextLeader };
                    let after_actions = self.stream.skewed(1, 16) as u32;
                    let for_us = self.stream.between(min / 2, 2 * max);
                    let member = Target::Leading(next);
                    self.fault(at_us, for_us, Fault::Crash { member, after_actions });
                    at_us += self.stream.between(min, 2 * max);
                }
            }
        }
    }

    fn changes(&mut self) -> Vec<Alteration> {
        let ids = self.scenario.ids();
        let count = self.stream.between(1, 3.min(ids.len() as u64)) as usize;
        let subjects = self.stream.sample(&ids, count);
        let alter = |id| match self.stream.below(3) {
            0 => Alteration::Demote(id),
            1 => Alteration::Promote(id),
            _ => Alteration::Add(id),
        };
        subjects.into_iter().map(alter).collect()
    }

    fn side(&mut self) -> Vec<NodeId> {
        let ids = self.scenario.ids();
        let some = self.stream.between(1, (ids.len() as u64 - 1).max(1)) as usize;
        self.stream.sample(&ids, some)
    }

    fn moment(&mut self) -> u64 {
        self.stream.below(self.scenario.chaos_us)
    }

    fn all_members(&self) -> Vec<Target> {
        self.scenario.ids().into_iter().map(Target::Member).collect()
    }

    fn fault(&mut self, at_us: u64, for_us: u64, fault: Fault) {
        self.scenario.faults.push(TimedFault { at_us, for_us, fault });
    }

    fn operation(&mut self, at_us: u64, operation: Operation) {
        self.scenario.operations.push(TimedOperation { at_us, operation });
    }
}
