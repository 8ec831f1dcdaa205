//! What a leader keeps.

pub(super) mod change;
pub(super) mod reads;
pub(super) mod transfer;

use crate::common::Common;
use crate::progress::Progress;
use crate::role::Next;
use crate::role::leader::state::change::Changing;
use crate::role::leader::state::reads::Reads;
use crate::role::leader::state::transfer::Transferring;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId, RequestId, Term};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Leader {
    /// The term of its office.
    pub(super) term: Term,
    /// Every other member, in the order of their ids, and those that were members a moment ago.
    pub(crate) peers: Vec<Progress>,
    /// The requests whose entries are not yet committed, in the order of the log.
    pub(crate) proposals: VecDeque<Waiting>,
    /// The size of their entries.
    pub(super) proposed_size: u64,
    /// The size of what was not committed when it took office; it all commits at once, with the blank entry.
    pub(super) inherited_size: u64,
    /// The size of the entry that holds a membership which is not yet committed.
    pub(super) change_size: u64,
    /// The blank entry with which it took office.
    pub(super) first: Index,
    /// Since when there is something to commit and nothing has been.
    pub(super) committing_since: Instant,
    /// When the next heartbeat is due.
    pub(crate) heartbeat_deadline: Instant,
    /// The number of the last heartbeat.
    pub(super) round: u64,
    pub(super) reads: Reads,
    pub(super) change: Option<Box<Changing>>,
    pub(super) transfer: Option<Transferring>,
    /// The membership of which nothing is left to be done.
    pub(super) settled: Option<LogId>,
    /// Set once it is no longer a member that could lead, and that is committed.
    pub(super) resigned: bool,
}

/// A request whose entry waits to be committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Waiting {
    pub(crate) index: Index,
    pub(super) request: RequestId,
    pub(super) size: u64,
}

impl Leader {
    /// How many bytes wait to be committed; see [`Entry::size`](crate::log::Entry::size).
    pub(crate) fn uncommitted_size(&self) -> u64 {
        self.inherited_size + self.proposed_size + self.change_size
    }

    pub(super) fn next(&self) -> Next {
        if self.resigned { Next::Follow(None) } else { Next::Stay }
    }

    /// The member with this id, if it is another and one of the group.
    pub(super) fn peer(&self, id: NodeId) -> Option<&Progress> {
        self.peers.iter().find(|peer| peer.member.id == id && peer.leaving.is_none())
    }

    /// What is known of a member, for counts over all voters: `own` of this one, and nothing of one that is
    /// not of the group. Voters are asked for in the order in which the peers stand, so that the next one is
    /// mostly found at once.
    pub(super) fn of_each<T: Copy + Default>(
        &self,
        me: NodeId,
        own: T,
        of: impl Fn(&Progress) -> T,
    ) -> impl FnMut(NodeId) -> T {
        let mut begin = 0;
        move |id| {
            if id == me {
                return own;
            }
            let is_it = |&at: &usize| self.peers[at].member.id == id && self.peers[at].leaving.is_none();
            let found = (begin..self.peers.len()).chain(0..begin).find(is_it);
            found.map_or_else(T::default, |at| {
                begin = at + 1;
                of(&self.peers[at])
            })
        }
    }

    /// Whether an entry of its own term is committed, and with it everything before (paper §5.4.2, §8).
    pub(super) fn has_committed(&self, common: &Common) -> bool {
        common.log.committed() >= self.first
    }

    /// Whether a peer was heard from within an election timeout, or has only just become one.
    pub(super) fn is_heard(&self, common: &Common, peer: &Progress) -> bool {
        common.now - peer.contact < common.config.timing.election_max
    }
}
