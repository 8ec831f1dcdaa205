//! Making a failing scenario smaller until everything that is left matters.
//!
//! What happens after the failure goes first. Then faults, members, clients and operations are left out, what
//! stays is made shorter and weaker, features are switched off, and chance is taken from networks and disks.
//! Then single commands and queries of clients are left out. Last, what is left is moved until fewer events
//! [explain](crate::story) the failure.
//! A change is kept if the same property is violated, at no later step than before: so a run needs to be
//! watched no longer than that, and what is found is never worse than what was given.
//!
//! A change disturbs what is drawn on the way, which may undo a failure that has nothing to do with it. So a
//! change that does not fail at once is tried again under other seeds, a few at first, more in the end.

mod members;
mod search;
mod settings;
#[cfg(feature = "proptest")]
mod steps;

pub(crate) use search::RunFor;
pub use search::Shrunk;
#[cfg(feature = "proptest")]
pub(crate) use steps::{Step, steps};

use crate::scenario::{Fault, Operation, Scenario};
use search::Search;

/// How many steps [`shrink`] takes at most, all runs together: half a minute or so.
pub const STEPS: u64 = 20_000_000;

/// Under how many other seeds a change is tried, pass after pass.
const ROLLS: [u64; 4] = [0, 4, 16, 64];

/// How many groups of commands and queries are tried at a time.
const OPERATION_GROUPS: u64 = 128;

/// Under how many other seeds a change is tried that leaves fewer events to be read; and how many are few
/// enough.
const EVENT_ROLLS: u64 = 16;
const FEW_EVENTS: usize = 20;

/// After a pass with so many, what is small is small enough.
const FEW_ROLLS: u64 = 4;

/// Makes `scenario` smaller as long as it still violates the same property, at no later step, for [`STEPS`]
/// steps at most. None where it violates nothing, or cannot be run.
///
/// The outcome depends on the scenario alone.
pub fn shrink(scenario: &Scenario) -> Option<Shrunk> {
    shrink_within(scenario, STEPS, &mut |_| true)
}

/// The same, for so many steps of all runs together, and as long as `watch` says so. It is shown the smallest
/// scenario so far after each run.
pub fn shrink_within(
    scenario: &Scenario,
    steps: u64,
    watch: &mut dyn FnMut(&Shrunk) -> bool,
) -> Option<Shrunk> {
    shrink_by(scenario, &|scenario, steps, tracer| crate::run_for(scenario, steps, tracer).ok(), steps, watch)
}

/// The same, where scenarios are run in another way.
pub(crate) fn shrink_by(
    scenario: &Scenario,
    run_for: RunFor<'_>,
    steps: u64,
    watch: &mut dyn FnMut(&Shrunk) -> bool,
) -> Option<Shrunk> {
    let mut search = Search::new(scenario, run_for, steps, watch)?;
    for rolls in ROLLS {
        search.rolls = rolls;
        if rolls > FEW_ROLLS && is_small(&search.smallest.scenario) {
            break;
        }
        loop {
            let before = search.smallest.scenario.clone();
            search.pass();
            if search.is_over() || search.smallest.scenario == before {
                break;
            }
        }
    }
    search.leave_out_operations();
    search.explain_by_less();
    Some(search.smallest)
}

/// When faults begin and operations are asked for.
fn moments(scenario: &mut Scenario) -> impl Iterator<Item = &mut u64> {
    let faults = scenario.faults.iter_mut().map(|timed| &mut timed.at_us);
    let custom = scenario.custom_faults.iter_mut().map(|timed| &mut timed.at_us);
    faults.chain(custom).chain(scenario.operations.iter_mut().map(|timed| &mut timed.at_us))
}

/// Whether a scenario can be read at one glance.
fn is_small(scenario: &Scenario) -> bool {
    let Scenario { members, faults, custom_faults, operations, contests, .. } = scenario;
    let happens = faults.len() + custom_faults.len() + operations.len();
    members.len() <= 3 && happens <= 3 && contests.is_none()
}

