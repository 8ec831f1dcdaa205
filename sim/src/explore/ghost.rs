//! What must be remembered of the past to judge a step, and the judgement. The properties have the names of
//! the simulator's checks.

use super::bounds::MAX_PROPOSALS;
use super::clocks::Clocks;
use super::host::Host;
use super::symmetry::Renaming;
use super::violation::Violation;
use crate::check::election_safety::is_elected;
use crate::check::majority::has_majority;
use crate::hash::StableHasher;
use kontiki_core::action::Outcome;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entry, EntryBody, Log, Snapshot};
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, LogId, Member, NodeId, Payload, RequestId, Term};
use std::sync::Arc;

/// What no member needs to know and the judge must.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ghost {
    /// Who has led which term.
    leaders: Vec<(Term, NodeId)>,
    /// Who has voted for whom, by all messages that left.
    votes: Vec<(Term, Member, Member)>,
    /// What the group has committed.
    committed: Vec<Committed>,
    /// The reads under way.
    reads: Vec<Reading>,
    /// What the entries of proposals would hold whose clients were told that they were refused.
    refused: Vec<u64>,
    /// The leases that hosts may still read by: of which leader, of which term, and until when by its clock.
    leases: Vec<(Term, NodeId, Instant)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Committed {
    id: LogId,
    content: u64,
    is_membership: bool,
    /// The earliest term in which it was seen to be committed.
    during: Term,
}

/// A read that was asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Reading {
    request: RequestId,
    /// How far the log was committed when it came.
    must_see: Index,
    /// The members that have answered a heartbeat since it came, if it came to a leader.
    answered: Option<Vec<NodeId>>,
}

impl Ghost {
    /// A client asks a member to read, which leads or does not.
    pub(super) fn read_begins(&mut self, request: RequestId, leads: bool) {
        let must_see = Index::new(self.committed.len() as u64);
        self.reads.push(Reading { request, must_see, answered: leads.then(Vec::new) });
    }

    /// Leases end when their time has come.
    pub(super) fn time_passes(self: &mut Arc<Self>, clocks: &Clocks) {
        self.keep_leases(|leader, until| until > clocks.now(leader));
    }

    /// The host of a member that crashes reads by no lease any more.
    pub(super) fn crashes(self: &mut Arc<Self>, member: NodeId) {
        self.keep_leases(|leader, _| leader != member);
    }

    fn keep_leases(self: &mut Arc<Self>, holds: impl Fn(NodeId, Instant) -> bool) {
        let holds = |(_, leader, until): &(Term, NodeId, Instant)| holds(*leader, *until);
        if !self.leases.iter().all(holds) {
            Arc::make_mut(self).leases.retain(holds);
        }
    }

    /// The host of a leader may read until then by its clock.
    pub(super) fn leased(&mut self, term: Term, leader: NodeId, until: Instant) {
        self.leases.push((term, leader, until));
        self.leases.sort_unstable();
        self.leases.dedup();
    }

    /// A lease that holds, of a leader of an earlier term.
    pub(super) fn lease_before(&self, term: Term) -> Option<(NodeId, Instant)> {
        let earlier = self.leases.iter().find(|(given, ..)| *given < term);
        earlier.map(|(_, leader, until)| (*leader, *until))
    }

    /// A member answers a heartbeat.
    fn heartbeat_answered(self: &mut Arc<Self>, by: NodeId) {
        let lacks = |read: &Reading| read.answered.as_ref().is_some_and(|all| !all.contains(&by));
        if self.reads.iter().any(lacks) {
            let reads = &mut Arc::make_mut(self).reads;
            for answered in reads.iter_mut().filter_map(|read| read.answered.as_mut()) {
                if !answered.contains(&by) {
                    answered.push(by);
                    answered.sort_unstable();
                }
            }
        }
    }

    /// The same of members that are renamed.
    pub(super) fn renamed(&self, by: &Renaming) -> Self {
        let mut ghost = self.clone();
        ghost.leaders.iter_mut().for_each(|(_, leader)| *leader = by.id(*leader));
        for (_, voter, candidate) in &mut ghost.votes {
            (*voter, *candidate) = (by.member(*voter), by.member(*candidate));
        }
        for answered in ghost.reads.iter_mut().filter_map(|read| read.answered.as_mut()) {
            answered.iter_mut().for_each(|member| *member = by.id(*member));
            answered.sort_unstable();
        }
        ghost.leases.iter_mut().for_each(|(_, leader, _)| *leader = by.id(*leader));
        ghost.leaders.sort_unstable();
        ghost.votes.sort_unstable();
        ghost.leases.sort_unstable();
        ghost
    }

