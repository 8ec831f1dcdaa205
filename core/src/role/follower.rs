//! A follower takes entries from its leader (paper §5.3).

use crate::action::{Action, Violation};
use crate::common::Common;
use crate::log::LogSlice;
use crate::message::Body;
use crate::role::{Next, Phase};
use crate::status::DropReason;
use crate::types::{Index, NodeId};
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Follower {
    /// The leader of this term, once it has been heard.
    pub(crate) leader: Option<NodeId>,
    /// The log agrees with this leader's through here: what this leader confirmed, and what is committed anyway.
    pub(crate) agreed: Index,
}

impl Follower {
    pub(crate) fn new(leader: Option<NodeId>, committed: Index) -> Self {
        Self { leader, agreed: committed }
    }

    pub(crate) fn on_message(
        &mut self,
        common: &mut Common,
        from: NodeId,
        body: &Body,
        out: &mut Vec<Action>,
    ) -> Next {
        if body.is_from_leader() {
            match self.leader {
                Some(known) if known != from => {
                    return Next::halt(Violation::TwoLeaders { term: common.term(), known, other: from });
                }
                _ => self.leader = Some(from),
            }
            common.heard_from_leader();
        }
        match *body {
            Body::Append { ref slice, commit } => self.on_append(common, from, slice, commit, out),
            Body::Heartbeat { round, commit } => {
                self.commit_to(common, commit);
                let matched = self.durably_agreed(common);
                common.send(from, Body::HeartbeatAck { round, received: self.agreed, matched }, out);
                Next::Stay
            }
            Body::Commit { commit } => {
                self.commit_to(common, commit);
                Next::Stay
            }
            _ => {
                common.drops.add(DropReason::Late);
                Next::Stay
            }
        }
    }

    fn on_append(
        &mut self,
        common: &mut Common,
        from: NodeId,
        slice: &LogSlice,
        commit: Index,
        out: &mut Vec<Action>,
    ) -> Next {
        let prev = slice.prev();
        if prev.index < common.log.base() {
            // Older than our log reaches back, and so committed: a late message. Say how far we are.
            common.send_once_durable(from, Body::Appended { matched: self.agreed });
            return Next::Stay;
        }
        if !common.log.contains(prev) {
            let hint = common.log.conflict_hint(prev);
            common.send(from, Body::Rejected { prev: prev.index, hint }, out);
            return Next::Stay;
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
        common.send_once_durable(from, Body::Appended { matched });
        Next::Stay
    }

    /// How far the log agrees with the leader's on this disk, for good. Nothing before the leader's term is on the disk
    /// too: a crash could take this member back to an earlier term, whose leader may still change what agreed.
    fn durably_agreed(&self, common: &Common) -> Index {
        if common.durability.durable_ballot().term() < common.term() {
            return Index::ZERO;
        }
        self.agreed.min(common.log.durable())
    }

    /// Commits what the leader says, as far as our log is known to agree with the leader's: a heartbeat may overtake
    /// the entries it speaks of.
    fn commit_to(&self, common: &mut Common, commit: Index) {
        common.log.commit_to(commit.min(self.agreed));
    }

    /// The connection to `peer` broke. Only a hint, so it leads to no more than a pre-vote.
    pub(crate) fn on_unreachable(&mut self, common: &mut Common, peer: NodeId) {
        if self.leader == Some(peer) && common.config.options.pre_vote {
            self.leader = None;
            common.leader_unreachable();
        }
    }
}

/// The election timeout has passed without a leader. Whoever has no vote or no working disk waits on.
pub(crate) fn on_election_deadline(common: &mut Common) -> Next {
    if !common.config.membership.is_voter(common.id()) || common.disk_stalls() {
        common.rearm_election_timer();
        return Next::Stay;
    }
    Next::Campaign(if common.config.options.pre_vote { Phase::PreVote } else { Phase::Vote })
}
