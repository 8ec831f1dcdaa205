//! Every state of a small group, tried one by one: a model checker over the kernel that ships.
//!
//! A simulated run shows one of the things that can happen; an exploration shows all of them, within bounds.
//! A state is what the members' kernels are, what their disks hold and still owe, and every message that was
//! ever sent. A transition is one event at one member: it receives a message, times out, hears from its disk,
//! crashes with some of what it had not synced and starts again, or is asked for something. States that were
//! seen before are left out; the search is breadth first, so a violation is found by a shortest way.
//!
//! Messages stay when they are delivered. So any message may be lost, delayed, reordered and repeated at any
//! time, without a bound ([`Bounds::copied`] sets one). Time is left out
//! ([`Raft::forget_time`](kontiki_core::raft::Raft::forget_time)): every timeout may happen at any time. That
//! is more than any clock allows, and rules out what rests on clocks: check-quorum and leases are off. With
//! [`Bounds::ticks`] time goes on instead, leases are on, and clocks differ by as much as they may; with
//! [`Bounds::trial_every`] time goes on from some states, and the group must serve in time.
//!
//! ```
//! use kontiki_sim::explore::{Bounds, Exploration};
//!
//! let bounds = Bounds { members: 2, voters: 2, terms: 1, proposals: 1, ..Bounds::default() };
//! let mut exploration = Exploration::new(bounds).expect("bounds within their limits");
//! while !exploration.is_done() {
//!     exploration.go_on(1_000);
//! }
//! assert!(exploration.found().is_none());
//! ```

mod alone;
mod bounds;
mod checkpoint;
mod clocks;
mod ghost;
mod goal;
mod host;
mod network;
mod schedule;
mod script;
mod state;
mod steps;
mod store;
mod symmetry;
#[cfg(test)]
mod tests;
mod trial;
mod violation;

pub use bounds::{Bounds, BoundsError, ReplayError, Transition};
pub use checkpoint::ResumeError;
pub use schedule::Schedule;
pub use violation::Violation;

use serde::{Deserialize, Serialize};
use state::{State, Successor};
use std::collections::VecDeque;
use std::sync::Arc;
use steps::Steps;
use store::Store;
use symmetry::Symmetry;

/// A shortest way to a violation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// What does not hold.
    pub violation: Violation,
    /// The events that lead to it, from the beginning.
    pub path: Vec<Transition>,
}

/// A search through all states within bounds, breadth first, which goes on in pieces.
#[derive(Debug)]
pub struct Exploration {
    steps: Steps,
    reductions: Reductions,
    store: Store,
    /// States whose successors are still to be found, each with its number.
    frontier: VecDeque<(u32, Waiting)>,
    /// How many of them are of the present depth, and how many of the next.
    at_depth: usize,
    at_next_depth: usize,
    depth: u32,
    transitions: u64,
    found: Option<Counterexample>,
}

/// Which states are left out because others stand for them. What is found does not depend on it, and neither
/// does the length of the way there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reductions {
    /// Of states that are equal but for the names of members, one is looked at. Members that begin alike can
    /// be renamed to one another, but for the last where the membership changes; none can where leaders hand
    /// over, since they choose by names among members that are equally good.
    pub symmetry: bool,
}

impl Default for Reductions {
    fn default() -> Self {
        Self { symmetry: true }
    }
}

/// A state that is to be looked at. It is worked out then: most of what is found is of a state that is known.
#[derive(Debug)]
enum Waiting {
    First(Arc<State>),
    After(Successor),
}

/// What follows from one state.
#[derive(Debug)]
pub struct Expanded {
    successors: Vec<(Transition, u64, Successor)>,
    /// The transition that violates something; none where the state itself leads nowhere.
    violation: Option<(Option<Transition>, Violation)>,
    transitions: u64,
}

impl Exploration {
    /// A search that has looked at nothing yet, with every reduction.
    pub fn new(bounds: Bounds) -> Result<Self, BoundsError> {
        Self::reduced(bounds, Reductions::default())
    }

    /// The same with these reductions.
    pub fn reduced(bounds: Bounds, reductions: Reductions) -> Result<Self, BoundsError> {
        bounds.check()?;
        let symmetry = if reductions.symmetry { Symmetry::within(&bounds) } else { Symmetry::none() };
        let steps = Steps::new(bounds, symmetry);
        let (first, found) = match State::first(&steps) {
            Ok(first) => (Some(first), None),
            Err(violation) => (None, Some(Counterexample { violation, path: Vec::new() })),
        };
        let store = Store::new(first.as_ref().map_or(0, State::fingerprint));
        let frontier = first.into_iter().map(|first| (0, Waiting::First(Arc::new(first)))).collect();
        Ok(Self {
            steps,
            reductions,
            store,
            frontier,
            at_depth: 1,
            at_next_depth: 0,
            depth: 0,
            transitions: 0,
            found,
        })
    }

    /// Finds what follows from the next states, so many of them, or fewer at the end.
    pub fn go_on(&mut self, states: usize) {
        self.go_on_in_parts(states, |batch| (0..batch.len()).map(|state| batch.expand(state)).collect());
    }

