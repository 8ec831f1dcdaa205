//! The work of the state machine: one job at a time. Replication does not wait for it.

use crate::event::{EntriesLoaded, Event};
use crate::log::{Entries, Entry, Snapshot};
use crate::machine;
use crate::machine::{ApplyError, BadSnapshot};
use crate::replica::Replica;
use crate::replica::answer::{Answer, Halt};
use crate::replica::io::{Lane, MachineDone, MachineJob, Output, TaskId};
use crate::replica::jobs::Job;
use crate::types::{Index, LogId, NodeId};
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Applying {
    /// How far the state machine has applied the log.
    pub(super) at: Index,
    /// How far it must apply the log.
    pub(super) through: Index,
    /// Set where it must first be restored from this snapshot.
    restore: Option<Snapshot>,
    pub(super) work: Work,
    /// The entries applied since the last snapshot.
    pub(super) bytes_since: u64,
    pub(super) entries_since: u64,
    /// How much the log had written then.
    pub(super) written_then: u64,
}

/// The present job of the state machine.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Work {
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

impl Applying {
    pub(super) fn new(at: Index) -> Self {
        Self {
            at,
            through: at,
            restore: None,
            work: Work::Nothing,
            bytes_since: 0,
            entries_since: 0,
            written_then: 0,
        }
    }

    /// There is a snapshot, or soon will be, of what is applied.
    pub(super) fn count_anew(&mut self, written: u64) {
        (self.bytes_since, self.entries_since, self.written_then) = (0, 0, written);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.work == Work::Nothing
    }

    /// Whether it must be restored from a snapshot and has not begun yet.
    pub(super) fn is_to_restore(&self) -> bool {
        self.restore.is_some()
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
}

impl Replica {
    /// The kernel asks for a restoration, which replaces its earlier requests.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        self.applying.through = snapshot.last.index;
        self.applying.restore = Some(snapshot);
    }

    /// Gives the state machine its next job, if it is idle.
    pub(super) fn apply(&mut self, out: &mut Vec<Output>) {
        if !self.applying.is_idle() {
            return;
        }
        if let Some(snapshot) = self.applying.restore.take() {
            let task = self.next_task();
            self.applying.work = Work::Restoring { task, snapshot: snapshot.clone(), chunk: 0 };
            return self.read_to_restore(snapshot.last, 0, out);
        }
        let Applying { at, through, .. } = self.applying;
        if through <= at {
            return;
        }
        let log = self.raft.log();
        if log.base() > at {
            // A snapshot has replaced the entries to apply: it will be restored.
            self.applying.through = at;
            return;
        }
        if log.evicted() > at {
            return self.read_back(at, through.min(log.evicted()), out);
        }
        let entries = fitting(log.entries(at, through), self.options.apply_bytes);
        self.hand_over(entries, out);
    }

    fn hand_over(&mut self, entries: Entries, out: &mut Vec<Output>) {
        let Some(last) = entries.last() else { return };
        let bytes = entries.iter().map(Entry::size).sum();
        self.applying.work = Work::Applying { through: last.id.index, bytes };
        out.push(Output::Machine(MachineJob::Apply(entries)));
    }

    /// Reads entries that are no longer in memory from the disk, as many as one job may hold.
    fn read_back(&mut self, after: Index, through: Index, out: &mut Vec<Output>) {
        if let Some(extent) = self.wal.locate(after, through, self.options.apply_bytes) {
            self.applying.work = Work::ReadingBack;
            let read = extent.read();
            self.start(Job::Apply(extent), Lane::Bulk, alloc::vec![read], out);
        }
    }

    /// Entries to apply were read back; a snapshot may have taken their place meanwhile.
    pub(super) fn on_read_back(&mut self, entries: Entries, out: &mut Vec<Output>) {
        self.applying.work = Work::Nothing;
        let Applying { at, through, .. } = self.applying;
        if self.applying.restore.is_some() || self.phase.is_ending() {
            return;
        }
        let wanted = entries.iter().filter(|entry| entry.id.index > at && entry.id.index <= through);
        let entries = fitting(wanted, self.options.apply_bytes);
        self.hand_over(entries, out);
    }

    pub(super) fn on_machine(&mut self, done: MachineDone, out: &mut Vec<Output>) {
        match done {
            MachineDone::Applied { result } => self.on_applied(result, out),
            MachineDone::Queried { read, answer } => {
                if let Some(reading) = self.clients.read(read) {
                    let (index, until) = (reading.index, reading.until);
                    self.tell(reading.origin, Answer::Read { index, until, answer }, out);
                }
            }
            MachineDone::Chunk { task, bytes } => self.on_snapshot_chunk(task, &bytes, out),
            MachineDone::Fed { task, result } => self.on_fed(task, result, out),
            MachineDone::Restored { task, result } => self.on_restored(task, result, out),
        }
    }

