//! The snapshot files of a directory.

use crate::durable::Durable;
use crate::log::Snapshot;
use crate::types::{Index, LogId};
use crate::wal::disk::{Disk, DiskError};
use crate::wal::recovery::files::Files;
use crate::wal::recovery::found::Found;
use crate::wal::snapshot_file::{SnapshotHeader, whole};
use alloc::vec::Vec;

/// The snapshots whose files exist.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) headers: Vec<SnapshotHeader>,
    pub(super) bad: Vec<LogId>,
    pub(super) partials: Vec<LogId>,
}

impl Shelf {
    pub(super) fn read<D: Disk>(disk: &mut D, files: &Files) -> Result<Self, DiskError> {
        let mut shelf = Self { partials: files.partials.clone(), ..Self::default() };
        for (last, _) in &files.snapshots {
            let bytes = SnapshotHeader::read(whole(*last)).perform(disk)?;
            match SnapshotHeader::decode(whole(*last), &bytes) {
                Ok(header) if header.snapshot().last == *last => shelf.headers.push(header),
                _ => shelf.bad.push(*last),
            }
        }
        Ok(shelf)
    }

    /// Whether the file of this snapshot exists and matches its digests.
    pub(super) fn holds<D: Disk>(&mut self, disk: &mut D, snapshot: &Snapshot) -> Result<bool, DiskError> {
        let last = snapshot.last;
        let Some(at) = self.headers.iter().position(|header| header.snapshot() == snapshot) else {
            return Ok(false);
        };
        if self.headers[at].verify(disk, whole(last))? {
            return Ok(true);
        }
        self.headers.remove(at);
        self.bad.push(last);
        Ok(false)
    }

    /// Reports the snapshots, and whether the one that the log rests on is lost.
    pub(super) fn tell<D: Disk>(
        mut self,
        disk: &mut D,
        durable: &mut Durable,
        found: Found,
    ) -> Result<Found, DiskError> {
        // A snapshot at index zero is the empty state, and has no file.
        if let Some(snapshot) = durable.snapshot.as_ref().filter(|snapshot| snapshot.last.index > Index::ZERO)
        {
            durable.snapshot_lost = !self.holds(disk, snapshot)?;
        }
        let snapshots = self.headers.iter().map(|header| header.snapshot().last).collect();
        Ok(Found { snapshots, bad_snapshots: self.bad, partial_snapshots: self.partials, ..found })
    }
}
