//! A kernel alone: what its host plays for it, and what survives a crash.

use super::running::{Crashed, Up};
use crate::disk::{Disk, DiskModel, SyncTimes};
use crate::scenario::MemberSpec;
use crate::store::{Put, Store};
use crate::stream::Stream;
use kontiki_core::config::Config;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entries, EntryBody, Snapshot};
use kontiki_core::raft::Raft;
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, LogId};
use std::collections::VecDeque;

/// A kernel without a replica, and what it runs on.
#[derive(Debug)]
pub(crate) struct KernelOnly {
    pub(crate) disk: Disk,
    /// Whether the disk is full.
    pub(crate) full: bool,
    /// The snapshots on the disk, the oldest first.
    pub(crate) snapshots: VecDeque<Stored>,
    /// The state machine, whether it survives a crash or not, and how far it has got.
    pub(crate) store: Store,
    pub(crate) applied: Index,
    /// None while the member is down, and while it takes a step.
    pub(crate) running: Option<Box<Kernel>>,
}

/// A kernel that runs, and what its host does besides.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) raft: Raft,
    /// What the state machine is at work on.
    work: Option<Work>,
    /// How far it is told to apply after that, from which snapshot if from one.
    apply_through: Index,
    restore: Option<Snapshot>,
    /// The snapshot that is being fetched.
    pub(crate) fetching: Option<Snapshot>,
    /// Whether a snapshot is being taken.
    pub(crate) snapshotting: bool,
}

/// A snapshot with what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) snapshot: Snapshot,
    pub(crate) store: Store,
}

#[derive(Debug)]
enum Work {
    Apply { through: Index, puts: Vec<Put> },
    Restore(Stored),
}

/// How many snapshots a host keeps.
const KEPT: usize = 4;

impl KernelOnly {
    pub(crate) fn new(begin: Durable, times: SyncTimes) -> Self {
        Self {
            disk: Disk::new(DiskModel::new(begin), times),
            full: false,
            snapshots: VecDeque::new(),
            store: Store::default(),
            applied: Index::ZERO,
            running: None,
        }
    }

    /// Starts the kernel with what the disk holds. A state machine that was told to go on from a snapshot and
    /// did not get to it starts from the snapshot.
    pub(crate) fn start(&mut self, config: Config, local: Instant, keeps_state: bool) -> Result<Up, String> {
        if !keeps_state {
            self.applied = Index::ZERO;
        }
        if self.applied == Index::ZERO {
            self.store = Store::default();
        }
        let durable = Durable { applied: self.applied, ..self.disk.model.durable.clone() };
        let raft = Raft::restore(config, durable, local).map_err(|error| error.to_string())?;
        let up = Up::new(&self.disk.model, &raft);
        self.running = Some(Box::new(Kernel {
            raft,
            work: None,
            apply_through: self.applied,
            restore: None,
            fetching: None,
            snapshotting: false,
        }));
        Ok(up)
    }

    pub(crate) fn crash(&mut self) -> Crashed {
        self.running = None;
        Crashed::Power { lost: self.disk.crash(), torn: 0 }
    }

    pub(crate) fn wipe(&mut self) {
        self.disk.wipe();
        self.snapshots.clear();
        self.store = Store::default();
        self.applied = Index::ZERO;
    }

    /// The state machine shall apply more.
    pub(crate) fn apply(&mut self, through: Index) {
        if let Some(kernel) = &mut self.running {
            kernel.apply_through = through;
        }
    }

