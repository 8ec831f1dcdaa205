//! The log's lane to the disk: one batch at a time (group commit). Writes that queue meanwhile form the next.

use crate::action::Write;
use crate::event::Event;
use crate::replica::answer::Halt;
use crate::replica::common::ReplicaCommon;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::Job;
use crate::time::{Instant, Nanos};
use crate::types::{LogId, WriteSeq};
use crate::wal::DiskError;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct LogLane {
    /// Whether a batch or a mark is on its way to the disk.
    writing: bool,
    /// When the last batch is to be marked as durable, unless another follows.
    mark_at: Option<Instant>,
    /// Whether the space for further segments is being made.
    upkeep: bool,
    /// A full disk is not tried again before this instant.
    upkeep_at: Instant,
    /// Whether the kernel was told that the disk is full.
    full: bool,
    /// Snapshots that the log rests on, each once this write is durable.
    rebases: VecDeque<(WriteSeq, LogId)>,
    /// The snapshot that the log on the disk rests on.
    rests_on: LogId,
}

impl LogLane {
    pub(super) fn new(rests_on: LogId, now: Instant) -> Self {
        Self {
            writing: false,
            mark_at: None,
            upkeep: false,
            upkeep_at: now,
            full: false,
            rebases: VecDeque::new(),
            rests_on,
        }
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing
    }

    /// Whether nothing is on its way to the disk, and no mark is due.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.writing && self.mark_at.is_none()
    }

    /// The next instant at which this lane has work without an input.
    pub(super) fn deadline(&self) -> Instant {
        let mark = self.mark_at.filter(|_| !self.writing).unwrap_or(Instant::NEVER);
        let retry = if self.full && !self.upkeep { self.upkeep_at } else { Instant::NEVER };
        mark.min(retry)
    }

    /// The snapshot that the log on the disk rests on.
    pub(super) fn rests_on(&self) -> LogId {
        self.rests_on
    }

    /// Queues a write of the kernel.
    pub(super) fn persist(&mut self, common: &mut ReplicaCommon, write: Write) {
        if let Some(rebase) = &write.rebase {
            self.rebases.push_back((write.seq, rebase.snapshot.last));
        }
        common.wal.submit(write);
    }

    /// Writes the queued writes. If none has queued for a while, marks the last batch as durable.
    pub(super) fn write(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        if self.writing {
            return;
        }
        if let Some(operations) = common.wal.next_job() {
            self.writing = true;
            self.mark_at = None;
            common.jobs.start(Job::Batch, Lane::Log, operations, out);
        } else if self.mark_at.is_some_and(|at| common.now >= at) {
            self.mark_at = None;
            if let Some(operations) = common.wal.mark() {
                self.writing = true;
                common.jobs.start(Job::Mark, Lane::Log, operations, out);
            }
        }
    }

    /// A batch is durable.
    pub(super) fn on_batch_written(&mut self, common: &mut ReplicaCommon) {
        let seq = self.on_written(common);
        let heartbeat = Nanos::from(common.raft.config().options().heartbeat_interval);
        self.mark_at = Some(common.now + heartbeat);
        common.events.push_back(Event::Persisted(seq));
    }

    /// A mark is on the disk. There may be another copy of the vote to bring up to date.
    pub(super) fn on_mark_written(&mut self, common: &mut ReplicaCommon) {
        self.on_written(common);
        self.mark_at = Some(common.now);
    }

    /// Returns the last write that is durable.
    fn on_written(&mut self, common: &mut ReplicaCommon) -> WriteSeq {
        self.writing = false;
        let seq = common.wal.completed();
        while let Some(&(rebased, last)) = self.rebases.front()
            && rebased <= seq
        {
            self.rests_on = last;
            self.rebases.pop_front();
        }
        seq
    }

    /// Prepares the next segment and removes segments that are no longer needed.
    pub(super) fn keep_up(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        if !self.upkeep
            && common.now >= self.upkeep_at
            && let Some(operations) = common.wal.upkeep()
        {
            self.upkeep = true;
            common.jobs.start(Job::Upkeep, Lane::Bulk, operations, out);
        }
        self.watch_room(common);
    }

    pub(super) fn on_upkeep(
        &mut self,
        common: &mut ReplicaCommon,
        result: Result<(), DiskError>,
    ) -> Result<(), Halt> {
        self.upkeep = false;
        match result {
            Ok(()) => common.wal.upkeep_done(Ok(())),
            Err(DiskError::Full) => {
                common.wal.upkeep_done(Err(&DiskError::Full));
                self.upkeep_at = common.now + Nanos::from(common.options.full_disk_retry);
            }
            Err(error) => return Err(Halt::Disk(error)),
        }
        Ok(())
    }

    /// Tells the kernel when the disk is full and when there is space again.
    fn watch_room(&mut self, common: &mut ReplicaCommon) {
        let full = !common.wal.has_room();
        if full != self.full {
            self.full = full;
            common.events.push_back(Event::DiskFull(full));
        }
    }
}
