//! The options of a replica, beside the kernel's own: mainly the limits of what it may hold.

use crate::config::Options;
use crate::time::Nanos;
use crate::wire;
use core::fmt;
use core::time::Duration;

/// The settings of a [`Replica`](crate::replica::Replica), all of which have a default. Plain data: checked
/// by [`Replica::open`](crate::replica::Replica::open).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ReplicaOptions {
    /// How many requests may wait for their answers before further ones are refused as too many. Default
    /// 65,536.
    pub max_requests: usize,
    /// The largest query, in bytes. Default 1 MiB.
    pub max_query_bytes: u64,
    /// How many bytes of queries may wait before further ones are refused as too many; at least
    /// `max_query_bytes`. Default 64 MiB.
    pub max_waiting_query_bytes: u64,
    /// How many bytes of entries the state machine gets at a time; one larger entry still goes, alone.
    /// Default 1 MiB.
    pub apply_bytes: u64,
    /// A snapshot is taken when so many bytes of entries were applied since the last, or so many were written
    /// to the log: whole blocks, however small the entries are. Default 256 MiB.
    pub snapshot_every_bytes: u64,
    /// ... or so many entries. Default 1,000,000.
    pub snapshot_every_entries: u64,
    /// How large the pieces are in which a snapshot is written, checked and sent, in bytes; at most
    /// [`MAX_CHUNK_BYTES`]. Default 256 KiB.
    pub snapshot_chunk_bytes: u32,
    /// How many snapshots are kept, the one that the log rests on among them. Default 2.
    pub keep_snapshots: usize,
    /// How many chunks of a snapshot are asked for before the first of them has come: this many are in memory
    /// at most. Default 4.
    pub snapshot_window: u32,
    /// How many bytes of snapshots are sent in a second, to all followers together. Default 64 MiB.
    pub snapshot_bytes_per_second: u64,
    /// How long a chunk is waited for before it is asked for again. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub snapshot_timeout: Duration,
    /// How often in a row it is asked for again in vain before the snapshot counts as not to be had. Default
    /// 10.
    pub snapshot_retries: u32,
    /// How long a full disk is left alone before it is tried again. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub full_disk_retry: Duration,
    /// The latest wire format to speak: [`wire::VERSION`], or an older one while older members must be able
    /// to follow. Default the latest.
    pub wire_version: u8,
    /// How often a member that seems to speak an older format than this one is told that this one speaks a
    /// later. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub hello_interval: Duration,
    /// Whether a member that does not lead sends commands on to the leader, rather than refuse them. Default
    /// off.
    pub forward: bool,
    /// How long a command that was sent on is waited for before its outcome counts as unknown; one more
    /// second for each 64 KiB of it, as long as the member that it was sent to leads. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::time::span"))]
    pub forward_timeout: Duration,
    /// How many entries of the log a client gets at a time. Default 10,000.
    pub max_page_entries: u64,
    /// How many bytes of them; one larger entry still goes, alone. Default 1 MiB.
    pub max_page_bytes: u64,
}

/// The largest chunk of a snapshot, in bytes: what every member is ready to receive.
pub const MAX_CHUNK_BYTES: u32 = 1 << 20;

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self {
            max_requests: 1 << 16,
            max_query_bytes: 1 << 20,
            max_waiting_query_bytes: 64 << 20,
            apply_bytes: 1 << 20,
            snapshot_every_bytes: 256 << 20,
            snapshot_every_entries: 1_000_000,
            snapshot_chunk_bytes: 256 << 10,
            keep_snapshots: 2,
            snapshot_window: 4,
            snapshot_bytes_per_second: 64 << 20,
            snapshot_timeout: Duration::from_secs(1),
            snapshot_retries: 10,
            full_disk_retry: Duration::from_secs(1),
            wire_version: wire::VERSION,
            hello_interval: Duration::from_secs(1),
            forward: false,
            forward_timeout: Duration::from_secs(5),
            max_page_entries: 10_000,
            max_page_bytes: 1 << 20,
        }
    }
}

/// What is wrong with [`ReplicaOptions`], and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicaOptionsError {
    /// A limit is zero, and so nothing would ever be done.
    Zero(&'static str),
    /// Not even one query of the largest size may wait.
    NoRoomForQuery {
        /// The largest query, in bytes.
        max_query_bytes: u64,
        /// The bytes of queries that may wait.
        max_waiting_query_bytes: u64,
    },
    /// A chunk is larger than other members are ready to receive.
    ChunkTooLarge(u32),
    /// Not even one chunk may be sent before it counts as lost.
    SnapshotsTooSlow {
        /// The bytes that may be sent in a second.
        bytes_per_second: u64,
        /// The bytes of one chunk.
        chunk_bytes: u32,
    },
    /// This library does not speak this format.
    WireVersion(u8),
    /// The kernel was told that its host writes or applies synchronously. A replica does neither: its jobs
    /// run elsewhere, and report.
    Synchronous,
}

