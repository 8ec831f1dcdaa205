//! The work of the state machine: one job at a time. Replication does not wait for it.

use crate::event::Event;
use crate::log::{Entries, Entry, Snapshot};
use crate::machine;
use crate::machine::{ApplyError, BadSnapshot};
use crate::replica::answer::Halt;
use crate::replica::common::ReplicaCommon;
use crate::replica::io::{Lane, MachineJob, Output, TaskId};
use crate::replica::jobs::Job;
use crate::types::{Index, LogId};
use crate::wal::Extent;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Applying {
    /// How far the state machine has applied the log.
    at: Index,
    /// How far it must apply the log.
    through: Index,
    /// Set where it must first be restored from this snapshot.
    restore: Option<Snapshot>,
    work: Work,
}

/// The present job of the state machine.
#[derive(Clone, PartialEq, Debug)]
enum Work {
    Nothing,
    /// Entries to apply are read back from the disk.
    ReadingBack,
    /// It applies entries, of this size, through this one.
    Applying {
        through: Index,
        bytes: u64,
    },
    /// It is being restored from a snapshot, piece by piece.
    Restoring {
        task: TaskId,
        snapshot: Snapshot,
        chunk: u64,
    },
}

/// The chunk of a snapshot that a restoration needs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    pub(super) last: LogId,
    pub(super) number: u64,
}

/// What a restoration is fed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// The content of the chunk that it needed.
    Content(Vec<u8>),
    /// There is no such chunk: it has had all of the snapshot.
    End,
}

/// What the state machine has applied.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Applied {
    pub(super) through: Index,
    pub(super) entries: u64,
    /// The size of these entries.
    pub(super) bytes: u64,
    pub(super) answers: Vec<(Index, machine::Answer)>,
}

impl Applying {
    pub(super) fn new(at: Index) -> Self {
        Self { at, through: at, restore: None, work: Work::Nothing }
    }

    /// How far the state machine has applied the log.
    pub(super) fn at(&self) -> Index {
        self.at
    }

    pub(super) fn is_idle(&self) -> bool {
        self.work == Work::Nothing
    }

    /// Where the state machine stands, between two pieces of work. None while it works, or must first be
    /// restored.
    pub(super) fn stands_at(&self) -> Option<Index> {
        (self.is_idle() && self.restore.is_none()).then_some(self.at)
    }

    /// The present restoration: its snapshot, and the chunk that it needs.
    pub(super) fn restoring(&self) -> Option<(&Snapshot, Chunk)> {
        match &self.work {
            Work::Restoring { snapshot, chunk, .. } => {
                Some((snapshot, Chunk { last: snapshot.last, number: *chunk }))
            }
            _ => None,
        }
    }

    /// The snapshot that it is restored from, now or next.
    pub(super) fn restores(&self) -> Option<LogId> {
        match &self.work {
            Work::Restoring { snapshot, .. } => Some(snapshot.last),
            _ => self.restore.as_ref().map(|snapshot| snapshot.last),
        }
    }

    /// How far it will have applied the log once its present job is done.
    pub(super) fn reaches(&self) -> Index {
        match self.work {
            Work::Applying { through, .. } => through,
            _ => self.at,
        }
    }

    /// The kernel has committed entries: they are to be applied.
    pub(super) fn apply_through(&mut self, through: Index) {
        self.through = through;
    }

