//! Any register, by trying orders: complete where the budget lasts, and exponential in how much happens at
//! once.
//!
//! The search is that of J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects", J. Parallel
//! Distrib. Comput. 17, 1993: what comes next is an operation before which no other has returned. What was
//! placed and what the register then holds are remembered, as G. Lowe proposed ("Testing for
//! Linearizability", Concurrency Comput. 29, 2017), since the order in which they were placed no longer
//! matters. Three things are known of registers besides:
//!
//! - A read that could come next, and found what is there, may as well come next: it changes nothing.
//! - An unknown write need not be placed. It is worth placing only right before a read that found its value:
//!   before anything else it could be left out.
//! - Operations that were refused, and reads that told nothing, are left out.

use super::operation::{OperationId, Recorded, Value};
use super::record::Register;
use super::violation::{Decision, Reason, Violation};
use std::collections::BTreeSet;
use thiserror::Error;

/// The search remembers as many states as it may, and has neither found an order nor excluded all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the search for an order ran out of its budget")]
pub struct OutOfBudget;

/// Whether a register is linearizable, by a search that remembers at most `budget` states.
pub fn decide(register: &Register, budget: u64) -> Result<Decision, OutOfBudget> {
    let puzzle = Puzzle::of(register);
    let mut start = State::default();
    puzzle.place_reads(&mut start);
    let (mut stack, mut deepest, mut seen) = (vec![start.clone()], start, BTreeSet::new());
    while let Some(state) = stack.pop() {
        if state.placed() == puzzle.required.len() {
            return Ok(Decision::Linearizable);
        }
        if state.placed() > deepest.placed() {
            deepest = state.clone();
        }
        // The write that was invoked first is popped first: it is the likeliest.
        for next in puzzle.after(&state).into_iter().rev() {
            if seen.contains(&next) {
                continue;
            }
            if seen.len() as u64 >= budget {
                return Err(OutOfBudget);
            }
            seen.insert(next.clone());
            stack.push(next);
        }
    }
    let reason =
        Reason::NoOrder { placed: deepest.placed(), of: puzzle.required.len(), value: deepest.value };
    let open = puzzle.open(&deepest);
    let stuck: BTreeSet<OperationId> = open.into_iter().map(|at| puzzle.required[at].id).collect();
    let operations = register.operations().iter().filter(|recorded| stuck.contains(&recorded.id));
    Ok(Decision::NotLinearizable(Violation::new(register.key(), reason, operations)))
}

/// What is to be put in order.
struct Puzzle {
    /// The operations that returned, in the order of their invocations.
    required: Vec<Piece>,
    /// The unknown writes of what some read found, in the order of their invocations.
    optional: Vec<Piece>,
}

struct Piece {
    id: OperationId,
    is_write: bool,
    value: Option<Value>,
    invoked: u64,
    /// When it must be in its place at the latest.
    returned: u64,
}

/// Some operations in some order.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// All required operations before this one are placed.
    first: usize,
    /// Those behind it that are placed too, ascending.
    ahead: Vec<usize>,
    /// The optional ones that are placed, ascending.
    used: Vec<usize>,
    /// What the register holds.
    value: Option<Value>,
}

impl State {
    fn placed(&self) -> usize {
        self.first + self.ahead.len()
    }

    fn place(&mut self, piece: usize) {
        if let Err(at) = self.ahead.binary_search(&piece) {
            self.ahead.insert(at, piece);
        }
        let run = self.ahead.iter().zip(self.first..).take_while(|(piece, next)| *piece == next).count();
        self.ahead.drain(..run);
        self.first += run;
    }
}

impl Puzzle {
    fn of(register: &Register) -> Self {
        let operations = || register.operations().iter().map(|recorded| (recorded, &recorded.operation));
        let piece = |recorded: &Recorded, returned| Piece {
            id: recorded.id,
            is_write: recorded.operation.is_write(),
            value: recorded.operation.value(),
            invoked: recorded.operation.invoked,
            returned,
        };
        let required: Vec<_> = operations()
            .filter_map(|(recorded, operation)| Some(piece(recorded, operation.returned()?)))
            .collect();
        let found: BTreeSet<_> = required.iter().filter(|it| !it.is_write).map(|it| it.value).collect();
        let optional = operations()
            .filter(|(_, it)| it.is_write() && it.returned().is_none() && !it.is_refused())
            .filter(|(_, it)| found.contains(&it.value()))
            .map(|(recorded, _)| piece(recorded, u64::MAX))
            .collect();
        Self { required, optional }
    }

    /// The required operations that can come next. One that is invoked later returns later too, so that what
    /// was open when it was looked at stays so.
    fn open(&self, state: &State) -> Vec<usize> {
        let (mut open, mut horizon) = (Vec::new(), u64::MAX);
        for (at, piece) in self.required.iter().enumerate().skip(state.first) {
            if piece.invoked > horizon {
                break;
            }
            if state.ahead.binary_search(&at).is_err() {
                open.push(at);
                horizon = horizon.min(piece.returned);
            }
        }
        open
    }

    /// Places all reads that can come next and found what is there. Returns whether there were any.
    fn place_reads(&self, state: &mut State) -> bool {
        let mut placed = false;
        loop {
            let mut reads = self.open(state);
            reads.retain(|&at| !self.required[at].is_write && self.required[at].value == state.value);
            if reads.is_empty() {
                return placed;
            }
            placed = true;
            for at in reads {
                state.place(at);
            }
        }
    }

    /// The states that one more write leads to.
    fn after(&self, state: &State) -> Vec<State> {
        let open = self.open(state);
        let horizon = open.iter().map(|&at| self.required[at].returned).min();
        let mut after = Vec::new();
        for at in open.into_iter().filter(|&at| self.required[at].is_write) {
            let mut next = State { value: self.required[at].value, ..state.clone() };
            next.place(at);
            self.place_reads(&mut next);
            after.push(next);
        }
        for (at, write) in self.optional.iter().enumerate() {
            if Some(write.invoked) > horizon {
                break;
            }
            let Err(position) = state.used.binary_search(&at) else { continue };
            let mut next = State { value: write.value, ..state.clone() };
            next.used.insert(position, at);
            if self.place_reads(&mut next) {
                after.push(next);
            }
        }
        after
    }
}
