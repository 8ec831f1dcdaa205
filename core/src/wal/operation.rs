//! Operations on a disk, as data.

use crate::wal::disk::{Disk, DiskError, FileName};
use crate::wal::patient::Patient;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Something to do to a disk, as data.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// [`Disk::create`].
    Create {
        /// Which file.
        file: FileName,
        /// How long it shall be.
        length: u64,
    },
    /// [`Disk::write`].
    Write {
        /// Which file.
        file: FileName,
        /// Where.
        at: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// [`Disk::read`]; to be answered with as many bytes as there are.
    Read {
        /// Which file.
        file: FileName,
        /// Where.
        at: u64,
        /// How many bytes.
        length: usize,
    },
    /// [`Disk::sync`].
    Sync(FileName),
    /// [`Disk::rename`].
    Rename {
        /// What it is called.
        from: FileName,
        /// What it shall be called.
        to: FileName,
    },
    /// [`Disk::remove`].
    Remove(FileName),
    /// [`Disk::sync_directory`].
    SyncDirectory,
}

impl Operation {
    /// Carries out the operation and returns the bytes of a read. Sectors that cannot be read are replaced by
    /// invalid ones: a reader that needs them finds them damaged, any other goes on.
    pub fn perform(&self, disk: &mut impl Disk) -> Result<Vec<u8>, DiskError> {
        match *self {
            Self::Create { file, length } => disk.create(file, length)?,
            Self::Write { file, at, ref bytes } => disk.write(file, at, bytes)?,
            Self::Read { file, at, length } => {
                let mut bytes = alloc::vec![0; length];
                let read = Patient::new(disk).read(file, at, &mut bytes)?;
                bytes.truncate(read);
                return Ok(bytes);
            }
            Self::Sync(file) => disk.sync(file)?,
            Self::Rename { from, to } => disk.rename(from, to)?,
            Self::Remove(file) => disk.remove(file)?,
            Self::SyncDirectory => disk.sync_directory()?,
        }
        Ok(Vec::new())
    }
}
