//! Full replicas on simulated disks: what they are like, and what their disks do to them.

use super::{Scenario, ScenarioError};
use crate::stream::Stream;
use kontiki_core::replica::ReplicaOptions;
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
    /// What each takes on at most.
    #[serde(default)]
    pub limits: ReplicaLimits,
}

/// What a full replica takes on at most, and how it paces its snapshots: settings of the same names in
/// [`ReplicaOptions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaLimits {
    /// How many requests may wait.
    pub max_requests: usize,
    /// The largest query, in bytes.
    pub max_query_bytes: u64,
    /// How many bytes of queries may wait.
    pub max_waiting_query_bytes: u64,
    /// How many entries of the log a client gets at a time.
    pub max_page_entries: u64,
    /// How many bytes of them.
    pub max_page_bytes: u64,
    /// A snapshot is due after so many bytes of entries, if any are taken by themselves at all.
    pub snapshot_every_bytes: u64,
    /// How many bytes of snapshots are sent in a second.
    pub snapshot_bytes_per_second: u64,
    /// How often in a row a piece of a snapshot is asked for again.
    pub snapshot_retries: u32,
}

impl Default for ReplicaLimits {
    /// Hardly ever met by what clients of a simulation ask.
    fn default() -> Self {
        let usual = ReplicaOptions::default();
        Self {
            max_requests: usual.max_requests,
            max_query_bytes: usual.max_query_bytes,
            max_waiting_query_bytes: usual.max_waiting_query_bytes,
            max_page_entries: 24,
            max_page_bytes: usual.max_page_bytes,
            snapshot_every_bytes: u64::MAX,
            snapshot_bytes_per_second: 1 << 30,
            snapshot_retries: usual.snapshot_retries,
        }
    }
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
        let least =
            [("segment_blocks", u64::from(self.segment_blocks), 4), ("session_idle", self.session_idle, 1)];
        if let Some((what, _, least)) = least.into_iter().find(|(_, set, least)| set < least) {
            return Err(ScenarioError::Replica(what, least));
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
            limits: ReplicaLimits::default(),
        });
        self.add_late_commands();
        self.add_limits();
        self.widen_batches();
    }

    /// Each limit is tight in half of the scenarios. Pages are always short.
    fn add_limits(&mut self) {
        let mut stream = Stream::named(self.seed, "limits", 0);
        let takes_snapshots = self.snapshots.every > 0;
        let Some(replica) = &mut self.replica else { return };
        let usual = ReplicaLimits::default();
        let mut tight = |low, high, usual| {
            let limit = stream.skewed(low, high);
            if stream.coin() { limit } else { usual }
        };
        let every_bytes = tight(1 << 12, 1 << 18, u64::MAX);
        let max_query_bytes = tight(1 << 5, 1 << 12, usual.max_query_bytes);
        let room = tight(1, 8, usual.max_waiting_query_bytes / usual.max_query_bytes);
        // Many pieces in a second, and much: what falls behind for good is a matter of settings.
        let piece = u64::from(replica.chunk_bytes);
        replica.limits = ReplicaLimits {
            max_requests: tight(4, 64, usual.max_requests as u64) as usize,
            max_query_bytes,
            max_waiting_query_bytes: room * max_query_bytes,
            max_page_entries: tight(1, 64, usual.max_page_entries),
            max_page_bytes: tight(1 << 6, 1 << 12, usual.max_page_bytes),
            snapshot_every_bytes: if takes_snapshots { every_bytes } else { u64::MAX },
            snapshot_bytes_per_second: tight(
                (100 * piece).max(1 << 16),
                1 << 22,
                usual.snapshot_bytes_per_second,
            ),
            snapshot_retries: tight(1, 9, u64::from(usual.snapshot_retries)) as u32,
        };
    }

    /// Makes batches of the log wide, in a quarter of the scenarios, but not where links carry only so much:
    /// entries stand on both sides of what damage hits. A slow state machine gets a batch at a time.
    fn widen_batches(&mut self) {
        let mut stream = Stream::named(self.seed, "wide batches", 0);
        if stream.below(4) > 0 || self.network.bandwidth.is_some() {
            return;
        }
        let (bytes, batch) = (stream.between(300, 1_500), stream.between(4, 16));
        self.workload.payload_bytes = bytes as u32;
        self.workload.batch = batch as u32;
        if let Some(replica) = &mut self.replica {
            replica.apply_bytes = replica.apply_bytes.max(batch * bytes);
        }
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
