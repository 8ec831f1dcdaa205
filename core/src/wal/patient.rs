//! Reading a disk of which some sectors cannot be read.

use crate::wal::disk::{Disk, DiskError, FileName};
use crate::wal::sector::SECTOR;

/// A disk whose unreadable sectors read as damaged ones, so that one bad sector does not make the rest
/// unreadable. A disk of which no sector can be read stays an error.
pub(super) struct Patient<'d, D> {
    disk: &'d mut D,
    /// Whether anything could be read.
    alive: bool,
}

/// The stand-in for an unreadable byte: neither a valid nor an unfinished sector consists of it.
const UNREADABLE: u8 = 0xff;

impl<'d, D: Disk> Patient<'d, D> {
    pub(super) fn new(disk: &'d mut D) -> Self {
        Self { disk, alive: false }
    }

    /// Reads sector by sector, and leaves out those that cannot be read.
    fn read_around(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let (mut read, mut first_error) = (0, None);
        while read < into.len() {
            let from = at + read as u64;
            let to_next = SECTOR - (from % SECTOR as u64) as usize;
            let piece = read..(read + to_next).min(into.len());
            match self.disk.read(file, from, &mut into[piece.clone()]) {
                Ok(bytes) => {
                    self.alive = true;
                    read += bytes;
                    if bytes < piece.len() {
                        return Ok(read);
                    }
                }
                Err(error) => {
                    into[piece.clone()].fill(UNREADABLE);
                    first_error.get_or_insert(error);
                    read = piece.end;
                }
            }
        }
        match first_error {
            Some(error) if !self.alive => Err(error),
            _ => Ok(read),
        }
    }
}

impl<D: Disk> Disk for Patient<'_, D> {
    fn list(&mut self) -> Result<alloc::vec::Vec<(FileName, u64)>, DiskError> {
        self.disk.list()
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        self.disk.create(file, length)
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        match self.disk.read(file, at, into) {
            Err(DiskError::Failed(_)) => self.read_around(file, at, into),
            read => {
                self.alive |= read.is_ok();
                read
            }
        }
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write(file, at, bytes)
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        self.disk.sync(file)
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.disk.remove(file)
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.disk.sync_directory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::MemoryDisk;
    use alloc::vec;
    use alloc::vec::Vec;

    /// A disk that cannot read these sectors.
    struct Worn {
        disk: MemoryDisk,
        bad: Vec<u64>,
    }

    impl Disk for Worn {
        fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
            self.disk.list()
        }
        fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
            self.disk.create(file, length)
        }
        fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
            let sectors = at / SECTOR as u64..=(at + into.len().max(1) as u64 - 1) / SECTOR as u64;
            if self.bad.iter().any(|bad| sectors.contains(bad)) {
                return Err(DiskError::Failed("unreadable".into()));
            }
            self.disk.read(file, at, into)
        }
        fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
            self.disk.write(file, at, bytes)
        }
        fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
            self.disk.sync(file)
        }
        fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
            self.disk.rename(from, to)
        }
        fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
            self.disk.remove(file)
        }
        fn sync_directory(&mut self) -> Result<(), DiskError> {
            self.disk.sync_directory()
        }
    }

    fn worn(bad: &[u64]) -> Worn {
        let mut disk = MemoryDisk::default();
        disk.create(FileName::Segment(1), 4 * SECTOR as u64 + 100).unwrap();
        disk.write(FileName::Segment(1), 0, &[7; 4 * SECTOR + 100]).unwrap();
        Worn { disk, bad: bad.to_vec() }
    }

    #[test]
    fn what_can_be_read_around_an_unreadable_sector_is_read() {
        let mut worn = worn(&[1, 3]);
        let mut bytes = vec![0; 8 * SECTOR];
        let read = Patient::new(&mut worn).read(FileName::Segment(1), 100, &mut bytes).unwrap();
        assert_eq!(read, 4 * SECTOR);
        let sector = |number: usize| &bytes[number * SECTOR - 100..(number + 1) * SECTOR - 100];
        assert!(sector(1).iter().chain(sector(3)).all(|&byte| byte == UNREADABLE));
        assert!(bytes[..SECTOR - 100].iter().chain(sector(2)).all(|&byte| byte == 7));
    }

    #[test]
    fn a_disk_of_which_nothing_can_be_read_is_an_error() {
        let mut worn = worn(&[0, 1, 2, 3, 4]);
        let mut bytes = vec![0; 5 * SECTOR];
        assert!(Patient::new(&mut worn).read(FileName::Segment(1), 0, &mut bytes).is_err());
    }
}
