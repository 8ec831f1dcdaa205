//! What is sometimes true of a correct cluster, and must be seen in a sweep: green without coverage is not
//! green.
//!
//! Each mark says from how many seeds on a sweep must have reached it, and what brings it about.

use crate::counted::counted;

/// From how many seeds on a sweep must have reached a mark, by the profile of its scenarios; none where it
/// need not. A sweep of so many seeds misses a mark by chance in less than one of a million cases.
///
/// Measured on 10,000 seeds of the profile `swarm` and 5,000 of `storage`, of three members and of five, as
/// the part of blocks of twenty seeds in which the mark was reached, less twice its standard deviation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// In the profile `swarm`.
    pub swarm: Option<u64>,
    /// In the profile `storage`.
    pub storage: Option<u64>,
}

/// A number of seeds, or `never`.
macro_rules! due {
    (never) => {
        None
    };
    ($seeds:literal) => {
        Some($seeds)
    };
}

/// The marks, each with its name in reports, from how many seeds on it is due, and what brings it about.
macro_rules! marks {
    ($(
        $(#[$doc:meta])*
        $One:ident = $name:literal, swarm $swarm:tt, storage $storage:tt, by $by:literal,
    )*) => {
        counted! {
            /// Something that is sometimes true of a correct cluster, and must be seen in a sweep: green
            /// without coverage is not green.
            pub enum Mark {
                $($(#[$doc])* $One = $name,)*
            }
        }

        impl Mark {
            /// From how many seeds on a sweep must have reached it.
            pub const fn due(self) -> Due {
                match self {
                    $(Self::$One => Due { swarm: due!($swarm), storage: due!($storage) },)*
                }
            }

            /// What brings it about, as advice to the author of a scenario.
            pub const fn brought_about_by(self) -> &'static str {
                match self {
                    $(Self::$One => $by,)*
                }
            }
        }
    };
}

marks! {
    /// A follower's log contradicted its leader's and was cut.
    Truncated = "truncated", swarm 200, storage 200,
        by "Cut off a leader that has entries of its own, let others elect another, and mend the links.",
    /// A follower refused an append because it lacks what comes before.
    Rejected = "rejected", swarm 200, storage 200,
        by "Let a follower miss entries, or restart, while its leader goes on.",
    /// An entry of an earlier term was committed along with a later one.
    OldTermCommitted = "old_term_committed", swarm 200, storage 200,
        by "Let a leader be replaced after it has replicated an entry and before it has committed it.",
    /// A leader stepped down without having seen a later term: it had lost its quorum, or its disk.
    SteppedDown = "stepped_down", swarm 200, storage 200,
        by "Cut a leader off from the majority for longer than an election timeout.",
    /// A pre-vote was lost or never decided, so a term was spared.
    PreVoteFailed = "pre_vote_failed", swarm 200, storage 200,
        by "Cut a member's link from the leader: it asks for pre-votes, and the others refuse them.",
    /// A campaign ended without a leader.
    CampaignFailed = "campaign_failed", swarm 200, storage 200,
        by "Let a candidate lose its requests for votes, or two members stand at a time.",
    /// A request for a vote was refused for the sake of a living leader.
    VoteLocked = "vote_locked", swarm 200, storage 200,
        by "Let a member that does not hear the leader ask for votes, while the others do hear it.",
    /// A proposal's outcome was unknown.
    Unknown = "unknown", swarm 200, storage 200,
        by "Depose a leader, or crash it, while proposals wait.",
    /// A proposal was refused because too much was waiting.
    Busy = "busy", swarm 200, storage 200,
        by "Propose more than a leader takes: many clients, or followers that are away.",
    /// A member restarted with less than it had in memory.
    Forgot = "forgot", swarm 200, storage 200,
        by "Crash a member while writes are under way.",
    /// Two members were candidates of one term.
    Contested = "contested", swarm 200, storage 200,
        by "Let two members stand in one term: equal timeouts, or a transfer beside an election.",
    /// Entries were handed to be applied that had been waiting for the member's own disk.
    CommittedBeforeDurable = "committed_before_durable", swarm 200, storage 200,
        by "Let the others' disks be faster than a member's own.",
    /// A message was dropped because too many answers waited for the disk.
    TooManyWaiting = "too_many_waiting", swarm 500, storage 500,
        by "Stall a disk while messages that need answers come in.",
    /// A damaged frame was refused.
    FrameRefused = "frame_refused", swarm 200, storage never,
        by "Flip bits of messages (`network.corrupt`).",
    /// A member that had stood still heard all at once of what had happened meanwhile.
    Thawed = "thawed", swarm 200, storage 200,
        by "Pause a member, and let it go on.",
    /// A host was suspended, and its clock did not count that.
    TimeLost = "time_lost", swarm 200, storage 200,
        by "Suspend a host whose clock stands still meanwhile.",
    /// A write took longer to become durable than a follower waits for its leader.
    SlowSync = "slow_sync", swarm 200, storage never,
        by "Stall a disk for longer than an election timeout.",
    /// A group of which most members have slow disks for good served its clients and came to rest.
    ServedBySlowDisks = "served_by_slow_disks", swarm 500, storage 500,
        by "Give most members a `sync_us` as long as a heartbeat's time, and heal the rest.",
    /// A leader took a request for another membership.
    ChangeBegun = "change_begun", swarm 200, storage 200,
        by "Ask a leader to reconfigure (`operations`).",
    /// A request for another membership was answered as committed.
    ChangeFinished = "change_finished", swarm 200, storage 200,
        by "Reconfigure while a majority of both memberships can be reached.",
    /// A newcomer did not catch up in time.
    NotCaughtUp = "not_caught_up", swarm 20_000, storage 50_000,
        by "Add a member that is cut off, or whose links are too slow for what is written meanwhile.",
    /// A leader began a joint phase.
    Joint = "joint", swarm 500, storage 500,
        by "Replace a voter, or several at a time.",
    /// A joint phase was left by another leader than the one that began it.
    JointLeftByAnother = "joint_left_by_another", swarm 20_000, storage 500_000,
        by "Depose the leader in a joint phase, before that is left.",
    /// A learner became a voter.
    Promoted = "promoted", swarm 500, storage 500,
        by "Add a member as a voter, or promote a learner, and let it catch up.",
    /// A leader stepped down since it is no voter any more.
    LeaderRemoved = "leader_removed", swarm 500, storage 500,
        by "Remove the leader from the group.",
    /// A membership was undone, since its entry was truncated.
    RolledBack = "rolled_back", swarm 2000, storage 2000,
        by "Depose a leader just after it has written another membership, before that reaches others.",
    /// A leader began to hand over.
    TransferTried = "transfer_tried", swarm 200, storage 200,
        by "Ask a leader to hand over, or let a member of a higher priority catch up.",
    /// A leader that handed over leads no more.
    TransferDone = "transfer_done", swarm 200, storage 200,
        by "Hand over to a member that can be reached.",
    /// A leader that wanted to hand over leads on.
    TransferFailed = "transfer_failed", swarm 1000, storage 2000,
        by "Hand over to a member that is cut off or crashes.",
    /// A host took a snapshot.
    SnapshotTaken = "snapshot_taken", swarm 200, storage 200,
        by "Take snapshots (`snapshots.every`), and write more than that.",
    /// A leader offered a snapshot to a follower that lacks what is compacted.
    SnapshotOffered = "snapshot_offered", swarm 200, storage 200,
        by "Keep a follower away while the leader compacts its log.",
    /// A snapshot took the place of a follower's log.
    SnapshotInstalled = "snapshot_installed", swarm 200, storage 200,
        by "Keep a follower away while the leader compacts its log, and let it come back.",
    /// A host read entries back for a follower that lags behind what is in memory.
    EntriesLoaded = "entries_loaded", swarm 200, storage 200,
        by "Let a follower fall behind what its leader keeps in memory (`options.retained_bytes`).",
    /// A leader served a read that a quorum confirmed.
    ReadByQuorum = "read_by_quorum", swarm 200, storage 200,
        by "Read, with `workload.lease` below 10000.",
    /// A leader served a read by its lease.
    ReadByLease = "read_by_lease", swarm 200, storage 200,
        by "Read by lease, from a leader that has heard its followers lately.",
    /// A host served a read while its kernel's lease held, without asking.
    ReadUnasked = "read_unasked", swarm 200, storage never,
        by "Read by lease twice in short order from one member.",
    /// A follower served a read that its leader confirmed.
    ReadByFollower = "read_by_follower", swarm 200, storage 200,
        by "Read from any member (`workload.anywhere`).",
    /// A member that had lost its memory was told so by its group.
    WipeRefused = "wipe_refused", swarm 200, storage 200,
        by "Wipe a member's disk, and start it before it was added again.",
    /// A wiped member belongs to the group again.
    Readded = "readded", swarm 1000, storage 1000,
        by "Wipe a member's disk, and reconfigure it back into the group.",
    /// A witness acknowledged an entry without its payload.
    WitnessHeld = "witness_held", swarm 200, storage 200,
        by "Give the group a witness.",
    /// A disk had no room for more, and its member refused new work.
    NoRoom = "no_room", swarm 200, storage 1000,
        by "Fill a disk (the fault `disk_full`).",
    /// A member stopped since its disk had failed.
    DiskHalt = "disk_halt", swarm never, storage 200,
        by "Let syncs fail (the fault `sync_fails`).",
    /// A member found damage while it read its log back.
    DamageFound = "damage_found", swarm never, storage 500_000,
        by "Damage entries that have left the memory, and let a follower need them before the member restarts.",
    /// A member cut off what a crash had torn.
    TornTail = "torn_tail", swarm never, storage 500,
        by "Crash a member of the profile `storage` while it writes a batch of several blocks.",
    /// A member wrote again what may not have been durable.
    Rewritten = "rewritten", swarm never, storage 200,
        by "Crash a member of the profile `storage` while a sync is under way.",
    /// A member found that entries which it had acknowledged were damaged.
    EntriesLost = "entries_lost", swarm never, storage 500,
        by "Damage acknowledged entries on a disk (`rot_log`, `lost_write`), and restart its member.",
    /// A member with damage had everything again.
    Repaired = "repaired", swarm never, storage 200,
        by "Let a member with lost entries reach others that have them.",
    /// A disk was damaged beyond repair, and its member started anew under another incarnation.
    GaveUp = "gave_up", swarm never, storage 5000,
        by "Damage a disk in several places, such as all copies of the vote.",
    /// A member crashed while it recovered.
    CrashInRecovery = "crash_in_recovery", swarm never, storage 200,
        by "Crash a member of the profile `storage` again while it reads its log back.",
    /// A session had expired when its client came back.
    SessionExpired = "session_expired", swarm never, storage 10_000,
        by "Keep a client silent for longer than sessions last, while others write.",
    /// A member filled again from others what its disk had damaged.
    EntriesRepaired = "entries_repaired", swarm never, storage 500,
        by "Damage entries on one disk, and let another member send them again.",
    /// What could not be read of a disk could be read again.
    ReadsAgain = "reads_again", swarm never, storage 500,
        by "Let sectors be unreadable (the fault `rot`, with `Unreadable`) and their member repair them.",
    /// A member found a copy of its vote damaged.
    VoteDamaged = "vote_damaged", swarm never, storage 1000,
        by "Damage one copy of the vote (`rot_vote`), and restart the member.",
    /// A member found that the snapshot on which its log rests was damaged.
    SnapshotLost = "snapshot_lost", swarm never, storage 20_000,
        by "Damage a snapshot on a disk (`rot_snapshot`), and restart the member.",
    /// A full replica refused a request because too many were waiting, or too many bytes of queries.
    TooManyRequests = "too_many_requests", swarm never, storage 200,
        by "Ask more of a full replica than it takes on (`replica.limits`).",
    /// A client read entries of a log.
    LogRead = "log_read", swarm never, storage 200,
        by "Read entries of a log of the profile `storage`.",
    /// A client asked for entries that had left the log.
    LogReadCompacted = "log_read_compacted", swarm never, storage 200,
        by "Read from the beginning of a log that was compacted.",
    /// A client asked for entries that a disk had damaged.
    LogReadUnreadable = "log_read_unreadable", swarm never, storage 10_000,
        by "Damage entries that have left the memory, and read them before they are repaired.",
    /// A message that had been kept back came to a leader.
    OldMessageToLeader = "old_message_to_leader", swarm 200, storage 200,
        by "Keep messages back (`old_messages`) until their addressee is elected.",
    /// A message that had been kept back came to a member that had led.
    OldMessageToFormerLeader = "old_message_to_former_leader", swarm 200, storage 200,
        by "Keep messages back (`old_messages`) until their addressee has led and been deposed.",
    /// A member sent a command on to the leader.
    CommandSentOn = "command_sent_on", swarm never, storage 200,
        by "Let members send commands on (`replica.forward`), and ask one that does not lead.",
    /// A command came once more after its client had the answer.
    LateCommand = "late_command", swarm never, storage 200,
        by "Let commands of sessions come late (`replica.late`).",
    /// What an earlier life of a member had sent on came after what the present life had.
    EarlierLifeSentOn = "earlier_life_sent_on", swarm never, storage 2_000,
        by "Restart members that send commands on, and let those come late (`replica.late`).",
    /// What was sent on to an earlier life of a member came to the present one.
    SentOnToEarlierLife = "sent_on_to_earlier_life", swarm never, storage 2_000,
        by "Restart a leader to which commands are sent on, and let those come late (`replica.late`).",
    /// A leader that did not know of its successor was asked to read what the successor had acknowledged.
    StaleLeaderRead = "stale_leader_read", swarm 500, storage 500,
        by "Cut a leader off, let the others elect another, and read from both (`workload.probe`).",
    /// A leader was cut off just after its followers had answered.
    CutOffUnderLease = "cut_off_under_lease", swarm 2000, storage 2000,
        by "Draw a contest of the kind `cut_off`.",
    /// A leader was cut off just after a heartbeat, the answers to which came late.
    AnswersHeldUp = "answers_held_up", swarm 2000, storage 2000,
        by "Draw a contest of the kind `late_answers`.",
    /// Voters that a lease rested on started again when another member stood.
    PromiserRestarted = "promiser_restarted", swarm 2000, storage 2000,
        by "Draw a contest of the kind `restarted_voters`.",
    /// A member that had been bidden to take over stood against a leader that it alone did not hear.
    FormerSuccessorStood = "former_successor_stood", swarm 2000, storage 2000,
        by "Draw a contest of the kind `former_successor`.",
    /// A leader was cut off as soon as it had bidden another to take over.
    CutOffHandingOver = "cut_off_handing_over", swarm 2000, storage 2000,
        by "Draw a contest of the kind `handing_over`.",
    /// A bidding to take over came when its leader had given that up.
    BiddingCameLate = "bidding_came_late", swarm 2000, storage 5000,
        by "Draw a contest of the kind `late_bidding`.",
    /// A joint phase was known to a majority of the new voters and not of the old.
    JointHalfInformed = "joint_half_informed", swarm 2000, storage 2000,
        by "Draw a contest of the kind `half_of_joint`.",
    /// An answer to a question came to a member that had started again since, and asked another.
    EarlierAnswer = "earlier_answer", swarm 2000, storage 2000,
        by "Draw a contest of the kind `earlier_answer`.",
}
