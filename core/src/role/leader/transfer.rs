//! Handing leadership over (thesis 3.10).

use crate::action::{Action, Outcome, Refusal};
use crate::common::Common;
use crate::event::Transfer;
use crate::log::Entry;
use crate::membership::MemberKind;
use crate::message::Body;
use crate::progress::{Flow, Progress};
use crate::role::leader::state::Leader;
use crate::role::leader::state::transfer::Transferring;
use crate::types::{Member, NodeId};
use alloc::vec::Vec;

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

    /// Who shall take over, if that is likely to succeed.
    fn successor(&self, common: &Common, to: Option<NodeId>) -> Result<Member, Refusal> {
        if let Some(transfer) = &self.transfer {
            return Err(Refusal::Transferring { to: transfer.to() });
        }
        if self.is_deciding(common) {
            return Err(Refusal::ChangeInFlight { configured: common.log.configured() });
        }
        let chosen = match to {
            None => self.best_successor(common).ok_or(Refusal::NoSuccessor)?,
            Some(id) if id == common.id() => return Err(Refusal::LeadsAlready),
            Some(id) => {
                let could = |peer: &&Progress| common.membership().kind(peer.member) == MemberKind::Voter;
                self.peer(id).filter(could).ok_or(Refusal::CannotLead(id))?
            }
        };
        self.obstacle(common, chosen).map_or(Ok(chosen.member), Err)
    }

    /// Why a voter would not take over in time.
    fn obstacle(&self, common: &Common, peer: &Progress) -> Option<Refusal> {
        let id = peer.member.id;
        if !self.is_heard(common, peer) {
            Some(Refusal::Unreachable(id))
        } else if !peer.has_answered() {
            Some(Refusal::NotReady)
        } else if peer.is_full() {
            Some(Refusal::MemberFull(id))
        } else if peer.paused.is_some() || is_behind(common, peer) {
            Some(Refusal::Lagging(id))
        } else {
            None
        }
    }

    /// Whether this member is the target of the transfer.
    pub(super) fn is_successor(&self, member: Member) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.to == member)
    }

    /// The best successor: of the voters that could lead, preferably one that nothing hinders, and of these
    /// the one with most of the log.
    pub(super) fn best_successor(&self, common: &Common) -> Option<&Progress> {
        let could = |peer: &&Progress| common.membership().kind(peer.member) == MemberKind::Voter;
        // The first of those that are equally good.
        let fitness = |peer: &&Progress| (self.obstacle(common, peer).is_none(), peer.matched);
        self.peers.iter().rev().filter(could).max_by_key(fitness)
    }

    /// Bids the chosen one to stand as soon as it has the whole log and no lease holds, unless its disk is
    /// full by now; again and again, since the bidding may be lost. Takes office back when time is up.
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
        let is_able = |peer: &Progress| peer.member == to && peer.matched == last.index && !peer.is_full();
        if self.peers.iter().any(is_able) && common.now >= self.reads.leased_until() {
            self.reads.end_leases();
            common.send(to, Body::TimeoutNow { last }, out);
        }
    }
}

/// Whether a peer lacks more of the log than may be on its way to it at once, or what is not in memory any
/// more.
fn is_behind(common: &Common, peer: &Progress) -> bool {
    if matches!(peer.flow, Flow::Snapshot { .. }) || peer.matched < common.log.evicted() {
        return true;
    }
    let mut room = common.config.options.max_in_flight_bytes;
    let fits = |entry: &Entry| {
        let fits = room > 0;
        room = room.saturating_sub(entry.size());
        fits
    };
    !common.log.entries(peer.matched, common.log.last().index).all(fits)
}