    fn on_applied(
        &mut self,
        result: Result<(Index, Vec<(Index, machine::Answer)>), ApplyError>,
        out: &mut Vec<Output>,
    ) {
        let Work::Applying { through, bytes } = self.applying.work else {
            return;
        };
        let (applied, answers) = match result {
            Ok(applied) => applied,
            Err(error) => return self.halt(Halt::Apply(error), out),
        };
        assert_eq!(applied, through, "the state machine applies what it is given");
        self.applying.entries_since += through - self.applying.at;
        self.applying.bytes_since = self.applying.bytes_since.saturating_add(bytes);
        self.has_applied(through);
        self.tell_all(|clients, told| clients.applied(through, answers, told), out);
    }

    fn has_applied(&mut self, through: Index) {
        self.applying.at = through;
        self.applying.work = Work::Nothing;
        self.events.push_back(Event::Applied(through));
    }

    /// A piece of the snapshot that is to be restored has been read.
    pub(super) fn feed(&mut self, bytes: Vec<u8>, out: &mut Vec<Output>) {
        let Work::Restoring { task, .. } = self.applying.work else {
            return;
        };
        if self.gives_up_restoring() {
            return;
        }
        out.push(Output::Machine(MachineJob::Feed { task, bytes }));
    }

    fn on_fed(&mut self, task: TaskId, result: Result<(), BadSnapshot>, out: &mut Vec<Output>) {
        let (last, next) = match &mut self.applying.work {
            Work::Restoring { task: current, snapshot, chunk } if *current == task => {
                *chunk += 1;
                (snapshot.last, *chunk)
            }
            _ => return,
        };
        if self.gives_up_restoring() {
            return;
        }
        match result {
            Ok(()) => self.read_to_restore(last, next, out),
            Err(error) => self.halt(Halt::Restore(error), out),
        }
    }

    /// All of the snapshot has been read and fed.
    pub(super) fn finish_restore(&mut self, out: &mut Vec<Output>) {
        if let Work::Restoring { task, snapshot, .. } = &self.applying.work {
            let (task, snapshot) = (*task, snapshot.clone());
            out.push(Output::Machine(MachineJob::Restore { task, snapshot }));
        }
    }

    fn on_restored(&mut self, task: TaskId, result: Result<LogId, BadSnapshot>, out: &mut Vec<Output>) {
        let through = match &self.applying.work {
            Work::Restoring { task: current, snapshot, .. } if *current == task => snapshot.last.index,
            _ => return,
        };
        if let Err(error) = result {
            return self.halt(Halt::Restore(error), out);
        }
        self.applying.count_anew(self.wal.written());
        self.has_applied(through);
        // Entries through the snapshot are applied, but their answers are known only on the member that took
        // it.
        self.tell_all(|clients, told| clients.passed(through, told), out);
    }

    /// Whether the restoration is superseded: another snapshot must be restored, or the member is stopping.
    fn gives_up_restoring(&mut self) -> bool {
        let gives_up = self.applying.restore.is_some() || self.phase.is_ending();
        if gives_up {
            self.applying.work = Work::Nothing;
        }
        gives_up
    }

    /// The kernel asks for entries, for a follower that lags behind the entries in memory.
    pub(super) fn load(
        &mut self,
        to: NodeId,
        after: LogId,
        through: Index,
        max_bytes: u64,
        out: &mut Vec<Output>,
    ) {
        match self.wal.locate(after.index, through, max_bytes) {
            Some(extent) => {
                let read = extent.read();
                self.start(Job::Load { to, after, extent }, Lane::Bulk, alloc::vec![read], out);
            }
            None => self.loaded(EntriesLoaded { to, after, entries: Entries::EMPTY }),
        }
    }

    pub(super) fn loaded(&mut self, loaded: EntriesLoaded) {
        self.events.push_back(Event::EntriesLoaded(loaded));
    }
}

/// As many of these entries as fit, but at least one.
pub(super) fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>, max_bytes: u64) -> Entries {
    let mut size = 0_u64;
    let fits = |entry: &&Entry| {
        let first = size == 0;
        size = size.saturating_add(entry.size());
        first || size <= max_bytes
    };
    entries.take_while(fits).cloned().collect()
}
