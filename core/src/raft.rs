//! One member of one group: the whole flow of a step.
//!
//! ```text
//! Event ─► step_into(now, event, out)
//!            1 gate      term < mine: answer or drop · term > mine: enter it, follow
//!                        a leader's message reaches a candidate: follow         the ONLY term logic
//!            2 dispatch  to the role, which acts on Common and returns Next
//!            3 become_   the ONLY place where a role changes
//!            4 deadline  if now >= deadline(): the role's one timer
//!            5 settle    the ONLY place where Persist and Apply are born
//!            6 check     what must always hold (debug builds)
//! out ◄─ Send… Persist? Send… Apply? Respond…
//! ```

use crate::action::{Action, Outcome, Refusal, Violation, Write};
use crate::common::Common;
use crate::config::Config;
use crate::event::{Event, Proposal};
use crate::log::{Discontinuity, Entry, Log, LogSlice};
use crate::message::{Body, Message};
use crate::role::candidate::Candidate;
use crate::role::follower::{self, Follower};
use crate::role::leader::Leader;
use crate::role::{Next, Phase, voter};
use crate::status::{DropReason, Drops, PeerStatus, RoleKind, Status};
use crate::time::Instant;
use crate::types::{Ballot, Index, LogId, NodeId, Term, WriteSeq};
use alloc::vec::Vec;
use core::fmt;

/// One member of one group, as a pure state machine.
///
/// The same config (its seed included), durable state and sequence of (now, event) give the same actions, bit for bit,
/// on every platform. The verbs: [`restore`](Self::restore) it from what its disk holds, [`step`](Self::step) it with
/// whatever happens and carry out the actions, [`Wake`](Event::Wake) it at its [`deadline`](Self::deadline), and look
/// at it with [`status`](Self::status), [`leader`](Self::leader) and [`log`](Self::log).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Raft {
    common: Common,
    role: Role,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)] // A tag of its own, which every step reads several times, rather than one hidden in the fields.
enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Leader),
    Halted,
}

/// What a member finds on its disk when it starts: the sum of all its durable [`Write`]s, and how far its state machine
/// has got. The default is a member that has never run.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Durable {
    /// The ballot of the last write.
    pub ballot: Ballot,
    /// Every entry, from index 1.
    pub entries: Vec<Entry>,
    /// The commit index of the last write.
    pub committed: Index,
    /// How far the host's state machine has applied the log already; zero for one that lives in memory.
    pub applied: Index,
}

impl Durable {
    /// Adds a write to what is durable: what a disk does, in memory. Writes come in the order of their numbers.
    pub fn write(&mut self, write: &Write) {
        self.ballot = write.ballot;
        self.committed = write.committed;
        if let Some(after) = write.truncate_after {
            self.entries.truncate(usize::try_from(after.get()).unwrap_or(usize::MAX));
        }
        self.entries.extend(write.append.iter().cloned());
    }
}

/// Why what was found on the disk is not what a member left there. Do not start the member: its disk has lost
/// something that it acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestoreError {
    /// The entries are no log.
    Discontinuity(Discontinuity),
    /// An entry is of a later term than the ballot, which is always written first.
    EntryAfterBallot {
        /// The last entry.
        last: LogId,
        /// The term of the ballot.
        term: Term,
    },
    /// More was committed than there is.
    CommitBeyondLog {
        /// The commit index.
        committed: Index,
        /// The last entry.
        last: LogId,
    },
    /// More was applied than there is, though nothing is applied before it is on the disk.
    ApplyBeyondLog {
        /// How far was applied.
        applied: Index,
        /// The last entry.
        last: LogId,
    },
}

impl Raft {
    /// A member as its disk remembers it, a follower of nobody yet. It gives no vote for `election_timeout_min`: it
    /// may have heard from a leader just before it stopped.
    #[inline]
    pub fn restore(config: Config, durable: Durable, now: Instant) -> Result<Self, RestoreError> {
        let Durable { ballot, entries, committed, applied } = durable;
        let last = LogSlice::check(LogId::ZERO, &entries).map_err(RestoreError::Discontinuity)?;
        let term = ballot.term();
        if last.term > term {
            return Err(RestoreError::EntryAfterBallot { last, term });
        }
        if committed > last.index {
            return Err(RestoreError::CommitBeyondLog { committed, last });
        }
        if applied > last.index {
            return Err(RestoreError::ApplyBeyondLog { applied, last });
        }
        // What was applied was committed, whether or not a later write came to say so.
        let committed = committed.max(applied);
        let log = Log::restore(LogId::ZERO, entries, committed, applied);
        let common = Common::new(config, ballot, log, now);
        Ok(Self { common, role: Role::Follower(Follower::new(None, committed)) })
    }

