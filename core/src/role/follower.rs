//! A follower takes entries from its leader (paper §5.3).

use crate::action::{Action, Outcome, Refusal, Violation};
use crate::common::{Common, ConfirmedRead};
use crate::event::Read;
use crate::log::{Entry, EntryBody, LogSlice, Snapshot};
use crate::membership::{MemberKind, Membership};
use crate::message::{Body, ReadContext};
use crate::repair;
use crate::role::{Next, Phase};
use crate::status::{DropReason, PauseReason};
use crate::time::Instant;
use crate::types::{Index, LogId, Member, NodeId, RequestId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Follower {
    /// The leader of this term, once it has been heard.
    pub(crate) leader: Option<Member>,
    /// The log agrees with this leader's through here: what this leader confirmed, and what is committed
    /// anyway.
    pub(crate) agreed: Index,
    /// The latest heartbeat of this leader.
    round: u64,
    /// Why this leader was asked to send no entries, until it is told otherwise.
    paused: Option<PauseReason>,
    questions: Questions,
}

/// Reads that wait for the leader to say what they must see.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
struct Questions {
    /// Each read with the question that covers it: the first that is asked after the read came.
    reads: VecDeque<(u64, RequestId)>,
    /// When the last question was asked, while it waits for its answer.
    open: Option<Instant>,
}

impl Follower {
    pub(crate) fn new(leader: Option<Member>, committed: Index) -> Self {
        Self { leader, agreed: committed, round: 0, paused: None, questions: Questions::default() }
    }

    #[cfg(feature = "explore")]
    pub(crate) fn forget_time(&mut self, now: Instant) {
        self.questions.open = self.questions.open.map(|_| now);
    }

    /// Leaves this leader or this term: what was asked will not be answered.
    pub(crate) fn leave(&mut self, leader: Option<NodeId>, out: &mut Vec<Action>) {
        let outcome = Outcome::Refused(Refusal::NotLeader { leader });
        out.extend(self.questions.reads.drain(..).map(|(_, request)| Action::Respond { request, outcome }));
    }

    pub(crate) fn on_message(
        &mut self,
        common: &mut Common,
        from: Member,
        body: &Body,
        out: &mut Vec<Action>,
    ) -> Next {
        if body.is_from_leader() {
            match self.leader {
                Some(known) if known != from => {
                    let (known, other) = (known.id, from.id);
                    return Next::halt(Violation::TwoLeaders { term: common.term(), known, other });
                }
                _ => self.leader = Some(from),
            }
            common.heard_from_leader();
            repair::ask(common, [from], out);
        }
        match *body {
            Body::Append { ref slice, commit } => self.on_append(common, from, slice, commit, out),
            Body::Heartbeat { round, commit } => {
                self.commit_to(common, commit);
                self.round = self.round.max(round);
                self.paused = common.pause(self.paused);
                self.answer_heartbeat(common, from, round, out);
                self.ask_again(common, from);
                Next::Stay
            }
            Body::Commit { commit } => {
                self.commit_to(common, commit);
                Next::Stay
            }
            Body::TimeoutNow { last } => Self::on_timeout_now(common, last),
            Body::OfferSnapshot { ref snapshot } => self.on_offer(common, from, snapshot, out),
            Body::ReadIndexIs { context, index } => {
                self.on_read_index(common, from, context, index);
                Next::Stay
            }
            // Answers to a leader or a candidate, or handled before the role is asked.
            Body::PreVote { .. }
            | Body::PreVoted { .. }
            | Body::RequestVote { .. }
            | Body::Voted { .. }
            | Body::Appended { .. }
            | Body::Rejected { .. }
            | Body::HeartbeatAck { .. }
            | Body::SnapshotUnavailable { .. }
            | Body::ReadIndex { .. }
            | Body::WrongIncarnation
            | Body::StaleIncarnation { .. }
            | Body::Outdated
            | Body::RepairRequest { .. }
            | Body::RepairSnapshotRequest { .. }
            | Body::RepairResponse { .. }
            | Body::RepairSnapshot { .. }
            | Body::Pause { .. } => {
                common.drops.add(DropReason::Late);
                Next::Stay
            }
        }
    }

    /// Says how far the log agrees with the leader's, and whether more entries are taken.
    fn answer_heartbeat(&self, common: &mut Common, leader: Member, round: u64, out: &mut Vec<Action>) {
        let received = self.agreed;
        let matched = self.durably_agreed(common);
        let body = match self.paused {
            None => Body::HeartbeatAck { round, received, matched },
            Some(reason) => Body::Pause { round, received, matched, last: common.log.last(), reason },
        };
        common.send(leader, body, out);
    }

    /// Tells a leader that was asked to pause as soon as entries are taken again: it need not wait for the
    /// next heartbeat.
    #[inline]
    pub(crate) fn review_pause(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        // Nearly every step has none.
        if self.paused.is_some() {
            self.paused = common.pause(self.paused);
            if self.paused.is_none()
                && let Some(leader) = self.leader
            {
                self.answer_heartbeat(common, leader, self.round, out);
            }
        }
    }

    fn on_append(
        &mut self,
        common: &mut Common,
        from: Member,
        slice: &LogSlice,
        commit: Index,
        out: &mut Vec<Action>,
    ) -> Next {
        let prev = slice.prev();
        if common.is_blank() {
            // How the group began stands in no entry: the leader's snapshot says it.
            common.send(from, Body::Rejected { prev: prev.index, hint: LogId::ZERO }, out);
            return Next::Stay;
        }
        if prev.index < common.log.base() {
            // Older than our log reaches back, and so committed: a late message. Say how far we are.
            common.acknowledge(from, self.agreed);
            return Next::Stay;
        }
        if slice.last().index > common.log.last().index
            && let Some(reason) = common.takes_no_more()
        {
            // Also where something before it is missing: a leader that does not understand pauses would send
            // it all again at once.
            common.drops.add(reason.into());
            if self.paused.is_none() {
                self.paused = Some(reason);
                self.answer_heartbeat(common, from, self.round, out);
            }
            return Next::Stay;
        }
        if !common.log.contains(prev) {
            let hint = common.log.conflict_hint(prev);
            common.send(from, Body::Rejected { prev: prev.index, hint }, out);
            return Next::Stay;
        }
        if let Some(violation) = slice.entries().iter().find_map(|entry| wrong_member_kind(common, entry)) {
            return Next::halt(violation);
        }
        let matched = match common.log.adopt(slice, self.agreed) {
            Ok(matched) => matched,
            Err(contradiction) => {
                let (ours, theirs) = (contradiction.ours, contradiction.theirs);
                return Next::halt(Violation::AgreedEntryContradicted { ours, theirs });
            }
        };
        self.agreed = self.agreed.max(matched);
        self.commit_to(common, commit);
        common.acknowledge(from, matched);
        Next::Stay
    }

    /// The leader asks this member to take over (thesis 3.10). It does so only if it has all of the leader's
    /// log, could lead, and has space on its disk.
    fn on_timeout_now(common: &mut Common, last: LogId) -> Next {
        let able = common.kind() == MemberKind::Voter
            && common.log.is_whole()
            && !common.disk_stalls()
            && !common.disk_full;
        if !able || common.log.last() < last {
            common.drops.add(DropReason::Late);
            return Next::Stay;
        }
        Next::Campaign(Phase::Vote { transfer: true })
    }

    /// The leader has compacted the entries that this member lacks, and offers its snapshot. A witness adopts
    /// it at once, since it needs no bytes; any other member fetches the bytes first.
    fn on_offer(
        &mut self,
        common: &mut Common,
        from: Member,
        snapshot: &Snapshot,
        out: &mut Vec<Action>,
    ) -> Next {
        let last = snapshot.last;
        if let Some(violation) = wrong_in(common, &snapshot.membership) {
            return Next::halt(violation);
        }
        if common.is_blank() && last == LogId::ZERO {
            common.log.begin(snapshot.clone());
        }
        if common.log.contains(last) {
            // A snapshot holds only what is committed.
            common.log.commit_to(last.index);
            self.agreed = self.agreed.max(last.index);
        }
        let has = last.index <= common.log.committed() && last.index <= common.log.held();
        if has {
            common.acknowledge(from, self.agreed);
        } else if common.config.options.witness {
            return self.install(common, snapshot.clone());
        } else if common.fetching.as_ref().is_none_or(|fetching| is_better(snapshot, fetching)) {
            common.fetching = Some(snapshot.clone());
            out.push(Action::FetchSnapshot { from: from.id, snapshot: snapshot.clone() });
        }
        Next::Stay
    }

    /// The bytes of a snapshot are here: it takes the place of the log, unless that has got as far by other
    /// means. What the log agreed upon with this leader, or committed, cannot be another than the snapshot's:
    /// both hold what is committed.
    pub(crate) fn install(&mut self, common: &mut Common, snapshot: Snapshot) -> Next {
        let last = snapshot.last.index;
        if let Some(term) = common.log.term(last)
            && term != snapshot.last.term
            && last <= self.agreed
        {
            let (ours, theirs) = (LogId { term, index: last }, snapshot.last);
            return Next::halt(Violation::AgreedEntryContradicted { ours, theirs });
        }
        if common.log.contains(snapshot.last) && common.log.held() < last {
            common.log.rest_on(snapshot);
        } else if common.log.contains(snapshot.last) {
            common.log.commit_to(last);
        } else if last > common.log.committed() {
            common.log.install(snapshot);
        }
        self.agreed = self.agreed.max(common.log.committed());
        if let Some(leader) = self.leader {
            common.acknowledge(leader, last);
        }
        Next::Stay
    }

    /// The bytes of a snapshot cannot be had.
    pub(crate) fn fetch_failed(&self, common: &Common, last: LogId, out: &mut Vec<Action>) {
        if let Some(leader) = self.leader {
            common.send(leader, Body::SnapshotUnavailable { last }, out);
        }
    }

    /// Asks the leader what a read must see.
    pub(crate) fn on_read(&mut self, common: &mut Common, read: Read, out: &mut Vec<Action>) {
        let request = read.request;
        let refusal = match self.leader {
            None => Refusal::NotLeader { leader: None },
            // A witness has nothing to read from.
            Some(leader) if common.config.options.witness => Refusal::NotLeader { leader: Some(leader.id) },
            Some(_)
                if self.questions.reads.len() + common.waiting_reads()
                    >= common.config.options.max_waiting_reads =>
            {
                Refusal::Busy
            }
            Some(leader) => {
                self.questions.reads.push_back((common.asked + 1, request));
                if self.questions.open.is_none() {
                    self.ask(common, leader);
                }
                return;
            }
        };
        out.push(Action::Respond { request, outcome: Outcome::Refused(refusal) });
    }

    /// Asks once more: the answer will do for every read that waits. The question leaves once it is on the
    /// disk in which life of this member it is asked.
    fn ask(&mut self, common: &mut Common, leader: Member) {
        self.questions.open = Some(common.now);
        common.asked += 1;
        common.record_start();
        let context = ReadContext { start: common.starts, number: common.asked };
        common.send_once_durable(leader, Body::ReadIndex { context });
    }

    /// A heartbeat has come: a question that has waited for as long as one takes may be lost. One that is
    /// younger has perhaps brought about this very heartbeat, by which the leader asks whether it still
    /// leads.
    fn ask_again(&mut self, common: &mut Common, leader: Member) {
        let overdue = |asked| common.now - asked >= common.config.timing.heartbeat;
        let waits = !self.questions.reads.is_empty() && !common.durability.withholds_question();
        if self.questions.open.is_some_and(overdue) && waits {
            self.ask(common, leader);
        }
    }

    fn on_read_index(&mut self, common: &mut Common, from: Member, context: ReadContext, index: Index) {
        let questions = &mut self.questions;
        if context.start != common.starts || context.number > common.asked || self.leader != Some(from) {
            return common.drops.add(DropReason::Late);
        }
        while let Some(&(number, request)) = questions.reads.front()
            && number <= context.number
        {
            questions.reads.pop_front();
            common.confirm_read(ConfirmedRead { request, index, until: None });
        }
        if context.number == common.asked {
            questions.open = None;
        }
        if questions.open.is_none() && !questions.reads.is_empty() {
            self.ask(common, from);
        }
    }

    /// How far the log agrees with the leader's on this disk, for good. Nothing before the leader's term is
    /// on the disk too: a crash could take this member back to an earlier term, whose leader may still change
    /// what agreed.
    fn durably_agreed(&self, common: &Common) -> Index {
        if common.durability.durable_ballot().term() < common.term() {
            return Index::ZERO;
        }
        self.agreed.min(common.log.durable()).min(common.log.held())
    }

    /// Commits what the leader says, as far as our log is known to agree with the leader's: a heartbeat may
    /// overtake the entries it speaks of.
    fn commit_to(&self, common: &mut Common, commit: Index) {
        common.log.commit_to(commit.min(self.agreed));
    }

    /// The connection to `peer` broke. Only a hint, so it leads to no more than a pre-vote.
    pub(crate) fn on_unreachable(&mut self, common: &mut Common, peer: NodeId, out: &mut Vec<Action>) {
        if self.leader.is_some_and(|leader| leader.id == peer) && common.config.options.pre_vote {
            self.leader = None;
            self.leave(None, out);
            self.questions.open = None;
            common.leader_unreachable();
        }
    }
}

/// Whether a snapshot is worth giving up the fetch of another. One that reaches further than what the leader
/// offers will do as well, and some of it is here: it is gone on with for as long as it can be had.
fn is_better(offered: &Snapshot, fetching: &Snapshot) -> bool {
    offered != fetching && offered.last.index >= fetching.last.index
}

/// Whether an entry shows that the group takes this member for a witness, or for none, and is wrong.
fn wrong_member_kind(common: &Common, entry: &Entry) -> Option<Violation> {
    match &entry.body {
        EntryBody::Config(membership) => wrong_in(common, membership),
        EntryBody::Withheld if !common.config.options.witness => {
            Some(Violation::WrongMemberKind { witness: true })
        }
        _ => None,
    }
}

fn wrong_in(common: &Common, membership: &Membership) -> Option<Violation> {
    let witness = membership.is_witness(common.id());
    let wrong = membership.contains(common.member()) && witness != common.config.options.witness;
    wrong.then_some(Violation::WrongMemberKind { witness })
}

/// The election timeout has passed without a leader. A member waits on if it cannot lead, has no working
/// disk, or is still writing its ballot.
pub(crate) fn on_election_deadline(common: &mut Common, out: &mut Vec<Action>) -> Next {
    if !common.may_lead() || common.disk_stalls() || common.is_writing_ballot() {
        common.rearm_election_timer();
        repair::ask_all(common, out);
        // The leader is gone, or this member has left the group: it may never apply anything more.
        common.refuse_reads(Refusal::NotLeader { leader: None }, out);
        return Next::Follow(None);
    }
    Next::Campaign(if common.config.options.pre_vote {
        Phase::PreVote
    } else {
        Phase::Vote { transfer: false }
    })
}
