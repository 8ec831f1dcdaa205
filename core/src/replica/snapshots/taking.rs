//! A snapshot of this member's own state, read and written piece by piece while the state goes on.

use crate::event::Event;
use crate::log::Snapshot;
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::common::ReplicaCommon;
use crate::replica::io::{Lane, MachineJob, Output, TaskId};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::replica::snapshots::files::partial;
use crate::replica::snapshots::keeping::{Kept, remove_files};
use crate::time::{Instant, Nanos};
use crate::types::{Index, LogId, RequestId};
use crate::wal::SnapshotWriter;
use alloc::vec::Vec;

/// When snapshots are taken, and the one that is being taken.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Taking {
    draft: Option<Draft>,
    /// A file is damaged, and a new snapshot must replace it even if the log has not grown.
    wanted: bool,
    /// The requests that wait for a snapshot to be taken.
    waiting: Vec<RequestId>,
    /// After a full disk: not before this instant.
    take_at: Instant,
    /// The entries applied since the last snapshot, and their size.
    entries_since: u64,
    bytes_since: u64,
    /// How much the log had written then.
    written_then: u64,
}

/// A snapshot on its way from the state machine to the disk. One piece is in memory at a time.
#[derive(Clone, PartialEq, Debug)]
struct Draft {
    task: TaskId,
    snapshot: Snapshot,
    writer: SnapshotWriter,
}

impl Taking {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            draft: None,
            wanted: false,
            waiting: Vec::new(),
            take_at: now,
            entries_since: 0,
            bytes_since: 0,
            written_then: 0,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn take_waiting(&mut self) -> Vec<RequestId> {
        core::mem::take(&mut self.waiting)
    }

    /// Takes a snapshot soon, unless one is being taken. A member that this does not help asks again.
    pub(super) fn want(&mut self) {
        self.wanted |= self.draft.is_none();
    }

    /// The file of this snapshot is damaged. Where the state machine has what was in it, another takes its
    /// place.
    pub(super) fn replace(&mut self, common: &ReplicaCommon, last: LogId) {
        self.wanted |= last == common.raft.status().snapshot;
    }

    /// The state machine has applied entries.
    pub(super) fn on_applied(&mut self, entries: u64, bytes: u64) {
        self.entries_since += entries;
        self.bytes_since = self.bytes_since.saturating_add(bytes);
    }

    /// There is a snapshot, or soon will be, of what is applied.
    pub(super) fn count_anew(&mut self, common: &ReplicaCommon) {
        (self.entries_since, self.bytes_since, self.written_then) = (0, 0, common.wal.written());
    }

    /// A request for a snapshot. It waits for one that is to be taken.
    pub(super) fn on_asked(
        &mut self,
        common: &ReplicaCommon,
        request: RequestId,
        is_fetching: bool,
        out: &mut Vec<Output>,
    ) {
        let refusal = if common.is_witness() {
            ReplicaRefusal::Witness
        } else if self.draft.is_some() || is_fetching {
            ReplicaRefusal::SnapshotUnderWay
        } else if common.raft.log().applied() == Index::ZERO {
            ReplicaRefusal::NothingToSnapshot
        } else {
            return self.waiting.push(request);
        };
        out.push(Output::Answer { request, answer: Answer::Refused(refusal) });
    }

    /// When a snapshot that found no space is tried again.
    pub(super) fn deadline(&self, common: &ReplicaCommon) -> Instant {
        let waits = common.now < self.take_at && self.is_due(common);
        if waits { self.take_at } else { Instant::NEVER }
    }

    fn is_due(&self, common: &ReplicaCommon) -> bool {
        let options = &common.options;
        self.wanted
            || self.bytes_since >= options.snapshot_every_bytes
            || common.wal.written() - self.written_then >= options.snapshot_every_bytes
            || self.entries_since >= options.snapshot_every_entries
    }

