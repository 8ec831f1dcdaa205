//! A membership change in progress.

#[cfg(feature = "explore")]
use crate::common::Common;
use crate::membership::{Change, Membership};
use crate::time::Instant;
use crate::types::{Index, NodeId, RequestId};
use alloc::vec::Vec;

/// A membership change in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::role::leader) struct Changing {
    pub(in crate::role::leader) request: RequestId,
    /// Whether an entry of the change is in the log.
    pub(in crate::role::leader) begun: bool,
    /// Whether the change may leave the group without a reachable majority.
    pub(in crate::role::leader) force: bool,
    /// When the present stage ends at the latest and the request is answered.
    pub(in crate::role::leader) deadline: Instant,
    pub(in crate::role::leader) stage: Stage,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::role::leader) enum Stage {
    /// The voters are still the old ones. New voters catch up; then a majority must answer the heartbeat of
    /// round `asked` or a later one.
    Preparing { target: Membership, newcomers: Vec<Newcomer>, asked: Option<u64> },
    /// The remaining steps follow from the log.
    Deciding,
}

/// One that catches up, in rounds: in each it gets what the log had when the round began. A round that is
/// over sooner than followers wait for a leader is the last (thesis 4.2.1), and so is one after which nothing
/// is left to get.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::role::leader) struct Newcomer {
    pub(in crate::role::leader) id: NodeId,
    pub(in crate::role::leader) through: Index,
    pub(in crate::role::leader) since: Instant,
    pub(in crate::role::leader) caught_up: bool,
}

impl Changing {
    pub(in crate::role::leader) fn request(&self) -> RequestId {
        self.request
    }

    #[cfg(feature = "explore")]
    pub(in crate::role::leader) fn forget_time(&mut self, common: &Common) {
        self.deadline = common.now + common.config.timing.catch_up;
        if let Stage::Preparing { newcomers, .. } = &mut self.stage {
            newcomers.iter_mut().for_each(|newcomer| newcomer.since = common.now);
        }
    }

    pub(in crate::role::leader) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The newcomers that must catch up first; none once the new voters are in the log.
    pub(in crate::role::leader) fn awaited(&self) -> Option<&[Newcomer]> {
        match &self.stage {
            Stage::Preparing { newcomers, .. } => Some(newcomers),
            Stage::Deciding => None,
        }
    }

    /// Whether it waits for newcomers to catch up, for as long as that takes.
    pub(in crate::role::leader) fn is_catching_up(&self) -> bool {
        self.awaited().is_some_and(|newcomers| !newcomers.is_empty())
    }

    /// Whether these changes take away a newcomer that it waits for.
    pub(in crate::role::leader) fn is_replaced_by(&self, changes: &[Change]) -> bool {
        let removed = |newcomer: &Newcomer| changes.contains(&Change::Remove(newcomer.id));
        self.awaited().is_some_and(|newcomers| newcomers.iter().any(removed))
    }
}