    #[cfg(test)]
    pub(super) fn led(&mut self, term: Term, leader: NodeId) {
        self.leaders.push((term, leader));
    }

    #[cfg(test)]
    pub(super) fn voted(&mut self, term: Term, voter: Member, candidate: Member) {
        self.votes.push((term, voter, candidate));
    }

    #[cfg(test)]
    pub(super) fn commit(&mut self, id: LogId, content: u64, during: Term) {
        self.committed.push(Committed { id, content, is_membership: false, during });
    }

    /// Looks at the step of one member: what it was before, what all are now, what left it, and what clients
    /// were told.
    pub(super) fn judge<'a>(
        self: &mut Arc<Self>,
        before: &Host,
        hosts: &[&Host],
        member: usize,
        sent: impl Iterator<Item = &'a Message>,
        answers: &[(RequestId, Outcome)],
    ) -> Result<(), Violation> {
        let host = hosts[member];
        self.leads(&before.raft, host)?;
        logs_match(hosts, member)?;
        self.commits(&before.raft, hosts, member)?;
        self.snapshots(&host.raft)?;
        for message in sent {
            self.leaves(host, message)?;
        }
        for (request, outcome) in answers {
            self.answers(&host.raft, *request, *outcome)?;
        }
        Ok(())
    }

    /// Election Safety, Vote Durability, Leader Append-Only and Leader Completeness.
    fn leads(self: &mut Arc<Self>, before: &Raft, host: &Host) -> Result<(), Violation> {
        let after = &host.raft;
        let (was, is) = (before.status(), after.status());
        if is.role != RoleKind::Leader {
            return Ok(());
        }
        let (term, id) = (is.term, is.id);
        match self.leaders.iter().find(|(known, _)| *known == term) {
            Some((_, other)) if *other != id => {
                let detail = format!("members {other} and {id} both lead term {term}");
                return Err(Violation::new("Election Safety", detail));
            }
            Some(_) => {}
            None if host.disk.ballot.term() < term => {
                let detail = format!("{id} leads term {term}, and its own vote is not on its disk");
                return Err(Violation::new("Vote Durability", detail));
            }
            None if !self.has_elected(after) => {
                let detail =
                    format!("{id} leads term {term} without the votes of a majority of its membership");
                return Err(Violation::new("Election Safety", detail));
            }
            None => {
                if let Some((other, until)) = self.lease_before(term) {
                    let detail = format!(
                        "{id} leads term {term}, and the host of {other} may read by its lease until {until:?}"
                    );
                    return Err(Violation::new("Linearizable Reads", detail));
                }
                let leaders = &mut Arc::make_mut(self).leaders;
                leaders.push((term, id));
                leaders.sort_unstable();
            }
        }
        if was.role == RoleKind::Leader && was.term == term {
            let known = entries(before.log()).filter(|entry| entry.id.index > after.log().base());
            let kept = known.into_iter().all(|entry| after.log().get(entry.id.index) == Some(entry));
            if !kept {
                let detail = format!("leader {id} of term {term} has changed or lost entries of its own log");
                return Err(Violation::new("Leader Append-Only", detail));
            }
            return Ok(());
        }
        let lacks = |it: &&Committed| {
            it.during < term && it.id.index > after.log().base() && !after.log().contains(it.id)
        };
        match self.committed.iter().find(lacks) {
            Some(Committed { id: entry, during, .. }) => {
                let detail = format!(
                    "{id} leads term {term} without entry {entry}, which was committed in term {during}"
                );
                Err(Violation::new("Leader Completeness", detail))
            }
            None => Ok(()),
        }
    }

    /// Whether the votes for a leader that have left, and its own, are a majority of its membership: of both
    /// sets of voters, where two decide.
    fn has_elected(&self, leader: &Raft) -> bool {
        let (id, term) = (leader.status().id, leader.status().term);
        let voted = |member: Member| {
            let is_vote = |(voted, by, candidate): &(Term, Member, Member)| {
                *voted == term && *by == member && candidate.id == id
            };
            self.votes.iter().any(is_vote)
        };
        is_elected(id, leader.membership(), voted)
    }

    /// State Machine Safety, Own-Term Commit and Durable Commit.
    fn commits(self: &mut Arc<Self>, before: &Raft, hosts: &[&Host], member: usize) -> Result<(), Violation> {
        let raft = &hosts[member].raft;
        let (was, is) = (before.log().committed(), raft.log().committed());
        let applied = raft.log().applied();
        applied_is_committed(applied, is, self.committed.len(), raft.status().id)?;
        if applied > hosts[member].disk.last().index {
            let detail =
                format!("member {} applies entry {applied}, which is not on its disk", raft.status().id);
            return Err(Violation::new("Contract", detail));
        }
        if is <= was {
            return Ok(());
        }
        for entry in raft.log().entries(was.max(raft.log().base()), is) {
            let content = StableHasher::of(&entry.body);
            match self.committed.get(entry.id.index.get() as usize - 1) {
                Some(known) if known.id != entry.id || (holds_body(entry) && known.content != content) => {
                    let (id, detail) = (raft.status().id, known.id);
                    let detail =
                        format!("member {id} commits entry {}, where {detail} is committed", entry.id);
                    return Err(Violation::new("State Machine Safety", detail));
                }
                Some(_) => {}
                None if self.refused.contains(&content) => {
                    let detail = format!("entry {} is committed, whose client was told no", entry.id);
                    return Err(Violation::new("Acknowledged Writes", detail));
                }
                None => {
                    let during = raft.status().term;
                    let is_membership = matches!(entry.body, EntryBody::Config(_));
                    let committed = Committed { id: entry.id, content, is_membership, during };
                    Arc::make_mut(self).committed.push(committed);
                }
            }
        }
        let (id, term) = (raft.status().id, raft.status().term);
        // One that is no member any more steps down as soon as that is committed.
        let led = before.status().role == RoleKind::Leader && before.status().term == term;
        if !led && raft.status().role != RoleKind::Leader {
            return Ok(());
        }
        if led && raft.log().term(is) != Some(term) {
            let detail =
                format!("leader {id} of term {term} commits through {is}, an entry of an earlier term");
            return Err(Violation::new("Own-Term Commit", detail));
        }
        let holds = |membership: &Membership| is_on_disks(raft.log(), is, membership, hosts);
        match holds(raft.membership()) || holds(before.membership()) {
            true => Ok(()),
            false => {
                let detail =
                    format!("leader {id} commits through {is}, which is not on a majority of the disks");
                Err(Violation::new("Durable Commit", detail))
            }
        }
    }

    /// Snapshot Prefix: a snapshot is of what was committed, with the membership as of its last entry.
    fn snapshots(&self, raft: &Raft) -> Result<(), Violation> {
        let Some(snapshot) = raft.log().snapshot() else { return Ok(()) };
        let covered = self.committed.get(..snapshot.last.index.get() as usize);
        let configured = covered.map(|all| all.iter().rev().find(|it| it.is_membership));
        let content = || StableHasher::of(&EntryBody::Config(Arc::clone(&snapshot.membership)));
        let holds = covered.is_some_and(|all| all.last().map_or(LogId::ZERO, |it| it.id) == snapshot.last)
            && match configured.flatten() {
                Some(it) => it.id == snapshot.configured && it.content == content(),
                None => snapshot.configured == LogId::ZERO,
            };
        if holds {
            return Ok(());
        }
        let (id, Snapshot { last, configured, .. }) = (raft.status().id, snapshot);
        let detail = format!("member {id} has a snapshot through {last} with the membership of {configured}");
        Err(Violation::new("Snapshot Prefix", detail))
    }

    /// Vote Durability: what a message promises is on the disk of the member that sends it.
    fn leaves(self: &mut Arc<Self>, host: &Host, message: &Message) -> Result<(), Violation> {
        let (from, term) = (message.from, message.term);
        is_on_its_disk(host, message)?;
        if matches!(message.body, Body::HeartbeatAck { .. } | Body::Pause { .. }) {
            self.heartbeat_answered(from.id);
        }
        let Some(candidate) = candidate_of(message) else { return Ok(()) };
        let voted = self.votes.iter().find(|(voted, voter, _)| *voted == term && *voter == from);
        match voted {
            Some((.., other)) if *other != candidate => {
                let detail =
                    format!("member {} votes for {} and {} in term {term}", from.id, other.id, candidate.id);
                Err(Violation::new("Vote Durability", detail))
            }
            Some(_) => Ok(()),
            None => {
                let votes = &mut Arc::make_mut(self).votes;
                votes.push((term, from, candidate));
                votes.sort_unstable();
                Ok(())
            }
        }
    }

    /// Acknowledged Writes and Linearizable Reads.
    fn answers(
        self: &mut Arc<Self>,
        raft: &Raft,
        request: RequestId,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        match outcome {
            Outcome::Committed(id) => {
                let at = (id.index.get() as usize).checked_sub(1).and_then(|at| self.committed.get(at));
                if at.is_none_or(|known| known.id != id) {
                    let detail =
                        format!("request {} is acknowledged as {id}, which is not committed", request.0);
                    return Err(Violation::new("Acknowledged Writes", detail));
                }
            }
            Outcome::Ready { index, until } => {
                if let Some(read) = self.reads.iter().find(|read| read.request == request) {
                    read.may_be_served(index, until, raft)?;
                }
                self.read_ends(request);
                if let Some(until) = until {
                    Arc::make_mut(self).leased(raft.status().term, raft.status().id, until);
                }
            }
            Outcome::Refused(_) if content_of(request).is_some() => {
                let content = content_of(request).unwrap_or_default();
                if let Some(known) = self.committed.iter().find(|known| known.content == content) {
                    let detail = format!("request {} is refused, and committed as {}", request.0, known.id);
                    return Err(Violation::new("Acknowledged Writes", detail));
                }
                Arc::make_mut(self).refused.push(content);
            }
            _ => self.read_ends(request),
        }
        Ok(())
    }

    fn read_ends(self: &mut Arc<Self>, request: RequestId) {
        if self.reads.iter().any(|read| read.request == request) {
            Arc::make_mut(self).reads.retain(|read| read.request != request);
        }
    }
}