    /// Begins a snapshot if it is time for one, between two pieces of work of the state machine, which then
    /// `stands_at` an entry: so the snapshot is of exactly what the kernel knows to be applied. Returns its
    /// last entry, where one is begun.
    pub(super) fn take(
        &mut self,
        common: &mut ReplicaCommon,
        stands_at: Option<Index>,
        is_fetching: bool,
        out: &mut Vec<Output>,
    ) -> Option<LogId> {
        let is_asked = !self.waiting.is_empty();
        let is_due = common.now >= self.take_at && self.is_due(common);
        let is_free = self.draft.is_none() && !is_fetching;
        if !(is_asked || is_due) || !is_free || common.is_witness() {
            return None;
        }
        let at = stands_at.filter(|at| *at == common.raft.log().applied())?;
        let latest = common.raft.status().snapshot;
        if at == latest.index && !self.wanted {
            self.count_anew(common);
            self.answer_waiting(&Answer::Snapshot(latest), out);
            return None;
        }
        let Some(snapshot) = common.raft.snapshot_at(at).filter(|_| at > Index::ZERO) else {
            self.wanted = false;
            self.answer_waiting(&Answer::Refused(ReplicaRefusal::NothingToSnapshot), out);
            return None;
        };
        let last = snapshot.last;
        let task = common.next_task();
        let writer = SnapshotWriter::new(snapshot.clone(), common.options.snapshot_chunk_bytes);
        self.draft = Some(Draft { task, snapshot, writer });
        self.wanted = false;
        self.count_anew(common);
        out.push(Output::Machine(MachineJob::Snapshot(task)));
        self.read_on(common, out);
        Some(last)
    }

    /// What was read of the snapshot is written: read on.
    pub(super) fn read_on(&mut self, common: &ReplicaCommon, out: &mut Vec<Output>) {
        let Some(draft) = &self.draft else {
            return;
        };
        if common.phase.is_ending() {
            self.draft = None;
            return;
        }
        let max_bytes = common.options.snapshot_chunk_bytes;
        out.push(Output::Machine(MachineJob::Chunk { task: draft.task, max_bytes }));
    }

    /// The state machine has read on in the snapshot.
    pub(super) fn on_chunk(
        &mut self,
        common: &mut ReplicaCommon,
        task: TaskId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let Some(draft) = self.draft.as_mut().filter(|draft| draft.task == task) else {
            return;
        };
        let (job, operations) = if bytes.is_empty() {
            (SnapshotJob::TakenWhole, draft.writer.finish())
        } else {
            (SnapshotJob::Taken, draft.writer.push(bytes))
        };
        if operations.is_empty() {
            return self.read_on(common, out);
        }
        common.jobs.start(Job::Snapshot(job), Lane::Bulk, operations, out);
    }

    /// The snapshot that was taken is whole, and durable.
    pub(super) fn on_taken(&mut self, common: &mut ReplicaCommon, kept: &mut Kept, out: &mut Vec<Output>) {
        let Some(Draft { task, snapshot, .. }) = self.draft.take() else {
            return;
        };
        common.counters.snapshots_taken += 1;
        kept.add(snapshot.last, None);
        common.events.push_back(Event::SnapshotTaken(snapshot.last.index));
        out.push(Output::Machine(MachineJob::Forget(task)));
        self.answer_waiting(&Answer::Snapshot(snapshot.last), out);
    }

    /// There is no space for it. The log goes on without, and it is tried again later.
    pub(super) fn give_up(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        let Some(Draft { task, snapshot, .. }) = self.draft.take() else {
            return;
        };
        out.push(Output::Machine(MachineJob::Forget(task)));
        remove_files(&mut common.jobs, [partial(snapshot.last)], out);
        self.wanted = true;
        self.take_at = common.now + Nanos::from(common.options.full_disk_retry);
        self.answer_waiting(&Answer::Refused(ReplicaRefusal::DiskFull), out);
    }

    fn answer_waiting(&mut self, answer: &Answer, out: &mut Vec<Output>) {
        for request in self.take_waiting() {
            out.push(Output::Answer { request, answer: answer.clone() });
        }
    }
}
