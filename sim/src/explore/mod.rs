//! Every state of a small group, tried one by one: a model checker over the kernel that ships.
//!
//! A simulated run shows one of the things that can happen; an exploration shows all of them, within bounds.
//! A state is what the members' kernels are, what their disks hold and still owe, and every message that was
//! ever sent. A transition is one event at one member: it receives a message, times out, hears from its disk,
//! crashes with some of what it had not synced and starts again, or is asked for something. States that were
//! seen before are left out; the search is breadth first, so a violation is found by a shortest way.
//!
//! Messages stay when they are delivered. So any message may be lost, delayed, reordered and repeated at any
//! time, without a bound. Time is left out ([`Raft::forget_time`](kontiki_core::raft::Raft::forget_time)):
//! every timeout may happen at any time. That is more than any clock allows, and rules out what rests on
//! clocks: check-quorum and leases are off.
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

mod ghost;
mod state;
mod store;
#[cfg(test)]
mod tests;

pub use ghost::Violation;

use serde::{Deserialize, Serialize};
use state::State;
use std::collections::VecDeque;
use std::fmt;
use store::Store;

/// How much may happen in a group that is explored. Messages may be lost and repeated without a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// How many members there are, from 1 to 5.
    pub members: u8,
    /// How many of them the group begins with. The others are blank.
    pub voters: u8,
    /// The latest term in which a member stands for election.
    pub terms: u64,
    /// How many times a member that does not lead times out.
    pub elections: u8,
    /// How many commands clients propose.
    pub proposals: u8,
    /// How many times a member crashes, with any prefix of what it had not synced, and starts again.
    pub crashes: u8,
    /// How many times a leader's heartbeats are due.
    pub heartbeats: u8,
    /// How many reads clients ask for, of a leader. A follower's question that came again and again would have
    /// the leader send rounds of heartbeats without an end.
    pub reads: u8,
    /// How many times an operator has a leader hand over.
    pub transfers: u8,
    /// How many changes of the membership an operator asks for: the last member is added as a voter, then
    /// removed, and so on.
    pub changes: u8,
    /// Whether members ask before they stand for election.
    pub pre_vote: bool,
    /// Whether disks finish each write at once. Otherwise a write may take any time, and a crash loses any
    /// number of the last ones.
    pub instant_disks: bool,
}

/// One event at one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// The message at this place, of all that were sent, reaches its addressee.
    Deliver(u16),
    /// This member's timer is due.
    Timeout(u8),
    /// This member's disk reports its oldest write.
    Persisted(u8),
    /// This member crashes with so many of its writes on its disk, and starts again.
    Crash(u8, u8),
    /// A client proposes a command to this member.
    Propose(u8),
    /// A client asks this member to read.
    Read(u8),
    /// An operator asks this member for the next change of the membership.
    Change(u8),
    /// An operator asks this member to hand over.
    Transfer(u8),
}

/// Bounds that cannot be explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BoundsError {
    /// There are no members, or more than five.
    Members(u8),
    /// The group begins with no member, or with more than there are.
    Voters(u8),
    /// There is no term to be elected in, or there are more than 16.
    Terms(u64),
}

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
    bounds: Bounds,
    store: Store,
    /// States whose successors are still to be found, each with its number.
    frontier: VecDeque<(u32, State)>,
    /// How many of them are of the present depth, and how many of the next.
    at_depth: usize,
    at_next_depth: usize,
    depth: u32,
    transitions: u64,
    found: Option<Counterexample>,
}

/// What follows from one state.
#[derive(Debug)]
pub struct Expanded {
    successors: Vec<(Transition, u64, State)>,
    violation: Option<(Transition, Violation)>,
    transitions: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            members: 3,
            voters: 3,
            terms: 2,
            elections: 2,
            proposals: 1,
            crashes: 0,
            heartbeats: 0,
            reads: 0,
            transfers: 0,
            changes: 0,
            pre_vote: false,
            instant_disks: false,
        }
    }
}

