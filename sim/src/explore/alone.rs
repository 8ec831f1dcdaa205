//! The simulator's checks that need to know no more than one step of one member.

use super::violation::Violation;
use crate::check::election_restriction::ElectionRestriction;
use crate::check::one_change_at_a_time::OneChangeAtATime;
use crate::check::one_election_at_a_time::OneElectionAtATime;
use crate::check::voters_only::VotersOnly;
use crate::check::{Check, Observation};
use crate::ledger::Link;
use crate::part::Stamp;
use kontiki_core::action::{Action, Outcome};
use kontiki_core::event::Event;
use kontiki_core::log::{Entry, EntryBody, Log};
use kontiki_core::membership::Membership;
use kontiki_core::raft::Raft;
use kontiki_core::status::Status;
use kontiki_core::types::{Index, LogId, NodeId};

/// What a member was before a step.
pub(super) struct Before {
    status: Status,
    membership: Membership,
}

impl Before {
    pub(super) fn of(raft: &Raft) -> Self {
        Self { status: raft.status(), membership: raft.membership().clone() }
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// One Change at a Time, One Election at a Time, Voters Only and Election Restriction.
    pub(super) fn judge(&self, raft: &Raft, event: &Event, actions: &[Action]) -> Result<(), Violation> {
        let (after, chain) = (raft.status(), chain(raft.log()));
        let step = Observation {
            member: after.id.get() as usize - 1,
            now: Stamp::default(),
            event,
            actions,
            before: &self.status,
            after: &after,
            chain: &chain,
            appended: 0,
            membership: raft.membership(),
            membership_before: &self.membership,
            me: after.id.into(),
            durable: &|_| None,
        };
        holds::<OneChangeAtATime>(&step)?;
        holds::<OneElectionAtATime>(&step)?;
        holds::<VotersOnly>(&step)?;
        holds::<ElectionRestriction>(&step)?;
        let log = raft.log();
        let base = LogId { term: log.term(log.base()).unwrap_or_default(), index: log.base() };
        terms_ascend(base, log.entries(log.base(), log.last().index).map(|entry| entry.id), after.id)?;
        has_latest_membership(raft)
    }
}

/// Log Matching: the terms of a log never go back, not even from the end of a snapshot to what follows it.
pub(super) fn terms_ascend(
    base: LogId,
    entries: impl Iterator<Item = LogId>,
    id: NodeId,
) -> Result<(), Violation> {
    let mut before = base;
    for entry in entries {
        if entry.term < before.term {
            let detail = format!("the log of member {id} has entry {entry} after entry {before}");
            return Err(Violation::new("Log Matching", detail));
        }
        before = entry;
    }
    Ok(())
}

/// Latest Membership: the membership in force is the latest in a member's log, committed or not (paper §6).
pub(super) fn has_latest_membership(raft: &Raft) -> Result<(), Violation> {
    is_latest(raft.membership(), raft.log(), raft.status().id)
}

pub(super) fn is_latest(in_force: &Membership, log: &Log, id: NodeId) -> Result<(), Violation> {
    let written = log.entries(log.base(), log.last().index).filter_map(|entry| match &entry.body {
        EntryBody::Config(membership) => Some((entry.id.index, membership)),
        _ => None,
    });
    let covered = log.snapshot().map(|snapshot| (snapshot.configured.index, &snapshot.membership));
    match written.chain(covered).max_by_key(|(index, _)| *index) {
        Some((index, latest)) if **latest != *in_force => {
            let detail =
                format!("member {id} goes by the membership {in_force}, and entry {index} says {latest}");
            Err(Violation::new("Latest Membership", detail))
        }
        _ => Ok(()),
    }
}

/// Linearizable Reads: what a read must see is applied by the state machine before its client is told to read.
pub(super) fn is_applied(id: NodeId, applied: Index, outcome: Outcome) -> Result<(), Violation> {
    match outcome {
        Outcome::Ready { index, .. } if index > applied => {
            let detail = format!("member {id} serves a read of entry {index} and has applied {applied}");
            Err(Violation::new("Linearizable Reads", detail))
        }
        _ => Ok(()),
    }
}

fn holds<C: Check + Default>(step: &Observation<'_>) -> Result<(), Violation> {
    C::default().observe(step).map_err(|seen| Violation::new(C::NAME, seen.detail))
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
