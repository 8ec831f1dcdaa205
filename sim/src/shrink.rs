//! Making a failing scenario smaller until everything that is left matters.

use crate::report::Failure;
use crate::scenario::{Fault, Heal, Scenario, SnapshotSpec};
use kontiki_core::config::{MAX_PRIORITY, Options};
use kontiki_core::membership::MemberKind;

/// A scenario that fails, and how.
#[derive(Clone, PartialEq, Debug)]
pub struct Shrunk {
    /// The smallest scenario found.
    pub scenario: Scenario,
    /// What it violates: the same property as the scenario it was made from.
    pub failure: Failure,
    /// How many scenarios were tried.
    pub tried: u64,
}

/// Makes `scenario` smaller as long as it still violates the same property: fewer faults and operations
/// first, then a quieter world, then fewer members, plainer settings and less time. None where it violates
/// nothing, or cannot be run.
///
/// The outcome depends on the scenario alone. Nothing smaller by one change of those listed here fails in the
/// same way; something smaller by two might.
pub fn shrink(scenario: &Scenario) -> Option<Shrunk> {
    let failure = fails(scenario)?;
    let mut smallest = Shrunk { scenario: scenario.clone(), failure, tried: 1 };
    loop {
        let before = smallest.scenario.clone();
        smallest.drop_some(|scenario| &mut scenario.faults);
        smallest.drop_some(|scenario| &mut scenario.operations);
        for change in CHANGES {
            smallest.attempt(change);
        }
        smallest.drop_members();
        while smallest.attempt(|scenario| scenario.chaos_us = scenario.chaos_us * 3 / 4) {}
        if smallest.scenario == before {
            return Some(smallest);
        }
    }
}

/// What may be taken out of a scenario, each for itself.
const CHANGES: [fn(&mut Scenario); 36] = [
    |it| it.contests = None,
    |it| it.old_messages = None,
    |it| it.network.drop = 0,
    |it| it.network.duplicate = 0,
    |it| it.network.reorder = 0,
    |it| it.network.tail = 0,
    |it| it.network.corrupt = 0,
    |it| it.network.notice = 0,
    |it| it.network.bandwidth = None,
    |it| it.workload.large = 0,
    |it| it.network.latency_max_us = it.network.latency_min_us,
    |it| it.disk.tail = 0,
    |it| it.disk.sync_max_us = it.disk.sync_min_us,
    |it| it.workload.clients = 1,
    |it| it.workload.batch = 1,
    |it| it.workload.payload_bytes = 24,
    |it| it.workload.read = 0,
    |it| it.workload.lease = 0,
    |it| it.workload.anywhere = 0,
    |it| it.workload.keys = 1,
    |it| it.snapshots = SnapshotSpec::default(),
    |it| it.snapshots.fail = 0,
    |it| it.members.iter_mut().for_each(|member| member.witness = false),
    |it| it.members.iter_mut().for_each(|member| member.initially = MemberKind::Voter),
    |it| it.options.lease_reads = false,
    |it| it.members.iter_mut().for_each(|member| member.clock_ppm = 0),
    |it| it.members.iter_mut().for_each(|member| member.priority = MAX_PRIORITY),
    |it| it.members.iter_mut().for_each(|member| member.keeps_state = false),
    |it| it.members.iter_mut().for_each(|member| member.apply_us = 0),
    |it| it.members.iter_mut().for_each(|member| member.sync_us = 0),
    |it| it.members.iter_mut().for_each(|member| member.link_us = 0),
    |it| it.heal = Heal::Everything,
    |it| it.quiet = false,
    |it| it.options.pre_vote = true,
    |it| it.options.check_quorum = true,
    |it| {
        let Options { election_timeout_min, election_timeout_max, heartbeat_interval, .. } = it.options;
        let (pre_vote, check_quorum) = (it.options.pre_vote, it.options.check_quorum);
        it.options = Options {
            election_timeout_min,
            election_timeout_max,
            heartbeat_interval,
            pre_vote,
            check_quorum,
            ..Options::default()
        };
    },
];

impl Shrunk {
    /// Keeps a change if the scenario still fails in the same way. Returns whether it did.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.scenario.clone();
        change(&mut smaller);
        if smaller == self.scenario {
            return false;
        }
        self.tried += 1;
        match fails(&smaller) {
            Some(failure) if failure.property == self.failure.property => {
                (self.scenario, self.failure) = (smaller, failure);
                true
            }
            _ => false,
        }
    }

    /// Leaves out some of a list: half of it, a quarter, and so on down to each alone.
    fn drop_some<T>(&mut self, list: fn(&mut Scenario) -> &mut Vec<T>) {
        let mut size = list(&mut self.scenario).len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < list(&mut self.scenario).len() {
                let to = (from + size).min(list(&mut self.scenario).len());
                if !self.attempt(|scenario| drop(list(scenario).drain(from..to))) {
                    from = to;
                }
            }
            size /= 2;
        }
    }

    /// Leaves out the last member, as long as nothing names it.
    fn drop_members(&mut self) {
        let has_last = |scenario: &mut Scenario| {
            let Some(last) = scenario.ids().pop() else { return };
            scenario.members.pop();
            scenario.operations.retain(|timed| !timed.operation.members().contains(&last));
            for timed in &mut scenario.faults {
                if let Fault::Partition { side: ids } | Fault::OneWay { from: ids, .. } = &mut timed.fault {
                    ids.retain(|id| *id != last);
                }
                if let Fault::OneWay { to, .. } = &mut timed.fault {
                    to.retain(|id| *id != last);
                }
            }
        };
        while self.scenario.members.len() > 1 && self.attempt(has_last) {}
    }
}

fn fails(scenario: &Scenario) -> Option<Failure> {
    crate::run(scenario).ok()?.failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Profile;

    /// Commands that are larger than members take are never served; nothing else that the seed holds has
    /// anything to do with it.
    #[test]
    fn what_does_not_matter_goes_and_what_matters_stays() {
        let mut scenario = Scenario::draw(9, 3, Profile::Chaos);
        scenario.options.max_payload_bytes = u64::from(scenario.workload.payload_bytes) - 1;
        scenario.workload.read = 0;
        (scenario.heal, scenario.quiet) = (Heal::Everything, false);
        assert!(!scenario.faults.is_empty() && scenario.network.drop > 0);
        let shrunk = shrink(&scenario).expect("it fails");
        assert_eq!(shrunk.failure.property, crate::check::liveness::NAME);
        assert_eq!((shrunk.scenario.faults.len(), shrunk.scenario.members.len()), (0, 1));
        assert_eq!((shrunk.scenario.network.drop, shrunk.scenario.workload.clients), (0, 1));
        let (limit, size) =
            (shrunk.scenario.options.max_payload_bytes, shrunk.scenario.workload.payload_bytes);
        assert!(limit < u64::from(size), "{limit} {size}");
        assert_eq!(shrink(&scenario), Some(shrunk), "the same again");
    }

    #[test]
    fn a_scenario_that_holds_cannot_be_shrunk() {
        assert_eq!(shrink(&Scenario::draw(1, 3, Profile::Calm)), None);
    }
}
