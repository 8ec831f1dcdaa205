//! A snapshot of this member's own state, read and written piece by piece while the state goes on.

use crate::event::Event;
use crate::log::Snapshot;
use crate::replica::Replica;
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::clients::Origin;
use crate::replica::io::{Lane, MachineJob, Output, TaskId};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::replica::snapshots::files::{file, partial};
use crate::time::{Instant, Nanos};
use crate::types::{Index, LogId, RequestId};
use crate::wal::SnapshotWriter;
use alloc::vec::Vec;

/// A snapshot on its way from the state machine to the disk. One piece is in memory at a time.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Taking {
    task: TaskId,
    snapshot: Snapshot,
    writer: SnapshotWriter,
}

impl Replica {
    pub(in crate::replica) fn on_snapshot_asked(&mut self, request: RequestId, out: &mut Vec<Output>) {
        let refusal = if self.raft.config().options().witness {
            ReplicaRefusal::Witness
        } else if self.snapshots.taking.is_some() || self.is_fetching() {
            ReplicaRefusal::SnapshotUnderWay
        } else if self.raft.log().applied() == Index::ZERO {
            ReplicaRefusal::NothingToSnapshot
        } else {
            return self.snapshots.waiting.push(request);
        };
        self.tell(Origin::Client(request), Answer::Refused(refusal), out);
    }

    /// When a snapshot that found no space is tried again.
    pub(super) fn taking_deadline(&self) -> Instant {
        let waits = self.now < self.snapshots.take_at && self.is_snapshot_due();
        if waits { self.snapshots.take_at } else { Instant::NEVER }
    }

    fn is_snapshot_due(&self) -> bool {
        let (applying, options) = (&self.applying, &self.options);
        self.snapshots.wanted
            || applying.bytes_since >= options.snapshot_every_bytes
            || self.wal.written() - applying.written_then >= options.snapshot_every_bytes
            || applying.entries_since >= options.snapshot_every_entries
    }

    /// Begins a snapshot if it is time for one, between two pieces of work of the state machine: so the
    /// snapshot is of exactly what the kernel knows to be applied.
    pub(super) fn take_snapshot(&mut self, out: &mut Vec<Output>) {
        let is_asked = !self.snapshots.waiting.is_empty();
        let is_due = self.now >= self.snapshots.take_at && self.is_snapshot_due();
        let is_free = self.snapshots.taking.is_none() && !self.is_fetching();
        if !(is_asked || is_due)
            || !is_free
            || !self.applying.is_idle()
            || self.raft.config().options().witness
        {
            return;
        }
        let at = self.applying.at;
        if self.raft.log().applied() != at || self.applying.is_to_restore() {
            return;
        }
        let latest = self.raft.status().snapshot;
        if at == latest.index && !self.snapshots.wanted {
            self.applying.count_anew(self.wal.written());
            return self.answer_waiting(&Answer::Snapshot(latest), out);
        }
        let Some(snapshot) = self.raft.snapshot_at(at).filter(|_| at > Index::ZERO) else {
            self.snapshots.wanted = false;
            return self.answer_waiting(&Answer::Refused(ReplicaRefusal::NothingToSnapshot), out);
        };
        let task = self.next_task();
        let writer = SnapshotWriter::new(snapshot.clone(), self.options.snapshot_chunk_bytes);
        self.snapshots.taking = Some(Taking { task, snapshot, writer });
        self.snapshots.wanted = false;
        self.applying.count_anew(self.wal.written());
        out.push(Output::Machine(MachineJob::Snapshot(task)));
        self.read_on(out);
    }

    /// What was read of the snapshot is written: read on.
    pub(super) fn read_on(&mut self, out: &mut Vec<Output>) {
        let Some(taking) = &self.snapshots.taking else {
            return;
        };
        if self.phase.is_ending() {
            self.snapshots.taking = None;
            return;
        }
        let max_bytes = self.options.snapshot_chunk_bytes;
        out.push(Output::Machine(MachineJob::Chunk { task: taking.task, max_bytes }));
    }

    /// The state machine has read on in the snapshot.
    pub(in crate::replica) fn on_snapshot_chunk(
        &mut self,
        task: TaskId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let Some(taking) = self.snapshots.taking.as_mut().filter(|taking| taking.task == task) else {
            return;
        };
        let (job, operations) = if bytes.is_empty() {
            (SnapshotJob::TakenWhole, taking.writer.finish())
        } else {
            (SnapshotJob::Taken, taking.writer.push(bytes))
        };
        if operations.is_empty() {
            return self.read_on(out);
        }
        self.start(Job::Snapshot(job), Lane::Bulk, operations, out);
    }

    /// The snapshot that was taken is whole, and durable.
    pub(super) fn taken(&mut self, out: &mut Vec<Output>) {
        let Some(Taking { task, snapshot, .. }) = self.snapshots.taking.take() else {
            return;
        };
        self.counters.snapshots_taken += 1;
        self.snapshots.files.insert(snapshot.last, None);
        self.snapshots.leftovers.retain(|(last, _)| *last != snapshot.last);
        self.events.push_back(Event::SnapshotTaken(snapshot.last.index));
        out.push(Output::Machine(MachineJob::Forget(task)));
        self.answer_waiting(&Answer::Snapshot(snapshot.last), out);
    }

    /// There is no space for it. The log goes on without, and it is tried again later.
    pub(super) fn give_up_taking(&mut self, out: &mut Vec<Output>) {
        let Some(Taking { task, snapshot, .. }) = self.snapshots.taking.take() else {
            return;
        };
        out.push(Output::Machine(MachineJob::Forget(task)));
        self.remove_file(partial(snapshot.last), out);
        self.snapshots.wanted = true;
        self.snapshots.take_at = self.now + Nanos::from(self.options.full_disk_retry);
        self.answer_waiting(&Answer::Refused(ReplicaRefusal::DiskFull), out);
    }

    fn answer_waiting(&mut self, answer: &Answer, out: &mut Vec<Output>) {
        for request in self.snapshots.take_waiting() {
            self.tell(Origin::Client(request), answer.clone(), out);
        }
    }

    /// The file of this snapshot is damaged. Where the state machine has what was in it, another takes its
    /// place.
    pub(super) fn replace_damaged(&mut self, last: LogId) {
        self.snapshots.files.remove(&last);
        self.snapshots.leftovers.push((last, file(last)));
        self.snapshots.wanted |= last == self.raft.status().snapshot;
    }
}
