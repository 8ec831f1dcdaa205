//! Strategies of `proptest` for scenarios, and for parts of them.
//!
//! A value is drawn as the seed of a scenario is. It shrinks by the steps of [`shrink`](crate::shrink):
//! faults are left out, then members, and so on, each step as long as the test still fails. `proptest` judges
//! that, so a test may demand whatever it likes; the simulator's own search would only know the property that
//! a run violates.
//!
//! ```
//! use kontiki_sim::scenario::Profile;
//! use kontiki_sim::strategy;
//! use proptest::test_runner::{Config, TestRunner};
//!
//! let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(3) });
//! runner.run(&strategy::scenarios(3, Profile::Chaos), |scenario| {
//!     let report = kontiki_sim::run(&scenario).expect("what is drawn can be run");
//!     assert_eq!(report.failure, None);
//!     Ok(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::scenario::{Profile, Scenario, TimedFault, WorkloadSpec};
use crate::shrink::{Step, steps};
use kontiki_core::config::Options;

use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rand_chacha::rand_core::Rng as _;
use std::fmt;
use std::rc::Rc;

/// Scenarios of so many members.
pub fn scenarios(members: u32, profile: Profile) -> Drawn<Scenario> {
    scenarios_by(move |seed| Scenario::draw(seed, members, profile))
}

/// Scenarios that this draws from their seeds: those of a [`Test`](crate::Test), say, as its
/// [`scenario`](crate::Test::scenario) draws them.
pub fn scenarios_by(draw: impl Fn(u64) -> Scenario + 'static) -> Drawn<Scenario> {
    Drawn { draw: Rc::new(draw), part: Scenario::clone }
}

/// What goes wrong in clusters of so many members.
pub fn faults(members: u32, profile: Profile) -> Drawn<Vec<TimedFault>> {
    scenarios(members, profile).part(|scenario| scenario.faults.clone())
}

/// What clients do.
pub fn workloads(profile: Profile) -> Drawn<WorkloadSpec> {
    scenarios(3, profile).part(|scenario| scenario.workload.clone())
}

/// Options of the kernel. They belong together: a scenario that takes some is best drawn with them.
pub fn options(profile: Profile) -> Drawn<Options> {
    scenarios(3, profile).part(|scenario| scenario.options.clone())
}

/// A scenario that is drawn from a seed, or a part of it.
#[derive(Clone)]
pub struct Drawn<T> {
    draw: Rc<dyn Fn(u64) -> Scenario>,
    part: fn(&Scenario) -> T,
}

impl Drawn<Scenario> {
    /// A part of each scenario. What changes another part alone is no step of its shrinking.
    pub fn part<T>(self, part: fn(&Scenario) -> T) -> Drawn<T> {
        Drawn { draw: self.draw, part }
    }
}

impl<T> fmt::Debug for Drawn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drawn").finish_non_exhaustive()
    }
}

impl<T: Clone + PartialEq + fmt::Debug> Strategy for Drawn<T> {
    type Tree = Shrinking<T>;
    type Value = T;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let smallest = (self.draw)(runner.rng().next_u64());
        let steps = steps(&smallest);
        Ok(Shrinking {
            tried: smallest.clone(),
            smallest,
            part: self.part,
            steps,
            next: 0,
            is_smaller: false,
        })
    }
}

/// A drawn value on its way to the smallest that fails.
pub struct Shrinking<T> {
    /// The smallest that is known to fail, once one does.
    smallest: Scenario,
    /// What is tried now.
    tried: Scenario,
    part: fn(&Scenario) -> T,
    steps: Vec<Step>,
    /// Which step is tried next.
    next: usize,
    /// Whether a step of this pass was kept.
    is_smaller: bool,
}

impl<T> fmt::Debug for Shrinking<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shrinking")
            .field("tried", &self.tried)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<T: PartialEq> Shrinking<T> {
    /// Goes on to the next step that changes something. Returns whether there is one.
    fn advance(&mut self) -> bool {
        loop {
            while let Some(step) = self.steps.get(self.next) {
                self.next += 1;
                let mut smaller = self.smallest.clone();
                step(&mut smaller);
                if (self.part)(&smaller) != (self.part)(&self.smallest) && smaller.validate().is_ok() {
                    self.tried = smaller;
                    return true;
                }
            }
            if !std::mem::take(&mut self.is_smaller) {
                return false;
            }
            self.steps = steps(&self.smallest);
            self.next = 0;
        }
    }
}

impl<T: Clone + PartialEq + fmt::Debug> ValueTree for Shrinking<T> {
    type Value = T;

    fn current(&self) -> T {
        (self.part)(&self.tried)
    }

    /// What was tried fails, and is kept. The step that led to it is tried once more.
    fn simplify(&mut self) -> bool {
        if self.tried != self.smallest {
            self.smallest = self.tried.clone();
            self.is_smaller = true;
            self.next = self.next.saturating_sub(1);
        }
        self.advance()
    }

    /// What was tried holds, and is given up.
    fn complicate(&mut self) -> bool {
        self.tried = self.smallest.clone();
        self.advance()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng};

    fn smallest<T: Clone + PartialEq + fmt::Debug>(drawn: &Drawn<T>, holds: impl Fn(&T) -> bool) -> T {
        let config =
            Config { failure_persistence: None, max_shrink_iters: 10_000, ..Config::with_cases(100) };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let fails = || TestCaseError::fail("it does not hold");
        let ran = TestRunner::new_with_rng(config, rng)
            .run(drawn, |value| holds(&value).then_some(()).ok_or_else(fails));
        match ran {
            Err(TestError::Fail(_, value)) => value,
            other => panic!("it should fail: {other:?}"),
        }
    }

    #[test]
    fn what_does_not_matter_goes_and_what_matters_stays() {
        let drawn = scenarios(5, Profile::Chaos);
        let found = smallest(&drawn, |scenario| scenario.network.drop == 0 || scenario.members.len() < 2);
        assert_eq!((found.members.len(), found.faults.len(), found.workload.clients), (2, 0, 1));
        assert!(found.network.drop > 0 && found.network.duplicate == 0, "{found:?}");
        assert_eq!(found.validate(), Ok(()));
    }

    #[test]
    fn parts_shrink_by_themselves() {
        let few = smallest(&faults(3, Profile::Chaos), |faults| faults.len() < 3);
        assert_eq!((few.len(), few.iter().map(|timed| timed.for_us).sum::<u64>()), (3, 0));
        let one = smallest(&workloads(Profile::Swarm), |workload| workload.keys < 2);
        assert_eq!((one.clients, one.read, one.keys > 1), (1, 0, true));
        let other = smallest(&options(Profile::Swarm), |options| *options == Options::default());
        assert_ne!(other, Options::default());
    }
}
