//! How much may happen, and what.

use kontiki_core::membership::MemberKind;
use kontiki_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

/// How many members there may be.
pub(super) const MAX_MEMBERS: usize = 5;

/// The greatest number of a proposal; requests of other kinds have greater ones.
pub(super) const MAX_PROPOSALS: u64 = u8::MAX as u64;

/// The id of the member at this place.
pub(super) fn id(member: usize) -> NodeId {
    NodeId::new(member as u64 + 1).expect("not zero")
}

/// How much may happen in a group that is explored. Messages may be lost without a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// How many members there are, from 1 to 5.
    pub members: u8,
    /// With how many voters the group begins: the first members.
    pub voters: u8,
    /// With how many learners: those after the voters. The other members are blank.
    pub learners: u8,
    /// Whether the last of the voters is a witness.
    pub witness: bool,
    /// Whether the group begins with the first member as the leader of term 1, whose blank entry all voters
    /// know to be committed. Otherwise nothing has happened.
    pub led: bool,
    /// The latest term in which a member stands for election.
    pub terms: u64,
    /// How many times a member that does not lead times out.
    pub elections: u8,
    /// How many commands clients propose.
    pub proposals: u8,
    /// How many times a member crashes, with any prefix of what it had not synced, and starts again.
    pub crashes: u8,
    /// How many times a member crashes with all that it had written on its disk, which has damaged an entry
    /// when it starts again.
    pub losses: u8,
    /// How many times a member loses its whole disk, and starts again with an empty one in another
    /// incarnation. It is no member any more; the group goes on without it, unless changes of the membership
    /// remove it and add it again.
    pub wipes: u8,
    /// How many times a leader's heartbeats are due.
    pub heartbeats: u8,
    /// How many reads clients ask a leader for.
    pub reads: u8,
    /// How many reads clients ask other members for, and how often the questions of these members reach a
    /// leader: each would have it send another round of heartbeats.
    pub follower_reads: u8,
    /// How many times a member takes a snapshot of what it has applied, and forgets the entries in it.
    pub snapshots: u8,
    /// How many times an operator has a leader hand over.
    pub transfers: u8,
    /// How many changes of the membership an operator asks for: the last member is added as a voter, then
    /// removed, and so on. Where disks are lost and the group begins with it, it is removed first, and then
    /// added in the incarnation that it is in.
    pub changes: u8,
    /// Whether a change swaps the last member for the one before it, then that one for the last, and so on:
    /// by joint consensus.
    pub swap: bool,
    /// How many times a message reaches its addressee and may reach it once more. `None` where each may come
    /// any number of times.
    pub copied: Option<u8>,
    /// How many ticks time goes on, at most 8: leases, promises and check-quorum are on, and a timer goes off
    /// when it is due or later. A tick is half of what a voter promises a leader. Where it is zero, time is
    /// left out.
    pub ticks: u8,
    /// How many times the host of a member that follows a leader is wrong about having lost it. Members that
    /// do not ask before they stand for election do not heed that.
    pub alarms: u8,
    /// Whether members ask before they stand for election.
    pub pre_vote: bool,
    /// Whether state machines take any time to apply what they are told to. Otherwise they take none.
    pub slow_machines: bool,
    /// Whether disks finish each write at once. Otherwise a write may take any time, and a crash loses any
    /// number of the last ones.
    pub instant_disks: bool,
    /// Whether hosts wait for their disks and state machines: they do what follows from a step in its order,
    /// and each write and all that is applied are done before what comes next. Then neither takes any time.
    pub synchronous: bool,
    /// Of one in how many states a way on is looked for: with no more faults, a member can be elected and
    /// commit a command. `None` looks for none.
    pub liveness_every: Option<NonZeroU32>,
    /// Of one in how many states the group is put through a trial: with timers that run and no more faults
    /// but those of the trial, it must serve soon, and again soon after each of them. `None` holds none.
    pub trial_every: Option<NonZeroU32>,
}

/// One event at one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// The message at this place, of all that were sent, reaches its addressee. Where copies are bounded,
    /// those that have arrived are not among them.
    Deliver(u32),
    /// The same where copies are bounded, and it may come once more.
    Repeat(u32),
    /// This member's timer is due.
    Timeout(u8),
    /// This member's disk reports its oldest write.
    Persisted(u8),
    /// This member's state machine has done the oldest thing that it was told to.
    Applied(u8),
    /// This member crashes with so many of its writes on its disk, and starts again.
    Crash(u8, u8),
    /// This member crashes with all of its writes on its disk, and starts again without what was in the entry
    /// at this index.
    Lose(u8, u8),
    /// This member loses its disk, and starts again in another incarnation.
    Wipe(u8),
    /// A client proposes a command to this member.
    Propose(u8),
    /// A client asks this member to read.
    Read(u8),
    /// An operator asks this member for the next change of the membership.
    Change(u8),
    /// An operator asks this member to hand over.
    Transfer(u8),
    /// This member takes a snapshot, and compacts its log.
    Snapshot(u8),
    /// Time goes on, by the clock of this member slowly: always of the same.
    Tick(u8),
    /// The host of this member says that it has lost its leader.
    Alarm(u8),
}

