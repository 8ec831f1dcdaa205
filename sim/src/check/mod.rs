//! What must hold of a cluster, checked after every step: one property a file, named as in the paper.
//!
//! The checks see only what goes into members, what comes out of them, and their public status; logs they
//! know from the writes that members hand out, as rolling prefix hashes, so each check costs a comparison or
//! two a step, however long the logs are.

pub mod acknowledged_writes;
pub mod bounded_log;
pub mod bounded_memory;
pub mod bounded_work;
pub mod confirmed_reads;
pub mod durable_commit;
pub(crate) mod durable_log;
pub mod election_restriction;
pub mod election_safety;
mod followers;
pub mod latest_membership;
pub mod leader_append_only;
pub mod leader_completeness;
pub mod leases;
mod limits;
pub mod linearizable_reads;
pub mod liveness;
pub mod log_matching;
pub mod log_reads;
pub(crate) mod majority;
pub mod match_index;
mod memberships;
mod observation;
pub mod one_change_at_a_time;
pub mod one_election_at_a_time;
pub mod own_term_commit;
pub mod paused_flow;
pub mod snapshot_prefix;
pub mod state_machine_safety;
pub mod steady_leader;
mod violated;
pub mod vote_durability;
pub mod voters_only;
pub mod witness_copies;

pub use observation::{Check, Observation, Start};
pub use violated::{Finding, Violated};

use crate::ledger::{Known, Link, entry_at, link_at};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::config::Options;
use kontiki_core::membership::Membership;
use kontiki_core::replica::Replica;
use kontiki_core::status::Held;
use kontiki_core::types::{Index, LogId, NodeId, Term};

/// What a check says.
pub type Checked = Result<(), Violated>;

/// Every check of a cluster.
#[derive(Default, Debug)]
pub struct Checks {
    election_safety: election_safety::ElectionSafety,
    election_restriction: election_restriction::ElectionRestriction,
    own_term_commit: own_term_commit::OwnTermCommit,
    leader_append_only: leader_append_only::LeaderAppendOnly,
    log_matching: log_matching::LogMatching,
    durable_commit: durable_commit::DurableCommit,
    leader_completeness: leader_completeness::LeaderCompleteness,
    state_machine_safety: state_machine_safety::StateMachineSafety,
    vote_durability: vote_durability::VoteDurability,
    one_election_at_a_time: one_election_at_a_time::OneElectionAtATime,
    acknowledged_writes: acknowledged_writes::AcknowledgedWrites,
    voters_only: voters_only::VotersOnly,
    one_change_at_a_time: one_change_at_a_time::OneChangeAtATime,
    confirmed_reads: confirmed_reads::ConfirmedReads,
    leases: leases::Leases,
    memberships: memberships::Memberships,
    latest_membership: latest_membership::LatestMembership,
    snapshot_prefix: snapshot_prefix::SnapshotPrefix,
    bounded_log: bounded_log::BoundedLog,
    bounded_work: bounded_work::BoundedWork,
    bounded_memory: bounded_memory::BoundedMemory,
    steady_leader: steady_leader::SteadyLeader,
    paused_flow: paused_flow::PausedFlow,
    match_index: match_index::MatchIndex,
    witness_copies: witness_copies::WitnessCopies,
}

impl Checks {
    /// Looks at one step with every check.
    pub fn observe(&mut self, step: &Observation<'_>) -> Checked {
        if election_safety::is_elected_in(step) {
            run(&mut self.election_safety, step)?;
            let elected = election_safety::has_votes(step, &self.vote_durability);
            told(election_safety::ElectionSafety::NAME, step, elected)?;
            told(linearizable_reads::NAME, step, self.leases.elected(step))?;
        }
        run(&mut self.leader_append_only, step)?;
        run(&mut self.log_matching, step)?;
        run(&mut self.leader_completeness, step)?;
        run(&mut self.state_machine_safety, step)?;
        run(&mut self.durable_commit, step)?;
        run(&mut self.vote_durability, step)?;
        run(&mut self.one_election_at_a_time, step)?;
        run(&mut self.election_restriction, step)?;
        run(&mut self.own_term_commit, step)?;
        run(&mut self.voters_only, step)?;
        run(&mut self.one_change_at_a_time, step)?;
        run(&mut self.bounded_log, step)?;
        run(&mut self.bounded_work, step)?;
        run(&mut self.paused_flow, step)?;
        run(&mut self.match_index, step)?;
        run(&mut self.witness_copies, step)?;
        run(&mut self.steady_leader, step)?;
        run(&mut self.confirmed_reads, step)?;
        self.memberships_hold(step)
    }

