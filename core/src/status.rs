//! What a member can be asked at any time, for nothing.

use crate::membership::MemberKind;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId, Term};
use core::fmt;

/// What a member is at the moment (paper §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RoleKind {
    /// It takes entries from a leader, or waits for one.
    Follower,
    /// It asks whether it could win an election, without a new term (thesis 9.6).
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It takes proposals and replicates them.
    Leader,
    /// It was shut down, or has seen proof that safety is broken, and takes no further part.
    Halted,
}

/// One member at one moment. A copy: nothing is borrowed and nothing allocated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Status {
    /// The member.
    pub id: NodeId,
    /// What it is.
    pub role: RoleKind,
    /// What its group takes it for.
    pub kind: MemberKind,
    /// The latest term it has seen.
    pub term: Term,
    /// Whom it voted for in this term.
    pub vote: Option<NodeId>,
    /// The leader of this term, where it knows one; never a mere candidate.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: LogId,
    /// The last entry of its log that is on its disk.
    pub durable: LogId,
    /// How far it knows the log to be committed.
    pub committed: Index,
    /// How far its host has reported the log applied.
    pub applied: Index,
    /// The last entry of its latest snapshot; zero where there is none.
    pub snapshot: LogId,
    /// The entry that holds the membership in force here.
    pub configured: LogId,
    /// Whether there is space for more entries.
    pub space: Space,
}

/// Whether there is space for more entries, as far as a member knows.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Space {
    /// There is.
    #[default]
    Free,
    /// There is none on this member's disk.
    Full,
    /// This member leads, and there is none on the disks of so many voters that the others are no majority:
    /// nothing can be committed until there is.
    GroupFull,
}

impl Space {
    /// Every answer, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Free, Self::Full, Self::GroupFull];

    /// The answer as one word: the same in logs, metrics and JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Full => "full",
            Self::GroupFull => "group_full",
        }
    }
}

/// What a member holds in memory that its [`Options`](crate::config::Options) limit; of what a leader keeps
/// for each other member, the most that it keeps for any.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Held {
    /// Bytes of entries in memory.
    pub cached_bytes: u64,
    /// Appends on their way to one member that are not acknowledged.
    pub in_flight_messages: u64,
    /// Their bytes of entries.
    pub in_flight_bytes: u64,
    /// Bytes of entries that a leader waits to commit.
    pub uncommitted_bytes: u64,
    /// Reads that wait to be confirmed or applied.
    pub waiting_reads: usize,
    /// Messages that wait for the disk.
    pub waiting_answers: usize,
}

/// What a leader knows of another member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerStatus {
    /// The member.
    pub id: NodeId,
    /// Its log matches the leader's through here, on its disk.
    pub matched: Index,
    /// The first entry that was not yet sent to it.
    pub next: Index,
    /// How entries go to it.
    pub flow: FlowKind,
    /// Why it has said that it takes no entries at present. It gets heartbeats, and no entries, until it says
    /// that it takes them again.
    pub paused: Option<PauseReason>,
    /// How many appends are on their way to it.
    pub in_flight: usize,
    /// When the leader last heard from it, by the leader's clock.
    pub last_contact: Instant,
}

/// How entries go to a member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FlowKind {
    /// The leader still looks for the last entry that both logs share.
    Probe,
    /// Entries are sent as they come.
    Stream,
    /// What it lacks is no longer in the log: it is offered a snapshot.
    Snapshot,
}

/// Why a follower takes no entries for the time being.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PauseReason {
    /// There is no space on its disk.
    DiskFull,
    /// Too much waits already to be applied or written there.
    Unapplied,
}

impl PauseReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 2] = [Self::DiskFull, Self::Unapplied];

    /// The reason as one word: the same in logs, metrics and simulations.
    pub fn code(self) -> &'static str {
        DropReason::from(self).code()
    }
}

/// What a follower that takes no entries drops.
impl From<PauseReason> for DropReason {
    fn from(reason: PauseReason) -> Self {
        match reason {
            PauseReason::DiskFull => Self::DiskFull,
            PauseReason::Unapplied => Self::Unapplied,
        }
    }
}

/// Why a message was dropped. The same words in logs, metrics and simulations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DropReason {
    /// It is of another cluster.
    OtherCluster,
    /// It is addressed to another incarnation of this member, or comes from one that the group does not have.
    OtherIncarnation,
    /// It is addressed to another member, or claims to be from this one.
    Misrouted,
    /// Its fields contradict one another or cannot be meant: an entry of a later term than its leader's, an
    /// absurd term or index.
    Malformed,
    /// It is from an earlier term.
    OlderTerm,
    /// It answers a question that is no longer asked.
    Late,
    /// It reports something about this leader's log that the leader never sent.
    NeverSent,
    /// It is from a non-member, and only members may send it.
    Stranger,
    /// It asks for a vote while a leader is known to be alive, or too soon after a restart.
    LeaderAlive,
    /// Too many answers already wait for the disk.
    TooManyWaiting,
    /// It asks again for what was damaged, before this member answers its sender any more.
    TooOften,
    /// Too much waits already to be applied here.
    Unapplied,
    /// There is no space on the disk for the entries that it brings.
    DiskFull,
    /// This member has halted.
    Halted,
}

impl DropReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::OtherCluster,
        Self::OtherIncarnation,
        Self::Misrouted,
        Self::Malformed,
        Self::OlderTerm,
        Self::Late,
        Self::NeverSent,
        Self::Stranger,
        Self::LeaderAlive,
        Self::TooManyWaiting,
        Self::TooOften,
        Self::Unapplied,
        Self::DiskFull,
        Self::Halted,
    ];

    /// The reason as one word: the same in logs, metrics and simulations.
    pub fn code(self) -> &'static str {
        match self {
            Self::OtherCluster => "other_cluster",
            Self::OtherIncarnation => "other_incarnation",
            Self::Misrouted => "misrouted",
            Self::Malformed => "malformed",
            Self::OlderTerm => "older_term",
            Self::Late => "late",
            Self::NeverSent => "never_sent",
            Self::Stranger => "stranger",
            Self::LeaderAlive => "leader_alive",
            Self::TooManyWaiting => "too_many_waiting",
            Self::Unapplied => "unapplied",
            Self::DiskFull => "disk_full",
            Self::Halted => "halted",
            Self::TooOften => "too_often",
        }
    }
}

/// How many messages were dropped, and why. Dropping is normal: the protocol tolerates loss.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// How many were dropped for this reason.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.0)
    }

    pub(crate) fn add(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Halted => "halted",
        })
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