impl Reading {
    /// Linearizable Reads: what was committed before is seen, and a leader has asked a majority since whether
    /// it still leads (thesis 6.4).
    fn may_be_served(&self, index: Index, until: Option<Instant>, raft: &Raft) -> Result<(), Violation> {
        let (request, must_see) = (self.request.0, self.must_see);
        if index < must_see {
            let detail = format!("read {request} sees entry {index}, and {must_see} was committed before it");
            return Err(Violation::new("Linearizable Reads", detail));
        }
        // A lease is judged when another is elected.
        let (Some(answered), None) = (&self.answered, until) else { return Ok(()) };
        let has_answered = |member: Member| member.id == raft.status().id || answered.contains(&member.id);
        if has_majority(raft.membership(), has_answered) {
            return Ok(());
        }
        let detail =
            format!("read {request} is served, and no majority has answered a heartbeat since it came");
        Err(Violation::new("Linearizable Reads", detail))
    }
}

/// Whether [`Ghost::judge`] may have anything to say or to remember of a step. Of one that neither makes a
/// leader, nor changes a log or how far it is committed, nor promises or answers anything, it cannot: what it
/// says of logs and leaders was said when they became what they are.
pub(super) fn concerns(
    before: &Host,
    after: &Host,
    sent: &[Message],
    answers: &[(RequestId, Outcome)],
) -> bool {
    let ((was, is), (old, new)) = ((&before.facts, &after.facts), (before.raft.log(), after.raft.log()));
    let promises = |message: &Message| match message.body {
        Body::Voted { granted } => granted,
        Body::RequestVote { .. } | Body::HeartbeatAck { .. } | Body::Pause { .. } => true,
        _ => false_claim(after, message).is_some(),
    };
    (is.is_leader && (!was.is_leader || was.term != is.term))
        || new.committed() > old.committed()
        || new.applied() > old.applied()
        || new.snapshot() != old.snapshot()
        || (new.base(), new.last()) != (old.base(), old.last())
        || !entries(old).eq(entries(new))
        || !answers.is_empty()
        || sent.iter().any(promises)
}

