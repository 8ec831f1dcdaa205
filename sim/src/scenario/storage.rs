//! Full replicas on simulated disks: what they are like, and what their disks do to them.

use super::{Scenario, ScenarioError};
use crate::stream::Stream;
use kontiki_core::types::NodeId;
use serde::{Deserialize, Serialize};

/// What full replicas are like: [`Replica`](kontiki_core::replica::Replica)s with their logs on simulated
/// disks.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaSpec {
    /// The size of a piece of the log, in blocks of 4 KiB.
    pub segment_blocks: u32,
    /// How many bytes of the log are read into memory when a member starts; the rest is read when it is
    /// needed.
    pub cached_bytes: u64,
    /// How many bytes of entries the state machine gets at a time.
    pub apply_bytes: u64,
    /// The size of the pieces in which snapshots are written and sent; some members' are by a byte or two
    /// larger.
    pub chunk_bytes: u32,
    /// How many pieces of a snapshot are asked for at a time.
    pub window: u32,
    /// How many snapshots are kept.
    pub keep_snapshots: u32,
    /// Odds that a client works in a session, and sends again what was not answered.
    pub sessions: u32,
    /// After how many entries without a word a session expires.
    pub session_idle: u64,
    /// Who speaks the older version of the wire format.
    pub old_wire: Vec<NodeId>,
    /// Whether members that do not lead send commands on to the leader.
    #[serde(default)]
    pub forward: bool,
    /// Odds that a command comes once more when it is too late: one that was sent on to a leader, or that its
    /// client has an answer to.
    #[serde(default)]
    pub late: u32,
}

/// What a disk damages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotten {
    /// Some of the log.
    Log,
    /// The last of the log.
    Tail,
    /// One copy of the vote.
    Vote,
    /// A snapshot.
    Snapshot,
}

/// How it damages it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// One bit is flipped.
    Bit,
    /// A sector reads as zeros.
    Blank,
    /// A sector reads as anything.
    Garbage,
    /// A sector cannot be read at all.
    Unreadable,
}

impl Decay {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Bit, Self::Blank, Self::Garbage, Self::Unreadable];
}

impl ReplicaSpec {
    pub(super) fn validate(&self) -> Result<(), ScenarioError> {
        let positive = [
            ("segment_blocks", self.segment_blocks > 3),
            ("apply_bytes", self.apply_bytes > 0),
            ("chunk_bytes", self.chunk_bytes > 0),
            ("window", self.window > 0),
            ("keep_snapshots", self.keep_snapshots > 0),
            ("session_idle", self.session_idle > 0),
        ];
        if let Some((what, _)) = positive.into_iter().find(|(_, positive)| !positive) {
            return Err(ScenarioError::Replica(what));
        }
        for (what, odds) in [("replica.sessions", self.sessions), ("replica.late", self.late)] {
            if odds > 10_000 {
                return Err(ScenarioError::Odds(what));
            }
        }
        Ok(())
    }

    /// Whether all members can ask for repair: the older version of the wire format has no such message.
    pub(super) fn can_repair(&self) -> bool {
        self.old_wire.is_empty()
    }
}

impl Scenario {
    /// Makes the members whole. From a stream of its own, so that all else stays as it was drawn.
    pub(super) fn add_storage(&mut self) {
        let mut stream = Stream::named(self.seed, "storage", 0);
        let ids = self.ids();
        // The older version has no words for what is damaged, nor for the bytes of snapshots.
        let mixed = self.snapshots.every == 0 && stream.coin();
        let old_wire: Vec<_> = ids.iter().copied().filter(|_| mixed && stream.coin()).collect();
        self.replica = Some(ReplicaSpec {
            segment_blocks: stream.skewed(4, 128) as u32,
            cached_bytes: if stream.coin() { stream.skewed(256, 1 << 16) } else { 1 << 26 },
            apply_bytes: if stream.coin() { stream.skewed(64, 4_096) } else { 1 << 20 },
            // What is large does not come in countless pieces.
            chunk_bytes: (stream.skewed(16, 4_096) as u32).max(self.workload.large_bytes / 16),
            window: stream.between(1, 4) as u32,
            keep_snapshots: stream.between(1, 3) as u32,
            sessions: if stream.coin() { stream.between(2_000, 10_000) as u32 } else { 0 },
            session_idle: if stream.below(3) == 0 { stream.skewed(20, 2_000) } else { 1 << 30 },
            old_wire,
            forward: false,
            late: 0,
        });
        self.add_late_commands();
    }

    /// Half of the members send commands on, and of half of them all commands may come late.
    fn add_late_commands(&mut self) {
        let mut stream = Stream::named(self.seed, "late commands", 0);
        let (forward, late) = (stream.coin(), stream.coin());
        let odds = stream.skewed(500, 10_000) as u32;
        if let Some(replica) = &mut self.replica {
            (replica.forward, replica.late) = (forward, if late { odds } else { 0 });
        }
    }
}
