//! One member of one group: the whole flow of a step.
//!
//! ```text
//! Event ─► step_into(now, event, out)
//!            1 gate      term < mine: answer or drop · term > mine: enter it, follow
//!                        a leader's message reaches a candidate: follow         the ONLY term logic
//!            2 dispatch  to the role, which acts on Common and returns Next
//!            3 become_   the ONLY place where a role changes
//!            4 deadline  if now >= deadline(): the role's one timer
//!            5 review    a leader looks again at the change of the membership that is under way
//!            6 write     the ONLY place where Persist is born
//!                        where the host writes synchronously, 5 and 6 again until nothing is left to write
//!            7 settle    the ONLY place where Apply is born
//!            8 resume    a follower that asked for a pause, and has room again, says so
//!            9 check     what must always hold (debug builds)
//! out ◄─ Send… Persist? Send… Apply? Respond… Send?
//! ```

use crate::action::{Action, Outcome, Refusal, Violation, Write};
use crate::common::Common;
#[cfg(feature = "explore")]
use crate::config::ConfigError;
use crate::config::{Config, Options};
use crate::durable::{Durable, RestoreError, Restored};
use crate::event::{EntriesLoaded, Event, Proposal, Read, Reconfigure, Transfer};
use crate::log::{Applicable, Log, Snapshot, Span, Unwritten};
use crate::membership::Membership;
use crate::message::{Body, Message};
use crate::progress::Flow;
use crate::repair;
use crate::role::candidate::Candidate;
use crate::role::follower::{self, Follower};
use crate::role::leader::Leader;
use crate::role::{Next, Phase, voter};
use crate::status::{DropReason, Drops, FlowKind, Held, PeerStatus, RoleKind, Space, Status};
use crate::time::Instant;
use crate::types::{Index, LogId, Member, NodeId, RequestId, WriteSeq};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// One member of one group, as a pure state machine.
///
/// The same config (its seed included), durable state and sequence of (now, event) give the same actions, bit
/// for bit, on every platform. The verbs: [`restore`](Self::restore) it from what its disk holds,
/// [`step`](Self::step) it with whatever happens and carry out the actions, [`Wake`](Event::Wake) it at its
/// [`deadline`](Self::deadline), and look at it with [`status`](Self::status), [`leader`](Self::leader) and
/// [`log`](Self::log).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Raft {
    common: Common,
    role: Role,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)] // A tag of its own, which every step reads several times, rather than one hidden in the fields.
enum Role {
    Follower(Follower),
    Candidate(Candidate),
    /// Boxed: it is far larger than the others, and most members are followers.
    Leader(Box<Leader>),
    /// It takes no further part, and refuses every request with this.
    Halted(Refusal),
}

/// What a log keeps, and why: four runs of entries, from the oldest to the latest.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Retention {
    /// A follower is being sent an earlier snapshot, or was when the latest was taken, and needs these
    /// entries after it.
    pub fetching: Span,
    /// Entries in the snapshot, kept for followers that are a little behind: see
    /// [`Options::retained_entries`].
    pub tail: Span,
    /// Applied entries that are in no snapshot yet.
    pub applied: Span,
    /// Entries that are not applied.
    pub unapplied: Span,
}

impl Raft {
    /// Restores a member from its disk, as a follower without a leader. It gives no vote for
    /// `election_timeout_min`: it may have heard from a leader just before it stopped.
    #[inline]
    pub fn restore(config: Config, durable: Durable, now: Instant) -> Result<Self, RestoreError> {
        let Restored { ballot, starts, log } = durable.restore(&config)?;
        let follower = Follower::new(None, log.committed());
        let common = Common::new(config, ballot, starts + 1, log, now);
        Ok(Self { common, role: Role::Follower(follower) })
    }

