//! Membership changes (paper §6, thesis 4).
//!
//! A change goes through up to three memberships, each an entry of the log. New voters are learners first.
//! Once they have caught up, old and new voters decide together (joint consensus). Once that is committed,
//! the new voters decide alone. Any leader takes the last step, since it follows from the log alone.
//!
//! Before the voters change, a majority of each deciding set must answer a heartbeat that is sent for the
//! change. So a change does not leave the group without a majority, even if a member failed a moment ago
//! (etcd's strict reconfiguration check asks for recent contact).

use crate::action::{Action, Outcome, Refusal};
use crate::common::Common;
use crate::event::Reconfigure;
use crate::log::EntryBody;
use crate::membership::{ChangeError, MAX_MEMBERS, MemberKind, Membership};
use crate::progress::{Leaving, Progress};
use crate::quorum::Tally;
use crate::role::Next;
use crate::role::leader::state::Leader;
use crate::role::leader::state::change::{Changing, Newcomer, Stage};
use crate::time::Instant;
use crate::types::{Index, NodeId, RequestId};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Leader {
    pub(crate) fn on_reconfigure(
        &mut self,
        common: &mut Common,
        reconfigure: Reconfigure,
        out: &mut Vec<Action>,
    ) -> Next {
        let Reconfigure { request, force, .. } = reconfigure;
        match self.acceptable(common, &reconfigure) {
            Err(refusal) => out.push(Action::Respond { request, outcome: Outcome::Refused(refusal) }),
            Ok(target) => {
                // The only change that can be under way here waits for a newcomer that this one removes.
                self.cancel_change(out);
                self.begin_change(common, (request, force), target, out);
            }
        }
        self.next()
    }

    /// Gives up a change whose new voters are not in the log yet.
    pub(crate) fn on_cancel_change(&mut self, common: &Common, request: RequestId, out: &mut Vec<Action>) {
        let outcome = if self.change.as_ref().is_some_and(|change| change.awaited().is_some()) {
            self.cancel_change(out);
            Outcome::Cancelled
        } else if self.is_deciding(common) {
            Outcome::Refused(Refusal::ChangeInFlight { configured: common.log.configured() })
        } else {
            Outcome::Refused(Refusal::NothingToCancel)
        };
        out.push(Action::Respond { request, outcome });
    }

    fn cancel_change(&mut self, out: &mut Vec<Action>) {
        let cancelled = self.change.take();
        let outcome = Outcome::Cancelled;
        out.extend(cancelled.map(|change| Action::Respond { request: change.request, outcome }));
    }

    /// What the request would lead to, if it can be begun now.
    fn acceptable(&self, common: &Common, reconfigure: &Reconfigure) -> Result<Membership, Refusal> {
        let Reconfigure { expected, ref changes, force, .. } = *reconfigure;
        let configured = common.log.configured();
        if let Some(transfer) = &self.transfer {
            return Err(Refusal::Transferring { to: transfer.to() });
        }
        if self.is_deciding(common) {
            return Err(Refusal::ChangeInFlight { configured });
        }
        if let Some(change) = self.change.as_ref().filter(|change| !change.is_replaced_by(changes))
            && let Some(newcomer) = self.slowest(common, change)
        {
            return Err(Refusal::CatchingUp(newcomer));
        }
        // A leader that has committed nothing of its own may not know of a change that is committed (Ongaro's
        // erratum of 2015).
        if !self.has_committed(common) {
            return Err(Refusal::NotReady);
        }
        if expected.is_some_and(|expected| expected != configured) {
            return Err(Refusal::Outdated { configured });
        }
        let group = common.membership();
        let target = group.changed(changes).map_err(Refusal::Change)?;
        // In the joint phase old and new members count together.
        if group.united_with(&target) > MAX_MEMBERS {
            return Err(Refusal::Change(ChangeError::TooMany));
        }
        let step = group.step_to(&target);
        // The change waits for new voters, so they count as reachable.
        let answered = |id| if group.is_voter(id) { self.answered(common, id, 0) } else { Some(true) };
        if !force && step.voters() != group.voters() && step.tally(answered) == Tally::Lost {
            return Err(no_majority(&step, answered));
        }
        Ok(target)
    }

    /// Whether a voter has answered the heartbeat of this round or a later one. Not, once it has been silent
    /// for so long that a leader without a quorum steps down.
    fn answered(&self, common: &Common, id: NodeId, round: u64) -> Option<bool> {
        if id == common.id() {
            return Some(true);
        }
        match self.peer(id) {
            Some(peer) if self.is_heard(common, peer) => (peer.answered_round >= round).then_some(true),
            _ => Some(false),
        }
    }

    /// Whether new voters are about to be in the log, or are there and not committed, or not the only ones
    /// yet: by a change of this leader or of one before it.
    pub(super) fn is_deciding(&self, common: &Common) -> bool {
        self.change.as_ref().is_some_and(|change| !change.is_catching_up())
            || common.membership().is_joint()
            || common.log.configured().index > common.log.committed()
    }

    /// New voters become learners now. The change goes on when it is reviewed, at the end of this step at the
    /// earliest.
    fn begin_change(
        &mut self,
        common: &mut Common,
        (request, force): (RequestId, bool),
        target: Membership,
        out: &mut Vec<Action>,
    ) {
        let newcomers = common.membership().newcomers_to(&target);
        let staging = common.membership().staging(&newcomers, &target);
        let begun = staging.is_some();
        if let Some(staging) = staging {
            self.append_membership(common, staging);
            self.replicate_to_all(common, out);
        }
        // A member has caught up only when it has the entry that adds it.
        let (through, since) = (common.log.last().index, common.now);
        let newcomer = |id| Newcomer { id, through, since, caught_up: false };
        let newcomers = newcomers.into_iter().map(newcomer).collect();
        let stage = Stage::Preparing { target, newcomers, asked: None };
        let deadline = common.now + common.config.timing.catch_up;
        self.change = Some(Box::new(Changing { request, begun, force, deadline, stage }));
    }

    /// The next membership is in force as soon as it is in the log.
    fn append_membership(&mut self, common: &mut Common, membership: Membership) {
        let body = EntryBody::Config(Arc::new(membership));
        self.change_size = body.size();
        self.append(common, body);
        self.meet_members(common);
    }

    /// Brings the list of peers into line with the membership. Those that have left shall still learn of it,
    /// for a while.
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

    pub(crate) fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// When the change that is under way has had its time.
    pub(super) fn change_deadline(&self) -> Instant {
        self.change.as_ref().map_or(Instant::NEVER, |change| change.deadline)
    }

    /// Looks at the change that is under way again, after every event: what it waits for may be an
    /// acknowledgement, any other sign of life, a commit, the end of a transfer, or time. This is the only
    /// place where newcomers are judged and where time runs out, so no handler can forget either.
    pub(crate) fn review_change(&mut self, common: &mut Common, out: &mut Vec<Action>) -> Next {
        self.note_newcomers(common);
        self.advance_commit(common, out);
        self.end_overdue_change(common, out);
        self.next()
    }

    fn note_newcomers(&mut self, common: &Common) {
        let Some(Stage::Preparing { newcomers, .. }) = self.change.as_mut().map(|change| &mut change.stage)
        else {
            return;
        };
        let last = common.log.last().index;
        for newcomer in newcomers.iter_mut().filter(|newcomer| !newcomer.caught_up) {
            let is_it = |peer: &&Progress| peer.member.id == newcomer.id && peer.leaving.is_none();
            let matched = self.peers.iter().find(is_it).map_or(Index::ZERO, |peer| peer.matched);
            if matched >= newcomer.through {
                let soon = common.now - newcomer.since < common.config.timing.election_min;
                newcomer.caught_up = soon || matched == last;
                (newcomer.through, newcomer.since) = (last, common.now);
            }
        }
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

    /// Which of its newcomers a change waits for; the first where all keep up and something else is waited
    /// for.
    fn slowest(&self, common: &Common, change: &Changing) -> Option<NodeId> {
        let newcomers = change.awaited()?;
        let slow = newcomers.iter().find(|newcomer| !self.keeps_up(common, newcomer));
        slow.or(newcomers.first()).map(|newcomer| newcomer.id)
    }

    /// Answers a request whose time is up. What is being prepared is given up; what is in the log is decided
    /// without the request.
    fn end_overdue_change(&mut self, common: &Common, out: &mut Vec<Action>) {
        let Some(change) = self.change.take_if(|change| common.now >= change.deadline) else { return };
        let slow = |newcomer: &&Newcomer| !self.keeps_up(common, newcomer);
        let outcome = match &change.stage {
            Stage::Deciding => Outcome::Unknown,
            Stage::Preparing { newcomers, .. } if let Some(slow) = newcomers.iter().find(slow) => {
                Outcome::NotCaughtUp(slow.id)
            }
            // Something else was in the way.
            Stage::Preparing { .. } if common.log.configured().index > common.log.committed() => {
                Outcome::Unknown
            }
            Stage::Preparing { .. } => Outcome::Cancelled,
        };
        out.push(Action::Respond { request: change.request, outcome });
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
        if let Some(step) = self.prepared_step(common, out) {
            if let Some(change) = &mut self.change {
                // From when the first stage ended, but not from later than it had to: a host may be late.
                change.deadline = common.now.min(change.deadline) + common.config.timing.catch_up;
                (change.begun, change.stage) = (true, Stage::Deciding);
            }
            self.append_membership(common, step);
            return true;
        }
        if let Some(change) = self.change.take_if(|change| change.awaited().is_none()) {
            let outcome = Outcome::Committed(configured);
            out.push(Action::Respond { request: change.request, outcome });
        }
        // A leader that is no voter in the new membership resigns once it is committed (paper §6).
        self.resigned = common.kind() != MemberKind::Voter;
        self.settled = Some(configured);
        false
    }

    /// The next membership, once all newcomers keep up, no transfer is under way, and a majority of each of
    /// its sets has shown that it is there. Asks for that by a heartbeat, and refuses the change where so
    /// many are silent that it cannot be had.
    fn prepared_step(&mut self, common: &mut Common, out: &mut Vec<Action>) -> Option<Membership> {
        let change = self.change.as_ref().filter(|_| self.transfer.is_none())?;
        let Stage::Preparing { target, newcomers, asked } = &change.stage else { return None };
        if !newcomers.iter().all(|newcomer| self.keeps_up(common, newcomer)) {
            return None;
        }
        let step = common.membership().step_to(target);
        if change.force || step.voters() == common.membership().voters() {
            return Some(step);
        }
        let round = asked.unwrap_or(self.round + 1);
        let answered = |id| self.answered(common, id, round);
        match step.tally(answered) {
            Tally::Won => return Some(step),
            Tally::Lost if !change.begun && newcomers.is_empty() => {
                let outcome = Outcome::Refused(no_majority(&step, answered));
                out.push(Action::Respond { request: change.request, outcome });
                self.change = None;
            }
            Tally::Pending if asked.is_none() => {
                self.beat(common, out);
                if let Some(Stage::Preparing { asked, .. }) =
                    self.change.as_mut().map(|change| &mut change.stage)
                {
                    *asked = Some(round);
                }
            }
            // Some may come back while there is time.
            Tally::Lost | Tally::Pending => {}
        }
        None
    }
}

/// Why a membership is not gone to: these are silent.
fn no_majority(next: &Membership, answered: impl Fn(NodeId) -> Option<bool>) -> Refusal {
    let voters = next.all_voters().map(|member| member.id);
    Refusal::NoReachableMajority { unreachable: voters.filter(|&id| answered(id) == Some(false)).collect() }
}

/// How many election timeouts a former member is still told of the log that it has left.
const FAREWELL: u64 = 4;
