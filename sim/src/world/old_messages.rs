//! Keeps messages back, and lets them arrive at the moments that they are kept for (see
//! [`crate::old_messages`]).

use super::step::Taken;
use super::{Happening, World, position};
use crate::application::Application;
use crate::network::Frame;
use crate::old_messages::{Kept, Kind, Moment};
use crate::report::{FaultKind, Mark};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::{Body, Message};
use kontiki_core::replica::frame::{self, Envelope, ReplicaBody};
use kontiki_core::status::RoleKind::{Candidate, Follower, Leader, PreCandidate};
use kontiki_core::types::NodeId;

impl<A: Application> World<'_, A> {
    /// Whether a message is kept back for later, and does not arrive now.
    pub(super) fn keeps_back(
        &mut self,
        from: usize,
        message: &Message,
        frame: impl FnOnce() -> Frame,
    ) -> bool {
        if self.stage.is_some() {
            return false;
        }
        if self.contest_keeps(from, message) {
            self.contest_keep(position(message.to.id), frame());
            return true;
        }
        if self.old_messages.is_none() {
            return false;
        }
        if let Body::ReadIndex { context } = message.body {
            self.release_old(|kept| kept.to == from && kept.moment == Moment::AskedAgain(context.number));
        }
        let Some(old) = &mut self.old_messages else { return false };
        let question = match message.body {
            Body::ReadIndexIs { context, .. } => Some(context.number),
            _ => None,
        };
        old.keep(Kind::of(&message.body), question, (from, position(message.to.id)), frame)
    }

    /// The same for a frame of a replica.
    pub(super) fn keeps_frame_back(&mut self, from: usize, to: NodeId, number: u64, bytes: &[u8]) -> bool {
        let is_kept = self.old_messages.is_some() || self.contests.is_some();
        let is_sent_on = self.scenario.replica.as_ref().is_some_and(|spec| spec.forward);
        if !(is_kept || is_sent_on) || self.stage.is_some() {
            return false;
        }
        let frame = || Frame { number, bytes: bytes.to_vec() };
        match frame::decode(bytes, u8::MAX, frame::max_body(&self.scenario.options)).map(|it| it.envelope) {
            Ok(Envelope::Raft(message)) => self.keeps_back(from, &message, frame),
            Ok(Envelope::Replica(message)) => {
                if matches!(message.body, ReplicaBody::Forward { .. }) {
                    self.sends_on(from, to, frame());
                }
                self.old_messages
                    .as_mut()
                    .is_some_and(|old| old.keep(Kind::Replica, None, (from, position(to)), frame))
            }
            Err(_) => false,
        }
    }

    /// A member has started again.
    pub(super) fn release_to_restarted(&mut self, member: usize) {
        self.release_old(|kept| match kept.moment {
            Moment::Restarts => kept.to == member,
            Moment::SenderRestarts => kept.from == member,
            _ => false,
        });
    }

    /// Nothing passes from one member to another any more, but what is on its way.
    pub(super) fn release_parted(&mut self, from: usize, to: usize) {
        self.release_old(|kept| kept.moment == Moment::Parted && (kept.from, kept.to) == (from, to));
    }

    /// Lets arrive what was kept for what this step has done.
    pub(super) fn release_after(&mut self, member: usize, taken: &Taken<'_>) {
        let Some(old) = &mut self.old_messages else { return };
        let Taken { event, actions, before, after, .. } = taken;
        let elected = after.role == Leader && (before.role, before.term) != (after.role, after.term);
        let stands = before.role == Follower && matches!(after.role, PreCandidate | Candidate);
        let reads = matches!(event, Event::Read(_));
        let changes = taken.membership_before.is_some();
        let snapshot = before.snapshot != after.snapshot
            || actions.iter().any(|action| matches!(action, Action::Restore(_)));
        if elected {
            old.led[member] = true;
            for kept in &mut old.kept {
                if let Moment::Elections(left) = &mut kept.moment {
                    *left = left.saturating_sub(1);
                }
            }
        }
        if !(elected || stands || reads || changes || snapshot) {
            return;
        }
        self.release_old(|kept| match kept.moment {
            Moment::Elections(left) => elected && left == 0,
            Moment::Leads => elected && kept.to == member,
            Moment::Stands => stands && kept.to == member,
            Moment::Reads => reads && kept.to == member,
            Moment::Membership => changes && kept.to == member,
            Moment::Snapshot => snapshot && kept.to == member,
            Moment::Restarts | Moment::SenderRestarts | Moment::Parted | Moment::AskedAgain(_) => false,
        });
    }

    /// Half of what is released arrives at once, before anything else happens; the rest a little later.
    fn release_old(&mut self, due: impl Fn(&Kept) -> bool) {
        let Some(due) = self.old_messages.as_mut().map(|old| old.release(due)) else { return };
        for kept in due {
            let Some(old) = &mut self.old_messages else { return };
            let at_once = old.stream.coin();
            let delay = if at_once { 0 } else { old.stream.skewed(1, old.spec.longest_us.max(1)) * 1_000 };
            let has_led = old.led[kept.to];
            self.counters.fault(FaultKind::OldMessage);
            match self.hosts[kept.to].up.as_ref().map(|up| up.status.role) {
                Some(Leader) => self.counters.mark(Mark::OldMessageToLeader),
                Some(_) if has_led => self.counters.mark(Mark::OldMessageToFormerLeader),
                _ => {}
            }
            let (to, frame) = (kept.to, kept.frame.clone());
            if old.stream.chance(old.spec.again) {
                let moment = old.moment();
                old.kept.push(Kept { moment, ..kept });
            }
            self.schedule(
                self.now + delay,
                Happening::Deliver { to, frame, connection: None, flipped: false },
            );
        }
    }
}
