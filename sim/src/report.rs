//! What a run has shown.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Everything that can go wrong in a simulated world, for counting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum FaultKind {
    /// A message was lost by chance.
    Drop,
    /// A message arrived twice.
    Duplicate,
    /// A message left the order of its link.
    Reorder,
    /// A message took very long.
    Delay,
    /// A bit of a message was flipped.
    Corrupt,
    /// A message met a link that was cut.
    Cut,
    /// The members fell into two groups.
    Partition,
    /// Messages passed one way only.
    OneWay,
    /// A member was cut off from all others.
    Isolate,
    /// A member's links went down and up again.
    Flap,
    /// A member crashed at once.
    Crash,
    /// A member crashed between two actions of one step.
    CrashMidStep,
    /// All members crashed at once.
    CrashAll,
    /// A member was killed: of what it had written and not synced, nothing was lost yet.
    Kill,
    /// A member started again.
    Restart,
    /// A write was lost in a crash.
    LostWrite,
    /// A member stood still.
    Pause,
    /// A clock ran at another rate.
    ClockDrift,
    /// A sync took very long.
    DiskStall,
    /// A host noticed a broken connection.
    BrokenConnection,
    /// A host was wrong about a broken connection.
    FalseAlarm,
    /// A member lost its disk, and came back as somebody else.
    Wipe,
    /// A member was stopped in good order.
    Shutdown,
    /// A snapshot could not be fetched, or entries not be read back.
    FetchFailed,
    /// A sync failed, and what it should have covered was lost.
    SyncFailed,
    /// A write never got to the disk, which said that it did.
    WriteLost,
    /// A write got to another place of the disk.
    WriteMisdirected,
    /// A disk had no space left.
    DiskFull,
    /// Some of a log that was durable was damaged.
    RotLog,
    /// A copy of a vote was damaged.
    RotVote,
    /// A snapshot was damaged.
    RotSnapshot,
    /// A crash left a part of a write.
    TornWrite,
    /// A sector could not be read any more.
    Unreadable,
}