/// Bounds that cannot be explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BoundsError {
    /// There are no members, or more than five.
    Members(u8),
    /// The group begins with no voter, or with more members than there are; how many.
    Voters(u8),
    /// Of less than three voters one would be a witness.
    Witness,
    /// Members are to be swapped, and all but the last are not what the group begins with.
    Swap,
    /// There is no term to be elected in, or there are more than 16.
    Terms(u64),
    /// Time goes on for more than 8 ticks.
    Ticks(u8),
    /// Time goes on, and a way on is looked for, which has no time, or a trial held, which has its own.
    TimedLiveness,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { members: 3, voters: 3, terms: 2, elections: 2, proposals: 1, ..Self::NONE }
    }
}

impl Bounds {
    /// No members, and nothing that may happen.
    pub(super) const NONE: Self = Self {
        members: 0,
        voters: 0,
        learners: 0,
        witness: false,
        led: false,
        terms: 0,
        elections: 0,
        proposals: 0,
        crashes: 0,
        losses: 0,
        wipes: 0,
        heartbeats: 0,
        reads: 0,
        follower_reads: 0,
        snapshots: 0,
        transfers: 0,
        changes: 0,
        swap: false,
        copied: None,
        ticks: 0,
        alarms: 0,
        pre_vote: false,
        slow_machines: false,
        instant_disks: false,
        synchronous: false,
        liveness_every: None,
        trial_every: None,
    };

    /// How many members the group begins with.
    pub(super) fn founders(&self) -> usize {
        usize::from(self.voters) + usize::from(self.learners)
    }

    /// What the member at this place is when the group begins.
    pub(super) fn kind(&self, place: usize) -> MemberKind {
        let voters = usize::from(self.voters);
        match place {
            _ if place >= self.founders() => MemberKind::NonMember,
            _ if place >= voters => MemberKind::Learner,
            _ if self.witness && place + 1 == voters => MemberKind::Witness,
            _ => MemberKind::Voter,
        }
    }

    pub(super) fn check(&self) -> Result<(), BoundsError> {
        match self {
            Self { members, .. } if !(1..=5).contains(members) => Err(BoundsError::Members(*members)),
            Self { members, voters, learners, .. }
                if *voters == 0 || voters.saturating_add(*learners) > *members =>
            {
                Err(BoundsError::Voters(voters.saturating_add(*learners)))
            }
            Self { witness: true, voters: ..3, .. } => Err(BoundsError::Witness),
            Self { swap: true, members, voters, .. } if *members < 2 || *voters + 1 != *members => {
                Err(BoundsError::Swap)
            }
            Self { terms, .. } if !(1..=16).contains(terms) => Err(BoundsError::Terms(*terms)),
            Self { ticks, .. } if *ticks > 8 => Err(BoundsError::Ticks(*ticks)),
            Self { ticks: 1.., liveness_every: Some(_), .. }
            | Self { ticks: 1.., trial_every: Some(_), .. } => Err(BoundsError::TimedLiveness),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for BoundsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members(members) => write!(f, "{members} members: choose 1 to 5, more cannot be explored"),
            Self::Voters(begun) => write!(
                f,
                "the group begins with {begun} members: choose at least one voter, and no more than there are"
            ),
            Self::Witness => f.write_str("a witness among less than 3 voters: let there be more that lead"),
            Self::Swap => {
                write!(f, "members are swapped for the last: let the group begin with all but that one")
            }
            Self::Terms(terms) => write!(f, "{terms} terms: choose 1 to 16"),
            Self::Ticks(ticks) => write!(f, "{ticks} ticks: choose 8 at most"),
            Self::TimedLiveness => {
                f.write_str("a way on takes no time, and a trial its own: leave them out, or the ticks")
            }
        }
    }
}

impl std::error::Error for BoundsError {}

/// A way that cannot be gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayError {
    /// The bounds are none.
    Bounds(BoundsError),
    /// A script has no clocks that differ.
    Clocks,
    /// The hosts of a script do not wait for their disks and state machines.
    Synchronous,
    /// This event, counted from one, cannot happen there: the way is of another version of the kernel, or was
    /// changed.
    Impossible {
        /// Which.
        step: usize,
        /// The event.
        transition: Transition,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounds(error) => error.fmt(f),
            Self::Clocks => f.write_str(
                "clocks that differ cannot be told as a script: explore without --ticks, or use --replay without --script",
            ),
            Self::Synchronous => f.write_str(
                "hosts that wait cannot be told as a script: explore without --synchronous, or use --replay without --script",
            ),
            Self::Impossible { step, transition } => write!(
                f,
                "event {step}, {transition:?}, cannot happen there: the way was changed, or is of another version of the kernel; explore anew"
            ),
        }
    }
}

impl std::error::Error for ReplayError {}