/// What the client of this request proposes.
pub(super) fn payload_of(request: RequestId) -> Payload {
    Payload::from(&*request.0.to_string())
}

/// The content of the entry of a proposal; `None` for other requests.
fn content_of(request: RequestId) -> Option<u64> {
    let is_proposal = request.0 <= MAX_PROPOSALS;
    is_proposal.then(|| StableHasher::of(&EntryBody::Data(payload_of(request))))
}

/// State Machine Safety: what a member applies is committed, by what it knows or by what the group has
/// committed.
pub(super) fn applied_is_committed(
    applied: Index,
    known: Index,
    committed: usize,
    id: NodeId,
) -> Result<(), Violation> {
    if applied <= known.max(Index::new(committed as u64)) {
        return Ok(());
    }
    let detail = format!("member {id} applies entry {applied}, which is not committed");
    Err(Violation::new("State Machine Safety", detail))
}

/// Whom a message is a vote for. A candidate votes for itself.
fn candidate_of(message: &Message) -> Option<Member> {
    match &message.body {
        Body::Voted { granted: true } => Some(message.to),
        Body::RequestVote { .. } => Some(message.from),
        _ => None,
    }
}

/// Durable Commit and Vote Durability: what a message says to be on the disk of its sender is there.
fn is_on_its_disk(host: &Host, message: &Message) -> Result<(), Violation> {
    let (from, term) = (message.from.id, message.term);
    if let Some(claimed) = false_claim(host, message) {
        let detail =
            format!("member {from} acknowledges entry {claimed} in term {term}, and it is not on its disk");
        return Err(Violation::new("Durable Commit", detail));
    }
    let (ballot, candidate) = (host.disk.ballot, candidate_of(message).map(|candidate| candidate.id));
    let is_there = ballot.term() > term || (ballot.term() == term && ballot.vote() == candidate);
    match candidate.filter(|_| !is_there) {
        None => Ok(()),
        Some(candidate) => {
            let detail =
                format!("member {from} votes for {candidate} in term {term}, and its disk has {ballot:?}");
            Err(Violation::new("Vote Durability", detail))
        }
    }
}

