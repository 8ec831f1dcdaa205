//! The result of recovery.

use crate::durable::Durable;
use crate::types::LogId;
use crate::wal::log::Wal;
use crate::wal::operation::Operation;
use alloc::vec::Vec;

/// What a member's directory holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Recovery {
    /// The log, to go on with.
    pub wal: Wal,
    /// What the kernel starts from.
    pub durable: Durable,
    /// What recovery saw, for reports.
    pub found: Found,
    /// The operations that must all be carried out, in order, before the member may start: only then is the
    /// result durable. Empty after [`Wal::open`].
    pub first: Vec<Operation>,
}

/// What recovery saw, for reports.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Found {
    /// How many batches the log has, as far as they are read.
    pub batches: u64,
    /// How many of them are damaged, or missing between others.
    pub rotten_batches: u64,
    /// How many of their sectors are damaged.
    pub rotten_sectors: u64,
    /// How many batches were unfinished. They were never acknowledged, and are cut off.
    pub torn: u64,
    /// The lost entries, as runs: the entry before the first and the last one.
    pub lost: Vec<(LogId, LogId)>,
    /// How many entries are written again, because only their own batch shows that they are durable.
    pub rewritten: u64,
    /// How many of the two copies of the vote are unreadable or missing.
    pub bad_votes: u64,
    /// How many segments have a header that cannot be read.
    pub bad_segments: u64,
    /// The last entries of the snapshots whose files exist. The snapshot that the log rests on is listed only
    /// if its file is whole; of the others only the header was read.
    pub snapshots: Vec<LogId>,
    /// The last entries of the snapshots whose files were found damaged.
    pub bad_snapshots: Vec<LogId>,
    /// The last entries of the snapshots that were being taken or fetched. A fetch may be continued.
    pub partial_snapshots: Vec<LogId>,
}
