//! What a run has shown.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

pub use crate::fault::FaultKind;

/// An enumeration of what is counted, each with its name in reports.
macro_rules! counted {
    ($(#[$doc:meta])* pub enum $Counted:ident { $($(#[$one_doc:meta])* $One:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum $Counted {
            $($(#[$one_doc])* $One,)*
        }

        impl $Counted {
            /// Every one, in the order of their declaration.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$One),*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$One => $name,)*
                }
            }
        }
    };
}
pub(crate) use counted;

counted! {
    /// Something that is sometimes true of a correct cluster, and must be seen in a sweep: green without
    /// coverage is not green.
    pub enum Mark {
        /// A follower's log contradicted its leader's and was cut.
        Truncated = "truncated",
        /// A follower refused an append because it lacks what comes before.
        Rejected = "rejected",
        /// An entry of an earlier term was committed along with a later one.
        OldTermCommitted = "old_term_committed",
        /// A leader stepped down without having seen a later term: it had lost its quorum, or its disk.
        SteppedDown = "stepped_down",
        /// A pre-vote was lost or never decided, so a term was spared.
        PreVoteFailed = "pre_vote_failed",
        /// A campaign ended without a leader.
        CampaignFailed = "campaign_failed",
        /// A request for a vote was refused for the sake of a living leader.
        VoteLocked = "vote_locked",
        /// A proposal's outcome was unknown.
        Unknown = "unknown",
        /// A proposal was refused because too much was waiting.
        Busy = "busy",
        /// A member restarted with less than it had in memory.
        Forgot = "forgot",
        /// Two members were candidates of one term.
        Contested = "contested",
        /// Entries were handed to be applied that had been waiting for the member's own disk.
        CommittedBeforeDurable = "committed_before_durable",
        /// A message was dropped because too many answers waited for the disk.
        TooManyWaiting = "too_many_waiting",
        /// A damaged frame was refused.
        FrameRefused = "frame_refused",
        /// A member that had stood still heard all at once of what had happened meanwhile.
        Thawed = "thawed",
        /// A host was suspended, and its clock did not count that.
        TimeLost = "time_lost",
        /// A write took longer to become durable than a follower waits for its leader.
        SlowSync = "slow_sync",
        /// A group of which most members have slow disks for good served its clients and came to rest.
        ServedBySlowDisks = "served_by_slow_disks",
        /// A leader took a request for another membership.
        ChangeBegun = "change_begun",
        /// A request for another membership was answered as committed.
        ChangeFinished = "change_finished",
        /// A newcomer did not catch up in time.
        NotCaughtUp = "not_caught_up",
        /// A leader began a joint phase.
        Joint = "joint",
        /// A joint phase was left by another leader than the one that began it.
        JointLeftByAnother = "joint_left_by_another",
        /// A learner became a voter.
        Promoted = "promoted",
        /// A leader stepped down since it is no voter any more.
        LeaderRemoved = "leader_removed",
        /// A membership was undone, since its entry was truncated.
        RolledBack = "rolled_back",
        /// A leader began to hand over.
        TransferTried = "transfer_tried",
        /// A leader that handed over leads no more.
        TransferDone = "transfer_done",
        /// A leader that wanted to hand over leads on.
        TransferFailed = "transfer_failed",
        /// A host took a snapshot.
        SnapshotTaken = "snapshot_taken",
        /// A leader offered a snapshot to a follower that lacks what is compacted.
        SnapshotOffered = "snapshot_offered",
        /// A snapshot took the place of a follower's log.
        SnapshotInstalled = "snapshot_installed",
        /// A host read entries back for a follower that lags behind what is in memory.
        EntriesLoaded = "entries_loaded",
        /// A leader served a read that a quorum confirmed.
        ReadByQuorum = "read_by_quorum",
        /// A leader served a read by its lease.
        ReadByLease = "read_by_lease",
        /// A host served a read while its kernel's lease held, without asking.
        ReadUnasked = "read_unasked",
        /// A follower served a read that its leader confirmed.
        ReadByFollower = "read_by_follower",
        /// A member that had lost its memory was told so by its group.
        WipeRefused = "wipe_refused",
        /// A wiped member belongs to the group again.
        Readded = "readded",
        /// A witness acknowledged an entry without its payload.
        WitnessHeld = "witness_held",
        /// A disk had no room for more, and its member refused new work.
        NoRoom = "no_room",
        /// A member stopped since its disk had failed.
        DiskHalt = "disk_halt",
        /// A member found damage while it read its log back.
        DamageFound = "damage_found",
        /// A member cut off what a crash had torn.
        TornTail = "torn_tail",
        /// A member wrote again what may not have been durable.
        Rewritten = "rewritten",
        /// A member found that entries which it had acknowledged were damaged.
        EntriesLost = "entries_lost",
        /// A member with damage had everything again.
        Repaired = "repaired",
        /// A disk was damaged beyond repair, and its member started anew under another incarnation.
        GaveUp = "gave_up",
        /// A member crashed while it recovered.
        CrashInRecovery = "crash_in_recovery",
        /// A session had expired when its client came back.
        SessionExpired = "session_expired",
        /// A member filled again from others what its disk had damaged.
        EntriesRepaired = "entries_repaired",
        /// A member found a copy of its vote damaged.
        VoteDamaged = "vote_damaged",
        /// A member found that the snapshot on which its log rests was damaged.
        SnapshotLost = "snapshot_lost",
        /// A client read entries of a log.
        LogRead = "log_read",
        /// A client asked for entries that had left the log.
        LogReadCompacted = "log_read_compacted",
        /// A client asked for entries that a disk had damaged.
        LogReadUnreadable = "log_read_unreadable",
        /// A message that had been kept back came to a leader.
        OldMessageToLeader = "old_message_to_leader",
        /// A message that had been kept back came to a member that had led.
        OldMessageToFormerLeader = "old_message_to_former_leader",
        /// A leader that did not know of its successor was asked to read what the successor had acknowledged.
        StaleLeaderRead = "stale_leader_read",
        /// A leader was cut off just after its followers had answered.
        CutOffUnderLease = "cut_off_under_lease",
        /// A leader was cut off just after a heartbeat, the answers to which came late.
        AnswersHeldUp = "answers_held_up",
        /// Voters that a lease rested on started again when another member stood.
        PromiserRestarted = "promiser_restarted",
        /// A member that had been bidden to take over stood against a leader that it alone did not hear.
        FormerSuccessorStood = "former_successor_stood",
        /// A leader was cut off as soon as it had bidden another to take over.
        CutOffHandingOver = "cut_off_handing_over",
        /// A bidding to take over came when its leader had given that up.
        BiddingCameLate = "bidding_came_late",
        /// A joint phase was known to a majority of the new voters and not of the old.
        JointHalfInformed = "joint_half_informed",
        /// An answer to a question came to a member that had started again since, and asked another.
        EarlierAnswer = "earlier_answer",
    }
}

