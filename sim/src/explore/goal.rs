//! Liveness within bounds: from any state on, with no more faults, a member can lead the group on.

use super::bounds::{Bounds, Transition, id};
use super::host::{Cause, Host};
use super::network::Key;
use super::state::State;
use super::steps::Steps;
use super::violation::{Ended, Violation};
use kontiki_core::types::{Index, Term};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

/// How often a member's timer may be due on its way.
const TIMEOUTS: u32 = 12;

/// How many other events there may be.
const EVENTS: u32 = 10_000;

/// What may happen: no member crashes, and nothing is asked for but to commit a command.
const CALM: Bounds =
    Bounds { terms: u64::MAX, elections: u8::MAX, heartbeats: u8::MAX, proposals: u8::MAX, ..Bounds::NONE };

impl State {
    /// Looks for a way on from here, and puts the group through a trial, where the bounds want it of a state
    /// like this.
    pub(super) fn goes_on(
        &self,
        steps: &Steps,
        is_wanted: impl Fn(NonZeroU32) -> bool,
    ) -> Result<(), Box<Ended>> {
        let Bounds { liveness_every, trial_every, .. } = steps.bounds;
        if liveness_every.is_some_and(&is_wanted) {
            self.leads_on(steps).map_err(|violation| Box::new(violation.into()))?;
        }
        match trial_every.is_some_and(is_wanted) {
            true => self.stands_trial(),
            false => Ok(()),
        }
    }

    /// Looks for a way on: the messages under way are lost, and all later ones arrive once and in order. The
    /// timer of one member is due, again and again, until it leads, has committed all that it holds and then
    /// a command, which all members apply, and has left a joint phase. A leader of the latest term is tried
    /// alone, since its heartbeats keep the others from standing for election; else each member is. Where
    /// none succeeds, another member's timer is due from then on: a leader that leaves the group commits
    /// that, and steps down.
    ///
    /// # Errors
    ///
    /// If there is none, or a property does not hold on the way.
    pub(super) fn leads_on(&self, steps: &Steps) -> Result<(), Violation> {
        let calm = Arc::new(self.calmed(steps));
        let (mut ends, mut tried) = (Vec::new(), Vec::new());
        for member in calm.first_tried() {
            let mut way = Way::new(&calm, member);
            match way.go(steps)? {
                None => return Ok(()),
                Some(end) => tried.push(format!("member {} {end}", id(member))),
            }
            ends.push(way);
        }
        for first in ends.iter().filter(|way| !way.leads()) {
            for member in (0..calm.hosts.len()).filter(|member| *member != first.member) {
                if Way::new(&first.state, member).go(steps)?.is_none() {
                    return Ok(());
                }
            }
        }
        let detail = "no member can lead the group on, though all messages arrive from now on: ";
        Err(Violation::new("Liveness", detail.to_owned() + &tried.join(", ")))
    }

    /// The leader of the latest term, if there is one; else all members.
    fn first_tried(&self) -> Vec<usize> {
        let latest = self.hosts.iter().map(|host| host.facts.term).max();
        let leads = |member: &usize| {
            let facts = self.hosts[*member].facts;
            facts.is_leader && Some(facts.term) == latest
        };
        match (0..self.hosts.len()).find(leads) {
            Some(leader) => vec![leader],
            None => (0..self.hosts.len()).collect(),
        }
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
            if self.leads() {
                if self.commits(steps)? {
                    return Ok(None);
                }
                end = "leads, and what it proposes does not reach all members";
            } else {
                (end, self.wanted) = ("is not elected", None);
            }
            if !self.happens(self.member, |cause| cause == Cause::Timeout, steps)? {
                break;
            }
        }
        Ok(Some(end))
    }

    /// Whether the member, which leads, has committed all that it held and a command of its term: that is
    /// proposed once, when all else is committed.
    fn commits(&mut self, steps: &Steps) -> Result<bool, Violation> {
        let term = self.state.hosts[self.member].facts.term;
        let is_proposed = self.wanted.is_some_and(|(proposed_in, _)| proposed_in == term);
        if !is_proposed && self.committed() == self.last() {
            let last = self.last();
            self.happens(self.member, |cause| matches!(cause, Cause::Propose(_)), steps)?;
            self.wanted = Some((term, self.last())).filter(|(_, proposed)| *proposed > last);
            self.settle(steps)?;
        }
        Ok(self.wanted.is_some_and(|(_, proposed)| self.is_reached(proposed)))
    }

    /// Whether the member leads a group that it belongs to, in no joint phase, whose members have all
    /// applied a command.
    fn is_reached(&self, proposed: Index) -> bool {
        let hosts = &self.state.hosts;
        let raft = &hosts[self.member].raft;
        let membership = raft.membership();
        // A witness has nothing to apply.
        let done = |host: &Host| match membership.is_witness(host.member().id) {
            true => host.raft.log().committed(),
            false => host.applied,
        };
        let knows = |host: &Arc<Host>| done(host) >= proposed;
        let is_known = hosts.iter().filter(|host| membership.contains(host.member())).all(knows);
        self.leads() && !membership.is_joint() && membership.is_voter(id(self.member)) && is_known
    }

    fn leads(&self) -> bool {
        self.state.hosts[self.member].facts.is_leader
    }

    fn committed(&self) -> Index {
        self.state.hosts[self.member].raft.log().committed()
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