impl FaultKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 33] = [
        Self::Drop,
        Self::Duplicate,
        Self::Reorder,
        Self::Delay,
        Self::Corrupt,
        Self::Cut,
        Self::Partition,
        Self::OneWay,
        Self::Isolate,
        Self::Flap,
        Self::Crash,
        Self::CrashMidStep,
        Self::CrashAll,
        Self::Kill,
        Self::Restart,
        Self::LostWrite,
        Self::Pause,
        Self::ClockDrift,
        Self::DiskStall,
        Self::BrokenConnection,
        Self::FalseAlarm,
        Self::Wipe,
        Self::Shutdown,
        Self::FetchFailed,
        Self::SyncFailed,
        Self::WriteLost,
        Self::WriteMisdirected,
        Self::DiskFull,
        Self::RotLog,
        Self::RotVote,
        Self::RotSnapshot,
        Self::TornWrite,
        Self::Unreadable,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Delay => "delay",
            Self::Corrupt => "corrupt",
            Self::Cut => "cut",
            Self::Partition => "partition",
            Self::OneWay => "one_way",
            Self::Isolate => "isolate",
            Self::Flap => "flap",
            Self::Crash => "crash",
            Self::CrashMidStep => "crash_mid_step",
            Self::CrashAll => "crash_all",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::LostWrite => "lost_write",
            Self::Pause => "pause",
            Self::ClockDrift => "clock_drift",
            Self::DiskStall => "disk_stall",
            Self::BrokenConnection => "broken_connection",
            Self::FalseAlarm => "false_alarm",
            Self::Wipe => "wipe",
            Self::Shutdown => "shutdown",
            Self::FetchFailed => "fetch_failed",
            Self::SyncFailed => "sync_failed",
            Self::WriteLost => "write_lost",
            Self::WriteMisdirected => "write_misdirected",
            Self::DiskFull => "disk_full",
            Self::RotLog => "rot_log",
            Self::RotVote => "rot_vote",
            Self::RotSnapshot => "rot_snapshot",
            Self::TornWrite => "torn_write",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Something that is sometimes true of a correct cluster, and must be seen in a sweep: green without coverage is not
/// green.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Mark {
    /// A follower's log contradicted its leader's and was cut.
    Truncated,
    /// A follower refused an append because it lacks what comes before.
    Rejected,
    /// An entry of an earlier term was committed along with a later one.
    OldTermCommitted,
    /// A leader stepped down without having seen a later term: it had lost its quorum, or its disk.
    SteppedDown,
    /// A pre-vote was lost or never decided, so a term was spared.
    PreVoteFailed,
    /// A campaign ended without a leader.
    CampaignFailed,
    /// A request for a vote was refused for the sake of a living leader.
    Loyal,
    /// A proposal's outcome was unknown.
    Unknown,
    /// A proposal was refused because too much was waiting.
    Busy,
    /// A member restarted with less than it had in memory.
    Forgot,
    /// Two members were candidates of one term.
    Contested,
    /// Entries were handed to be applied that had been waiting for the member's own disk.
    CommittedBeforeDurable,
    /// A message was dropped because too many answers waited for the disk.
    TooManyWaiting,
    /// A damaged frame was refused.
    FrameRefused,
    /// A member that had stood still heard all at once of what had happened meanwhile.
    Thawed,
    /// A write took longer to become durable than a follower waits for its leader.
    SlowSync,
    /// A leader took a request for another membership.
    ChangeBegun,
    /// A request for another membership was answered as committed.
    ChangeFinished,
    /// A newcomer did not catch up in time.
    NotCaughtUp,
    /// A leader began a joint phase.
    Joint,
    /// A joint phase was left by another leader than the one that began it.
    JointLeftByAnother,
    /// A learner became a voter.
    Promoted,
    /// A leader stepped down since it is no voter any more.
    LeaderRemoved,
    /// A membership was undone, since its entry was truncated.
    RolledBack,
    /// A leader began to hand over.
    TransferTried,
    /// A leader that handed over leads no more.
    TransferDone,
    /// A leader that wanted to hand over leads on.
    TransferFailed,
    /// A host took a snapshot.
    SnapshotTaken,
    /// A leader offered a snapshot to a follower that lacks what is compacted.
    SnapshotOffered,
    /// A snapshot took the place of a follower's log.
    SnapshotInstalled,
    /// A host read entries back for a follower that lags behind what is in memory.
    EntriesLoaded,
    /// A leader served a read that a quorum confirmed.
    ReadByQuorum,
    /// A leader served a read by its lease.
    ReadByLease,
    /// A host served a read while its kernel's lease held, without asking.
    ReadUnasked,
    /// A follower served a read that its leader confirmed.
    ReadByFollower,
    /// A member that had lost its memory was told so by its group.
    WipeRefused,
    /// A wiped member belongs to the group again.
    Readded,
    /// A witness acknowledged an entry without its payload.
    WitnessHeld,
    /// A disk had no room for more, and its member refused new work.
    NoRoom,
    /// A member stopped since its disk had failed.
    DiskHalt,
    /// A member found damage while it read its log back.
    DamageFound,
    /// A member cut off what a crash had torn.
    TornTail,
    /// A member wrote again what may not have been durable.
    Rewritten,
    /// A member found that entries which it had acknowledged were damaged.
    EntriesLost,
    /// A member with damage had everything again.
    Repaired,
    /// So much of a disk was damaged that its member started anew as somebody else.
    GaveUp,
    /// A member crashed while it recovered.
    CrashInRecovery,
    /// A session had expired when its client came back.
    SessionExpired,
    /// A member filled again from others what its disk had damaged.
    Refilled,
    /// A member found a copy of its vote damaged.
    VoteDamaged,
    /// A member found that the snapshot on which its log rests was damaged.
    SnapshotLost,
}