/// Numbers that add up over runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(serialize_with = "write_faults", deserialize_with = "read_faults")]
    faults: [u64; FaultKind::ALL.len()],
    #[serde(serialize_with = "write_marks", deserialize_with = "read_marks")]
    marks: [u64; Mark::ALL.len()],
}

/// Counts as data: a map from the name of each to its count, with neither more names nor fewer.
macro_rules! counts_by_name {
    ($write:ident, $read:ident, $Counted:ident) => {
        fn $write<S: Serializer>(counts: &[u64; $Counted::ALL.len()], to: S) -> Result<S::Ok, S::Error> {
            to.collect_map($Counted::ALL.iter().map(|one| (one.name(), counts[*one as usize])))
        }

        fn $read<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; $Counted::ALL.len()], D::Error> {
            let mut named = BTreeMap::<String, u64>::deserialize(from)?;
            let mut counts = [0; $Counted::ALL.len()];
            for one in $Counted::ALL {
                let count = named.remove(one.name());
                counts[one as usize] = count.ok_or_else(|| D::Error::missing_field(one.name()))?;
            }
            match named.keys().next() {
                Some(name) => Err(D::Error::custom(format_args!("nothing is counted as `{name}`"))),
                None => Ok(counts),
            }
        }
    };
}

counts_by_name!(write_faults, read_faults, FaultKind);
counts_by_name!(write_marks, read_marks, Mark);

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

    /// Adds those of another run. A sum beyond 64 bits stays at their greatest number.
    pub fn add(&mut self, other: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.steps, other.steps);
        add(&mut self.virtual_nanos, other.virtual_nanos);
        add(&mut self.elections, other.elections);
        add(&mut self.commits, other.commits);
        add(&mut self.acknowledged, other.acknowledged);
        add(&mut self.messages, other.messages);
        add(&mut self.undecided, other.undecided);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, more)| add(sum, more));
        self.marks.iter_mut().zip(other.marks).for_each(|(sum, more)| add(sum, more));
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
