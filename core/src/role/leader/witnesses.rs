//! Limits how far the log is replicated to witnesses.
//!
//! A witness remembers the ids of entries without their payloads. So it refuses its vote to a candidate that
//! lacks one of them, and cannot send the entry to it either. An entry that a witness has before the other
//! voters can leave the group without a leader: if this leader does not return, the witness votes for no
//! other voter, and none of them can get the entry.

use crate::common::Common;
use crate::membership::{MemberKind, Membership};
use crate::progress::Progress;
use crate::quorum;
use crate::role::leader::state::Leader;
use crate::types::{Index, NodeId};

impl Leader {
    /// How far the log may go to this peer now. **Invariant:** a witness gets an entry only once so many
    /// voters hold it with its payload that one of them is left when as many members fail as the group can do
    /// without.
    ///
    /// Silent voters are not waited for, because a witness stands in for voters that fail. When nothing has
    /// been committed for an election timeout, the witness gets everything.
    pub(super) fn through_for(&self, common: &Common, position: usize) -> Index {
        let last = common.log.last().index;
        let membership = common.membership();
        if membership.witnesses().is_empty() || !membership.is_witness(self.peers[position].member.id) {
            return last;
        }
        if common.now - self.committing_since >= common.config.timing.election_max {
            return last;
        }
        let held = [membership.voters(), membership.outgoing()].map(|set| self.held_by_enough(common, set));
        // A committed entry is on a majority: a candidate that lacks it is not elected anyway.
        held.into_iter().min().unwrap_or(last).max(common.log.committed())
    }

    /// How far the log is on the disks of so many voters of this set, this leader among them, as may fail and
    /// one more; or on those of all that are heard, where these are fewer.
    fn held_by_enough(&self, common: &Common, set: &[NodeId]) -> Index {
        let last = common.log.last().index;
        let membership = common.membership();
        let holders = || {
            let could_lead = |peer: &&Progress| {
                set.contains(&peer.member.id)
                    && membership.kind(peer.member) == MemberKind::Voter
                    && self.is_heard(common, peer)
            };
            self.peers.iter().filter(could_lead).map(|peer| peer.matched)
        };
        let needed = copies(membership, set).saturating_sub(usize::from(set.contains(&common.id())));
        let enough = needed.min(holders().count());
        if enough == 0 {
            return last;
        }
        let is_held = |index: &Index| holders().filter(|matched| matched >= index).count() >= enough;
        holders().filter(is_held).max().unwrap_or(Index::ZERO)
    }
}

/// How many voters of a set must hold an entry with its payload so that one is left when all fail that the
/// set can do without.
fn copies(membership: &Membership, set: &[NodeId]) -> usize {
    let holding = set.iter().filter(|id| !membership.is_witness(**id)).count();
    (set.len() + 1).saturating_sub(quorum::majority(set)).min(holding)
}
