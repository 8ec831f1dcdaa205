//! The search for the smallest scenario: which attempts are kept, and when it is over.

use crate::report::{Failure, Report};
use crate::scenario::Scenario;
use crate::story::cause::Run;
use crate::world::Tracer;

/// A scenario that fails, and how.
#[derive(Clone, PartialEq, Debug)]
pub struct Shrunk {
    /// The smallest scenario found.
    pub scenario: Scenario,
    /// What it violates: the same property as the scenario it was made from, at no later step.
    pub failure: Failure,
    /// How many scenarios were tried.
    pub tried: u64,
    /// How many steps that took, all runs together, the first run aside.
    pub steps: u64,
}

/// Runs a scenario, and gives up after so many steps; none where it cannot be run.
pub(crate) type RunFor<'r> = &'r dyn Fn(&Scenario, u64, Option<Tracer<'_>>) -> Option<Report>;

/// What has been found, and how much more may be tried.
pub(super) struct Search<'w> {
    pub(super) smallest: Shrunk,
    /// How many commands and queries its clients draw.
    pub(super) operations: u64,
    /// Under how many other seeds an attempt is made that does not fail.
    pub(super) rolls: u64,
    /// How many events explain the failure, once that is what is to become less.
    pub(super) events: Option<usize>,
    /// How many steps may be taken.
    budget: u64,
    run_for: RunFor<'w>,
    watch: &'w mut dyn FnMut(&Shrunk) -> bool,
    /// Set once it has been told to stop.
    stopped: bool,
}

impl<'w> Search<'w> {
    /// None where the scenario does not fail.
    pub(super) fn new(
        scenario: &Scenario,
        run_for: RunFor<'w>,
        steps: u64,
        watch: &'w mut dyn FnMut(&Shrunk) -> bool,
    ) -> Option<Self> {
        let report = run_for(scenario, u64::MAX, None)?;
        let (failure, operations) = (report.failure?, report.operations);
        let smallest = Shrunk { scenario: scenario.clone(), failure, tried: 1, steps: 0 };
        Some(Self {
            smallest,
            operations,
            rolls: 0,
            events: None,
            budget: steps,
            run_for,
            watch,
            stopped: false,
        })
    }

    /// Whether nothing more is to be tried.
    pub(super) fn is_over(&self) -> bool {
        self.stopped || self.smallest.steps >= self.budget
    }

    /// Makes a change, and keeps it if the scenario then fails as before, under its own seed or another.
    /// Returns whether it did.
    pub(super) fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let Some(mut smaller) = self.changed(change) else { return false };
        let last_step = self.smallest.failure.step;
        self.keep_if_fails(&smaller, last_step)
            || (1..=self.rolls).any(|seed| {
                smaller.seed = seed;
                self.keep_if_fails(&smaller, last_step)
            })
    }

    /// Tries other seeds, as many as an attempt does. Returns whether one is better.
    pub(super) fn attempt_other_seeds(&mut self) -> bool {
        let (mut other, last_step) = (self.smallest.scenario.clone(), self.smallest.failure.step);
        (1..=self.rolls).any(|seed| {
            other.seed = seed;
            self.keep_if_fails(&other, last_step)
        })
    }

    /// The same under its own seed only.
    pub(super) fn attempt_as_drawn(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let smaller = self.changed(change);
        smaller.is_some_and(|smaller| self.keep_if_fails(&smaller, self.smallest.failure.step))
    }

    /// Looks for a seed under which the scenario fails earlier, by a step in sixteen at least. Returns
    /// whether there is one among the first few.
    pub(super) fn attempt_reseeded(&mut self) -> bool {
        let Some(earlier) = (self.smallest.failure.step * 15 / 16).checked_sub(1) else { return false };
        let mut reseeded = self.smallest.scenario.clone();
        (1..=self.rolls).any(|seed| {
            reseeded.seed = seed;
            self.keep_if_fails(&reseeded, earlier)
        })
    }

    fn changed(&self, change: impl FnOnce(&mut Scenario)) -> Option<Scenario> {
        let mut changed = self.smallest.scenario.clone();
        change(&mut changed);
        (changed != self.smallest.scenario).then_some(changed)
    }

    fn keep_if_fails(&mut self, scenario: &Scenario, last_step: u64) -> bool {
        if self.is_over() {
            return false;
        }
        self.smallest.tried += 1;
        let failed = self.fails(scenario, last_step);
        let kept = failed.is_some();
        if let Some((failure, operations)) = failed {
            (self.smallest.scenario, self.smallest.failure) = (scenario.clone(), failure);
            self.operations = operations;
        }
        self.stopped = !(self.watch)(&self.smallest);
        kept
    }

    /// How a scenario violates the same property, if it does, at this step or before; and how many commands
    /// and queries were drawn.
    fn fails(&mut self, scenario: &Scenario, last_step: u64) -> Option<(Failure, u64)> {
        let mut run = Run::default();
        let report = match self.events {
            None => (self.run_for)(scenario, last_step, None),
            Some(_) => (self.run_for)(scenario, last_step, Some(&mut |traced| run.note(traced))),
        }?;
        self.smallest.steps += report.counters.steps.max(1);
        let failure = report.failure?;
        let is_same = failure.property == self.smallest.failure.property && failure.step <= last_step;
        if is_same && let Some(events) = self.events {
            let explained_by = run.relevant(&failure).len();
            if explained_by >= events {
                return None;
            }
            self.events = Some(explained_by);
        }
        is_same.then_some((failure, report.operations))
    }

    /// Counts the events that explain the failure, which are to become less from now on. Returns how many
    /// they are.
    pub(super) fn count_events(&mut self) -> usize {
        let mut run = Run::default();
        let Shrunk { scenario, failure, .. } = &self.smallest;
        let _ = (self.run_for)(scenario, failure.step, Some(&mut |traced| run.note(traced)));
        let events = run.relevant(failure).len();
        self.events = Some(events);
        events
    }
}
