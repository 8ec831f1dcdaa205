//! A leader takes proposals and replicates them (paper §5.3).

use crate::action::{Action, Outcome, Refusal};
use crate::common::Common;
use crate::event::Proposal;
use crate::log::EntryBody;
use crate::message::Body;
use crate::progress::{Flow, Progress, Window};
use crate::quorum::Tally;
use crate::role::Next;
use crate::status::DropReason;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId, RequestId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    /// Every other member, in the order of their ids.
    pub(crate) peers: Vec<Progress>,
    /// The requests whose entries are not yet committed, in the order of the log.
    pub(crate) proposals: VecDeque<Waiting>,
    /// The size of their entries.
    proposed_size: u64,
    /// The size of what was not committed when it took office; it all commits at once, with the blank entry.
    inherited_size: u64,
    /// When the next heartbeat is due.
    pub(crate) heartbeat_deadline: Instant,
    /// The number of the last heartbeat.
    round: u64,
}

/// A request whose entry waits to be committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Waiting {
    pub(crate) index: Index,
    request: RequestId,
    size: u64,
}

impl Leader {
    /// Takes office: assumes nothing of anybody, and appends a blank entry of its own term, with which everything
    /// before it commits too (thesis 6.4).
    pub(crate) fn take_office(common: &mut Common, out: &mut Vec<Action>) -> Self {
        let last = common.log.last().index;
        let others = common.config.membership.members().into_iter().filter(|&id| id != common.id());
        let mut leader = Self {
            peers: others.map(|id| Progress::new(id, last, common.now)).collect(),
            proposals: VecDeque::new(),
            proposed_size: 0,
            inherited_size: 0,
            heartbeat_deadline: Instant::NEVER,
            round: 0,
        };
        common.log.append(common.term(), EntryBody::Blank);
        leader.inherited_size = common.log.uncommitted_size();
        leader.arm_heartbeat(common);
        leader.replicate_to_all(common, out);
        leader
    }

    /// Leaves office: what is still open may or may not commit.
    pub(crate) fn leave_office(&mut self, out: &mut Vec<Action>) {
        for Waiting { request, .. } in self.proposals.drain(..) {
            out.push(Action::Respond { request, outcome: Outcome::Unknown });
        }
    }

    /// How many bytes wait to be committed; see [`Entry::size`](crate::log::Entry::size).
    pub(crate) fn uncommitted_size(&self) -> u64 {
        self.inherited_size + self.proposed_size
    }