impl Mark {
    /// Every mark, in the order of their declaration.
    pub const ALL: [Self; 51] = [
        Self::Truncated,
        Self::Rejected,
        Self::OldTermCommitted,
        Self::SteppedDown,
        Self::PreVoteFailed,
        Self::CampaignFailed,
        Self::Loyal,
        Self::Unknown,
        Self::Busy,
        Self::Forgot,
        Self::Contested,
        Self::CommittedBeforeDurable,
        Self::TooManyWaiting,
        Self::FrameRefused,
        Self::Thawed,
        Self::SlowSync,
        Self::ChangeBegun,
        Self::ChangeFinished,
        Self::NotCaughtUp,
        Self::Joint,
        Self::JointLeftByAnother,
        Self::Promoted,
        Self::LeaderRemoved,
        Self::RolledBack,
        Self::TransferTried,
        Self::TransferDone,
        Self::TransferFailed,
        Self::SnapshotTaken,
        Self::SnapshotOffered,
        Self::SnapshotInstalled,
        Self::EntriesLoaded,
        Self::ReadByQuorum,
        Self::ReadByLease,
        Self::ReadUnasked,
        Self::ReadByFollower,
        Self::WipeRefused,
        Self::Readded,
        Self::WitnessHeld,
        Self::NoRoom,
        Self::DiskHalt,
        Self::DamageFound,
        Self::TornTail,
        Self::Rewritten,
        Self::EntriesLost,
        Self::Repaired,
        Self::GaveUp,
        Self::CrashInRecovery,
        Self::SessionExpired,
        Self::Refilled,
        Self::VoteDamaged,
        Self::SnapshotLost,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Rejected => "rejected",
            Self::OldTermCommitted => "old_term_committed",
            Self::SteppedDown => "stepped_down",
            Self::PreVoteFailed => "pre_vote_failed",
            Self::CampaignFailed => "campaign_failed",
            Self::Loyal => "loyal",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::Forgot => "forgot",
            Self::Contested => "contested",
            Self::CommittedBeforeDurable => "committed_before_durable",
            Self::TooManyWaiting => "too_many_waiting",
            Self::FrameRefused => "frame_refused",
            Self::Thawed => "thawed",
            Self::SlowSync => "slow_sync",
            Self::ChangeBegun => "change_begun",
            Self::ChangeFinished => "change_finished",
            Self::NotCaughtUp => "not_caught_up",
            Self::Joint => "joint",
            Self::JointLeftByAnother => "joint_left_by_another",
            Self::Promoted => "promoted",
            Self::LeaderRemoved => "leader_removed",
            Self::RolledBack => "rolled_back",
            Self::TransferTried => "transfer_tried",
            Self::TransferDone => "transfer_done",
            Self::TransferFailed => "transfer_failed",
            Self::SnapshotTaken => "snapshot_taken",
            Self::SnapshotOffered => "snapshot_offered",
            Self::SnapshotInstalled => "snapshot_installed",
            Self::EntriesLoaded => "entries_loaded",
            Self::ReadByQuorum => "read_by_quorum",
            Self::ReadByLease => "read_by_lease",
            Self::ReadUnasked => "read_unasked",
            Self::ReadByFollower => "read_by_follower",
            Self::WipeRefused => "wipe_refused",
            Self::Readded => "readded",
            Self::WitnessHeld => "witness_held",
            Self::NoRoom => "no_room",
            Self::DiskHalt => "disk_halt",
            Self::DamageFound => "damage_found",
            Self::TornTail => "torn_tail",
            Self::Rewritten => "rewritten",
            Self::EntriesLost => "entries_lost",
            Self::Repaired => "repaired",
            Self::GaveUp => "gave_up",
            Self::CrashInRecovery => "crash_in_recovery",
            Self::SessionExpired => "session_expired",
            Self::Refilled => "refilled",
            Self::VoteDamaged => "vote_damaged",
            Self::SnapshotLost => "snapshot_lost",
        }
    }
}

/// Numbers that add up over runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Kernel steps.
    pub steps: u64,
    /// Virtual time, in nanoseconds.
    pub virtual_nanos: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Entries committed by the group.
    pub commits: u64,
    /// Requests of clients that were answered as committed.
    pub acknowledged: u64,
    /// Messages sent between members.
    pub messages: u64,
    /// Keys whose histories could not be decided: none, or the check was not made.
    pub undecided: u64,
    faults: [u64; FaultKind::ALL.len()],
    marks: [u64; Mark::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            steps: 0,
            virtual_nanos: 0,
            elections: 0,
            commits: 0,
            acknowledged: 0,
            messages: 0,
            undecided: 0,
            faults: [0; FaultKind::ALL.len()],
            marks: [0; Mark::ALL.len()],
        }
    }
}

impl Counters {
    /// One more fault.
    pub(crate) fn fault(&mut self, kind: FaultKind) {
        self.faults[kind as usize] += 1;
    }

    /// Several more faults.
    pub(crate) fn faults_of(&mut self, kind: FaultKind, count: u64) {
        self.faults[kind as usize] += count;
    }

    /// A mark was reached.
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks[mark as usize] += 1;
    }

    /// How often each kind of fault happened.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        FaultKind::ALL.iter().map(|kind| (kind.name(), self.faults[*kind as usize])).collect()
    }

    /// How often each mark was reached.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        Mark::ALL.iter().map(|mark| (mark.name(), self.marks[*mark as usize])).collect()
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.virtual_nanos += other.virtual_nanos;
        self.elections += other.elections;
        self.commits += other.commits;
        self.acknowledged += other.acknowledged;
        self.messages += other.messages;
        self.undecided += other.undecided;
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, more)| *sum += more);
        self.marks.iter_mut().zip(other.marks).for_each(|(sum, more)| *sum += more);
    }
}

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Its name, as in the paper where the paper has one.
    pub property: String,
    /// What was seen instead.
    pub detail: String,
    /// The step at which it was seen.
    pub step: u64,
    /// The virtual time, in nanoseconds.
    pub at: u64,
}

/// What a run of one scenario has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How much happened.
    pub counters: Counters,
    /// Depends on every step of the run: equal hashes are equal runs.
    pub trace_hash: u64,
    /// The property that was violated, if one was.
    pub failure: Option<Failure>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, us) = (self.at / 1_000_000, self.at / 1_000 % 1_000);
        write!(f, "{} at step {} ({ms}.{us:03} ms): {}", self.property, self.step, self.detail)
    }
}
