//! The simulator's checks that need to know no more than one step of one member.

use super::violation::Violation;
use crate::check::election_restriction::ElectionRestriction;
use crate::check::latest_membership::{self, goes_by};
use crate::check::log_matching::{LogMatching, terms_ascend};
use crate::check::match_index::MatchIndex;
use crate::check::one_change_at_a_time::OneChangeAtATime;
use crate::check::one_election_at_a_time::OneElectionAtATime;
use crate::check::voters_only::VotersOnly;
use crate::check::{Check, Observation, confirmed_reads, linearizable_reads};
use crate::ledger::Link;
use crate::part::Stamp;
use kontiki_core::action::{self, Action, Outcome};
use kontiki_core::event::Event;
use kontiki_core::log::{Entry, EntryBody, Log};
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::status::Status;
use kontiki_core::time::Instant;
use kontiki_core::types::{Incarnation, Index, LogId, Member, NodeId};

/// What a member was before a step.
pub(super) struct Before {
    status: Status,
    membership: Membership,
    /// What it knows of the logs of others, if it leads.
    matched: Vec<(NodeId, Index)>,
}

impl Before {
    pub(super) fn of(raft: &Raft) -> Self {
        let peers = raft.leader().into_iter().flat_map(|leader| leader.peers().collect::<Vec<_>>());
        let matched = peers.map(|peer| (peer.id, peer.matched)).collect();
        Self { status: raft.status(), membership: raft.membership().clone(), matched }
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// The member's step, as the checks see it, at this time by its clock.
    pub(super) fn step<'a>(
        &'a self,
        (raft, after): (&'a Raft, &'a Status),
        (event, actions): (&'a Event, &'a [Action]),
        now: Instant,
        chain: &'a [Link],
    ) -> Observation<'a> {
        Observation {
            member: after.id.get() as usize - 1,
            now: Stamp { step: 0, at: now.as_nanos() },
            local: now,
            event,
            actions,
            before: &self.status,
            after,
            chain,
            appended: 0,
            held: raft.log().held(),
            membership: raft.membership(),
            membership_before: &self.membership,
            me: raft.config().identity().member,
            durable: &|_| None,
        }
    }

    /// Match Index: a leader sends no entries from before what it knows to match.
    fn sends_on(&self, actions: &[Action]) -> Result<(), Violation> {
        for action in actions {
            if let Action::Send(Message { to, body: Body::Append { slice, .. }, .. }) = action
                && let Some((id, matched)) = self.matched.iter().find(|(id, _)| *id == to.id)
                && slice.prev().index < *matched
            {
                let (leader, prev) = (self.status.id, slice.prev());
                let detail = format!(
                    "leader {leader} sends {id} entries after {prev}, and knows that all match through {matched}"
                );
                return Err(Violation::new(MatchIndex::NAME, detail));
            }
        }
        Ok(())
    }

    /// Match Index, One Change at a Time, One Election at a Time, Voters Only and Election Restriction.
    pub(super) fn judge(&self, raft: &Raft, event: &Event, actions: &[Action]) -> Result<(), Violation> {
        let (after, chain) = (raft.status(), chain(raft.log()));
        let step = self.step((raft, &after), (event, actions), Instant::default(), &chain);
        holds(&mut OneChangeAtATime, &step)?;
        holds(&mut OneElectionAtATime, &step)?;
        holds(&mut VotersOnly, &step)?;
        holds(&mut ElectionRestriction, &step)?;
        if self.status.term == after.term {
            self.sends_on(actions)?;
        }
        let log = raft.log();
        let base = LogId { term: log.term(log.base()).unwrap_or_default(), index: log.base() };
        let entries = log.entries(log.base(), log.last().index).map(|entry| entry.id);
        terms_ascend(after.id, base, entries).map_err(|detail| Violation::new(LogMatching::NAME, detail))?;
        has_latest_membership(raft)
    }
}

/// Latest Membership: the membership in force is the latest in a member's log, committed or not (paper §6).
pub(super) fn has_latest_membership(raft: &Raft) -> Result<(), Violation> {
    is_latest(raft.membership(), raft.log(), raft.status().id)
}

pub(super) fn is_latest(in_force: &Membership, log: &Log, id: NodeId) -> Result<(), Violation> {
    let written = log.entries(log.base(), log.last().index).filter_map(|entry| match &entry.body {
        EntryBody::Config(membership) => Some((entry.id, membership)),
        _ => None,
    });
    let covered = log.snapshot().map(|snapshot| (snapshot.configured, &snapshot.membership));
    match written.chain(covered).max_by_key(|(entry, _)| entry.index) {
        Some((entry, latest)) => goes_by(id, in_force, (entry, latest))
            .map_err(|detail| Violation::new(latest_membership::NAME, detail)),
        None => Ok(()),
    }
}

/// Linearizable Reads: what a read must see is applied by the state machine before its client is told to
/// read.
pub(super) fn is_applied(id: NodeId, applied: Index, outcome: Outcome) -> Result<(), Violation> {
    match outcome {
        Outcome::Ready { index, .. } => confirmed_reads::is_applied(id, applied, index)
            .map_err(|detail| Violation::new(linearizable_reads::NAME, detail)),
        _ => Ok(()),
    }
}

/// Halt: only a member that was wiped may, since its group knows it in an earlier incarnation.
pub(super) fn may_halt(me: Member, halt: action::Violation) -> Result<(), Violation> {
    match halt {
        action::Violation::StaleIncarnation { .. } if me.incarnation > Incarnation::default() => Ok(()),
        halt => Err(Violation::new("Halt", halt.to_string())),
    }
}

pub(super) fn holds<C: Check>(check: &mut C, step: &Observation<'_>) -> Result<(), Violation> {
    check.observe(step).map_err(|seen| Violation::new(C::NAME, seen.detail))
}

/// A log as the checks see it. What is in a snapshot stands as entries of the term in which it ends.
fn chain(log: &Log) -> Vec<Link> {
    let term = log.term(log.base()).unwrap_or_default();
    let covered = (1..=log.base().get())
        .map(|index| Entry { id: LogId { term, index: Index::new(index) }, body: EntryBody::Blank });
    let mut chain: Vec<Link> = Vec::new();
    for entry in covered.chain(log.entries(log.base(), log.last().index).cloned()) {
        chain.push(Link::after(chain.last(), &entry));
    }
    chain
}