    pub(crate) fn on_message(
        &mut self,
        common: &mut Common,
        from: NodeId,
        body: &Body,
        out: &mut Vec<Action>,
    ) -> Next {
        let Some(position) = self.peers.iter().position(|peer| peer.id == from) else {
            common.drops.add(DropReason::Stranger);
            return Next::Stay;
        };
        self.peers[position].contact = common.now;
        match *body {
            Body::Appended { matched } => self.on_appended(common, position, matched, out),
            Body::Rejected { prev, hint } => self.on_rejected(common, position, prev, hint, out),
            Body::HeartbeatAck { round, received, matched } => {
                self.on_heartbeat_ack(common, position, round, received, matched, out);
            }
            _ => common.drops.add(DropReason::Late),
        }
        Next::Stay
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
            let refusal = if payload.len() as u64 > max {
                Refusal::TooLarge { max }
            } else if self.uncommitted_size() >= common.config.options.max_uncommitted_bytes {
                Refusal::Busy
            } else {
                let body = EntryBody::Data(payload);
                let size = body.size();
                let index = common.log.append(common.term(), body).index;
                self.proposals.push_back(Waiting { index, request, size });
                self.proposed_size += size;
                continue;
            };
            out.push(Action::Respond { request, outcome: Outcome::Refused(refusal) });
        }
        self.replicate_to_all(common, out);
    }

    /// The leader's own disk has moved: it counts itself like any other member.
    pub(crate) fn on_persisted(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        self.advance_commit(common, out);
    }

    /// A heartbeat is due, if anybody still follows: a leader that has lost its quorum or its disk steps down.
    pub(crate) fn on_deadline(&mut self, common: &mut Common, out: &mut Vec<Action>) -> Next {
        if common.disk_stalls() || (common.config.options.check_quorum && !self.has_quorum(common)) {
            return Next::Follow(None);
        }
        self.round += 1;
        for peer in &mut self.peers {
            peer.sent_at_heartbeat = peer.next().prev().unwrap_or_default();
            peer.told_commit = common.log.committed().min(peer.matched);
            common.send(peer.id, Body::Heartbeat { round: self.round, commit: peer.told_commit }, out);
        }
        self.arm_heartbeat(common);
        Next::Stay
    }

    fn on_appended(&mut self, common: &mut Common, position: usize, matched: Index, out: &mut Vec<Action>) {
        if matched > common.log.last().index {
            return common.drops.add(DropReason::NeverSent);
        }
        let news = self.peers[position].acknowledge(matched);
        if news && matched > common.log.committed() {
            self.advance_commit(common, out);
        }
        self.replicate(common, position, out);
    }

    fn on_rejected(
        &mut self,
        common: &mut Common,
        position: usize,
        prev: Index,
        hint: LogId,
        out: &mut Vec<Action>,
    ) {
        let peer = &mut self.peers[position];
        let shared = common.log.last_shared(hint).index;
        if !peer.is_current_rejection(prev) || shared >= prev {
            return common.drops.add(DropReason::Late);
        }
        peer.probe_after(shared);
        self.replicate(common, position, out);
    }

    fn on_heartbeat_ack(
        &mut self,
        common: &mut Common,
        position: usize,
        round: u64,
        received: Index,
        matched: Index,
        out: &mut Vec<Action>,
    ) {
        if received > common.log.last().index {
            return common.drops.add(DropReason::NeverSent);
        }
        let peer = &mut self.peers[position];
        if round == self.round {
            peer.heartbeat_answered(received);
        }
        let news = matched > peer.matched && peer.acknowledge(matched);
        if news && matched > common.log.committed() {
            self.advance_commit(common, out);
        }
        self.replicate(common, position, out);
    }

    /// Commits through the greatest index that a quorum has on disk, if its entry is of this leader's own term:
    /// entries of earlier terms commit only along with it (paper §5.4.2, figure 8).
    fn advance_commit(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        let own = common.log.durable();
        let id = common.id();
        let matched = |member| {
            if member == id {
                return own;
            }
            self.peers.iter().find(|peer| peer.id == member).map_or(Index::ZERO, |peer| peer.matched)
        };
        let committed = common.log.committed();
        let reached = common.config.membership.reached_beyond(committed, matched);
        if reached == committed || common.log.term(reached) != Some(common.term()) {
            return;
        }
        common.log.commit_to(reached);
        self.inherited_size = 0;
        while let Some(&Waiting { index, request, size }) = self.proposals.front()
            && index <= reached
        {
            self.proposals.pop_front();
            self.proposed_size -= size;
            let outcome = Outcome::Committed(LogId { term: common.term(), index });
            out.push(Action::Respond { request, outcome });
        }
        self.replicate_to_all(common, out);
    }

    fn replicate_to_all(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        for position in 0..self.peers.len() {
            self.replicate(common, position, out);
        }
    }

    /// Sends a follower what it lacks, as far as its window allows, and tells it of commits that it could make.
    fn replicate(&mut self, common: &mut Common, position: usize, out: &mut Vec<Action>) {
        let peer = &mut self.peers[position];
        let last = common.log.last().index;
        let options = &common.config.options;
        let window = Window { messages: options.max_in_flight_messages, bytes: options.max_in_flight_bytes };
        let max_bytes = options.max_append_bytes;
        while peer.may_send(last, window) {
            let after = peer.next().prev().unwrap_or_default();
            let term =
                common.log.term(after).expect("a leader's log reaches back to what its followers need");
            let (slice, size) = common.log.slice(LogId { term, index: after }, max_bytes);
            let through = slice.last().index;
            let commit = common.log.committed();
            common.send(peer.id, Body::Append { slice, commit }, out);
            peer.sent_through(through, size);
            if matches!(peer.flow, Flow::Stream { .. }) {
                peer.told_commit = peer.told_commit.max(commit.min(through));
            }
        }
        let commit = common.log.committed().min(peer.matched);
        if commit > peer.told_commit {
            peer.told_commit = commit;
            common.send(peer.id, Body::Commit { commit }, out);
        }
    }

    /// Whether a quorum was heard from within an election timeout, the leader being one of them. Learners do not count.
    fn has_quorum(&self, common: &Common) -> bool {
        let timeout = common.config.timing.election_max;
        let heard = |member| {
            let heard = |peer: &Progress| peer.id == member && common.now - peer.contact < timeout;
            (member == common.id() || self.peers.iter().any(heard)).then_some(true)
        };
        common.config.membership.tally(heard) == Tally::Won
    }

    fn arm_heartbeat(&mut self, common: &Common) {
        self.heartbeat_deadline =
            if self.peers.is_empty() { Instant::NEVER } else { common.now + common.config.timing.heartbeat };
    }
}
