//! Liveness within bounds: from any state on, with no more faults, a member can be elected and commit a command.

use super::bounds::{Bounds, Transition, id};
use super::host::Cause;
use super::network::Key;
use super::state::State;
use super::steps::Steps;
use super::violation::Violation;
use kontiki_core::types::{Index, Term};
use std::collections::VecDeque;
use std::sync::Arc;

/// How often a member's timer may be due until it has committed something.
const TIMEOUTS: u32 = 12;

/// How many other events there may be.
const EVENTS: u32 = 10_000;

/// What may happen: nobody crashes, nobody asks for anything but to commit a command.
const CALM: Bounds = Bounds {
    members: 0,
    voters: 0,
    led: false,
    terms: u64::MAX,
    elections: u8::MAX,
    proposals: u8::MAX,
    crashes: 0,
    heartbeats: u8::MAX,
    reads: 0,
    follower_reads: 0,
    snapshots: 0,
    transfers: 0,
    changes: 0,
    swap: false,
    copied: None,
    pre_vote: false,
    slow_machines: false,
    instant_disks: false,
    liveness_every: None,
};

impl State {
    /// Looks for a way on: the messages under way are lost, and all later ones arrive once and in order. The timer
    /// of one member is due, again and again, until it has committed a command. Where it does not get so far, as
    /// one does not that leaves the group, another member's is due from then on. All pairs are tried.
    ///
    /// # Errors
    ///
    /// If there is none, or a property does not hold on the way.
    pub(super) fn leads_on(&self, steps: &Steps) -> Result<(), Violation> {
        let calm = Arc::new(self.calmed(steps));
        let members = 0..calm.hosts.len();
        let mut first_ways = Vec::new();
        let mut tried = Vec::new();
        for member in members.clone() {
            let mut way = Way::new(&calm, member);
            match way.go(steps)? {
                None => return Ok(()),
                Some(end) => tried.push(format!("member {} {end}", id(member))),
            }
            first_ways.push(way);
        }
        for first in first_ways {
            for member in members.clone().filter(|member| *member != first.member) {
                if Way::new(&first.state, member).go(steps)?.is_none() {
                    return Ok(());
                }
            }
        }
        let detail =
            "no member can be elected and commit a command, though all messages arrive from now on: ";
        Err(Violation::new("Liveness", detail.to_owned() + &tried.join(", ")))
    }
}

/// The way of one member to its goal.
struct Way {
    state: Arc<State>,
    member: usize,
    /// The messages that were sent on it and have not arrived, in order.
    under_way: VecDeque<Key>,
    events: u32,
    /// The command that it is to commit, and the term in which it was proposed.
    wanted: Option<(Term, Index)>,
}

impl Way {
    fn new(from: &Arc<State>, member: usize) -> Self {
        Self { state: Arc::clone(from), member, under_way: VecDeque::new(), events: 0, wanted: None }
    }

    /// Why it does not reach its goal; `None` if it does.
    fn go(&mut self, steps: &Steps) -> Result<Option<&'static str>, Violation> {
        let mut end = "";
        for _ in 0..=TIMEOUTS {
            self.settle(steps)?;
            if self.state.hosts[self.member].facts.is_leader {
                if self.commits(steps)? {
                    return Ok(None);
                }
                end = "is elected and commits nothing";
            } else {
                (end, self.wanted) = ("is not elected", None);
            }
            if !self.happens(self.member, |cause| cause == Cause::Timeout, steps)? {
                break;
            }
        }
        Ok(Some(end))
    }

    /// Whether the member, which leads, commits a command of its term: it is proposed once.
    fn commits(&mut self, steps: &Steps) -> Result<bool, Violation> {
        let term = self.state.hosts[self.member].facts.term;
        if self.wanted.is_none_or(|(proposed_in, _)| proposed_in != term) {
            let last = self.last();
            self.happens(self.member, |cause| matches!(cause, Cause::Propose(_)), steps)?;
            self.wanted = Some((term, self.last())).filter(|(_, proposed)| *proposed > last);
            self.settle(steps)?;
        }
        let committed = self.state.hosts[self.member].raft.log().committed();
        Ok(self.wanted.is_some_and(|(_, proposed)| proposed <= committed))
    }

    fn last(&self) -> Index {
        self.state.hosts[self.member].raft.log().last().index
    }

    /// Disks write, state machines apply and messages arrive until there is none.
    fn settle(&mut self, steps: &Steps) -> Result<(), Violation> {
        let is_owed = |cause| matches!(cause, Cause::Persisted | Cause::Applied);
        while self.events < EVENTS {
            for member in 0..self.state.hosts.len() {
                while self.happens(member, is_owed, steps)? {}
            }
            let Some(key) = self.under_way.pop_front() else { break };
            self.follow(key.addressee(), Cause::Receive(key), Transition::Deliver(0), steps)?;
        }
        Ok(())
    }

    /// The first such thing happens to a member. Returns whether there is one.
    fn happens(
        &mut self,
        member: usize,
        such: impl Fn(Cause) -> bool,
        steps: &Steps,
    ) -> Result<bool, Violation> {
        let mut events = Vec::new();
        self.state.events(member, &CALM, &mut events);
        let first = events.into_iter().find(|(cause, _)| such(*cause));
        if let Some((cause, transition)) = first {
            self.follow(member, cause, transition, steps)?;
        }
        Ok(first.is_some())
    }

    fn follow(
        &mut self,
        member: usize,
        cause: Cause,
        transition: Transition,
        steps: &Steps,
    ) -> Result<(), Violation> {
        self.events += 1;
        if let Some(next) = self.state.following(member, cause, transition, steps)? {
            self.under_way.extend(next.sent().iter().map(|post| post.key));
            self.state = Arc::new(next.state());
        }
        Ok(())
    }
}
