//! A disk that does everything that disks do: one simulated directory of files, whose every lie is asked for
//! or drawn from a seed.
//!
//! [`SimDisk`] keeps two states: what reads show, and what is on the medium. Writes and changes of names
//! reach the medium by a sync, or in a crash, of which each may lose, keep or tear whatever no sync has
//! covered. Beyond crashes, which are free, it can be told to break its word: to fail a sync and forget what
//! it should have covered, to lose a write that it has acknowledged or put it elsewhere, to rot, to be full,
//! to be unreadable.
//!
//! ```
//! use kontiki_core::wal::{Disk as _, FileName};
//! use kontiki_sim::storage::{Plan, SimDisk};
//!
//! let mut disk = SimDisk::default();
//! let file = FileName::Segment(1);
//! disk.create(file, 8)?;
//! disk.sync(file)?;
//! disk.sync_directory()?;
//! disk.write(file, 0, b"durable?")?;
//! disk.crash_at(Plan::TearAfter(0, 3));
//!
//! let mut left = [0; 8];
//! disk.read(file, 0, &mut left)?;
//! assert_eq!(&left, b"dur\0\0\0\0\0");
//! # Ok::<(), kontiki_core::wal::DiskError>(())
//! ```

mod armed;
mod content;
mod crash;
mod fault;
mod file;
mod naming;
#[cfg(test)]
mod tests;

pub use armed::Call;
pub use crash::{Fate, Lost, Plan};
pub use fault::Rot;
pub use naming::Change;

use armed::Armed;
use file::{File, WriteState};
use kontiki_core::wal::{Disk, DiskError, FileName};
use naming::{FileId, Naming};
use std::collections::BTreeMap;

/// A simulated directory of files. Equal ones have seen the same; a clone goes its own way, and shares what
/// neither changes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct SimDisk {
    files: BTreeMap<FileId, File>,
    /// What each file was called last.
    called: BTreeMap<FileId, FileName>,
    /// The names that reads see.
    shown: BTreeMap<FileName, FileId>,
    /// The names on the medium.
    medium: BTreeMap<FileName, FileId>,
    /// Changes of names that the medium does not have, the oldest first.
    namings: Vec<Naming>,
    /// The number of the next change, and of the next file.
    next: u64,
    capacity: Option<u64>,
    armed: Vec<Armed>,
    counters: DiskCounters,
    /// How many bytes of each block were read, where that is counted.
    reads: Option<BTreeMap<(FileName, u64), u64>>,
}

/// What was done to a disk, and what it did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct DiskCounters {
    /// Writes carried out, the lost and the misdirected ones included.
    pub writes: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Syncs of files that were carried out.
    pub syncs: u64,
    /// Syncs of the directory that were carried out.
    pub directory_syncs: u64,
    /// Crashes.
    pub crashes: u64,
    /// Syncs, of files or of the directory, that failed.
    pub failed_syncs: u64,
    /// Other calls that failed.
    pub failed_calls: u64,
    /// Reads of what cannot be read any more.
    pub unreadable_reads: u64,
    /// Writes that were acknowledged and lost.
    pub lost_writes: u64,
    /// Writes that were acknowledged and landed elsewhere.
    pub misdirected_writes: u64,
    /// How often something rotted.
    pub rotten: u64,
    /// What was refused because the disk was full.
    pub refused_full: u64,
}

impl SimDisk {
    /// Limits the room that is left: so many bytes more can be taken by new files and by files that grow.
    /// `None` is no limit.
    pub fn set_space(&mut self, bytes: Option<u64>) {
        self.capacity = bytes.map(|bytes| self.used().saturating_add(bytes));
    }

    /// From now on it is counted how often each block is read.
    pub fn count_reads(&mut self) {
        self.reads = Some(BTreeMap::new());
    }

    /// How often the block was read that was read most since [`count_reads`](Self::count_reads), each piece
    /// of it counted for its part. No further reads are counted.
    pub fn take_reads(&mut self) -> u64 {
        let most = self.reads.take().and_then(|reads| reads.into_values().max());
        most.unwrap_or(0).div_ceil(BLOCK)
    }

    fn note_read(&mut self, file: FileName, at: u64, length: u64) {
        let Some(reads) = &mut self.reads else { return };
        for block in at / BLOCK..(at + length).div_ceil(BLOCK) {
            let piece = (at + length).min((block + 1) * BLOCK) - at.max(block * BLOCK);
            *reads.entry((file, block)).or_default() += piece;
        }
    }

