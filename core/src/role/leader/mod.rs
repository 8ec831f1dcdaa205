//! A leader takes proposals and replicates them (paper §5.3).
//!
//! Its parts: what goes to whom ([`replication`]), what readers must see ([`reads`]), who belongs to the
//! group ([`change`]), handing over ([`transfer`]), and how far witnesses may be ahead of others
//! ([`witnesses`]).

mod change;
mod reads;
mod replication;
mod state;
mod transfer;
mod witnesses;

pub(crate) use state::{Leader, Waiting};

use crate::action::{Action, Outcome, Refusal};
use crate::common::Common;
use crate::event::Proposal;
use crate::log::EntryBody;
use crate::membership::MemberKind;
use crate::message::Body;
use crate::progress::Progress;
use crate::quorum::Tally;
use crate::role::Next;
use crate::status::{DropReason, Held};
use crate::time::Instant;
use crate::types::{LogId, Member, NodeId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replication::Pause;
use state::reads::Reads;

impl Leader {
    /// Begins to lead: resets the progress of every peer and appends a blank entry of its own term, which
    /// commits everything before it too (thesis 6.4).
    pub(crate) fn become_leader(common: &mut Common, out: &mut Vec<Action>) -> Self {
        let last = common.log.last().index;
        let others = common.membership().members().iter().filter(|&&member| member != common.member());
        let mut leader = Self {
            term: common.term(),
            peers: others.map(|&member| Progress::new(member, last, common.now)).collect(),
            proposals: VecDeque::new(),
            proposed_size: 0,
            inherited_size: 0,
            change_size: 0,
            first: last.next(),
            committing_since: common.now,
            heartbeat_deadline: Instant::NEVER,
            round: 0,
            reads: Reads::default(),
            change: None,
            transfer: None,
            settled: None,
            resigned: false,
        };
        common.log.append(common.term(), EntryBody::Blank);
        leader.inherited_size = common.log.uncommitted_size();
        leader.arm_heartbeat(common);
        leader.replicate_to_all(common, out);
        leader
    }

    /// Peers count as heard from just now, whenever that is: this leader does not step down for want of a
    /// quorum.
    #[cfg(feature = "explore")]
    pub(crate) fn forget_contacts(&mut self) {
        self.committing_since = Instant::NEVER;
        self.peers.iter_mut().for_each(|peer| peer.contact = Instant::NEVER);
    }

    #[cfg(feature = "explore")]
    pub(crate) fn forget_time(&mut self, common: &Common) {
        self.committing_since = common.now;
        self.arm_heartbeat(common);
        self.peers.iter_mut().for_each(|peer| peer.forget_time(common.now));
        self.reads.forget_time();
        if let Some(change) = &mut self.change {
            change.forget_time(common);
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.forget_time(common);
        }
    }

    /// Leaves office: what is still open may or may not commit, and what was only asked was not done.
    pub(crate) fn step_down(
        &mut self,
        common: &mut Common,
        successor: Option<NodeId>,
        out: &mut Vec<Action>,
    ) {
        let term = self.term;
        for Waiting { index, request, .. } in self.proposals.drain(..) {
            common.step_down_with(LogId { term, index }, request);
        }
        common.extend_vote_lock(self.reads.leased_until());
        let not_leader = Outcome::Refused(Refusal::NotLeader { leader: successor });
        for request in self.reads.drain() {
            out.push(Action::Respond { request, outcome: not_leader });
        }
        if let Some(change) = self.change.take() {
            let outcome = if change.has_begun() { Outcome::Unknown } else { not_leader };
            out.push(Action::Respond { request: change.request(), outcome });
        }
        if let Some(transfer) = self.transfer.take() {
            out.push(Action::Respond { request: transfer.request(), outcome: Outcome::Transferred });
        }
    }

    /// Adds what a leader holds.
    pub(crate) fn held(&self, held: Held) -> Held {
        let most = |of: fn(&Progress) -> u64| self.peers.iter().map(of).max().unwrap_or(0);
        Held {
            in_flight_messages: most(|peer| peer.in_flight() as u64),
            in_flight_bytes: most(Progress::in_flight_bytes),
            uncommitted_bytes: self.uncommitted_size(),
            waiting_reads: held.waiting_reads + self.reads.waiting(),
            ..held
        }
    }

    pub(crate) fn on_message(
        &mut self,
        common: &mut Common,
        from: Member,
        body: &Body,
        out: &mut Vec<Action>,
    ) -> Next {
        let Some(position) = self.peers.iter().position(|peer| peer.member == from) else {
            let known = self.peers.iter().any(|peer| peer.member.id == from.id);
            common.drops.add(if known { DropReason::OtherIncarnation } else { DropReason::Stranger });
            return Next::Stay;
        };
        self.peers[position].contact = common.now;
        match *body {
            Body::Appended { matched } => self.on_appended(common, position, matched, out),
            Body::Rejected { prev, hint } => self.on_rejected(common, position, prev, hint, out),
            Body::HeartbeatAck { round, received, matched } => {
                self.on_heartbeat_ack(common, position, round, received, matched, out);
            }
            Body::Pause { round, received, matched, last, reason } => {
                self.on_pause(common, position, Pause { round, received, matched, last, reason }, out);
            }
            Body::SnapshotUnavailable { last } => self.on_snapshot_unavailable(common, position, last, out),
            Body::ReadIndex { context } => self.on_read_index(common, from, context, out),
            // Of leaders, of candidates, or handled before the role is asked.
            Body::PreVote { .. }
            | Body::PreVoted { .. }
            | Body::RequestVote { .. }
            | Body::Voted { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::TimeoutNow { .. }
            | Body::OfferSnapshot { .. }
            | Body::ReadIndexIs { .. }
            | Body::WrongIncarnation
            | Body::StaleIncarnation { .. }
            | Body::Outdated
            | Body::RepairRequest { .. }
            | Body::RepairSnapshotRequest { .. }
            | Body::RepairResponse { .. }
            | Body::RepairSnapshot { .. } => common.drops.add(DropReason::Late),
        }
        self.next()
    }

    /// Appends what may be appended, answers the rest at once, and sends what is new.
    pub(crate) fn on_propose(
        &mut self,
        common: &mut Common,
        proposals: impl Iterator<Item = Proposal>,
        out: &mut Vec<Action>,
    ) {
        for Proposal { request, payload } in proposals {
            let max = common.config.options.max_payload_bytes;
            let refusal = if let Some(transfer) = &self.transfer {
                Refusal::Transferring { to: transfer.to() }
            } else if payload.len() as u64 > max {
                Refusal::TooLarge { max }
            } else if common.disk_full {
                Refusal::DiskFull
            } else if self.uncommitted_size() >= common.config.options.max_uncommitted_bytes
                || common.is_backlogged()
            {
                Refusal::Busy
            } else {
                let body = EntryBody::Data(payload);
                let size = body.size();
                let index = self.append(common, body).index;
                self.proposals.push_back(Waiting { index, request, size });
                self.proposed_size += size;
                continue;
            };
            out.push(Action::Respond { request, outcome: Outcome::Refused(refusal) });
        }
        self.replicate_to_all(common, out);
    }

    /// Appends an entry of this term. A leader's log grows in no other way.
    fn append(&mut self, common: &mut Common, body: EntryBody) -> LogId {
        if common.log.committed() == common.log.last().index {
            self.committing_since = common.now;
        }
        common.log.append(common.term(), body)
    }

    /// The leader's own disk has moved: it counts itself like any other member.
    pub(crate) fn on_persisted(&mut self, common: &mut Common, out: &mut Vec<Action>) -> Next {
        self.advance_commit(common, out);
        self.next()
    }

    /// Sends the heartbeat that is due. A leader that has lost its quorum or its disk steps down instead.
    pub(crate) fn on_deadline(&mut self, common: &mut Common, out: &mut Vec<Action>) -> Next {
        if common.now < self.heartbeat_deadline {
            return Next::Stay;
        }
        if common.disk_stalls() || (common.config.options.check_quorum && !self.has_quorum(common)) {
            return Next::Follow(None);
        }
        self.let_go(common);
        self.beat(common, out);
        for peer in &mut self.peers {
            peer.watch(self.round);
        }
        self.offer_again(common, out);
        if !common.membership().witnesses().is_empty() {
            self.replicate_to_all(common, out);
        }
        self.pursue_transfer(common, out);
        if common.disk_full {
            self.hand_over_when_full(common, out);
        }
        self.arm_heartbeat(common);
        self.next()
    }

    /// The host is about to stop this member: a voter that has the whole log may take over at once.
    pub(crate) fn transfer_on_shutdown(&mut self, common: &Common, out: &mut Vec<Action>) {
        if common.now >= self.reads.leased_until()
            && let Some(best) = self.best_successor(common)
            && best.matched == common.log.last().index
            && !best.is_full()
        {
            common.send(best.member, Body::TimeoutNow { last: common.log.last() }, out);
        }
    }

    /// The disk is full: the voters that have everything, and space, are bidden in turn to take over, each
    /// with the time of an election. One that speaks an older version does not say that its disk is full as
    /// well, and does not take over; where there is no other, this member leads on and refuses new work.
    fn hand_over_when_full(&mut self, common: &Common, out: &mut Vec<Action>) {
        let timing = &common.config.timing;
        let last = common.log.last();
        let able = |peer: &&Progress| {
            common.membership().kind(peer.member) == MemberKind::Voter
                && common.now - peer.contact < timing.election_max
                && peer.has_answered()
                && !peer.is_full()
                && peer.matched == last.index
        };
        let count = self.peers.iter().filter(able).count() as u64;
        if count == 0 || self.transfer.is_some() {
            return;
        }
        self.reads.end_leases();
        let rounds = (timing.election_max.get() / timing.heartbeat.get()).max(1);
        if common.now < self.reads.leased_until() || !self.round.is_multiple_of(rounds) {
            return;
        }
        let turn = (self.round / rounds) % count;
        let chosen = self.peers.iter().filter(able).zip(0..).find(|(_, number)| *number == turn);
        if let Some((peer, _)) = chosen {
            common.send(peer.member, Body::TimeoutNow { last }, out);
        }
    }

    /// Whether so many voters have no space on their disks that the others are no majority.
    pub(crate) fn is_group_full(&self, common: &Common) -> bool {
        if !common.disk_full && !self.peers.iter().any(Progress::is_full) {
            return false;
        }
        let has_space = |member| {
            let full = if member == common.id() {
                common.disk_full
            } else {
                self.peer(member).is_some_and(Progress::is_full)
            };
            Some(!full)
        };
        common.membership().tally(has_space) != Tally::Won
    }

    /// Commits what can be committed, and does whatever had to wait for that. Returns whether anything was,
    /// and all peers were sent what is new.
    fn advance_commit(&mut self, common: &mut Common, out: &mut Vec<Action>) -> bool {
        let before = (common.log.committed(), common.log.last());
        loop {
            self.commit_reached(common, out);
            if !self.go_on_with_change(common, out) {
                break;
            }
        }
        let advanced = before != (common.log.committed(), common.log.last());
        if advanced {
            self.replicate_to_all(common, out);
            self.answer_reads(common, out);
        }
        if self.resigned {
            self.transfer_on_shutdown(common, out);
        }
        advanced
    }

    /// Commits through the greatest index that a quorum has on disk, if its entry is of this leader's own
    /// term: entries of earlier terms commit only along with it (paper §5.4.2, figure 8). The leader counts
    /// itself like any other member, so not at all where it is none any more.
    fn commit_reached(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        let own = common.log.durable();
        let matched = self.of_each(common.id(), own, |peer| peer.matched);
        let committed = common.log.committed();
        let reached = common.membership().reached_beyond(committed, matched);
        if reached == committed || common.log.term(reached) != Some(common.term()) {
            return;
        }
        common.log.commit_to(reached);
        self.committing_since = common.now;
        self.inherited_size = 0;
        if common.log.configured().index <= reached {
            self.change_size = 0;
        }
        while let Some(&Waiting { index, request, size }) = self.proposals.front()
            && index <= reached
        {
            self.proposals.pop_front();
            self.proposed_size -= size;
            let outcome = Outcome::Committed(LogId { term: common.term(), index });
            out.push(Action::Respond { request, outcome });
        }
    }

    /// Sends a heartbeat to every peer. The answers confirm that this member still leads.
    fn beat(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        self.round += 1;
        if common.config.options.lease_reads {
            self.reads.round_sent(self.round, common.now);
        }
        for peer in &mut self.peers {
            peer.told_commit = common.log.committed().min(peer.matched);
            common.send(peer.member, Body::Heartbeat { round: self.round, commit: peer.told_commit }, out);
        }
    }

    /// Whether a quorum was heard from within an election timeout, the leader being one of them. Learners do
    /// not count.
    fn has_quorum(&self, common: &Common) -> bool {
        let heard = |member| {
            let recent = |peer: &Progress| self.is_heard(common, peer);
            (member == common.id() || self.peer(member).is_some_and(recent)).then_some(true)
        };
        common.membership().tally(heard) == Tally::Won
    }

    /// When there is something to do although nothing happens.
    pub(crate) fn deadline(&self) -> Instant {
        self.heartbeat_deadline.min(self.change_deadline())
    }

    fn arm_heartbeat(&mut self, common: &Common) {
        self.heartbeat_deadline =
            if self.peers.is_empty() { Instant::NEVER } else { common.now + common.config.timing.heartbeat };
    }
}