impl ReplicaOptions {
    /// Checks everything that can be checked about them, and that the options of the kernel are those of a
    /// replica's.
    ///
    /// ```
    /// use kontiki_core::config::Options;
    /// use kontiki_core::replica::{ReplicaOptions, ReplicaOptionsError};
    ///
    /// assert_eq!(ReplicaOptions::default().check(&Options::default()), Ok(()));
    /// let wrong = ReplicaOptions { keep_snapshots: 0, ..ReplicaOptions::default() };
    /// assert_eq!(wrong.check(&Options::default()), Err(ReplicaOptionsError::Zero("keep_snapshots")));
    /// ```
    pub fn check(&self, kernel: &Options) -> Result<(), ReplicaOptionsError> {
        let is_zero = [
            ("max_requests", self.max_requests == 0),
            ("max_query_bytes", self.max_query_bytes == 0),
            ("max_waiting_query_bytes", self.max_waiting_query_bytes == 0),
            ("apply_bytes", self.apply_bytes == 0),
            ("snapshot_every_bytes", self.snapshot_every_bytes == 0),
            ("snapshot_every_entries", self.snapshot_every_entries == 0),
            ("snapshot_chunk_bytes", self.snapshot_chunk_bytes == 0),
            ("keep_snapshots", self.keep_snapshots == 0),
            ("snapshot_window", self.snapshot_window == 0),
            ("snapshot_bytes_per_second", self.snapshot_bytes_per_second == 0),
            ("snapshot_timeout", self.snapshot_timeout.is_zero()),
            ("full_disk_retry", self.full_disk_retry.is_zero()),
            ("hello_interval", self.hello_interval.is_zero()),
            ("forward_timeout", self.forward_timeout.is_zero()),
            ("max_page_entries", self.max_page_entries == 0),
            ("max_page_bytes", self.max_page_bytes == 0),
        ];
        if let Some((name, _)) = is_zero.into_iter().find(|(_, zero)| *zero) {
            return Err(ReplicaOptionsError::Zero(name));
        }
        let Self { max_query_bytes, max_waiting_query_bytes, .. } = *self;
        if max_waiting_query_bytes < max_query_bytes {
            return Err(ReplicaOptionsError::NoRoomForQuery { max_query_bytes, max_waiting_query_bytes });
        }
        let chunk_bytes = self.snapshot_chunk_bytes;
        if chunk_bytes > MAX_CHUNK_BYTES {
            return Err(ReplicaOptionsError::ChunkTooLarge(chunk_bytes));
        }
        if !(wire::OLDEST..=wire::VERSION).contains(&self.wire_version) {
            return Err(ReplicaOptionsError::WireVersion(self.wire_version));
        }
        let bytes_per_second = self.snapshot_bytes_per_second;
        let sent = u128::from(bytes_per_second) * u128::from(Nanos::from(self.snapshot_timeout).get());
        if sent < u128::from(chunk_bytes) * 1_000_000_000 {
            return Err(ReplicaOptionsError::SnapshotsTooSlow { bytes_per_second, chunk_bytes });
        }
        if kernel.synchronous_writes || kernel.synchronous_apply {
            return Err(ReplicaOptionsError::Synchronous);
        }
        Ok(())
    }
}

impl fmt::Display for ReplicaOptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(name) => write!(f, "{name} is zero: set at least 1, or nothing is ever done"),
            Self::NoRoomForQuery { max_query_bytes, max_waiting_query_bytes } => write!(
                f,
                "max_waiting_query_bytes is {max_waiting_query_bytes}, so that no query of max_query_bytes \
                 {max_query_bytes} is ever taken in: set it to at least that, or max_query_bytes lower"
            ),
            Self::ChunkTooLarge(bytes) => {
                write!(
                    f,
                    "snapshot_chunk_bytes is {bytes}: set at most {MAX_CHUNK_BYTES}, which is what others receive"
                )
            }
            Self::SnapshotsTooSlow { bytes_per_second, chunk_bytes } => write!(
                f,
                "snapshot_bytes_per_second {bytes_per_second} lets no chunk of {chunk_bytes} bytes through within \
                 snapshot_timeout: make chunks smaller, or the timeout longer"
            ),
            Self::WireVersion(version) => write!(
                f,
                "wire_version is {version}: set it from {} to {}, which this library speaks",
                wire::OLDEST,
                wire::VERSION
            ),
            Self::Synchronous => f.write_str(
                "synchronous_writes and synchronous_apply are for hosts of the bare kernel: leave both off for a \
                 replica, which goes on while its disk and its state machine are at work",
            ),
        }
    }
}

impl core::error::Error for ReplicaOptionsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn each_wrong_value_has_its_own_error_that_says_what_to_do() {
        let with = |change: fn(&mut ReplicaOptions)| {
            let mut options = ReplicaOptions::default();
            change(&mut options);
            options.check(&Options::default())
        };
        let slow =
            ReplicaOptionsError::SnapshotsTooSlow { bytes_per_second: 1 << 10, chunk_bytes: 256 << 10 };
        let cases = [
            (with(|o| o.max_requests = 0), ReplicaOptionsError::Zero("max_requests")),
            (
                with(|o| o.max_waiting_query_bytes = o.max_query_bytes - 1),
                ReplicaOptionsError::NoRoomForQuery {
                    max_query_bytes: 1 << 20,
                    max_waiting_query_bytes: (1 << 20) - 1,
                },
            ),
            (with(|o| o.snapshot_window = 0), ReplicaOptionsError::Zero("snapshot_window")),
            (with(|o| o.snapshot_timeout = Duration::ZERO), ReplicaOptionsError::Zero("snapshot_timeout")),
            (
                with(|o| o.snapshot_chunk_bytes = (1 << 20) + 1),
                ReplicaOptionsError::ChunkTooLarge((1 << 20) + 1),
            ),
            (with(|o| o.snapshot_bytes_per_second = 1 << 10), slow),
            (with(|o| o.wire_version = 0), ReplicaOptionsError::WireVersion(0)),
            (with(|o| o.wire_version = 4), ReplicaOptionsError::WireVersion(4)),
        ];
        for (got, expected) in cases {
            assert_eq!(got, Err(expected));
            assert!(expected.to_string().contains(':'), "{expected} should say what to do after a colon");
        }
    }
}
