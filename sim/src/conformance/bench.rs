//! The disk that what is under test sits on: a simulated one that counts its calls, and remembers how it was
//! before each.

use super::fault::Fault;
use crate::storage::{Call, SimDisk};
use kontiki_core::wal::{Disk, DiskError, FileName};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The kit's simulated disk, as it is handed to what is under test. A clone is the same disk: give it to as
/// many parts as there are.
#[derive(Clone, Debug)]
pub struct TestDisk(Arc<Mutex<Bench>>);

#[derive(Debug)]
struct Bench {
    disk: SimDisk,
    /// The calls that there were.
    calls: Vec<Asked>,
    /// The disk before each call that changes it; none unless captures were asked for.
    captures: Option<Vec<Capture>>,
    /// What will go wrong at which call.
    fault: Option<(u64, Fault)>,
    /// The call at which it went wrong.
    happened: Option<Asked>,
}

/// A disk before one call.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    pub(super) operation: u64,
    pub(super) asked: Asked,
    pub(super) disk: SimDisk,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    call: Call,
    file: Option<FileName>,
    at: u64,
    length: u64,
}

impl TestDisk {
    /// A disk in this state, on which nothing goes wrong.
    pub(super) fn of(disk: SimDisk) -> Self {
        Self(Arc::new(Mutex::new(Bench {
            disk,
            calls: Vec::new(),
            captures: None,
            fault: None,
            happened: None,
        })))
    }

    /// An empty disk that remembers how it was before each call.
    pub(super) fn capturing() -> Self {
        let disk = Self::of(SimDisk::default());
        disk.bench().captures = Some(Vec::new());
        disk
    }

    /// An empty disk on which this goes wrong.
    pub(super) fn with_fault(operation: u64, fault: Fault) -> Self {
        let disk = Self::of(SimDisk::default());
        disk.bench().fault = Some((operation, fault));
        disk
    }

    /// How it is now.
    pub(super) fn state(&self) -> SimDisk {
        self.bench().disk.clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut SimDisk)) {
        change(&mut self.bench().disk);
    }

    /// How many calls there were.
    pub(super) fn calls(&self) -> u64 {
        self.bench().calls.len() as u64
    }

    /// Which calls there were.
    pub(super) fn log(&self) -> Vec<Asked> {
        self.bench().calls.clone()
    }

    pub(super) fn take_captures(&self) -> Vec<Capture> {
        self.bench().captures.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The call at which something went wrong, if it has come.
    pub(super) fn happened(&self) -> Option<Asked> {
        self.bench().happened
    }

    fn bench(&self) -> MutexGuard<'_, Bench> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(
        &self,
        asked: Asked,
        perform: impl FnOnce(&mut SimDisk) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let mut bench = self.bench();
        let bench = &mut *bench;
        let operation = bench.calls.len() as u64;
        bench.calls.push(asked);
        if let Some(captures) = bench.captures.as_mut().filter(|_| !asked.only_reads()) {
            captures.push(Capture { operation, asked, disk: bench.disk.clone() });
        }
        if let Some((_, fault)) = bench.fault.take_if(|(at, _)| *at == operation)
            && asked.can(fault)
        {
            asked.arm(fault, &mut bench.disk);
            bench.happened = Some(asked);
        }
        perform(&mut bench.disk)
    }
}

impl Asked {
    fn of(call: Call, file: Option<FileName>) -> Self {
        Self { call, file, at: 0, length: 0 }
    }

    fn only_reads(&self) -> bool {
        matches!(self.call, Call::Read | Call::List)
    }

    /// Whether this can go wrong with this call.
    pub(super) fn can(&self, fault: Fault) -> bool {
        match fault {
            Fault::Fails => true,
            Fault::Full => matches!(self.call, Call::Create | Call::Write),
            Fault::Loses | Fault::Misdirects => self.call == Call::Write,
        }
    }

    fn arm(&self, fault: Fault, disk: &mut SimDisk) {
        match fault {
            Fault::Fails => disk.fail_next(self.call, self.file),
            Fault::Full => disk.set_space(Some(0)),
            Fault::Loses => disk.lose_next_write(self.file),
            Fault::Misdirects => {
                // A block or more too early, onto what was written before; at the beginning, too late.
                let distance = self.length.next_multiple_of(4096).max(4096);
                let elsewhere = self.at.checked_sub(distance).unwrap_or(self.at.saturating_add(distance));
                if let Some(file) = self.file {
                    disk.misdirect_next_write(self.file, file, elsewhere);
                }
            }
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.call, self.file) {
            (Call::List, _) => f.write_str("the listing of files"),
            (Call::SyncDirectory, _) => f.write_str("the sync of the directory"),
            (call, None) => write!(f, "the {call:?}"),
            (Call::Create, Some(file)) => write!(f, "the creation of {file} with {} bytes", self.length),
            (Call::Read, Some(file)) => {
                write!(f, "the reading of {} bytes at {} of {file}", self.length, self.at)
            }
            (Call::Write, Some(file)) => {
                write!(f, "the write of {} bytes at {} of {file}", self.length, self.at)
            }
            (Call::Sync, Some(file)) => write!(f, "the sync of {file}"),
            (Call::Rename, Some(file)) => write!(f, "the renaming of {file}"),
            (Call::Remove, Some(file)) => write!(f, "the removal of {file}"),
        }
    }
}

impl Disk for TestDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        self.call(Asked::of(Call::List, None), SimDisk::list)
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        let asked = Asked { call: Call::Create, file: Some(file), at: 0, length };
        self.call(asked, |disk| disk.create(file, length))
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let asked = Asked { call: Call::Read, file: Some(file), at, length: into.len() as u64 };
        self.call(asked, |disk| disk.read(file, at, into))
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let asked = Asked { call: Call::Write, file: Some(file), at, length: bytes.len() as u64 };
        self.call(asked, |disk| disk.write(file, at, bytes))
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        self.call(Asked::of(Call::Sync, Some(file)), |disk| disk.sync(file))
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        self.call(Asked::of(Call::Rename, Some(from)), |disk| disk.rename(from, to))
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.call(Asked::of(Call::Remove, Some(file)), |disk| disk.remove(file))
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.call(Asked::of(Call::SyncDirectory, None), SimDisk::sync_directory)
    }
}