    /// Latest Membership and Snapshot Prefix.
    fn memberships_hold(&mut self, step: &Observation<'_>) -> Checked {
        let known = &mut self.memberships;
        let may_differ = known.note(step) || !std::ptr::eq(step.membership, step.membership_before);
        if !may_differ {
            return Ok(());
        }
        told(latest_membership::NAME, step, self.latest_membership.changed(step, known))?;
        let rests = snapshot_prefix::rests_on(step, self.state_machine_safety.committed(), known);
        told(snapshot_prefix::NAME, step, rests)
    }

    /// The group begins with this membership.
    pub fn begins_with(&mut self, membership: Membership) {
        self.memberships.begins_with(membership);
    }

    /// Logs keep at most so many bytes behind a snapshot.
    pub fn limited_to(&mut self, retained_bytes: u64) {
        self.bounded_log.limited_to(retained_bytes);
    }

    /// Only so much may be done.
    pub fn works_within(&mut self, limits: bounded_work::Limits) {
        self.bounded_work.limited_to(limits);
    }

    /// Members, so many of them, have these settings.
    pub fn holds_within(&mut self, members: u64, options: &Options) {
        self.bounded_memory.limited_to(members, options);
        self.witness_copies.within(options);
    }

    /// What a member holds after a step, and whether its log is whole.
    pub fn holds(&mut self, member: usize, id: NodeId, held: &Held, is_whole: bool) -> Checked {
        let checked = self.bounded_memory.holds(member, held, is_whole);
        checked.map_err(|detail| Violated::new(bounded_memory::NAME, format!("member {id} holds {detail}")))
    }

    /// What a full replica holds after an input, beside its kernel.
    pub fn replica_holds(&self, id: NodeId, replica: &Replica) -> Checked {
        let checked = bounded_memory::replica_holds(&replica.held(), replica.options());
        checked.map_err(|detail| Violated::new(bounded_memory::NAME, format!("replica {id} holds {detail}")))
    }

    /// The latest term of a healed group at this time, in nanoseconds, and whether all follow its leader.
    pub fn healed(&mut self, now: u64, patience: u64, term: Term, is_led: bool) -> Checked {
        let looked = self.steady_leader.look(now, patience, term, is_led);
        looked.map_err(|detail| Violated::new(steady_leader::NAME, detail))
    }

    /// Something happens at this time, in nanoseconds.
    pub fn happens(&mut self, now: u64) -> Checked {
        let checked = self.bounded_work.happens(now);
        checked.map_err(|detail| Violated::new(bounded_work::BoundedWork::NAME, detail))
    }

    /// Something follows from what happens, at once.
    pub fn follows(&mut self, now: u64) -> Checked {
        let checked = self.bounded_work.follows(now);
        checked.map_err(|detail| Violated::new(bounded_work::BoundedWork::NAME, detail))
    }

    /// A member's state machine has got so far.
    pub fn applied(&mut self, member: NodeId, index: Index, digest: u64, now: Stamp) -> Checked {
        let checked = self.snapshot_prefix.applied(member, index, digest, now);
        checked.map_err(|seen| seen.of(snapshot_prefix::NAME))
    }

    /// What the group has committed.
    pub fn log(&self) -> &[Link] {
        self.state_machine_safety.committed()
    }

    /// A member starts with what its disk holds, or starts again.
    pub fn starts(&mut self, start: &Start<'_>) -> Checked {
        self.bounded_memory.restarted(start.position);
        self.confirmed_reads.restarted(start.member.id);
        self.leases.restarted(start.member.id);
        let votes = self.vote_durability.restarted(start.member, start.durable.ballot);
        votes.map_err(|seen| seen.of(vote_durability::VoteDurability::NAME))?;
        let latest = self.latest_membership.starts(start, &self.memberships);
        latest.map_err(|seen| seen.of(latest_membership::NAME))
    }

    /// The host of a leader may read by a lease.
    pub fn leased(&mut self, lease: leases::Lease) {
        self.leases.given(lease);
    }

    /// A client was told that what it proposed is committed.
    pub fn acknowledged(&mut self, write: acknowledged_writes::Acknowledged) -> Checked {
        self.acknowledged_writes
            .acknowledged(write, &self.state_machine_safety)
            .map_err(|seen| seen.of(acknowledged_writes::NAME))
    }

    /// A member that has applied all through `applied` serves a read that was asked for when all through
    /// `committed` was committed.
    pub fn served(&self, member: NodeId, applied: Index, committed: Index, now: Stamp) -> Checked {
        linearizable_reads::served(member, applied, committed, now, &self.state_machine_safety)
            .map_err(|seen| seen.of(linearizable_reads::NAME))
    }

