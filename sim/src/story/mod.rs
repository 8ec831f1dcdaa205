//! How a failure came about: its relevant past, as facts, and the few that tell it as a story.
//!
//! A step follows the one before it at its member, the step that sent the message that it got, and the step
//! that began the write that it heard of. Of all that a violation follows from, the relevant past is what
//! explains it, and what changed nothing is left out of the story: heartbeats, answers to them, pre-votes.

pub(crate) mod cause;
pub(crate) mod delivery;
mod fact;
mod relevant;

pub use fact::{Fact, Weight};

use crate::check::Check as _;
use crate::check::election_safety::ElectionSafety;
use crate::part::{Involvement, Part};
use crate::report::Failure;
use crate::scenario::{Scenario, ScenarioError};
use crate::trace::Happened;
use crate::world::Tracer;
use cause::{Run, What};
use kontiki_core::status::RoleKind;
use kontiki_core::types::NodeId;
use std::fmt;

/// How many facts are kept at most, and how many make a story.
const FACTS: usize = 30;
const LINES: usize = 12;

/// The properties that a member breaks by itself.
const ALONE: [&str; 7] = [
    "Contract",
    "Durable Log",
    "Halt",
    "Kernel Invariants",
    "Leader Append-Only",
    "Restart",
    "Vote Durability",
];

/// The properties in whose stories each vote counts.
const ELECTORAL: [&str; 9] = [
    "Contract",
    "Durable Log",
    "Election Restriction",
    "Election Safety",
    "Leader Completeness",
    "Liveness",
    "One Election at a Time",
    "Restart",
    "Vote Durability",
];

/// How a failure came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    /// The failure.
    pub failure: Failure,
    /// What it followed from, in the order of time: thirty facts at most.
    pub facts: Vec<Fact>,
}

/// Runs a scenario and tells how it failed; none where it violates nothing.
pub fn tell(scenario: &Scenario) -> Result<Option<Story>, ScenarioError> {
    tell_of(|tracer| Ok(crate::run_traced(scenario, tracer)?.failure))
}