    /// Takes one event and returns what follows from it.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.step_into(now, event, &mut out);
        out
    }

    /// [`step`](Self::step) into a buffer that the host keeps: the actions are appended to it.
    ///
    /// A clock that goes back counts as one that stands still.
    pub fn step_into(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        self.common.now = self.common.now.max(now);
        if let Role::Halted = self.role {
            return self.refuse(event, Refusal::Halted, out);
        }
        let next = match event {
            Event::Wake => Next::Stay,
            Event::Receive(message) => self.on_message(&message, out),
            Event::Propose(proposal) => self.on_propose(core::iter::once(proposal), out),
            Event::ProposeBatch(proposals) => self.on_propose(proposals.into_iter(), out),
            Event::Persisted(seq) => self.on_persisted(seq, out),
            Event::Applied(index) => self.on_applied(index),
            Event::PeerUnreachable(peer) => {
                if let Role::Follower(follower) = &mut self.role {
                    follower.on_unreachable(&mut self.common, peer);
                }
                Next::Stay
            }
        };
        self.become_(next, out);
        if self.common.now >= self.deadline() {
            let next = match &mut self.role {
                Role::Follower(_) | Role::Candidate(_) => follower::on_election_deadline(&mut self.common),
                Role::Leader(leader) => leader.on_deadline(&mut self.common, out),
                Role::Halted => Next::Stay,
            };
            self.become_(next, out);
        }
        self.settle(out);
        #[cfg(debug_assertions)]
        self.check();
    }

    /// When this member wants to be woken with [`Event::Wake`], at the latest.
    pub fn deadline(&self) -> Instant {
        match &self.role {
            Role::Follower(_) | Role::Candidate(_) => self.common.election_deadline,
            Role::Leader(leader) => leader.heartbeat_deadline,
            Role::Halted => Instant::NEVER,
        }
    }

    /// This member at this moment. Allocates nothing.
    pub fn status(&self) -> Status {
        let (role, leader) = match &self.role {
            Role::Follower(follower) => (RoleKind::Follower, follower.leader),
            Role::Candidate(Candidate { phase: Phase::PreVote, .. }) => (RoleKind::PreCandidate, None),
            Role::Candidate(Candidate { phase: Phase::Vote, .. }) => (RoleKind::Candidate, None),
            Role::Leader(_) => (RoleKind::Leader, Some(self.common.id())),
            Role::Halted => (RoleKind::Halted, None),
        };
        let log = &self.common.log;
        let durable = log.term(log.durable()).unwrap_or_default().at(log.durable());
        Status {
            id: self.common.id(),
            role,
            term: self.common.term(),
            vote: self.common.ballot.vote(),
            leader,
            last: log.last(),
            durable,
            committed: log.committed(),
            applied: log.applied(),
        }
    }

    /// What only a leader knows; `None` on everybody else.
    pub fn leader(&self) -> Option<LeaderView<'_>> {
        match &self.role {
            Role::Leader(leader) => Some(LeaderView { leader }),
            _ => None,
        }
    }

    /// The log, to read what is to be applied.
    pub fn log(&self) -> &Log {
        &self.common.log
    }

    /// The settings it was made with.
    pub fn config(&self) -> &Config {
        &self.common.config
    }

    /// How many messages were dropped, and why.
    pub fn drops(&self) -> &Drops {
        &self.common.drops
    }

    fn on_message(&mut self, message: &Message, out: &mut Vec<Action>) -> Next {
        if let Err(reason) = self.gate(message, out) {
            self.common.drops.add(reason);
            return Next::Stay;
        }
        let Message { from, ref body, .. } = *message;
        match (&mut self.role, body) {
            (_, Body::PreVote { last }) => voter::on_pre_vote(&mut self.common, from, *last, out),
            (_, Body::RequestVote { last }) => voter::on_request_vote(&mut self.common, from, *last, out),
            (_, Body::Outdated) => {}
            (Role::Follower(follower), body) => {
                return follower.on_message(&mut self.common, from, body, out);
            }
            (Role::Candidate(candidate), body) => return candidate.on_message(&mut self.common, from, body),
            (Role::Leader(leader), body) => {
                if body.is_from_leader() {
                    let (term, known) = (self.common.term(), self.common.id());
                    return Next::halt(Violation::TwoLeaders { term, known, other: from });
                }
                return leader.on_message(&mut self.common, from, body, out);
            }
            (Role::Halted, _) => {}
        }
        Next::Stay
    }

    /// Decides whether a message may be looked at, and brings this member into its term. The only place where terms
    /// are compared.
    fn gate(&mut self, message: &Message, out: &mut Vec<Action>) -> Result<(), DropReason> {
        let Message { from, to, term, body } = message;
        if *to != self.common.id() || *from == self.common.id() {
            return Err(DropReason::Misrouted);
        }
        if !message.is_well_formed() {
            return Err(DropReason::Malformed);
        }
        if self.refuses_elections(body) {
            // Without entering the term: a member that was away must not unseat a leader that others still hear.
            let refusal = match body {
                Body::PreVote { .. } => Body::PreVoted { granted: false },
                _ => Body::Voted { granted: false },
            };
            let refusal = if *term < self.common.term() { Body::Outdated } else { refusal };
            self.common.send(*from, refusal, out);
            return Err(DropReason::LeaderAlive);
        }
        if *term < self.common.term() {
            if body.asks_for_vote() || body.is_from_leader() {
                self.common.send(*from, Body::Outdated, out);
            }
            return Err(DropReason::OlderTerm);
        }
        let leader = body.is_from_leader().then_some(*from);
        if *term > self.common.term() {
            self.common.ballot.enter(*term);
            self.become_(Next::Follow(leader), out);
        } else if leader.is_some() && matches!(self.role, Role::Candidate(_)) {
            self.become_(Next::Follow(leader), out);
        }
        Ok(())
    }

    /// Whether a leader is known to be alive, and a vote, or the promise of one, is refused for its sake. Giving votes
    /// away too easily would only let them disturb; pre-votes would be pointless without this.
    fn refuses_elections(&self, body: &Body) -> bool {
        let leads = matches!(self.role, Role::Leader(_));
        let loyal = leads || self.common.is_loyal();
        let check_quorum = self.common.config.options.check_quorum;
        match body {
            // Loyalty to a leader that does not check its quorum could outlast its leadership for ever.
            Body::PreVote { .. } => leads || (loyal && check_quorum),
            Body::RequestVote { .. } => loyal && check_quorum,
            _ => false,
        }
    }

    fn on_propose(&mut self, proposals: impl Iterator<Item = Proposal>, out: &mut Vec<Action>) -> Next {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_propose(&mut self.common, proposals, out);
            return Next::Stay;
        }
        let outcome = Outcome::Refused(Refusal::NotLeader { leader: self.status().leader });
        out.extend(proposals.map(|Proposal { request, .. }| Action::Respond { request, outcome }));
        Next::Stay
    }

    fn on_persisted(&mut self, seq: WriteSeq, out: &mut Vec<Action>) -> Next {
        if seq > self.common.durability.issued() {
            return Next::halt(Violation::UnknownWrite(seq));
        }
        if let Some(through) = self.common.durability.persisted(seq, out) {
            self.common.log.durable_to(through);
        }
        match &mut self.role {
            Role::Leader(leader) => {
                leader.on_persisted(&mut self.common, out);
                Next::Stay
            }
            Role::Candidate(candidate) => candidate.verdict(&self.common),
            Role::Follower(_) | Role::Halted => Next::Stay,
        }
    }

    fn on_applied(&mut self, index: Index) -> Next {
        if index > self.common.log.applying() {
            return Next::halt(Violation::UnknownApply(index));
        }
        self.common.log.applied_to(index);
        Next::Stay
    }

    fn refuse(&mut self, event: Event, refusal: Refusal, out: &mut Vec<Action>) {
        let outcome = Outcome::Refused(refusal);
        match event {
            Event::Propose(Proposal { request, .. }) => out.push(Action::Respond { request, outcome }),
            Event::ProposeBatch(proposals) => {
                out.extend(
                    proposals
                        .into_iter()
                        .map(|Proposal { request, .. }| Action::Respond { request, outcome }),
                );
            }
            Event::Receive(_) => self.common.drops.add(DropReason::Halted),
            Event::Wake | Event::Persisted(_) | Event::Applied(_) | Event::PeerUnreachable(_) => {}
        }
    }

    /// Carries out what a handler wants this member to become. The only place where a role changes.
    #[inline]
    fn become_(&mut self, next: Next, out: &mut Vec<Action>) {
        // Nearly every step stays what it is, and should not pay for the rest.
        if !matches!(next, Next::Stay) {
            self.change_role(next, out);
        }
    }

    #[cold]
    fn change_role(&mut self, mut next: Next, out: &mut Vec<Action>) {
        while !matches!(next, Next::Stay) {
            if let Role::Leader(leader) = &mut self.role {
                leader.leave_office(out);
                self.common.restart_election_timer();
            }
            (self.role, next) = match next {
                Next::Stay => return,
                Next::Follow(leader) => {
                    (Role::Follower(Follower::new(leader, self.common.log.committed())), Next::Stay)
                }
                Next::Campaign(phase) => {
                    if phase == Phase::Vote {
                        let me = self.common.id();
                        self.common.ballot.enter(self.common.term().next());
                        self.common.ballot.cast(me);
                    }
                    self.common.restart_election_timer();
                    let candidate = Candidate::ask(phase, &mut self.common, out);
                    let verdict = candidate.verdict(&self.common);
                    (Role::Candidate(candidate), verdict)
                }
                Next::Lead => (Role::Leader(Leader::take_office(&mut self.common, out)), Next::Stay),
                Next::Halt(violation) => {
                    out.push(Action::Halt(*violation));
                    (Role::Halted, Next::Stay)
                }
            };
        }
    }

    /// Compares what this member knows with what its disk and its state machine were last told, and tells them the
    /// difference. The only place where `Persist` and `Apply` are born, so that no handler can forget one.
    fn settle(&mut self, out: &mut Vec<Action>) {
        if let Role::Halted = self.role {
            return;
        }
        let Common { log, durability, ballot, now, .. } = &mut self.common;
        if log.has_unwritten() || *ballot != durability.written_ballot() {
            let (truncate_after, append) = log.take_unwritten();
            out.push(Action::Persist(Write {
                seq: durability.issue(*ballot, truncate_after, log.last().index, *now),
                ballot: *ballot,
                truncate_after,
                append,
                committed: log.committed(),
            }));
        }
        durability.seal(out);
        if let Some(through) = log.take_applicable() {
            out.push(Action::Apply { through });
        }
    }

    /// What must hold of a member between any two steps.
    #[cfg(debug_assertions)]
    fn check(&self) {
        let Common { log, durability, ballot, .. } = &self.common;
        if let Role::Halted = self.role {
            return;
        }
        log.check();
        durability.check();
        assert!(log.last().term <= ballot.term(), "an entry of a later term than its log's owner has seen");
        match &self.role {
            Role::Follower(follower) => {
                assert_ne!(follower.leader, Some(self.common.id()), "nobody follows itself");
                assert!(follower.agreed >= log.committed() && follower.agreed <= log.last().index);
            }
            Role::Candidate(candidate) => {
                assert!(self.common.config.membership.is_voter(self.common.id()));
                assert!(candidate.phase == Phase::PreVote || ballot.vote() == Some(self.common.id()));
            }
            Role::Leader(leader) => {
                assert_eq!(ballot.vote(), Some(self.common.id()), "a leader has voted for itself");
                assert_eq!(durability.durable_ballot(), *ballot, "a leader's vote is on its disk");
                assert!(leader.peers.iter().all(|peer| peer.matched <= log.last().index));
                assert!(leader.peers.iter().all(|peer| peer.next() > peer.matched));
                assert!(leader.proposals.front().is_none_or(|first| first.index > log.committed()));
                assert_eq!(leader.uncommitted_size(), log.uncommitted_size());
            }
            Role::Halted => {}
        }
    }
}

