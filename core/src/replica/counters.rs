//! Counters of rare events.

/// Counters of rare events that belong to no request.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReplicaCounters {
    /// Frames that were damaged, or held nothing that can be read.
    pub bad_frames: u64,
    /// Frames of a version that this member does not speak.
    pub unknown_versions: u64,
    /// What was not sent because the version that its addressee is known to speak cannot say it.
    pub unsupported_version: u64,
    /// Notes of strangers, to others, or to nothing that was asked.
    pub unexpected_messages: u64,
    /// Pieces of snapshots that were sent.
    pub pieces_sent: u64,
    /// Pieces of snapshots that came and were wanted.
    pub pieces_taken: u64,
    /// Pieces of snapshots that came and were not: copies, late ones, those of another snapshot, damaged
    /// ones.
    pub pieces_dropped: u64,
    /// Pieces of snapshots that were asked for again.
    pub pieces_asked_again: u64,
    /// Snapshots that were taken here.
    pub snapshots_taken: u64,
    /// Snapshots that were fetched whole.
    pub snapshots_fetched: u64,
    /// Snapshots that could not be had.
    pub snapshots_failed: u64,
    /// How often a fetch went on from where another had ended.
    pub fetches_resumed: u64,
    /// Commands that were sent on to the leader.
    pub forwarded: u64,
}
