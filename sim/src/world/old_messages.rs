//! Old messages: what the network keeps back until its addressee is in a state in which it may do harm.
//!
//! A message that is merely late seldom meets anything: it is of an earlier term, or says what is known. The
//! network therefore aims. It keeps messages of each kind back, each for a [`Moment`]: its addressee is
//! elected, stands, starts again, reads, installs a snapshot or changes its membership; its sender starts
//! again; some elections have passed. At that moment the message arrives.

use super::step::Taken;
use super::{Happening, World, position};
use crate::application::Application;
use crate::report::{FaultKind, Mark};
use crate::scenario::OldMessageSpec;
use crate::stream::Stream;
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::{Body, Message};
use kontiki_core::replica::frame::{self, Envelope};
use kontiki_core::status::RoleKind::{Candidate, Follower, Leader, PreCandidate};
use kontiki_core::types::NodeId;

/// What a message is about. Of each kind a few are kept, so that the rare kinds are met as often as the
/// common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    VoteRequest,
    Vote,
    Append,
    Acknowledgement,
    Heartbeat,
    HeartbeatAck,
    Read,
    Snapshot,
    Repair,
    Transfer,
    Identity,
    Replica,
}

impl Kind {
    fn of(body: &Body) -> Self {
        match body {
            Body::PreVote { .. } | Body::RequestVote { .. } => Self::VoteRequest,
            Body::PreVoted { .. } | Body::Voted { .. } => Self::Vote,
            Body::Append { .. } => Self::Append,
            Body::Appended { .. } | Body::Rejected { .. } => Self::Acknowledgement,
            Body::Heartbeat { .. } | Body::Commit { .. } => Self::Heartbeat,
            Body::HeartbeatAck { .. } | Body::Pause { .. } => Self::HeartbeatAck,
            Body::ReadIndex { .. } | Body::ReadIndexIs { .. } => Self::Read,
            Body::OfferSnapshot { .. } | Body::SnapshotUnavailable { .. } => Self::Snapshot,
            Body::RepairRequest { .. }
            | Body::RepairSnapshotRequest { .. }
            | Body::RepairResponse { .. }
            | Body::RepairSnapshot { .. } => Self::Repair,
            Body::TimeoutNow { .. } => Self::Transfer,
            Body::WrongIncarnation | Body::StaleIncarnation { .. } | Body::Outdated => Self::Identity,
        }
    }

    /// Whether a run has few messages of this kind.
    fn is_rare(self) -> bool {
        match self {
            Self::VoteRequest
            | Self::Vote
            | Self::Read
            | Self::Snapshot
            | Self::Repair
            | Self::Transfer
            | Self::Identity
            | Self::Replica => true,
            Self::Append | Self::Acknowledgement | Self::Heartbeat | Self::HeartbeatAck => false,
        }
    }
}

/// How much likelier a message of a rare kind is kept.
const RARE: u32 = 8;

/// What a message is kept for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// Its addressee is elected.
    Leads,
    /// Its addressee stands for election.
    Stands,
    /// Its addressee has started again.
    Restarts,
    /// Its sender has started again.
    SenderRestarts,
    /// Its addressee is asked to read.
    Reads,
    /// Its addressee asks a question of the same number as the one that it answers.
    AskedAgain(u64),
    /// The link between its sender and its addressee is cut.
    Parted,
    /// The membership of its addressee changes.
    Membership,
    /// Its addressee restores a snapshot, or takes one.
    Snapshot,
    /// So many leaders have been elected since.
    Elections(u32),
}

/// A message that is kept back.
#[derive(Debug)]
struct Kept {
    kind: Kind,
    from: usize,
    to: usize,
    moment: Moment,
    frame: Vec<u8>,
}

/// The messages that the network keeps back.
#[derive(Debug)]
pub(super) struct OldMessages {
    spec: OldMessageSpec,
    stream: Stream,
    kept: Vec<Kept>,
    /// Who has ever led.
    led: Vec<bool>,
}

impl OldMessages {
    pub(super) fn new(seed: u64, size: usize, spec: OldMessageSpec) -> Self {
        let stream = Stream::named(seed, "old messages", 0);
        Self { spec, stream, kept: Vec::new(), led: vec![false; size] }
    }

    fn moment_of(&mut self, question: Option<u64>) -> Moment {
        match question {
            Some(number) if self.stream.coin() => Moment::AskedAgain(number),
            _ => self.moment(),
        }
    }

    fn moment(&mut self) -> Moment {
        match self.stream.below(20) {
            0..=4 => Moment::Leads,
            5..=7 => Moment::Stands,
            8..=9 => Moment::Restarts,
            10..=11 => Moment::SenderRestarts,
            12..=13 => Moment::Reads,
            14 => Moment::Membership,
            15 => Moment::Snapshot,
            16..=18 => Moment::Parted,
            _ => Moment::Elections(self.stream.between(1, 4) as u32),
        }
    }

    /// Keeps a copy of a message, where the odds say so. A kind of which enough is kept gives up one of its
    /// own. Returns whether the message itself is kept back, rather than a copy of it.
    fn keep(
        &mut self,
        kind: Kind,
        question: Option<u64>,
        (from, to): (usize, usize),
        frame: impl FnOnce() -> Vec<u8>,
    ) -> bool {
        let odds = if kind.is_rare() { self.spec.keep.saturating_mul(RARE) } else { self.spec.keep };
        if !self.stream.chance(odds) {
            return false;
        }
        let alike: Vec<_> = (0..self.kept.len()).filter(|&at| self.kept[at].kind == kind).collect();
        if alike.len() >= self.spec.each as usize {
            let at = *self.stream.pick(&alike);
            self.kept.remove(at);
        }
        let moment = self.moment_of(question);
        self.kept.push(Kept { kind, from, to, moment, frame: frame() });
        self.stream.chance(self.spec.instead)
    }

    /// Takes out what is kept for this moment.
    fn release(&mut self, due: impl Fn(&Kept) -> bool) -> Vec<Kept> {
        if self.kept.iter().any(&due) {
            self.kept.extract_if(.., |kept| due(kept)).collect()
        } else {
            Vec::new()
        }
    }
}

impl<A: Application> World<'_, A> {
    /// Whether a message is kept back for later, and does not arrive now.
    pub(super) fn keeps_back(
        &mut self,
        from: usize,
        message: &Message,
        frame: impl FnOnce() -> Vec<u8>,
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
    pub(super) fn keeps_frame_back(&mut self, from: usize, to: NodeId, bytes: &[u8]) -> bool {
        if (self.old_messages.is_none() && self.contests.is_none()) || self.stage.is_some() {
            return false;
        }
        match frame::decode(bytes, u8::MAX, frame::max_body(&self.scenario.options)).map(|it| it.envelope) {
            Ok(Envelope::Raft(message)) => self.keeps_back(from, &message, || bytes.to_vec()),
            Ok(Envelope::Replica(_)) => self
                .old_messages
                .as_mut()
                .is_some_and(|old| old.keep(Kind::Replica, None, (from, position(to)), || bytes.to_vec())),
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
            self.schedule(self.now + delay, Happening::Deliver { to, frame, connection: None });
        }
    }
}