impl Bounds {
    fn check(&self) -> Result<(), BoundsError> {
        match self {
            Self { members, .. } if !(1..=5).contains(members) => Err(BoundsError::Members(*members)),
            Self { members, voters, .. } if !(1..=*members).contains(voters) => {
                Err(BoundsError::Voters(*voters))
            }
            Self { terms, .. } if !(1..=16).contains(terms) => Err(BoundsError::Terms(*terms)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for BoundsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members(members) => write!(f, "{members} members: choose 1 to 5, more cannot be explored"),
            Self::Voters(voters) => {
                write!(
                    f,
                    "the group begins with {voters} members: choose at least 1, and no more than there are"
                )
            }
            Self::Terms(terms) => write!(f, "{terms} terms: choose 1 to 16"),
        }
    }
}

impl std::error::Error for BoundsError {}

impl Exploration {
    /// A search that has looked at nothing yet.
    pub fn new(bounds: Bounds) -> Result<Self, BoundsError> {
        bounds.check()?;
        let first = State::first(&bounds);
        let store = Store::new(first.fingerprint());
        let frontier = VecDeque::from([(0, first)]);
        Ok(Self {
            bounds,
            store,
            frontier,
            at_depth: 1,
            at_next_depth: 0,
            depth: 0,
            transitions: 0,
            found: None,
        })
    }

    /// Finds what follows from the next states, so many of them, or fewer at the end.
    pub fn go_on(&mut self, states: usize) {
        self.go_on_with(states, |batch, bounds| batch.iter().map(|state| expand(state, bounds)).collect());
    }

    /// The same, where the caller divides the work: `work` calls [`Batch::expand`] for each state of a batch,
    /// in any order and in any threads, and returns the results in the order of the batch. What comes of it
    /// does not depend on how the work was divided.
    pub fn go_on_in_parts(&mut self, states: usize, work: impl FnOnce(Batch<'_>) -> Vec<Expanded>) {
        self.go_on_with(states, |states, bounds| work(Batch { states, bounds }));
    }

    fn go_on_with(&mut self, states: usize, work: impl FnOnce(&[&State], &Bounds) -> Vec<Expanded>) {
        let batch: Vec<_> = self.frontier.drain(..states.min(self.frontier.len())).collect();
        let plain: Vec<_> = batch.iter().map(|(_, state)| state).collect();
        let expanded = work(&plain, &self.bounds);
        for ((number, _), expanded) in batch.iter().zip(expanded) {
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
                self.frontier.push_back((number, state));
                self.at_next_depth += 1;
            }
        }
        if let Some((last, violation)) = expanded.violation {
            let mut path = self.store.path(number);
            path.push(last);
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
    states: &'a [&'a State],
    bounds: &'a Bounds,
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
        expand(self.states[state], self.bounds)
    }
}

fn expand(state: &State, bounds: &Bounds) -> Expanded {
    let own = state.fingerprint();
    let mut expanded = Expanded { successors: Vec::new(), violation: None, transitions: 0 };
    for transition in state.transitions(bounds) {
        expanded.transitions += 1;
        match state.after(transition, bounds) {
            Ok(None) => {}
            Ok(Some(next)) => {
                let fingerprint = next.fingerprint();
                if fingerprint != own {
                    expanded.successors.push((transition, fingerprint, next));
                }
            }
            Err(violation) => {
                expanded.violation = Some((transition, violation));
                break;
            }
        }
    }
    expanded
}

/// Goes a way again, and tells each step in words; the violation at its end, if there is one.
pub fn replay(bounds: &Bounds, path: &[Transition]) -> Result<(Vec<String>, Option<Violation>), BoundsError> {
    bounds.check()?;
    let mut state = State::first(bounds);
    let mut told = Vec::new();
    for transition in path {
        told.push(state.describe(*transition));
        match state.after(*transition, bounds) {
            Ok(next) => state = next.unwrap_or(state),
            Err(violation) => return Ok((told, Some(violation))),
        }
    }
    Ok((told, None))
}