    /// The state machine shall begin anew from a snapshot.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        if let Some(kernel) = &mut self.running {
            kernel.apply_through = snapshot.last.index;
            kernel.restore = Some(snapshot);
        }
    }

    /// Gives the state machine all that is to be done, if it has nothing to do. Returns when it will be done;
    /// an error where what is to be done cannot be.
    pub(crate) fn start_apply(
        &mut self,
        now: u64,
        spec: &MemberSpec,
        stream: &mut Stream,
    ) -> Result<Option<u64>, String> {
        let Some(kernel) = self.running.as_mut().filter(|kernel| kernel.work.is_none()) else {
            return Ok(None);
        };
        let work = if let Some(snapshot) = kernel.restore.take() {
            let stored = self.snapshots.iter().find(|stored| stored.snapshot == snapshot);
            let missing = || format!("is to restore {snapshot}, and never got it");
            Work::Restore(stored.ok_or_else(missing)?.clone())
        } else if kernel.apply_through > self.applied {
            let through = kernel.apply_through;
            let entries = kernel.raft.log().entries(self.applied, through);
            if (entries.len() as u64) < through - self.applied {
                // A snapshot has taken their place, and will be restored once it is durable.
                if kernel.raft.status().snapshot.index < through {
                    return Err(format!("is to apply through {through}, and has not all of it in memory"));
                }
                kernel.apply_through = self.applied;
                return Ok(None);
            }
            let puts = entries.filter_map(|entry| match &entry.body {
                EntryBody::Data(payload) => Put::decode(payload),
                _ => None,
            });
            Work::Apply { through, puts: puts.collect() }
        } else {
            return Ok(None);
        };
        kernel.work = Some(work);
        Ok(Some(now + spec.apply_us * 1_000 + stream.below(50_000)))
    }

    /// The state machine is done with what it was given; how far that was.
    pub(crate) fn finish_apply(&mut self) -> Option<Index> {
        let through = match self.running.as_mut()?.work.take()? {
            Work::Apply { through, puts } => {
                puts.into_iter().for_each(|put| self.store.put(put));
                through
            }
            Work::Restore(Stored { snapshot, store }) => {
                self.store = store;
                snapshot.last.index
            }
        };
        self.applied = through;
        Some(through)
    }

    /// Begins a snapshot, if it is time for another one. Returns what it holds.
    pub(crate) fn begin_snapshot(&mut self, every: u64) -> Option<Stored> {
        let latest = self.snapshots.back().map_or(Index::ZERO, |stored| stored.snapshot.last.index);
        let kernel = self.running.as_mut()?;
        let is_busy = kernel.snapshotting || kernel.restore.is_some();
        if every == 0 || is_busy || self.applied.get() < latest.get() + every {
            return None;
        }
        let snapshot = kernel.raft.snapshot_at(self.applied)?;
        kernel.snapshotting = true;
        Some(Stored { snapshot, store: self.store.clone() })
    }

    /// This snapshot, where it is on the disk.
    pub(crate) fn stored(&self, snapshot: &Snapshot) -> Option<&Stored> {
        self.snapshots.iter().find(|stored| stored.snapshot == *snapshot)
    }

    /// A snapshot is on the disk. Old ones go, but not the one on which the log rests.
    pub(crate) fn keep(&mut self, stored: Stored) {
        self.snapshots.push_back(stored);
        self.snapshots.make_contiguous().sort_by_key(|stored| stored.snapshot.last.index);
        // A crash may take the log back to any snapshot that a write which is not yet durable rests on.
        let rests_on = self.disk.model.durable.snapshot.as_ref().map(|snapshot| snapshot.last);
        let is_old = |stored: &Stored| Some(stored.snapshot.last) < rests_on;
        while self.snapshots.len() > KEPT && self.snapshots.front().is_some_and(is_old) {
            self.snapshots.pop_front();
        }
    }

    /// Reads entries back from the disk.
    pub(crate) fn load(&self, after: LogId, through: Index, max_bytes: u64) -> Entries {
        read_back(&self.disk.model.durable, after, through, max_bytes)
    }
}

/// The entries on a disk after `after` through `through`, as many as fit into so many bytes, and at least
/// one; none where the log begins later.
pub(crate) fn read_back(disk: &Durable, after: LogId, through: Index, max_bytes: u64) -> Entries {
    let Some(skip) = after.index.get().checked_sub(disk.base.index.get()) else {
        return Entries::EMPTY;
    };
    let mut size = 0;
    let wanted = disk.entries.iter().skip(skip as usize).take_while(|entry| {
        let fits = size == 0 || size + entry.size() <= max_bytes;
        size += entry.size();
        fits && entry.id.index <= through
    });
    wanted.cloned().collect()
}
