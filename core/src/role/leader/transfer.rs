//! Handing leadership over (thesis 3.10).

use super::Leader;
use crate::action::{Action, Outcome, Refusal};
use crate::common::Common;
use crate::event::Transfer;
use crate::membership::Standing;
use crate::message::Body;
use crate::progress::Progress;
use crate::time::Instant;
use crate::types::{Member, NodeId, RequestId};
use alloc::vec::Vec;

/// A handing over that is under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Transferring {
    request: RequestId,
    to: Member,
    /// When this leader takes proposals again.
    deadline: Instant,
}

impl Transferring {
    pub(super) fn request(&self) -> RequestId {
        self.request
    }

    pub(super) fn to(&self) -> NodeId {
        self.to.id
    }

    /// Nobody takes over who could not be elected any more.
    pub(super) fn membership_changed(&mut self, common: &Common) {
        if common.membership().standing(self.to) != Standing::Voter {
            self.deadline = common.now;
        }
    }
}

impl Leader {
    pub(crate) fn on_transfer(&mut self, common: &Common, transfer: Transfer, out: &mut Vec<Action>) {
        let Transfer { request, to } = transfer;
        match self.successor(common, to) {
            Err(refusal) => out.push(Action::Respond { request, outcome: Outcome::Refused(refusal) }),
            Ok(to) => {
                // First the leases that were given must end, and then an election must have time.
                let start = common.now.max(self.reads.leased_until());
                let deadline = start + common.config.timing.election_max;
                self.transfer = Some(Transferring { request, to, deadline });
                self.pursue_transfer(common, out);
            }
        }
    }

    fn successor(&self, common: &Common, to: Option<NodeId>) -> Result<Member, Refusal> {
        if let Some(transfer) = &self.transfer {
            return Err(Refusal::Transferring { to: transfer.to() });
        }
        if self.change_in_flight(common) {
            return Err(Refusal::ChangeInFlight { configured: common.log.configured() });
        }
        match to {
            None => self.best_successor(common).map(|peer| peer.member).ok_or(Refusal::NobodyElse),
            Some(id) if id == common.id() => Err(Refusal::LeadsAlready),
            Some(id) => {
                let could = |peer: &&Progress| common.membership().standing(peer.member) == Standing::Voter;
                self.peer(id).filter(could).map(|peer| peer.member).ok_or(Refusal::CannotLead(id))
            }
        }
    }

    /// Whether this is who shall take over.
    pub(super) fn is_successor(&self, member: Member) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.to == member)
    }

    /// Who has most of the log among those that could lead, and are there.
    pub(super) fn best_successor(&self, common: &Common) -> Option<&Progress> {
        let timeout = common.config.timing.election_max;
        let could = |peer: &&Progress| {
            common.membership().standing(peer.member) == Standing::Voter
                && common.now - peer.contact < timeout
        };
        // The first of those that have most.
        self.peers.iter().rev().filter(could).max_by_key(|peer| peer.matched)
    }

    /// Bids the chosen one to stand as soon as it has the whole log and no lease holds; again and again, since the
    /// bidding may be lost. Takes office back when time is up.
    pub(super) fn pursue_transfer(&mut self, common: &Common, out: &mut Vec<Action>) {
        let Some(Transferring { request, to, deadline }) = self.transfer else {
            return;
        };
        if common.now >= deadline {
            out.push(Action::Respond { request, outcome: Outcome::NotTransferred });
            self.transfer = None;
            return;
        }
        let last = common.log.last();
        let has_all = self.peers.iter().any(|peer| peer.member == to && peer.matched == last.index);
        if has_all && common.now >= self.reads.leased_until() {
            self.reads.end_leases();
            common.send(to, Body::TimeoutNow { last }, out);
        }
    }
}