    /// Who appended the entries first that a violation is about.
    pub(crate) fn origins(&self, parts: &[Part]) -> Vec<Part> {
        let mut origins: Vec<Part> = Vec::new();
        for part in parts {
            let needs_it = matches!(part.what, Involvement::Commits(_) | Involvement::Acknowledges(_));
            let Some(entry) = part.entry().filter(|_| needs_it) else { continue };
            origins.extend(self.log_matching.origin(entry).filter(|origin| !origins.contains(origin)));
        }
        origins
    }

    /// Who was the first to append the entry that the group has committed at this index.
    pub(crate) fn appended(&self, index: Index) -> Option<Part> {
        let link = link_at(self.log(), index)?;
        self.log_matching.origin(&entry_at(index, link))
    }

    /// A client was told that its request was refused.
    pub fn refused(&mut self, content: u64) {
        self.acknowledged_writes.refused(content);
    }

    /// The cluster has come to rest with these logs.
    pub fn at_rest<'a>(&self, logs: impl Iterator<Item = (NodeId, &'a [Link])>) -> Checked {
        for (id, log) in logs {
            let kept = self.acknowledged_writes.all_in(id, log);
            kept.map_err(|seen| seen.of(acknowledged_writes::NAME))?;
        }
        Ok(())
    }

    /// How many entries the group has committed.
    pub fn committed(&self) -> u64 {
        self.state_machine_safety.committed().len() as u64
    }
}

impl Known for Checks {
    fn committed(&self) -> &[Link] {
        self.state_machine_safety.committed()
    }

    fn content(&self, id: LogId) -> Option<u64> {
        self.log_matching.content(id)
    }
}

fn run<C: Check>(check: &mut C, step: &Observation<'_>) -> Checked {
    told(C::NAME, step, check.observe(step))
}

fn told(property: &'static str, step: &Observation<'_>, seen: Result<(), Finding>) -> Checked {
    seen.map_err(|seen| seen.of(property).by(step.after.id, step.now))
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the unit tests of the checks share: small steps, written down.

    use super::*;
    use kontiki_core::action::Action;
    use kontiki_core::event::Event;
    use kontiki_core::log::{Entry, EntryBody};
    use kontiki_core::membership::MemberKind;
    use kontiki_core::status::Status;
    use kontiki_core::status::{RoleKind, Space};
    use kontiki_core::time::Instant;
    use kontiki_core::types::{Payload, Term};

    pub(crate) fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    pub(crate) fn group(size: u64) -> Membership {
        Membership::of((1..=size).map(id)).unwrap()
    }

    pub(crate) fn status(number: u64, role: RoleKind, term: u64, committed: u64) -> Status {
        Status {
            id: id(number),
            role,
            term: Term::new(term),
            vote: None,
            leader: None,
            last: LogId::ZERO,
            durable: LogId::ZERO,
            committed: Index::new(committed),
            applied: Index::ZERO,
            kind: MemberKind::Voter,
            snapshot: LogId::ZERO,
            configured: LogId::ZERO,
            space: Space::Free,
        }
    }

    /// A log whose entries have these terms and contents.
    pub(crate) fn chain(entries: &[(u64, &str)]) -> Vec<Link> {
        let mut chain: Vec<Link> = vec![];
        for (&(term, text), index) in entries.iter().zip(1..) {
            let entry = Entry { id: LogId::new(term, index), body: EntryBody::Data(Payload::from(text)) };
            chain.push(Link::after(chain.last(), &entry));
        }
        chain
    }

    /// A step of a member of this group in which nothing happens: the rest of what a test says of one.
    pub(crate) fn observation<'a>(
        before: &'a Status,
        after: &'a Status,
        group: &'a Membership,
    ) -> Observation<'a> {
        Observation {
            member: after.id.get() as usize - 1,
            now: Stamp::default(),
            local: Instant::default(),
            event: &Event::Wake,
            actions: &[],
            before,
            after,
            chain: &[],
            appended: 0,
            held: Index::MAX,
            membership: group,
            membership_before: group,
            me: after.id.into(),
            durable: &|_| None,
        }
    }

    /// Shows a check one step: from one status to another, with this log, all of it new and on every disk.
    pub(crate) fn show(
        check: &mut impl Check,
        before: &Status,
        after: &Status,
        log: &[Link],
    ) -> Result<(), Finding> {
        show_actions(check, before, after, log, &[], log)
    }

    pub(crate) fn show_actions(
        check: &mut impl Check,
        before: &Status,
        after: &Status,
        log: &[Link],
        actions: &[Action],
        others: &[Link],
    ) -> Result<(), Finding> {
        check.observe(&Observation {
            actions,
            chain: log,
            appended: log.len(),
            durable: &|member| Some(if member.id == after.id { log } else { others }),
            ..observation(before, after, &group(3))
        })
    }
}