/// What a leader knows of the others.
#[derive(Clone, Copy, Debug)]
pub struct LeaderView<'a> {
    leader: &'a Leader,
}

impl LeaderView<'_> {
    /// Every other member, in the order of their ids.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = PeerStatus> {
        self.leader.peers.iter().map(|peer| PeerStatus {
            id: peer.id,
            matched: peer.matched,
            next: peer.next(),
            probing: matches!(peer.flow, crate::progress::Flow::Probe { .. }),
            in_flight: peer.in_flight(),
            last_contact: peer.contact,
        })
    }

    /// One other member.
    pub fn peer(&self, id: NodeId) -> Option<PeerStatus> {
        self.peers().find(|peer| peer.id == id)
    }

    /// How many requests wait for their entries to commit.
    pub fn pending_proposals(&self) -> usize {
        self.leader.proposals.len()
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discontinuity(gap) => write!(f, "the stored log has a gap: {gap}")?,
            Self::EntryAfterBallot { last, term } => {
                write!(
                    f,
                    "the stored log ends with entry {last}, but the stored ballot is of the earlier term {term}"
                )?;
            }
            Self::CommitBeyondLog { committed, last } => {
                write!(f, "entry {committed} was committed, but the stored log ends with entry {last}")?;
            }
            Self::ApplyBeyondLog { applied, last } => {
                write!(f, "entry {applied} was applied, but the stored log ends with entry {last}")?;
            }
        }
        f.write_str(": the disk lost what this member acknowledged; do not start it, replace it")
    }
}

impl core::error::Error for RestoreError {}