    /// What was done to it, and what it did.
    pub fn counters(&self) -> DiskCounters {
        self.counters
    }

    fn used(&self) -> u64 {
        self.shown.values().map(|id| self.files[id].len() as u64).sum()
    }

    fn take_space(&mut self, bytes: u64) -> Result<(), DiskError> {
        if bytes > LARGEST
            || self.capacity.is_some_and(|capacity| self.used().saturating_add(bytes) > capacity)
        {
            self.counters.refused_full += 1;
            return Err(DiskError::Full);
        }
        Ok(())
    }

    fn id(&self, file: FileName) -> Result<FileId, DiskError> {
        self.shown.get(&file).copied().ok_or(DiskError::Missing(file))
    }

    fn file(&mut self, file: FileName) -> Result<&mut File, DiskError> {
        let id = self.id(file)?;
        Ok(self.files.get_mut(&id).expect("what has a name is there"))
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn change_names(&mut self, change: Change, id: Option<FileId>) {
        let mut naming = Naming { order: self.next(), change, id, displaced: [None; 2], dropped: false };
        naming.displaced = naming.apply(&mut self.shown);
        self.namings.push(naming);
    }

    /// Of files that have lost a name those are gone that no name leads to. No change of names waits.
    fn forget_nameless(&mut self, displaced: Vec<FileId>) {
        for id in displaced {
            if !self.shown.values().chain(self.medium.values()).any(|named| *named == id) {
                self.files.remove(&id);
                self.called.remove(&id);
            }
        }
    }
}

impl Disk for SimDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        self.fails(Call::List, None)?;
        Ok(self.shown.iter().map(|(name, id)| (*name, self.files[id].len() as u64)).collect())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        self.fails(Call::Create, Some(file))?;
        self.take_space(length)?;
        let id = FileId(self.next());
        self.change_names(Change::Created(file), Some(id));
        let mut made = File::default();
        made.write(self.next(), position(length)?, &[], WriteState::Waiting);
        self.files.insert(id, made);
        self.called.insert(id, file);
        Ok(())
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.fails(Call::Read, Some(file))?;
        self.note_read(file, at, into.len() as u64);
        match self.file(file)?.read(at, into) {
            Ok(length) => Ok(length),
            Err(bad) => {
                self.counters.unreadable_reads += 1;
                Err(DiskError::Failed(format!("bytes {} to {} of {file} cannot be read", bad.start, bad.end)))
            }
        }
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let end = at.saturating_add(bytes.len() as u64);
        let grows = end.saturating_sub(self.file(file)?.len() as u64);
        if grows > 0 {
            self.take_space(grows)?;
        }
        let at = position(at)?;
        if let Err(error) = self.fails(Call::Write, Some(file)) {
            let order = self.next();
            self.file(file)?.write(order, at, &bytes[..bytes.len() / 2], WriteState::Waiting);
            return Err(error);
        }
        let state = self.lie(file, bytes);
        let order = self.next();
        self.file(file)?.write(order, at, bytes, state);
        self.counters.writes += 1;
        self.counters.bytes_written += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        self.id(file)?;
        if let Err(error) = self.fails(Call::Sync, Some(file)) {
            self.file(file)?.drop_waiting();
            return Err(error);
        }
        self.file(file)?.sync();
        self.counters.syncs += 1;
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        let id = self.id(from)?;
        self.fails(Call::Rename, Some(from))?;
        if from != to {
            self.change_names(Change::Renamed { from, to }, Some(id));
            self.called.insert(id, to);
        }
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.id(file)?;
        self.fails(Call::Remove, Some(file))?;
        self.change_names(Change::Removed(file), None);
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        if let Err(error) = self.fails(Call::SyncDirectory, None) {
            for naming in &mut self.namings {
                naming.dropped = true;
            }
            return Err(error);
        }
        let mut displaced = Vec::new();
        for naming in std::mem::take(&mut self.namings) {
            displaced.extend(naming.displaced.into_iter().flatten());
            if !naming.dropped {
                displaced.extend(naming.apply(&mut self.medium).into_iter().flatten());
            }
        }
        self.forget_nameless(displaced);
        self.counters.directory_syncs += 1;
        Ok(())
    }
}

fn position(at: u64) -> Result<usize, DiskError> {
    usize::try_from(at).map_err(|_| DiskError::Failed(format!("no file reaches {at} bytes")))
}

/// In what pieces reads are counted.
const BLOCK: u64 = 4_096;

/// No simulated file grows by more at once: a length that was read from garbage must not take all memory.
const LARGEST: u64 = 1 << 32;