    /// Takes one event and returns what follows from it.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.step_into(now, event, &mut out);
        out
    }

    /// [`step`](Self::step) into a buffer that the host keeps: the actions are appended to it.
    ///
    /// A clock that goes back counts as one that stands still, and a leader that sees it gives no leases any
    /// more. `now` is read after the event happened.
    pub fn step_into(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        if let Role::Leader(leader) = &mut self.role {
            if now < self.common.now {
                // How long a lease has lasted cannot be told by a clock that goes back.
                leader.distrust_clock();
            }
            leader.distrust_rounds_before_a_jump(&self.common, now);
        }
        self.common.now = self.common.now.max(now);
        if let Role::Halted(refusal) = self.role {
            return self.refuse(event, refusal, out);
        }
        let next = match event {
            Event::Wake => Next::Stay,
            Event::Receive(message) => self.on_message(&message, out),
            Event::Propose(proposal) => self.on_propose(core::iter::once(proposal), out),
            Event::ProposeBatch(proposals) => self.on_propose(proposals.into_iter(), out),
            Event::Persisted(seq) => self.on_persisted(seq, out),
            Event::Applied(index) => self.on_applied(index),
            event => self.on_rare_event(event, out),
        };
        self.become_(next, out);
        if self.common.now >= self.deadline() {
            let next = match &mut self.role {
                Role::Follower(_) => follower::on_election_deadline(&mut self.common, out),
                Role::Candidate(candidate) => candidate.on_deadline(&mut self.common, out),
                Role::Leader(leader) => leader.on_deadline(&mut self.common, out),
                Role::Halted(_) => Next::Stay,
            };
            self.become_(next, out);
        }
        self.review_change(out);
        while self.write(out) && self.common.config.options.synchronous_writes {
            let next = self.on_written(out);
            self.become_(next, out);
            self.review_change(out);
        }
        self.settle(out);
        if let Role::Follower(follower) = &mut self.role {
            follower.review_pause(&mut self.common, out);
        }
        #[cfg(debug_assertions)]
        self.check();
    }

    /// Handles the rare events.
    fn on_rare_event(&mut self, event: Event, out: &mut Vec<Action>) -> Next {
        match event {
            Event::Read(read) => self.on_read(read, out),
            Event::Reconfigure(reconfigure) => return self.on_reconfigure(reconfigure, out),
            Event::CancelChange(request) => self.on_cancel_change(request, out),
            Event::Transfer(transfer) => self.on_transfer(transfer, out),
            Event::SnapshotTaken(index) => return self.on_snapshot_taken(index),
            Event::SnapshotFetched(snapshot) => return self.on_snapshot_fetched(snapshot),
            Event::SnapshotFailed(last) => self.on_snapshot_failed(last, out),
            Event::EntriesLoaded(loaded) => self.on_entries_loaded(loaded, out),
            Event::DiskFull(full) => self.common.set_disk_full(full),
            Event::PeerUnreachable(peer) => {
                if let Role::Follower(follower) = &mut self.role {
                    follower.on_unreachable(&mut self.common, peer, out);
                }
            }
            Event::Shutdown => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.transfer_on_shutdown(&self.common, out);
                }
                return Next::Stop;
            }
            Event::Wake
            | Event::Receive(_)
            | Event::Propose(_)
            | Event::ProposeBatch(_)
            | Event::Persisted(_)
            | Event::Applied(_) => {}
        }
        Next::Stay
    }

    /// Forgets what depends on when something happened and how often, so that members which differ in nothing
    /// that the protocol decides by are equal, and have equal hashes: for programs that explore all states
    /// of a group. To be called after every step, with the same `now` for all members.
    ///
    /// All timers are as if they had been set at `now`, no voter has heard from a leader lately, and all
    /// peers of a leader have just been heard from. Every timeout is then the explorer's to choose: it steps
    /// a member with [`Event::Wake`] at its [`deadline`](Self::deadline). What rests on clocks is lost: no
    /// lease is given, and [`Options::check_quorum`] has nothing to go by. The numbers of writes begin anew:
    /// the oldest that is under way is the first.
    #[cfg(feature = "explore")]
    pub fn forget_time(&mut self, now: Instant) {
        self.common.forget_time(now);
        match &mut self.role {
            Role::Follower(follower) => follower.forget_time(now),
            Role::Leader(leader) => leader.forget_time(&self.common),
            Role::Candidate(_) | Role::Halted(_) => {}
        }
    }

    /// Forgets what is left to chance and what is only counted, and keeps the time: for programs that explore
    /// all states of a group and of its clocks. To be called after every step.
    ///
    /// The election timer is never due then. If it was started since the last call, this returns when it
    /// would have gone off, and [`Instant::NEVER`] otherwise; [`set_election_deadline`] has it go off.
    /// The numbers of writes begin anew, as by [`forget_time`](Self::forget_time).
    ///
    /// [`set_election_deadline`]: Self::set_election_deadline
    #[cfg(feature = "explore")]
    pub fn forget_chance(&mut self) -> Instant {
        self.common.forget_chance();
        // The next step is taken at no earlier time.
        self.common.now = Instant::ZERO;
        if let Role::Leader(leader) = &mut self.role {
            leader.forget_contacts();
        }
        core::mem::replace(&mut self.common.election_deadline, Instant::NEVER)
    }

    /// Sets when the election timer is due, which [`forget_chance`](Self::forget_chance) has stopped.
    #[cfg(feature = "explore")]
    pub fn set_election_deadline(&mut self, deadline: Instant) {
        self.common.election_deadline = deadline;
    }

    /// Goes on with time, which was [forgotten](Self::forget_time), and with these settings: all timers are
    /// as if they had been set at `now`, and how long to wait for a leader is drawn anew.
    ///
    /// # Errors
    ///
    /// If the settings are wrong; then nothing has changed.
    #[cfg(feature = "explore")]
    pub fn take_up_time(&mut self, options: Options, now: Instant) -> Result<(), ConfigError> {
        self.common.config = Config::new(self.common.config.identity(), options)?;
        self.forget_time(now);
        self.common.restart_election_timer();
        Ok(())
    }

    /// When this member wants to be woken with [`Event::Wake`], at the latest.
    pub fn deadline(&self) -> Instant {
        match &self.role {
            Role::Follower(_) | Role::Candidate(_) => self.common.election_deadline,
            Role::Leader(leader) => leader.deadline(),
            Role::Halted(_) => Instant::NEVER,
        }
    }

    /// The present status. Allocates nothing.
    pub fn status(&self) -> Status {
        let (role, leader) = match &self.role {
            Role::Follower(follower) => (RoleKind::Follower, follower.leader.map(|leader| leader.id)),
            Role::Candidate(Candidate { phase: Phase::PreVote, .. }) => (RoleKind::PreCandidate, None),
            Role::Candidate(Candidate { phase: Phase::Vote { .. }, .. }) => (RoleKind::Candidate, None),
            Role::Leader(_) => (RoleKind::Leader, Some(self.common.id())),
            Role::Halted(_) => (RoleKind::Halted, None),
        };
        let log = &self.common.log;
        let durable = log.term(log.durable()).unwrap_or_default().at(log.durable());
        Status {
            id: self.common.id(),
            role,
            kind: self.common.kind(),
            term: self.common.term(),
            vote: self.common.ballot.vote(),
            leader,
            last: log.last(),
            durable,
            committed: log.committed(),
            applied: log.applied(),
            snapshot: log.snapshot().map_or(LogId::ZERO, |snapshot| snapshot.last),
            configured: log.configured(),
            space: self.space(),
        }
    }

    fn space(&self) -> Space {
        match &self.role {
            Role::Leader(leader) if leader.is_group_full(&self.common) => Space::GroupFull,
            _ if self.common.disk_full => Space::Full,
            _ => Space::Free,
        }
    }

    /// What only a leader knows; `None` on any other member.
    pub fn leader(&self) -> Option<LeaderView<'_>> {
        match &self.role {
            Role::Leader(leader) => Some(LeaderView { leader }),
            _ => None,
        }
    }

    /// The log, from which the host reads the entries to apply.
    pub fn log(&self) -> &Log {
        &self.common.log
    }

    /// The membership in force here: the latest in this member's log, committed or not. Empty on a member
    /// that has not received its group's first membership yet.
    pub fn membership(&self) -> &Membership {
        self.common.membership()
    }

    /// The metadata of a snapshot of everything applied through `index`. The host stores it with the bytes,
    /// and sends it to members that fetch the snapshot. `None` where `index` is not applied, or is older than
    /// the log or the latest snapshot, and on a new member before the first membership in its log: no
    /// snapshot can be taken there.
    pub fn snapshot_at(&self, index: Index) -> Option<Snapshot> {
        let log = &self.common.log;
        let latest = log.snapshot().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        if index > log.applied() || index < latest { None } else { log.snapshot_at(index) }
    }

    /// The configuration of this member.
    pub fn config(&self) -> &Config {
        &self.common.config
    }

    /// Whether the host has said that the disk is full: no new work is taken until it says that there is
    /// space again.
    pub fn is_disk_full(&self) -> bool {
        self.common.disk_full
    }

    /// How many messages were dropped, and why.
    pub fn drops(&self) -> &Drops {
        &self.common.drops
    }

    fn on_message(&mut self, message: &Message, out: &mut Vec<Action>) -> Next {
        let admitted = self.gate(message, out).and_then(|()| self.admit(message));
        if let Err(reason) = admitted {
            self.common.drops.add(reason);
            return Next::Stay;
        }
        let Message { from, ref body, .. } = *message;
        match (&mut self.role, body) {
            (_, Body::PreVote { last }) => voter::on_pre_vote(&mut self.common, from, *last, out),
            (_, Body::RequestVote { last, .. }) => {
                voter::on_request_vote(&mut self.common, from, *last, out);
            }
            (_, Body::StaleIncarnation { incarnation }) => {
                // Unless this member's log or its leader shows that the group has it after all.
                let follows = matches!(&self.role, Role::Follower(follower) if follower.leader == Some(from));
                if !follows && !self.common.membership().contains(self.common.member()) {
                    let (ours, theirs) = (self.common.member().incarnation, *incarnation);
                    return Next::halt(Violation::StaleIncarnation { ours, theirs });
                }
            }
            (_, Body::Outdated | Body::WrongIncarnation) => {}
            (_, Body::RepairRequest { after, through }) => {
                repair::on_repair_request(&mut self.common, from, *after, *through, out);
            }
            (_, Body::RepairSnapshotRequest { last }) => {
                repair::on_repair_snapshot_request(&mut self.common, from, *last, out);
            }
            (_, Body::RepairResponse { slice }) => {
                repair::on_repair_response(&mut self.common, from, slice, out);
            }
            (_, Body::RepairSnapshot { snapshot }) => {
                repair::on_repair_snapshot(&mut self.common, from, snapshot, out);
            }
            (Role::Follower(follower), body) => {
                return follower.on_message(&mut self.common, from, body, out);
            }
            (Role::Candidate(candidate), body) => return candidate.on_message(&mut self.common, from, body),
            (Role::Leader(leader), body) => {
                if body.is_from_leader() {
                    let (term, known) = (self.common.term(), self.common.id());
                    return Next::halt(Violation::TwoLeaders { term, known, other: from.id });
                }
                return leader.on_message(&mut self.common, from, body, out);
            }
            (Role::Halted(_), _) => {}
        }
        Next::Stay
    }

    /// Decides whether a message is handled, and enters its term. The only place where terms are compared.
    fn gate(&mut self, message: &Message, out: &mut Vec<Action>) -> Result<(), DropReason> {
        let Message { cluster, from, to, term, body } = message;
        let me = self.common.config.identity;
        if *cluster != me.cluster {
            return Err(DropReason::OtherCluster);
        }
        if to.id != me.member.id || from.id == me.member.id {
            return Err(DropReason::Misrouted);
        }
        if !message.is_well_formed() {
            return Err(DropReason::Malformed);
        }
        if to.incarnation != me.member.incarnation {
            if !body.is_answer() {
                self.common.send(*from, Body::WrongIncarnation, out);
            }
            return Err(DropReason::OtherIncarnation);
        }
        if let Body::WrongIncarnation = body {
            self.on_wrong_incarnation(message, out);
            return Err(DropReason::OtherIncarnation);
        }
        if self.refuses_elections(body) {
            // Without entering the term: a member that was away must not unseat a leader that others still
            // hear.
            let refusal = match body {
                Body::PreVote { .. } => Body::PreVoted { granted: false },
                _ => Body::Voted { granted: false },
            };
            let refusal = if *term < self.common.term() { Body::Outdated } else { refusal };
            self.common.send(*from, refusal, out);
            return Err(DropReason::LeaderAlive);
        }
        if *term < self.common.term() {
            if body.asks_for_vote() || body.is_from_leader() || body.asks_for_repair() {
                self.common.send(*from, Body::Outdated, out);
            }
            return Err(DropReason::OlderTerm);
        }
        let leader = body.is_from_leader().then_some(*from);
        if *term > self.common.term() {
            // This member asks members alone. A non-member that answers in a later term has left the group,
            // and must not disturb it.
            if body.is_answer() && !self.listens_to(*from, body) {
                return Err(DropReason::Stranger);
            }
            self.common.ballot.enter(*term);
            self.become_(Next::Follow(leader), out);
        } else if leader.is_some() && matches!(self.role, Role::Candidate(_)) {
            self.become_(Next::Follow(leader), out);
        }
        Ok(())
    }

    /// Decides whether a request for repair is answered. A leader knows the membership and may refuse
    /// non-members, and so may a follower that hears a leader. Without a leader every request is answered.
    fn admit(&mut self, message: &Message) -> Result<(), DropReason> {
        if !message.body.asks_for_repair() {
            return Ok(());
        }
        let knows = match &self.role {
            Role::Leader(leader) => leader.peers.iter().all(|peer| peer.member != message.from),
            _ => self.common.has_live_leader(),
        };
        repair::admit(&mut self.common, message.from, knows)
    }

    /// Whether this member takes over the later term of an answer.
    fn listens_to(&self, from: Member, body: &Body) -> bool {
        let membership = self.common.membership();
        membership.contains(from)
            || membership.members().is_empty()
            || matches!(body, Body::StaleIncarnation { .. })
    }

    /// A message of ours has reached another incarnation of its addressee. A leader knows which one is a
    /// member.
    fn on_wrong_incarnation(&mut self, message: &Message, out: &mut Vec<Action>) {
        let from = message.from;
        if let Role::Leader(leader) = &mut self.role {
            match self.common.membership().incarnation(from.id) {
                Some(incarnation) if incarnation != from.incarnation => {
                    self.common.send(from, Body::StaleIncarnation { incarnation }, out);
                }
                _ => leader.forget_former(from.id),
            }
        }
    }

    /// Whether a request for a vote or a pre-vote is refused because a leader is known to be alive (thesis
    /// 4.2.3). Without this a member that cannot hear the leader could unseat it, and pre-votes would be
    /// pointless.
    #[inline]
    fn refuses_elections(&self, body: &Body) -> bool {
        let leads = matches!(self.role, Role::Leader(_));
        let checks_leader =
            || self.common.config.options.check_quorum && (leads || self.common.has_live_leader());
        match body {
            // A leader that does not check its quorum could keep its followers for ever without leading.
            Body::PreVote { .. } => leads || checks_leader(),
            // The leader itself has asked this candidate to take over.
            Body::RequestVote { transfer, .. } => !transfer && checks_leader(),
            _ => false,
        }
    }

    fn on_propose(&mut self, proposals: impl Iterator<Item = Proposal>, out: &mut Vec<Action>) -> Next {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_propose(&mut self.common, proposals, out);
            return Next::Stay;
        }
        let outcome = self.not_leader();
        out.extend(proposals.map(|Proposal { request, .. }| Action::Respond { request, outcome }));
        Next::Stay
    }

    fn not_leader(&self) -> Outcome {
        Outcome::Refused(Refusal::NotLeader { leader: self.status().leader })
    }

    fn on_read(&mut self, read: Read, out: &mut Vec<Action>) {
        match &mut self.role {
            Role::Leader(leader) => leader.on_read(&mut self.common, read, out),
            Role::Follower(follower) => follower.on_read(&mut self.common, read, out),
            Role::Candidate(_) | Role::Halted(_) => {
                out.push(Action::Respond { request: read.request, outcome: self.not_leader() });
            }
        }
    }

    fn on_reconfigure(&mut self, reconfigure: Reconfigure, out: &mut Vec<Action>) -> Next {
        if let Role::Leader(leader) = &mut self.role {
            return leader.on_reconfigure(&mut self.common, reconfigure, out);
        }
        out.push(Action::Respond { request: reconfigure.request, outcome: self.not_leader() });
        Next::Stay
    }

    fn on_cancel_change(&mut self, request: RequestId, out: &mut Vec<Action>) {
        if let Role::Leader(leader) = &mut self.role {
            return leader.on_cancel_change(&self.common, request, out);
        }
        out.push(Action::Respond { request, outcome: self.not_leader() });
    }

    fn on_transfer(&mut self, transfer: Transfer, out: &mut Vec<Action>) {
        if let Role::Leader(leader) = &mut self.role {
            return leader.on_transfer(&self.common, transfer, out);
        }
        out.push(Action::Respond { request: transfer.request, outcome: self.not_leader() });
    }

    /// The host has taken a snapshot. The log keeps a tail for followers that are a little behind, and the
    /// entries that a follower needs after the earlier snapshot that it is being sent.
    fn on_snapshot_taken(&mut self, index: Index) -> Next {
        let Self { common, role } = self;
        if index > common.log.applied() {
            return Next::halt(Violation::UnknownSnapshot(index));
        }
        let latest = common.log.snapshot().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        let Some(snapshot) = common.log.snapshot_at(index).filter(|_| index > latest) else {
            return Next::Stay;
        };
        let Options { retained_entries, retained_bytes, .. } = common.config.options;
        let tail = common.log.tail(index, retained_entries, retained_bytes);
        let needed = match role {
            Role::Leader(leader) => leader.compactable(common),
            _ => Index::MAX,
        };
        common.log.compact(snapshot, tail.min(needed));
        Next::Stay
    }

    /// The memory in use that the options limit.
    pub fn held(&self) -> Held {
        let Common { log, durability, .. } = &self.common;
        let held = Held {
            cached_bytes: log.cached_size(),
            waiting_reads: self.common.waiting_reads(),
            waiting_answers: durability.waiting(),
            ..Held::default()
        };
        match &self.role {
            Role::Leader(leader) => leader.held(held),
            _ => held,
        }
    }

    /// What the log keeps, and why.
    pub fn retention(&self) -> Retention {
        let log = &self.common.log;
        let base = log.base();
        let snapshot = log.snapshot().map_or(base, |snapshot| snapshot.last.index).max(base);
        let Options { retained_entries, retained_bytes, .. } = self.common.config.options;
        let tail = log.tail(snapshot, retained_entries, retained_bytes).max(base);
        let applied = log.applied().max(snapshot);
        Retention {
            fetching: log.span(base, tail),
            tail: log.span(tail, snapshot),
            applied: log.span(snapshot, applied),
            unapplied: log.span(applied, log.last().index),
        }
    }

    fn on_snapshot_fetched(&mut self, snapshot: Snapshot) -> Next {
        // The snapshot that was asked for holds committed entries alone, so a change of leader in the
        // meantime does not matter. A leader has all of them.
        if self.common.fetching.as_ref() != Some(&snapshot) {
            return Next::Stay;
        }
        self.common.fetching = None;
        if let Role::Follower(follower) = &mut self.role {
            return follower.install(&mut self.common, snapshot);
        }
        Next::Stay
    }

    fn on_snapshot_failed(&mut self, last: LogId, out: &mut Vec<Action>) {
        if self.common.fetching.as_ref().is_some_and(|snapshot| snapshot.last == last) {
            self.common.fetching = None;
            if let Role::Follower(follower) = &self.role {
                follower.fetch_failed(&self.common, last, out);
            }
        }
    }

    fn on_entries_loaded(&mut self, loaded: EntriesLoaded, out: &mut Vec<Action>) {
        repair::on_entries_loaded(&mut self.common, &loaded, out);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_entries_loaded(&mut self.common, loaded, out);
        }
    }

    fn on_persisted(&mut self, seq: WriteSeq, out: &mut Vec<Action>) -> Next {
        if seq > self.common.durability.issued() {
            return Next::halt(Violation::UnknownWrite(seq));
        }
        let was_writing = self.common.is_writing_ballot();
        if let Some(through) = self.common.durability.persisted(seq, self.common.now, out) {
            self.common.log.durable_to(through);
        }
        self.common.log.persisted(seq);
        self.review_writes(was_writing, out)
    }

    /// The host has written everything that it was handed, before it comes to the next action.
    fn on_written(&mut self, out: &mut Vec<Action>) -> Next {
        let was_writing = self.common.is_writing_ballot();
        let Common { durability, log, .. } = &mut self.common;
        durability.written(out);
        log.durable_to(log.last().index);
        log.persisted(durability.issued());
        self.review_writes(was_writing, out)
    }

    /// More is durable, and perhaps the ballot that was on its way to the disk.
    fn review_writes(&mut self, was_writing: bool, out: &mut Vec<Action>) -> Next {
        let leaderless =
            matches!(self.role, Role::Follower(Follower { leader: None, .. }) | Role::Candidate(_));
        if was_writing && leaderless && !self.common.is_writing_ballot() {
            self.common.ballot_written();
        }
        match &mut self.role {
            Role::Leader(leader) => leader.on_persisted(&mut self.common, out),
            Role::Candidate(candidate) => candidate.verdict(&self.common),
            Role::Follower(_) | Role::Halted(_) => Next::Stay,
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
        let mut refuse = |request: RequestId| out.push(Action::Respond { request, outcome });
        match event {
            Event::Propose(Proposal { request, .. })
            | Event::Read(Read { request, .. })
            | Event::Reconfigure(Reconfigure { request, .. })
            | Event::CancelChange(request)
            | Event::Transfer(Transfer { request, .. }) => refuse(request),
            Event::ProposeBatch(proposals) => {
                proposals.into_iter().for_each(|Proposal { request, .. }| refuse(request));
            }
            Event::Receive(_) => self.common.drops.add(DropReason::Halted),
            Event::Wake
            | Event::Persisted(_)
            | Event::Applied(_)
            | Event::SnapshotTaken(_)
            | Event::SnapshotFetched(_)
            | Event::SnapshotFailed(_)
            | Event::EntriesLoaded(_)
            | Event::DiskFull(_)
            | Event::PeerUnreachable(_)
            | Event::Shutdown => {}
        }
    }

    /// Carries out what a handler wants this member to become. The only place where a role changes.
    #[inline]
    fn become_(&mut self, next: Next, out: &mut Vec<Action>) {
        // Nearly every step keeps its role, and should not pay for the rest.
        if !matches!(next, Next::Stay) {
            self.change_role(next, out);
        }
    }

    #[cold]
    fn change_role(&mut self, mut next: Next, out: &mut Vec<Action>) {
        while !matches!(next, Next::Stay) {
            let successor = match next {
                Next::Follow(leader) => leader.map(|leader| leader.id),
                _ => None,
            };
            match &mut self.role {
                Role::Leader(leader) => {
                    leader.step_down(&mut self.common, successor, out);
                    self.common.restart_election_timer();
                }
                Role::Follower(follower) => follower.leave(successor, out),
                Role::Candidate(_) | Role::Halted(_) => {}
            }
            (self.role, next) = match next {
                Next::Stay => return,
                Next::Follow(leader) => {
                    (Role::Follower(Follower::new(leader, self.common.log.committed())), Next::Stay)
                }
                Next::Campaign(Phase::PreVote) => {
                    let votes = match &mut self.role {
                        Role::Candidate(candidate) => candidate.take_votes(),
                        _ => Vec::new(),
                    };
                    self.common.restart_election_timer();
                    let candidate = Candidate::ask_beforehand(votes, &self.common, out);
                    let verdict = candidate.verdict(&self.common);
                    (Role::Candidate(candidate), verdict)
                }
                Next::Campaign(Phase::Vote { transfer }) => {
                    let me = self.common.id();
                    self.common.ballot.enter(self.common.term().next());
                    self.common.ballot.cast(me);
                    self.common.begin_campaign();
                    let candidate = Candidate::ask(transfer, &mut self.common);
                    let verdict = candidate.verdict(&self.common);
                    (Role::Candidate(candidate), verdict)
                }
                Next::Lead => {
                    self.common.end_campaigns();
                    let leader = Leader::become_leader(&mut self.common, out);
                    (Role::Leader(Box::new(leader)), Next::Stay)
                }
                Next::Stop => self.end(Refusal::Stopped, out),
                Next::Halt(violation) => {
                    let end = self.end(Refusal::Halted, out);
                    out.push(Action::Halt(*violation));
                    end
                }
            };
        }
    }

    /// Ends this member's part: every waiting request gets its outcome.
    fn end(&mut self, refusal: Refusal, out: &mut Vec<Action>) -> (Role, Next) {
        self.common.refuse_reads(refusal, out);
        self.common.answer_unknown(out);
        (Role::Halted(refusal), Next::Stay)
    }

    /// A leader looks again at the change of the membership that is under way.
    #[inline(always)]
    fn review_change(&mut self, out: &mut Vec<Action>) {
        // Nearly every step has none.
        if let Role::Leader(leader) = &self.role
            && leader.is_changing()
        {
            self.review_that_change(out);
        }
    }

    #[cold]
    fn review_that_change(&mut self, out: &mut Vec<Action>) {
        if let Role::Leader(leader) = &mut self.role {
            let next = leader.review_change(&mut self.common, out);
            self.become_(next, out);
        }
    }

    /// Compares the state with what was last handed out to the disk, and hands out the difference, so that no
    /// handler can forget it. Returns whether there was one.
    #[inline]
    fn write(&mut self, out: &mut Vec<Action>) -> bool {
        if let Role::Halted(_) = self.role {
            return false;
        }
        if self.common.config.options.witness {
            self.common.apply_as_witness();
        }
        let Common { log, durability, ballot, starts, must_write, now, .. } = &mut self.common;
        if !log.has_unwritten() && *ballot == durability.written_ballot() && !*must_write {
            return false;
        }
        *must_write = false;
        let unwritten = log.take_unwritten(durability.next_seq());
        let Unwritten { rebase, truncate_after, repaired, append, replaced_after } = unwritten;
        out.push(Action::Persist(Write {
            seq: durability.issue(*ballot, replaced_after, log.last().index, *now),
            ballot: *ballot,
            starts: *starts,
            truncate_after,
            rebase: rebase.map(Box::new),
            repaired,
            append,
            committed: log.committed(),
        }));
        true
    }

    /// Ends a step in which everything is handed out to the disk: what waited for nothing else leaves, and
    /// the state machine gets what it may apply.
    fn settle(&mut self, out: &mut Vec<Action>) {
        if let Role::Halted(_) = self.role {
            return;
        }
        let Common { config, log, durability, .. } = &mut self.common;
        durability.seal(out);
        // What is named below stays in memory until the next step at least, for the host to read.
        log.evict(config.options.max_cached_bytes);
        while let Some(applicable) = log.take_applicable() {
            let through = applicable.through();
            out.push(match applicable {
                Applicable::Apply(through) => Action::Apply { through },
                Applicable::Restore(snapshot) => Action::Restore(snapshot),
            });
            if !config.options.synchronous_apply {
                break;
            }
            log.applied_to(through);
        }
        self.common.serve_reads(out);
        self.common.answer_unknown(out);
    }

    /// Checks the invariants that hold between any two steps.
    #[cfg(debug_assertions)]
    fn check(&self) {
        let Common { log, durability, ballot, .. } = &self.common;
        if let Role::Halted(_) = self.role {
            return;
        }
        log.check();
        durability.check();
        assert!(log.last().term <= ballot.term(), "an entry of a later term than its log's owner has seen");
        match &self.role {
            Role::Follower(follower) => {
                assert_ne!(follower.leader, Some(self.common.member()), "a member does not follow itself");
                assert!(follower.agreed >= log.committed() && follower.agreed <= log.last().index);
            }
            Role::Candidate(candidate) => {
                assert!(self.common.may_lead(), "only a voter campaigns");
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
            Role::Halted(_) => {}
        }
    }
}

/// What a leader knows of the other members.
#[derive(Clone, Copy, Debug)]
pub struct LeaderView<'a> {
    leader: &'a Leader,
}

impl LeaderView<'_> {
    /// Every other member, in the order of their ids.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = PeerStatus> {
        self.leader.peers.iter().map(|peer| PeerStatus {
            id: peer.member.id,
            matched: peer.matched,
            next: peer.next(),
            flow: match peer.flow {
                Flow::Probe { .. } => FlowKind::Probe,
                Flow::Stream { .. } => FlowKind::Stream,
                Flow::Snapshot { .. } => FlowKind::Snapshot,
            },
            paused: peer.paused,
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