impl Search<'_> {
    /// Tries every change once.
    fn pass(&mut self) {
        self.cut();
        self.drop_some(|scenario| &mut scenario.faults);
        self.drop_some(|scenario| &mut scenario.custom_faults);
        self.drop_members();
        self.change_all(settings::CLIENTS);
        self.drop_some(|scenario| &mut scenario.operations);
        self.shorten();
        self.advance();
        self.change_all(settings::FEATURES);
        for option in settings::options() {
            self.attempt(|scenario| settings::reset(scenario, &option));
        }
        self.change_all(settings::CHANCE);
        self.fail_earlier();
    }

    /// Leaves out what comes after the failure: faults and operations, and the rest of the run. What is
    /// judged when a run is over is judged as early as it fails.
    fn cut(&mut self) {
        let at_us = self.smallest.failure.at / 1_000 + 1;
        self.attempt_as_drawn(|scenario| {
            scenario.faults.retain(|timed| timed.at_us <= at_us);
            scenario.custom_faults.retain(|timed| timed.at_us <= at_us);
            scenario.operations.retain(|timed| timed.at_us <= at_us);
            scenario.chaos_us = scenario.chaos_us.min(at_us);
        });
        // What is violated by a step is not violated before it.
        if !self.attempt_as_drawn(|scenario| scenario.until_us = at_us.checked_sub(2)) {
            return;
        }
        let mut holds_us = 0;
        while let Some(until_us) = self.smallest.scenario.until_us
            && holds_us + 100 < until_us
            && !self.is_over()
        {
            let middle = holds_us.midpoint(until_us);
            if !self.attempt_as_drawn(|scenario| scenario.until_us = Some(middle)) {
                holds_us = middle;
            }
        }
    }

    /// Leaves out some of a list: all of it, half of it, a quarter, and so on down to each alone.
    fn drop_some<T>(&mut self, list: fn(&mut Scenario) -> &mut Vec<T>) {
        let mut size = list(&mut self.smallest.scenario).len();
        while size > 0 {
            let mut from = 0;
            while from < list(&mut self.smallest.scenario).len() {
                let to = (from + size).min(list(&mut self.smallest.scenario).len());
                if !self.attempt(|scenario| drop(list(scenario).drain(from..to))) {
                    from = to;
                }
            }
            size /= 2;
        }
    }

    /// Leaves as few members as fail.
    fn drop_members(&mut self) {
        let groups = members::groups(self.smallest.scenario.members.len());
        let _ = groups.iter().find(|staying| self.attempt(|scenario| members::keep(scenario, staying)));
    }

    fn change_all(&mut self, changes: &[settings::Change]) {
        for change in changes {
            self.attempt(change);
        }
    }

    /// Makes what is left shorter: the chaos, faults and operations; and clients ask less often.
    fn shorten(&mut self) {
        while self.attempt(|scenario| scenario.chaos_us /= 2) {}
        while self.attempt(|scenario| scenario.chaos_us = scenario.chaos_us * 7 / 8) {}
        for number in 0..self.smallest.scenario.faults.len() {
            self.attempt(|scenario| scenario.faults[number].for_us = 0);
            while self.attempt(|scenario| scenario.faults[number].for_us /= 2) {}
            self.attempt(|scenario| {
                if let Fault::Crash { after_actions, .. } = &mut scenario.faults[number].fault {
                    *after_actions = 0;
                }
            });
        }
        for number in 0..self.smallest.scenario.custom_faults.len() {
            while self.attempt(|scenario| scenario.custom_faults[number].for_us /= 2) {}
        }
        for number in 0..self.smallest.scenario.operations.len() {
            while self.attempt(|scenario| {
                if let Operation::Shutdown { for_us, .. } = &mut scenario.operations[number].operation {
                    *for_us /= 2;
                }
            }) {}
        }
        let longest_us = self.smallest.scenario.chaos_us.max(1);
        while self.attempt(|scenario| {
            scenario.workload.think_us = (2 * scenario.workload.think_us).clamp(1, longest_us);
        }) {}
    }

    /// Moves what is left towards the beginning of the run: all of it, then each fault and operation alone.
    fn advance(&mut self) {
        while self.attempt(|scenario| {
            moments(scenario).for_each(|at_us| *at_us /= 2);
        }) {}
        for number in 0..moments(&mut self.smallest.scenario.clone()).count() {
            let moved = |scenario: &mut Scenario, by: fn(u64) -> u64| {
                moments(scenario).nth(number).into_iter().for_each(|at_us| *at_us = by(*at_us));
            };
            self.attempt(|scenario| moved(scenario, |_| 0));
            while self.attempt(|scenario| moved(scenario, |at_us| at_us / 2)) {}
            self.attempt(|scenario| moved(scenario, |at_us| at_us * 7 / 8));
        }
    }

    /// Moves and reseeds what is left until few events explain the failure, or no such change leaves fewer.
    fn explain_by_less(&mut self) {
        self.rolls = EVENT_ROLLS;
        let mut before = usize::MAX;
        let mut events = self.count_events();
        while events < before && events > FEW_EVENTS && !self.is_over() {
            before = events;
            while self.attempt_other_seeds() {}
            self.change_all(settings::CLIENTS);
            self.drop_some(|scenario| &mut scenario.faults);
            self.drop_some(|scenario| &mut scenario.operations);
            self.shorten();
            self.advance();
            self.change_all(settings::CHANCE);
            events = self.events.unwrap_or(events);
        }
    }

    /// Leaves out commands and queries of clients: all of them, half of them, and so on.
    fn leave_out_operations(&mut self) {
        let mut size = self.operations;
        while size > 0 && self.operations / size <= OPERATION_GROUPS {
            let mut from = 1;
            while from <= self.operations {
                let group = from..=self.operations.min(from + size - 1);
                from += size;
                self.attempt_as_drawn(|scenario| {
                    let left_out = &mut scenario.workload.left_out;
                    left_out.extend(group);
                    left_out.sort_unstable();
                    left_out.dedup();
                });
            }
            size /= 2;
        }
    }

    /// Looks for other seeds under which the same fails sooner.
    fn fail_earlier(&mut self) {
        while self.attempt_reseeded() {
            self.cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Counters, Failure};
    use crate::scenario::{Heal, Leading, Profile, Target, TimedFault};

    /// Commands that are larger than members take are never served; nothing else that the seed holds has
    /// anything to do with it.
    #[test]
    fn what_does_not_matter_goes_and_what_matters_stays() {
        let mut scenario = Scenario::draw(9, 3, Profile::Chaos);
        scenario.options.max_payload_bytes = u64::from(scenario.workload.payload_bytes) - 1;
        scenario.workload.read = 0;
        (scenario.heal, scenario.quiet) = (Heal::Everything, false);
        assert!(!scenario.faults.is_empty() && scenario.network.drop > 0);
        let before = crate::run(&scenario).expect("it can be run").failure.expect("it fails");
        let shrunk = shrink(&scenario).expect("it fails");
        assert!(shrunk.failure.step < before.step / 10, "{} {}", shrunk.failure.step, before.step);
        assert_eq!(shrunk.failure.property, crate::check::liveness::NAME);
        assert_eq!((shrunk.scenario.faults.len(), shrunk.scenario.members.len()), (0, 1));
        assert_eq!((shrunk.scenario.network.drop, shrunk.scenario.workload.clients), (0, 1));
        let (limit, size) =
            (shrunk.scenario.options.max_payload_bytes, shrunk.scenario.workload.payload_bytes);
        assert!(limit < u64::from(size), "{limit} {size}");
        assert_eq!(shrink(&scenario), Some(shrunk), "the same again");
    }

    /// As if a second election violated something: the crash of a leader brings it about.
    #[test]
    fn what_is_left_is_moved_to_the_beginning_and_then_explained_by_less() {
        let mut scenario = Scenario::draw(1, 5, Profile::Calm);
        let member = Target::Leading(Leading::Leader);
        let crash = Fault::Crash { member, after_actions: 0 };
        scenario.faults = vec![TimedFault { at_us: 1_600_000, for_us: 300_000, fault: crash }];
        scenario.until_us = Some(3_000_000);
        let run_for = |scenario: &Scenario, steps, tracer: Option<crate::Tracer<'_>>| {
            let mut report = crate::run_for(scenario, steps, tracer).ok()?;
            let Counters { elections, steps, virtual_nanos, .. } = report.counters;
            let violated = || Failure::new("Liveness", "of a test".to_owned(), steps, virtual_nanos);
            report.failure = (elections > 1).then(violated);
            Some(report)
        };
        let mut watch = |_: &Shrunk| true;
        let mut search = Search::new(&scenario, &run_for, STEPS, &mut watch).expect("it fails");
        let first = search.smallest.failure.clone();
        search.advance();
        let at_us = search.smallest.scenario.faults[0].at_us;
        assert!(at_us <= 800_000, "{at_us}");
        let before = search.count_events();
        assert!(before > FEW_EVENTS, "{before}");
        search.explain_by_less();
        let after = search.count_events();
        assert!(after < before, "{after} {before}");
        let Shrunk { scenario: smaller, failure: last, .. } = &search.smallest;
        assert!(last.step <= first.step, "{last} {first}");
        assert_eq!((smaller.faults.len(), smaller.members.len()), (1, 5));
    }

    #[test]
    fn a_search_ends_when_it_is_told_to_or_has_taken_its_steps() {
        let mut scenario = Scenario::draw(9, 3, Profile::Chaos);
        scenario.options.max_payload_bytes = 1;
        scenario.workload.read = 0;
        (scenario.heal, scenario.quiet) = (Heal::Everything, false);
        let stopped = shrink_within(&scenario, STEPS, &mut |shrunk| shrunk.tried < 5).expect("it fails");
        assert_eq!(stopped.tried, 5);
        let spent = shrink_within(&scenario, 1, &mut |_| true).expect("it fails");
        assert_eq!(spent.tried, 2);
    }

    #[test]
    fn a_run_is_over_when_its_scenario_says_so() {
        let mut scenario = Scenario::draw(9, 3, Profile::Chaos);
        let whole = crate::run(&scenario).expect("it can be run").counters;
        scenario.until_us = Some(300_000);
        let report = crate::run(&scenario).expect("it can be run");
        assert_eq!(report.failure, None);
        assert!(report.counters.virtual_nanos <= 300_000_000, "{report:?}");
        assert!(0 < report.counters.steps && report.counters.steps < whole.steps);
    }

    #[test]
    fn a_scenario_that_holds_cannot_be_shrunk() {
        assert_eq!(shrink(&Scenario::draw(1, 3, Profile::Calm)), None);
    }
}