/// Contract: where the host of a member waits for its disk, a message comes after the write that it rests on.
pub(super) fn is_promised_in_order(host: &Host, message: &Message) -> Result<(), Violation> {
    is_on_its_disk(host, message).map_err(|Violation { detail, .. }| Violation::new("Contract", detail))
}

/// The entry that a message claims to be on the disk of its sender, if it is not there, or not in the term of
/// the message. An answer to a heartbeat leaves at once, and so must be true of the log as it is; a promise
/// may be of one that has changed since.
fn false_claim(host: &Host, message: &Message) -> Option<Index> {
    let term = message.term;
    match &message.body {
        Body::Appended { matched } if host.disk.ballot.term() < term => Some(*matched),
        Body::Appended { matched } if host.disk.last().index < *matched => Some(*matched),
        Body::Appended { matched } => lost_through(host, *matched),
        Body::HeartbeatAck { matched, .. } if host.disk.ballot.term() < term => {
            (*matched > Index::ZERO).then_some(*matched)
        }
        Body::HeartbeatAck { matched, .. } => {
            let entry = host.raft.log().get(*matched);
            let claims_more = entry.is_some_and(|entry| !is_on_disk(&host.disk, entry));
            if claims_more { Some(*matched) } else { lost_through(host, *matched) }
        }
        _ => None,
    }
}

/// The first entry through here that the disk of a member has damaged.
fn lost_through(host: &Host, through: Index) -> Option<Index> {
    let indexes = host.disk.entries.iter().filter(|entry| entry.body == EntryBody::Lost);
    indexes.map(|entry| entry.id.index).find(|index| *index <= through)
}

/// Whether what was in an entry is known where it stands: not on a witness, nor where a disk has damaged it.
fn holds_body(entry: &Entry) -> bool {
    !matches!(entry.body, EntryBody::Withheld | EntryBody::Lost)
}

/// Whether two logs have the same entry here, by what they know of it.
fn agree(ours: &Entry, theirs: &Entry) -> bool {
    ours.id == theirs.id && (ours.body == theirs.body || !holds_body(ours) || !holds_body(theirs))
}

/// Whether this entry has reached a disk; it may be damaged since.
fn is_on_disk(disk: &Durable, entry: &Entry) -> bool {
    disk.entries.iter().any(|written| agree(written, entry))
}

/// All entries that a log holds.
fn entries(log: &Log) -> impl Iterator<Item = &Entry> {
    log.entries(log.base(), log.last().index)
}

/// Log Matching: where two logs have the same entry, all before it are the same.
fn logs_match(hosts: &[&Host], member: usize) -> Result<(), Violation> {
    let ours = hosts[member].raft.log();
    for (other, host) in hosts.iter().enumerate().filter(|(other, _)| *other != member) {
        let theirs = host.raft.log();
        let shared = entries(ours).filter(|entry| theirs.contains(entry.id)).last();
        let Some(shared) = shared.map(|entry| entry.id.index) else { continue };
        let differs = entries(ours)
            .take_while(|it| it.id.index <= shared)
            .filter(|it| it.id.index > theirs.base())
            .find(|it| !theirs.get(it.id.index).is_some_and(|theirs| agree(it, theirs)));
        if let Some(differs) = differs {
            let detail = format!(
                "the logs of members {} and {} share entry {shared} and differ at {}",
                member + 1,
                other + 1,
                differs.id.index
            );
            return Err(Violation::new("Log Matching", detail));
        }
    }
    Ok(())
}

/// Whether a log through here is on the disks of a majority of these members, or was on one that is lost: its
/// member is another one now.
fn is_on_disks(log: &Log, through: Index, membership: &Membership, hosts: &[&Host]) -> bool {
    let Some(entry) = log.get(through) else { return true };
    let holds = |disk: &Durable| disk.base.index >= through || is_on_disk(disk, entry);
    has_majority(membership, |Member { id, incarnation }| {
        hosts.get(id.get() as usize - 1).is_some_and(|host| holds(host.disk_in(incarnation)))
    })
}