    /// The kernel asks for a restoration, which replaces its earlier requests.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        self.through = snapshot.last.index;
        self.restore = Some(snapshot);
    }

    /// Gives the state machine its next job, if it is idle. A restoration begins with a chunk.
    pub(super) fn apply(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) -> Option<Chunk> {
        if !self.is_idle() {
            return None;
        }
        if let Some(snapshot) = self.restore.take() {
            let (task, last) = (common.next_task(), snapshot.last);
            self.work = Work::Restoring { task, snapshot, chunk: 0 };
            return Some(Chunk { last, number: 0 });
        }
        let Self { at, through, .. } = *self;
        if through <= at {
            return None;
        }
        let log = common.raft.log();
        if log.base() > at {
            // A snapshot has replaced the entries to apply: it will be restored.
            self.through = at;
        } else if log.evicted() > at {
            let through = through.min(log.evicted());
            self.read_back(common, through, out);
        } else {
            let entries = log.fitting(at, through, common.options.apply_bytes);
            self.hand_over(entries, out);
        }
        None
    }

    fn hand_over(&mut self, entries: Entries, out: &mut Vec<Output>) {
        let Some(last) = entries.last() else { return };
        let bytes = entries.iter().map(Entry::size).sum();
        self.work = Work::Applying { through: last.id.index, bytes };
        out.push(Output::Machine(MachineJob::Apply(entries)));
    }

    /// Reads entries that are no longer in memory from the disk, as many as one job may hold.
    fn read_back(&mut self, common: &mut ReplicaCommon, through: Index, out: &mut Vec<Output>) {
        if let Some(extent) = common.wal.locate(self.at, through, common.options.apply_bytes) {
            self.work = Work::ReadingBack;
            let read = extent.read();
            common.jobs.start(Job::Apply(extent), Lane::Bulk, alloc::vec![read], out);
        }
    }

    /// Entries to apply were read back; a snapshot may have taken their place meanwhile.
    pub(super) fn on_read_back(
        &mut self,
        common: &ReplicaCommon,
        extent: &Extent,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let entries = common.wal.entries(extent, bytes).map_err(Halt::Damaged)?;
        self.work = Work::Nothing;
        let Self { at, through, .. } = *self;
        if self.restore.is_none() && !common.phase.is_ending() {
            let wanted = entries.iter().filter(|entry| entry.id.index > at && entry.id.index <= through);
            let entries = Entries::fitting(wanted, common.options.apply_bytes);
            self.hand_over(entries, out);
        }
        Ok(())
    }

    pub(super) fn on_applied(
        &mut self,
        common: &mut ReplicaCommon,
        result: Result<(Index, Vec<(Index, machine::Answer)>), ApplyError>,
    ) -> Result<Option<Applied>, Halt> {
        let Work::Applying { through, bytes } = self.work else {
            return Ok(None);
        };
        let (applied, answers) = result.map_err(Halt::Apply)?;
        assert_eq!(applied, through, "the state machine applies what it is given");
        let entries = through - self.at;
        self.has_applied(common, through);
        Ok(Some(Applied { through, entries, bytes, answers }))
    }

    fn has_applied(&mut self, common: &mut ReplicaCommon, through: Index) {
        self.at = through;
        self.work = Work::Nothing;
        common.events.push_back(Event::Applied(through));
    }

    /// Feeds the restoration with what it needed.
    pub(super) fn feed(&mut self, common: &ReplicaCommon, part: Part, out: &mut Vec<Output>) {
        let Work::Restoring { task, ref snapshot, .. } = self.work else {
            return;
        };
        let job = match part {
            Part::End => MachineJob::Restore { task, snapshot: snapshot.clone() },
            Part::Content(_) if self.gives_up_restoring(common) => return,
            Part::Content(bytes) => MachineJob::Feed { task, bytes },
        };
        out.push(Output::Machine(job));
    }

    /// The state machine has taken what it was fed with. Returns the chunk that it needs next.
    pub(super) fn on_fed(
        &mut self,
        common: &ReplicaCommon,
        task: TaskId,
        result: Result<(), BadSnapshot>,
    ) -> Result<Option<Chunk>, Halt> {
        let next = match &mut self.work {
            Work::Restoring { task: current, snapshot, chunk } if *current == task => {
                *chunk += 1;
                Chunk { last: snapshot.last, number: *chunk }
            }
            _ => return Ok(None),
        };
        if self.gives_up_restoring(common) {
            return Ok(None);
        }
        result.map_err(Halt::Restore)?;
        Ok(Some(next))
    }

    /// The state machine is restored. Returns through which entry.
    pub(super) fn on_restored(
        &mut self,
        common: &mut ReplicaCommon,
        task: TaskId,
        result: Result<LogId, BadSnapshot>,
    ) -> Result<Option<Index>, Halt> {
        let through = match &self.work {
            Work::Restoring { task: current, snapshot, .. } if *current == task => snapshot.last.index,
            _ => return Ok(None),
        };
        result.map_err(Halt::Restore)?;
        self.has_applied(common, through);
        Ok(Some(through))
    }

    /// Whether the restoration is superseded: another snapshot must be restored, or the member is stopping.
    fn gives_up_restoring(&mut self, common: &ReplicaCommon) -> bool {
        let gives_up = self.restore.is_some() || common.phase.is_ending();
        if gives_up {
            self.work = Work::Nothing;
        }
        gives_up
    }
}