/// The same of a run of any kind, which shows its steps and says how it failed.
pub(crate) fn tell_of<E>(
    run_traced: impl FnOnce(Tracer<'_>) -> Result<Option<Failure>, E>,
) -> Result<Option<Story>, E> {
    let mut run = Run::default();
    let failure = run_traced(&mut |traced| run.note(traced))?;
    Ok(failure.map(|failure| Story::of(&run, failure)))
}

impl Story {
    /// The story of a run that failed.
    pub(crate) fn of(run: &Run, failure: Failure) -> Self {
        let ends = run.ends(&failure);
        let relevant = run.relevant(&failure);
        let concerned: Vec<_> = relevant.iter().filter_map(|number| run.moments[*number].member()).collect();
        let faults = run.moments.iter().enumerate().filter(|(_, moment)| {
            let What::World { happened, .. } = &moment.what else { return false };
            let is_fault = matches!(happened, Happened::Fault { .. } | Happened::CustomFault { .. });
            is_fault && concerned.iter().any(|id| happened.concerns(*id))
        });
        let mut numbers = relevant;
        numbers.extend(faults.map(|(number, _)| number));
        numbers.sort_unstable();
        numbers.dedup();
        let mut facts: Vec<Fact> = Vec::new();
        for number in numbers {
            let Some(mut fact) = run.fact(number) else { continue };
            if facts.last_mut().is_some_and(|last| last.absorb(&fact)) {
                continue;
            }
            if fact.weight == Weight::Vote && ELECTORAL.contains(&&*failure.property) {
                fact.weight = Weight::Turn;
            }
            if ends.last() == Some(&number) {
                fact.weight = Weight::End;
            }
            facts.push(fact);
        }
        let facts = weightiest(facts, FACTS);
        Self { failure, facts }
    }

    /// The members that had a part in it.
    pub fn members(&self) -> Vec<NodeId> {
        let mut members: Vec<_> = self.facts.iter().filter_map(|fact| fact.member).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// The facts that tell it: a dozen at most.
    pub fn lines(&self) -> Vec<Fact> {
        weightiest(self.facts.clone(), LINES)
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        let Failure { property, detail, .. } = &self.failure;
        write!(f, "{:>21}{property}: {detail}", "")?;
        self.failure.shown_parts().try_for_each(|part| write!(f, "\n{:>21}  {part}", ""))
    }
}

/// The `most` facts that say most; of those that say as much, the latest.
fn weightiest(facts: Vec<Fact>, most: usize) -> Vec<Fact> {
    let mut ranked: Vec<_> = facts.iter().enumerate().map(|(number, fact)| (fact.weight, number)).collect();
    ranked.sort_unstable_by(|one, other| other.cmp(one));
    ranked.truncate(most);
    let kept = |number: &usize| ranked.iter().any(|(_, kept)| kept == number);
    facts.into_iter().enumerate().filter(|(number, _)| kept(number)).map(|(_, fact)| fact).collect()
}

impl Run {
    /// The moments at which a property came to be violated: those that the check names, and the last step,
    /// unless what was seen is no step and the check names others. Where it names nothing but the last step,
    /// it is also the election of the other one for two leaders of a term, and the last thing of consequence
    /// that each other member did for other properties.
    pub(crate) fn ends(&self, failure: &Failure) -> Vec<usize> {
        let is_step = |number: &usize| matches!(self.moments[*number].what, What::Step(_));
        let Some(last) = (0..self.moments.len()).rev().find(is_step) else { return Vec::new() };
        // A crash or a restart after it, and what was found then.
        let after = (last + 1..self.moments.len()).filter(|number| self.fact(*number).is_some());
        let named: Vec<_> = failure.parts.iter().filter_map(|part| self.end_of(part)).collect();
        let is_last = named.is_empty() || self.moments[last].at == failure.at;
        let of_named = |number: &usize| {
            named.iter().any(|end| self.moments[*end].member() == self.moments[*number].member())
        };
        let after = after.filter(|number| named.is_empty() || of_named(number));
        let mut ends: Vec<_> = [last].into_iter().filter(|_| is_last).chain(after).collect();
        let mut seen: Vec<_> = ends.iter().map(|number| self.moments[*number].member()).collect();
        ends.extend(named);
        ends.sort_unstable();
        ends.dedup();
        if ends[0] < last || ALONE.contains(&&*failure.property) {
            return ends;
        }
        for number in (0..last).rev() {
            let member = self.moments[number].member();
            if !seen.contains(&member) && self.is_other_end(number, last, failure) {
                seen.push(member);
                ends.push(number);
            }
        }
        ends.sort_unstable();
        ends
    }

    /// The moment at which a failure was seen: the last step, or a crash or a restart after it.
    pub(crate) fn seen_at(&self) -> Option<usize> {
        let is_it = |number: &usize| {
            matches!(self.moments[*number].what, What::Step(_)) || self.fact(*number).is_some()
        };
        (0..self.moments.len()).rev().find(is_it)
    }

    /// The moment at which a member did what is its part in a failure.
    pub(crate) fn moment_of(&self, part: &Part) -> Option<usize> {
        let (member, since) = (part.member?, part.since?);
        let from = self.moments.partition_point(|moment| moment.step < since.step);
        let is_it = |moment: &&cause::Moment| {
            let is_what = match (&part.what, &moment.what) {
                (Involvement::Crashes { .. }, What::World { happened, .. }) => {
                    matches!(happened, Happened::Crash { .. })
                }
                (Involvement::Damaged { .. }, What::World { happened, .. }) => {
                    matches!(happened, Happened::Fault { .. } | Happened::Other { .. })
                }
                (Involvement::Crashes { .. } | Involvement::Damaged { .. }, _) | (_, What::World { .. }) => {
                    false
                }
                _ => true,
            };
            moment.member() == Some(member) && moment.at == since.at && is_what
        };
        let of_step = self.moments[from..].iter().take_while(|moment| moment.step == since.step);
        of_step.enumerate().find(|(_, moment)| is_it(moment)).map(|(position, _)| from + position)
    }

    /// The same; where it is no step of the member's, the last one before. It is in the state that this step
    /// left.
    fn end_of(&self, part: &Part) -> Option<usize> {
        self.moment_of(part).or_else(|| {
            let (member, since) = (part.member?, part.since?);
            if matches!(part.what, Involvement::Crashes { .. } | Involvement::Damaged { .. }) {
                return None;
            }
            let end = self.moments.partition_point(|moment| moment.at <= since.at);
            let is_step = |moment: &cause::Moment| matches!(moment.what, What::Step(_));
            self.moments[..end].iter().rposition(|moment| moment.member() == Some(member) && is_step(moment))
        })
    }

    fn is_other_end(&self, number: usize, last: usize, failure: &Failure) -> bool {
        let (What::Step(step), What::Step(end)) = (&self.moments[number].what, &self.moments[last].what)
        else {
            return false;
        };
        if failure.property == ElectionSafety::NAME {
            return step.after.role == RoleKind::Leader
                && step.after.term == end.after.term
                && step.before.is_none_or(|before| before.role != RoleKind::Leader);
        }
        self.fact(number).is_some()
    }
}

#[cfg(test)]
mod tests;
