//! Is this storage safe? A kit that finds out, of any [`Disk`] and of any log store.
//!
//! What is under test sits on a simulated disk. The kit lets it go through a workload (votes, entries small
//! and large, entries overwritten, the log compacted, a snapshot installed), cuts the run off before every
//! call to the disk in every way in which a process can die and power can fail, opens it again, and compares.
//! Then once more for each call to the disk with that call failing, with the disk full from there on, and
//! with the write lost or landing elsewhere; and for each sector with that sector rotten. The first promise
//! that is broken comes back as a [`Violation`], with the one call that shows it again.
//!
//! A disk of your own is put over the kit's, and our own log over that. This one trusts a sync that has
//! failed once it is tried again:
//!
//! ```
//! use kontiki_core::wal::{Disk, DiskError, FileName};
//! use kontiki_sim::conformance::{self, TestDisk};
//!
//! struct MyDisk(TestDisk);
//!
//! impl Disk for MyDisk {
//!     fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
//!         self.0.sync(file).or_else(|_| self.0.sync(file))
//!     }
//!     // The rest as it should be.
//! #     fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> { self.0.list() }
//! #     fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> { self.0.create(file, length) }
//! #     fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> { self.0.read(file, at, into) }
//! #     fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> { self.0.write(file, at, bytes) }
//! #     fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> { self.0.rename(from, to) }
//! #     fn remove(&mut self, file: FileName) -> Result<(), DiskError> { self.0.remove(file) }
//! #     fn sync_directory(&mut self) -> Result<(), DiskError> { self.0.sync_directory() }
//! }
//!
//! let violation = conformance::disk(|kit| Ok(MyDisk(kit))).unwrap_err();
//! println!("{violation}");
//! assert!(violation.during.contains("after something went wrong with the sync of"));
//! // The same point again, alone: with a debugger, or with more to print.
//! assert_eq!(conformance::disk_at(violation.point, |kit| Ok(MyDisk(kit))), Err(violation));
//! ```
//!
//! A log store of your own implements [`LogStore`], and keeps its files on the [`TestDisk`] that it is given.
//! This one keeps nothing:
//!
//! ```
//! use kontiki_core::{action::Write, durable::Durable, types::WriteSeq};
//! use kontiki_sim::conformance::{self, LogStore, Rule, StoreError};
//!
//! struct Forgetful(WriteSeq);
//!
//! impl LogStore for Forgetful {
//!     fn write(&mut self, write: &Write) -> Result<(), StoreError> {
//!         self.0 = write.seq;
//!         Ok(())
//!     }
//!     fn sync(&mut self) -> Result<WriteSeq, StoreError> {
//!         Ok(self.0)
//!     }
//! }
//!
//! let violation = conformance::store(|_disk| Ok((Forgetful(WriteSeq::ZERO), Durable::default()))).unwrap_err();
//! assert_eq!(violation.rule, Rule::KeepsTheVote);
//! ```
//!
//! What it does not find: reads that are slow, a cache of the operating system that lies about `fsync`
//! altogether, and what two processes do to one directory.

mod bench;
mod judge;
mod point;
mod run;
mod script;
#[cfg(test)]
mod tests;
mod wal_store;

pub use bench::TestDisk;
pub use point::{Crash, Fault, Passed, Point, Rule, Violation};

use bench::Asked;
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::Snapshot;
use kontiki_core::types::WriteSeq;
use kontiki_core::wal::{Disk, DiskError};
use run::{Run, Trial};
use std::fmt;
use wal_store::WalStore;

/// A log store, as the kit asks it. All its calls wait until they are done.
pub trait LogStore {
    /// Takes a write, in the order of their numbers. It need not be durable yet.
    ///
    /// [`StoreError::Full`] says that it was not taken; the kit comes with it again once there is space.
    fn write(&mut self, write: &Write) -> Result<(), StoreError>;

    /// Makes durable what was taken, and says through which write everything is.
    ///
    /// [`StoreError::Full`] says that what was taken waits for space; the kit asks again once there is some.
    fn sync(&mut self) -> Result<WriteSeq, StoreError>;

    /// There is nothing to do for a while: whatever is done in the background is done now. Afterwards, damage
    /// to what was acknowledged must be noticed.
    fn idle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Stores a snapshot, durably: the log is about to rest on it. For a store that keeps them; one that does
    /// not leaves it alone.
    fn snapshot(&mut self, _snapshot: &Snapshot, _bytes: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// There is no space left. Nothing is lost, and it goes on when there is some.
    Full,
    /// Anything else. The store is of no use any more, and is opened anew.
    Failed(String),
}

/// Runs a log store through everything. `open` opens what is on a disk, and says what it found there, or why
/// it cannot go on.
///
/// `open` is called thousands of times, each time on another disk; whatever it returns is dropped without
/// notice, as in a crash.
pub fn store<S: LogStore>(
    open: impl Fn(TestDisk) -> Result<(S, Durable), StoreError>,
) -> Result<Passed, Box<Violation>> {
    let mut passed = Passed::default();
    let calls = run(&open, Trial { fault: None, only: None }, &mut passed)?;
    for fault in [Fault::Fails, Fault::Full, Fault::Loses, Fault::Misdirects] {
        let possible = calls.iter().zip(0..).filter(|(call, _)| call.can(fault));
        for (_, operation) in possible {
            run(&open, Trial { fault: Some((operation, fault)), only: None }, &mut passed)?;
        }
    }
    passed.operations = calls.len() as u64;
    Ok(passed)
}

/// Runs a log store to one point alone: what a [`Violation`] tells to show it again.
pub fn store_at<S: LogStore>(
    point: Point,
    open: impl Fn(TestDisk) -> Result<(S, Durable), StoreError>,
) -> Result<Passed, Box<Violation>> {
    let mut passed = Passed::default();
    run(&open, Trial { fault: point.fault, only: Some(point) }, &mut passed)?;
    Ok(passed)
}

/// Runs our own log over a disk of yours through everything. `over` opens the disk over the kit's: what it
/// would do to an operating system's files, it does to that.
pub fn disk<D: Disk>(over: impl Fn(TestDisk) -> Result<D, DiskError>) -> Result<Passed, Box<Violation>> {
    store(|disk| WalStore::open(over(disk)?)).map_err(of_disk)
}

/// Runs our own log over a disk of yours to one point alone: what a [`Violation`] tells to show it again.
pub fn disk_at<D: Disk>(
    point: Point,
    over: impl Fn(TestDisk) -> Result<D, DiskError>,
) -> Result<Passed, Box<Violation>> {
    store_at(point, |disk| WalStore::open(over(disk)?)).map_err(of_disk)
}

fn of_disk(mut violation: Box<Violation>) -> Box<Violation> {
    violation.replay = "disk_at";
    violation
}

fn run<S: LogStore>(
    open: &impl Fn(TestDisk) -> Result<(S, Durable), StoreError>,
    trial: Trial,
    passed: &mut Passed,
) -> Result<Vec<Asked>, Box<Violation>> {
    Run::new(open, trial, passed).run()
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full => Self::Full,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}
