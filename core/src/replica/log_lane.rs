//! The log's lane to the disk: one batch at a time (group commit). Writes that queue meanwhile form the next.

use crate::event::Event;
use crate::replica::Replica;
use crate::replica::answer::Halt;
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
    pub(super) full: bool,
    /// Snapshots that the log rests on, each once this write is durable.
    rebases: VecDeque<(WriteSeq, LogId)>,
    /// The snapshot that the log on the disk rests on.
    pub(super) rests_on: LogId,
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
}

impl Replica {
    /// Queues a write of the kernel.
    pub(super) fn persist(&mut self, write: crate::action::Write) {
        if let Some(rebase) = &write.rebase {
            self.log.rebases.push_back((write.seq, rebase.snapshot.last));
        }
        self.wal.submit(write);
    }

    /// Writes the queued writes. If none has queued for a while, marks the last batch as durable.
    pub(super) fn write_log(&mut self, out: &mut Vec<Output>) {
        if self.log.writing {
            return;
        }
        if let Some(operations) = self.wal.next_job() {
            self.log.writing = true;
            self.log.mark_at = None;
            self.start(Job::Batch, Lane::Log, operations, out);
        } else if self.log.mark_at.is_some_and(|at| self.now >= at) {
            self.log.mark_at = None;
            if let Some(operations) = self.wal.mark() {
                self.log.writing = true;
                self.start(Job::Mark, Lane::Log, operations, out);
            }
        }
    }

    pub(super) fn on_batch_written(&mut self, is_mark: bool) {
        self.log.writing = false;
        let seq = self.wal.completed();
        while let Some(&(rebased, last)) = self.log.rebases.front()
            && rebased <= seq
        {
            self.log.rests_on = last;
            self.log.rebases.pop_front();
        }
        if is_mark {
            // There may be another copy of the vote to bring up to date.
            self.log.mark_at = Some(self.now);
        } else {
            let heartbeat = Nanos::from(self.raft.config().options().heartbeat_interval);
            self.log.mark_at = Some(self.now + heartbeat);
            self.events.push_back(Event::Persisted(seq));
        }
    }

    /// Prepares the next segment and removes segments that are no longer needed.
    pub(super) fn keep_up(&mut self, out: &mut Vec<Output>) {
        if !self.log.upkeep
            && self.now >= self.log.upkeep_at
            && let Some(operations) = self.wal.upkeep()
        {
            self.log.upkeep = true;
            self.start(Job::Upkeep, Lane::Bulk, operations, out);
        }
        self.watch_room();
    }

    pub(super) fn on_upkeep(&mut self, result: Result<(), DiskError>, out: &mut Vec<Output>) {
        self.log.upkeep = false;
        match result {
            Ok(()) => self.wal.upkeep_done(Ok(())),
            Err(DiskError::Full) => {
                self.wal.upkeep_done(Err(&DiskError::Full));
                self.log.upkeep_at = self.now + Nanos::from(self.options.full_disk_retry);
            }
            Err(error) => self.halt(Halt::Disk(error), out),
        }
    }

    /// Tells the kernel when the disk is full and when there is space again.
    fn watch_room(&mut self) {
        let full = !self.wal.has_room();
        if full != self.log.full {
            self.log.full = full;
            self.events.push_back(Event::DiskFull(full));
        }
    }
}
