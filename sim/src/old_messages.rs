//! Old messages: what the network keeps back until its addressee is in a state in which it may do harm.
//!
//! A message that is merely late seldom meets anything: it is of an earlier term, or says what is known. The
//! network therefore aims. It keeps messages of each kind back, each for a [`Moment`]: its addressee is
//! elected, stands, starts again, reads, installs a snapshot or changes its membership; its sender starts
//! again; some elections have passed. At that moment the message arrives.

use crate::network::Frame;
use crate::scenario::OldMessageSpec;
use crate::stream::Stream;
use kontiki_core::message::Body;

/// What a message is about. Of each kind a few are kept, so that the rare kinds are met as often as the
/// common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
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
    pub(crate) fn of(body: &Body) -> Self {
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
pub(crate) enum Moment {
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
pub(crate) struct Kept {
    pub(crate) kind: Kind,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) moment: Moment,
    pub(crate) frame: Frame,
}

/// The messages that the network keeps back.
#[derive(Debug)]
pub(crate) struct OldMessages {
    pub(crate) spec: OldMessageSpec,
    pub(crate) stream: Stream,
    pub(crate) kept: Vec<Kept>,
    /// Who has ever led.
    pub(crate) led: Vec<bool>,
}

impl OldMessages {
    pub(crate) fn new(seed: u64, size: usize, spec: OldMessageSpec) -> Self {
        let stream = Stream::named(seed, "old messages", 0);
        Self { spec, stream, kept: Vec::new(), led: vec![false; size] }
    }

    /// From now on, what is drawn is drawn from the streams of another seed.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.stream = Stream::named(seed, "old messages", 0);
    }

    fn moment_of(&mut self, question: Option<u64>) -> Moment {
        match question {
            Some(number) if self.stream.coin() => Moment::AskedAgain(number),
            _ => self.moment(),
        }
    }

    pub(crate) fn moment(&mut self) -> Moment {
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
    pub(crate) fn keep(
        &mut self,
        kind: Kind,
        question: Option<u64>,
        (from, to): (usize, usize),
        frame: impl FnOnce() -> Frame,
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
    pub(crate) fn release(&mut self, due: impl Fn(&Kept) -> bool) -> Vec<Kept> {
        if self.kept.iter().any(&due) {
            self.kept.extract_if(.., |kept| due(kept)).collect()
        } else {
            Vec::new()
        }
    }
}
