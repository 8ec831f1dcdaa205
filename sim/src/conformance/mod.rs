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
mod fault;
mod judge;
mod point;
mod run;
mod script;
mod store;
#[cfg(test)]
mod tests;
mod wal_store;

pub use bench::TestDisk;
pub use fault::Fault;
pub use point::{Crash, Passed, Point, Rule, Violation};
pub use store::{LogStore, StoreError};

use bench::Asked;
use kontiki_core::durable::Durable;
use kontiki_core::wal::{Disk, DiskError};
use run::{Run, Trial};
use wal_store::WalStore;

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
