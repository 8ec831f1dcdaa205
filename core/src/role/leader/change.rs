//! Who belongs to the group (paper §6, thesis 4).
//!
//! A change goes through up to three memberships, each an entry of the log: newcomers that shall vote are learners first; once
//! they have caught up, old and new voters decide together; once that is committed, the new alone. The last step is taken by
//! whoever leads by then, not by whoever began: it follows from the log alone.

use super::Leader;
use crate::action::{Action, Outcome, Refusal};
use crate::common::Common;
use crate::event::Reconfigure;
use crate::log::EntryBody;
use crate::membership::{ChangeError, MAX_MEMBERS, Membership, Standing};
use crate::progress::{Leaving, Progress};
use crate::time::Instant;
use crate::types::{Index, NodeId, RequestId};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A request for another membership that is being carried out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Changing {
    request: RequestId,
    /// Whether anything of it is in the log.
    begun: bool,
    stage: Stage,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
enum Stage {
    /// Those that shall vote catch up first.
    CatchingUp { target: Membership, newcomers: Vec<Newcomer>, deadline: Instant },
    /// Every step that is left follows from the log.
    Deciding,
}

/// One that catches up, in rounds: in each it gets what the log had when the round began. A round that is over sooner than
/// followers wait for a leader is the last (thesis 4.2.1), and so is one after which nothing is left to get.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
struct Newcomer {
    id: NodeId,
    through: Index,
    since: Instant,
    caught_up: bool,
}

impl Changing {
    pub(super) fn request(&self) -> RequestId {
        self.request
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }
}

impl Leader {
    pub(crate) fn on_reconfigure(
        &mut self,
        common: &mut Common,
        reconfigure: Reconfigure,
        out: &mut Vec<Action>,
    ) -> crate::role::Next {
        let request = reconfigure.request;
        match self.acceptable(common, &reconfigure) {
            Err(refusal) => out.push(Action::Respond { request, outcome: Outcome::Refused(refusal) }),
            Ok(target) => self.begin_change(common, request, target, out),
        }
        self.next()
    }

    /// What the request would lead to, if it can be begun now.
    fn acceptable(&self, common: &Common, reconfigure: &Reconfigure) -> Result<Membership, Refusal> {
        let configured = common.log.configured();
        if let Some(transfer) = &self.transfer {
            return Err(Refusal::Transferring { to: transfer.to() });
        }
        if self.change_in_flight(common) {
            return Err(Refusal::ChangeInFlight { configured });
        }
        // A leader that has committed nothing of its own may not know of a change that is committed (Ongaro's erratum of 2015).
        if !self.has_committed(common) {
            return Err(Refusal::NotReady);
        }
        if reconfigure.expected.is_some_and(|expected| expected != configured) {
            return Err(Refusal::Outdated { configured });
        }
        let target = common.membership().changed(&reconfigure.changes).map_err(Refusal::Change)?;
        // On the way there, those who come and those who go are members together.
        if common.membership().united_with(&target) > MAX_MEMBERS {
            return Err(Refusal::Change(ChangeError::TooMany));
        }
        Ok(target)
    }

    /// Whether a change is being carried out, by this leader or one before it.
    pub(super) fn change_in_flight(&self, common: &Common) -> bool {
        self.change.is_some()
            || common.membership().is_joint()
            || common.log.configured().index > common.log.committed()
    }

    fn begin_change(
        &mut self,
        common: &mut Common,
        request: RequestId,
        target: Membership,
        out: &mut Vec<Action>,
    ) {
        let newcomers = common.membership().newcomers_to(&target);
        if newcomers.is_empty() {
            self.change = Some(Box::new(Changing { request, begun: true, stage: Stage::Deciding }));
            let step = common.membership().step_to(&target);
            self.append_membership(common, step);
        } else {
            let staging = common.membership().staging(&newcomers, &target);
            let begun = staging.is_some();
            if let Some(staging) = staging {
                self.append_membership(common, staging);
            }
            // Who has caught up has the entry that makes it a member.
            let (through, since) = (common.log.last().index, common.now);
            let newcomer = |id| Newcomer { id, through, since, caught_up: false };
            let stage = Stage::CatchingUp {
                target,
                newcomers: newcomers.into_iter().map(newcomer).collect(),
                deadline: common.now + common.config.timing.catch_up,
            };
            self.change = Some(Box::new(Changing { request, begun, stage }));
            (0..self.peers.len()).for_each(|position| {
                self.note_catching_up(common, position);
            });
        }
        self.replicate_to_all(common, out);
        // Fewer may have to agree from here on.
        self.advance_commit(common, out);
        self.answer_reads(common, out);
    }

    /// The next membership is in force as soon as it is in the log.
    fn append_membership(&mut self, common: &mut Common, membership: Membership) {
        let body = EntryBody::Config(Arc::new(membership));
        self.change_size = body.size();
        common.log.append(common.term(), body);
        self.meet_members(common);
    }

    /// Brings the list of peers into line with the membership. Those that have left shall still learn of it, for a while.
    fn meet_members(&mut self, common: &Common) {
        let (last, me) = (common.log.last().index, common.member());
        let until = common.now + common.config.timing.election_max.times(FAREWELL);
        for peer in &mut self.peers {
            let stays = common.membership().contains(peer.member);
            peer.leaving = if stays { None } else { peer.leaving.or(Some(Leaving { through: last, until })) };
        }
        self.peers.retain(|peer| {
            peer.leaving.is_none() || common.membership().incarnation(peer.member.id).is_none()
        });
        for &member in common.membership().members() {
            if member != me && !self.peers.iter().any(|peer| peer.member == member) {
                self.peers.push(Progress::new(member, last, common.now));
            }
        }
        self.peers.sort_unstable_by_key(|peer| peer.member);
        if self.heartbeat_deadline == Instant::NEVER {
            self.arm_heartbeat(common);
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.membership_changed(common);
        }
    }

    /// Forgets those that have left and know it, or seem never to learn it.
    pub(super) fn let_go(&mut self, common: &Common) {
        self.peers.retain(|peer| {
            peer.leaving
                .is_none_or(|leaving| peer.told_commit < leaving.through && common.now < leaving.until)
        });
    }

    /// This member has left, in an earlier incarnation: the new one needs not be told.
    pub(crate) fn forget_former(&mut self, id: NodeId) {
        self.peers.retain(|peer| peer.member.id != id || peer.leaving.is_none());
    }

    /// A peer has got further. Returns whether it has caught up by that.
    #[inline]
    pub(super) fn note_catching_up(&mut self, common: &Common, position: usize) -> bool {
        self.change.is_some() && self.note_newcomer(common, position)
    }

    fn note_newcomer(&mut self, common: &Common, position: usize) -> bool {
        let Some(Stage::CatchingUp { newcomers, .. }) = self.change.as_mut().map(|change| &mut change.stage)
        else {
            return false;
        };
        let peer = &self.peers[position];
        let (id, matched) = (peer.member.id, peer.matched);
        let Some(newcomer) = newcomers.iter_mut().find(|newcomer| newcomer.id == id && !newcomer.caught_up)
        else {
            return false;
        };
        if matched >= newcomer.through {
            let last = common.log.last().index;
            let soon = common.now - newcomer.since < common.config.timing.election_min;
            newcomer.caught_up = soon || matched == last;
            (newcomer.through, newcomer.since) = (last, common.now);
        }
        newcomer.caught_up
    }

    /// Whether a newcomer that has caught up is still there, and not far behind.
    fn keeps_up(&self, common: &Common, newcomer: &Newcomer) -> bool {
        let timing = common.config.timing;
        newcomer.caught_up
            && self.peer(newcomer.id).is_some_and(|peer| {
                let fresh = common.now - newcomer.since < timing.election_min;
                common.now - peer.contact < timing.election_max && (fresh || peer.matched >= newcomer.through)
            })
    }

    /// Some newcomers never catch up, and the group does not wait for ever.
    pub(super) fn give_up_on_newcomers(&mut self, common: &Common, out: &mut Vec<Action>) {
        let Some(change) = &self.change else { return };
        if let Stage::CatchingUp { newcomers, deadline, .. } = &change.stage
            && common.now >= *deadline
            && let Some(slow) = newcomers.iter().find(|newcomer| !self.keeps_up(common, newcomer))
        {
            let (request, outcome) = (change.request, Outcome::NotCaughtUp(slow.id));
            out.push(Action::Respond { request, outcome });
            self.change = None;
        }
    }

    /// Takes whatever step of a change comes next. Returns whether an entry was appended for it.
    pub(super) fn go_on_with_change(&mut self, common: &mut Common, out: &mut Vec<Action>) -> bool {
        let configured = common.log.configured();
        let nothing_new = self.settled == Some(configured) && self.change.is_none();
        if nothing_new || configured.index > common.log.committed() || !self.has_committed(common) {
            return false;
        }
        if common.membership().is_joint() {
            let left = common.membership().left();
            self.append_membership(common, left);
            return true;
        }
        match self.change.as_ref().map(|change| &change.stage) {
            Some(Stage::CatchingUp { target, newcomers, .. })
                if newcomers.iter().all(|newcomer| self.keeps_up(common, newcomer)) =>
            {
                let step = common.membership().step_to(target);
                if let Some(change) = &mut self.change {
                    (change.begun, change.stage) = (true, Stage::Deciding);
                }
                self.append_membership(common, step);
                return true;
            }
            Some(Stage::Deciding) => {
                let outcome = Outcome::Committed(configured);
                out.extend(
                    self.change.take().map(|change| Action::Respond { request: change.request, outcome }),
                );
            }
            Some(Stage::CatchingUp { .. }) | None => {}
        }
        // Who is no voter any more has led the group to its new membership, and is done.
        self.resigned = common.standing() != Standing::Voter;
        self.settled = Some(configured);
        false
    }
}

/// How many election timeouts a former member is still told of the log that it has left.
const FAREWELL: u64 = 4;
