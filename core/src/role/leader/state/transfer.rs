//! A handing over that is under way.

use crate::common::Common;
use crate::membership::MemberKind;
use crate::time::Instant;
use crate::types::{Member, NodeId, RequestId};

/// A handing over that is under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::role::leader) struct Transferring {
    pub(in crate::role::leader) request: RequestId,
    pub(in crate::role::leader) to: Member,
    /// When this leader takes proposals again.
    pub(in crate::role::leader) deadline: Instant,
}

impl Transferring {
    pub(in crate::role::leader) fn request(&self) -> RequestId {
        self.request
    }

    #[cfg(feature = "explore")]
    pub(in crate::role::leader) fn forget_time(&mut self, common: &Common) {
        self.deadline = common.now + common.config.timing.election_max;
    }

    pub(in crate::role::leader) fn to(&self) -> NodeId {
        self.to.id
    }

    /// Ends the transfer if its target is no longer a voter.
    pub(in crate::role::leader) fn membership_changed(&mut self, common: &Common) {
        if common.membership().kind(self.to) != MemberKind::Voter {
            self.deadline = common.now;
        }
    }
}
