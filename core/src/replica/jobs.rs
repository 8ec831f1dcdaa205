//! The disk jobs in progress, and the purpose of each.

use crate::event::EntriesLoaded;
use crate::replica::Replica;
use crate::replica::answer::Halt;
use crate::replica::io::{DiskJob, JobId, Lane, Output};
use crate::types::{Index, LogId, Member, NodeId};
use crate::wal::{DiskError, Extent, Operation};
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
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Replica {
    /// Hands a job out to the disk.
    pub(super) fn start(&mut self, job: Job, lane: Lane, operations: Vec<Operation>, out: &mut Vec<Output>) {
        self.jobs.last += 1;
        let id = JobId(self.jobs.last);
        self.jobs.open.insert(id, job);
        out.push(Output::Disk(DiskJob { id, lane, operations }));
    }

    pub(super) fn on_disk(
        &mut self,
        id: JobId,
        result: Result<Vec<Vec<u8>>, DiskError>,
        out: &mut Vec<Output>,
    ) {
        let Some(job) = self.jobs.open.remove(&id) else {
            return;
        };
        let result = match (job, result) {
            (Job::Upkeep, result) => return self.on_upkeep(result.map(|_| ()), out),
            (Job::Snapshot(job), result) => return self.on_snapshot_job(job, result, out),
            (job, Ok(read)) => (job, read.into_iter().next().unwrap_or_default()),
            (_, Err(error)) => return self.halt(Halt::Disk(error), out),
        };
        match result {
            (Job::Batch, _) => self.on_batch_written(false),
            (Job::Mark, _) => self.on_batch_written(true),
            (Job::Load { to, after, extent }, bytes) => match self.wal.entries(&extent, &bytes) {
                Ok(entries) => self.loaded(EntriesLoaded { to, after, entries }),
                Err(damage) => self.halt(Halt::Damaged(damage), out),
            },
            (Job::Apply(extent), bytes) => match self.wal.entries(&extent, &bytes) {
                Ok(entries) => self.on_read_back(entries, out),
                Err(damage) => self.halt(Halt::Damaged(damage), out),
            },
            (Job::Page { after, through, extent }, bytes) => {
                self.on_page_read((after, through, &extent), &bytes, out);
            }
            (Job::Upkeep | Job::Snapshot(_), _) => {}
        }
    }
}
