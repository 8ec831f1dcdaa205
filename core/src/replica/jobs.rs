//! The disk jobs in progress, and the purpose of each.

use crate::replica::io::{DiskJob, JobId, Lane, Output};
use crate::types::{Index, LogId, Member, NodeId};
use crate::wal::{Extent, Operation};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The purpose of a disk job.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Job {
    /// Writes of the kernel.
    Batch,
    /// The mark that the last batch is durable.
    Mark,
    /// Space for further batches.
    Upkeep,
    /// Entries for a follower that lags behind.
    Load { to: NodeId, after: LogId, extent: Extent },
    /// Entries to apply.
    Apply(Extent),
    /// Entries for a client, after this index through that.
    Page { after: Index, through: Index, extent: Extent },
    /// A snapshot job.
    Snapshot(SnapshotJob),
}

/// The purpose of a disk job about snapshots.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum SnapshotJob {
    /// The header of a file that is to be restored.
    HeaderToRestore,
    /// A chunk of it.
    ChunkToRestore,
    /// A piece of the snapshot that is being taken is written.
    Taken,
    /// The snapshot that was taken is whole.
    TakenWhole,
    /// The header of a file that another member fetches.
    HeaderToSend(LogId),
    /// A piece for a member that fetches it.
    PieceToSend { to: Member, last: LogId, piece: u64 },
    /// A piece of what was fetched before, read back.
    Checked { last: LogId, piece: u64 },
    /// A piece that was fetched is written.
    Fetched { last: LogId, edition: u64, piece: u64 },
    /// The snapshot that was fetched is whole.
    FetchedWhole(LogId),
    /// Files that are not needed any more.
    Remove,
}

/// The jobs in progress.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Jobs {
    last: u64,
    open: BTreeMap<JobId, Job>,
}

impl Jobs {
    /// Hands a job out to the disk.
    pub(super) fn start(&mut self, job: Job, lane: Lane, operations: Vec<Operation>, out: &mut Vec<Output>) {
        self.last += 1;
        let id = JobId(self.last);
        self.open.insert(id, job);
        out.push(Output::Disk(DiskJob { id, lane, operations }));
    }

    /// The disk is done with a job. Returns its purpose, unless it is none of those in progress.
    pub(super) fn finish(&mut self, id: JobId) -> Option<Job> {
        self.open.remove(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