    /// The same, where the caller divides the work: `work` calls [`Batch::expand`] for each state of a batch,
    /// in any order and in any threads, and returns the results in the order of the batch. What comes of it
    /// does not depend on how the work was divided.
    pub fn go_on_in_parts(&mut self, states: usize, work: impl FnOnce(Batch<'_>) -> Vec<Expanded>) {
        let states: Vec<_> = self.frontier.drain(..states.min(self.frontier.len())).collect();
        let expanded = work(Batch { states: &states, steps: &self.steps, store: &self.store });
        for ((number, _), expanded) in states.iter().zip(expanded) {
            self.take(*number, expanded);
            if self.found.is_some() {
                return;
            }
        }
    }

    fn take(&mut self, number: u32, expanded: Expanded) {
        self.transitions += expanded.transitions;
        for (by, fingerprint, state) in expanded.successors {
            if let Some(number) = self.store.insert(fingerprint, number, by) {
                self.frontier.push_back((number, Waiting::After(state)));
                self.at_next_depth += 1;
            }
        }
        if let Some((last, violation)) = expanded.violation {
            let mut path = self.store.path(number);
            path.extend(last);
            self.found = Some(Counterexample { violation, path });
        }
        self.at_depth -= 1;
        if self.at_depth == 0 && self.at_next_depth > 0 {
            self.at_depth = core::mem::take(&mut self.at_next_depth);
            self.depth += 1;
        }
    }

    /// Whether everything within the bounds was tried, or a violation was found.
    pub fn is_done(&self) -> bool {
        self.found.is_some() || self.frontier.is_empty()
    }

    /// The violation, where one was found: no shorter way leads to any.
    pub fn found(&self) -> Option<&Counterexample> {
        self.found.as_ref()
    }

    /// How many different states were found.
    pub fn states(&self) -> u64 {
        self.store.len() as u64
    }

    /// How many transitions were tried.
    pub fn transitions(&self) -> u64 {
        self.transitions
    }

    /// How many states wait for their successors to be found.
    pub fn frontier(&self) -> u64 {
        self.frontier.len() as u64
    }

    /// How many events lead to the states that are looked at now.
    pub fn depth(&self) -> u32 {
        self.depth
    }
}

/// Some states whose successors are to be found.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    states: &'a [(u32, Waiting)],
    steps: &'a Steps,
    store: &'a Store,
}

impl Batch<'_> {
    /// How many states there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Finds what follows from one of them.
    pub fn expand(&self, state: usize) -> Expanded {
        let steps = self.steps;
        let (number, waiting) = &self.states[state];
        let state = match waiting {
            Waiting::First(first) => Arc::clone(first),
            Waiting::After(successor) => Arc::new(successor.state()),
        };
        let mut expanded = Expanded { successors: Vec::new(), violation: None, transitions: 0 };
        if let Err(ended) = state.goes_on(steps, |every| *number % every == 0) {
            expanded.violation = Some((None, ended.violation));
            return expanded;
        }
        let mut events = Vec::with_capacity(32);
        for (member, host) in state.hosts.iter().enumerate() {
            events.clear();
            state.events(member, &steps.bounds, &mut events);
            steps.prepare(host, member, events.iter().map(|(cause, _)| state.at(member, *cause)));
            let known = host.done.read();
            let mut known = known.iter().peekable();
            for &(cause, transition) in &events {
                expanded.transitions += 1;
                let at = state.at(member, cause);
                while known.next_if(|(known, _)| *known < at).is_some() {}
                let step = known.peek().and_then(|(_, step)| step.as_ref());
                let Some(step) = step else { continue };
                match state.news(member, cause, transition, step, steps) {
                    Ok(news) if self.store.contains(news.fingerprint) => {}
                    Ok(news) => {
                        let fingerprint = news.fingerprint;
                        let successor = Successor::new(&state, member, step, news);
                        expanded.successors.push((transition, fingerprint, successor));
                    }
                    Err(violation) => {
                        expanded.violation = Some((Some(transition), violation));
                        return expanded;
                    }
                }
            }
        }
        for slow in state.ticks(&steps.bounds) {
            expanded.transitions += 1;
            let successor = state.ticked(slow, steps);
            let fingerprint = successor.fingerprint();
            if !self.store.contains(fingerprint) {
                expanded.successors.push((Transition::Tick(slow), fingerprint, successor));
            }
        }
        expanded
    }
}

/// Goes a way again, and tells each step in words; the violation at its end, if there is one.
pub fn replay(schedule: &Schedule) -> Result<(Vec<String>, Option<Violation>), ReplayError> {
    let (steps, mut told) = (schedule.steps()?, Vec::new());
    let mut events = schedule.path.iter();
    let end = schedule.walk(&steps, |state, _| {
        told.extend(events.next().map(|transition| state.describe(*transition, &steps)));
    })?;
    let violation = end.err().map(|ended| {
        told.extend(ended.told);
        ended.violation
    });
    Ok((told, violation))
}
