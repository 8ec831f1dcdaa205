//! A disk in memory, for examples and tests.

use crate::wal::disk::{Disk, DiskError, FileName};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A directory in memory that loses nothing: whatever is written is durable at once. A clone of it is what a
/// crash at that moment would leave.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct MemoryDisk {
    /// Each file with its bytes.
    pub files: BTreeMap<FileName, Vec<u8>>,
}

impl MemoryDisk {
    fn file(&mut self, file: FileName) -> Result<&mut Vec<u8>, DiskError> {
        self.files.get_mut(&file).ok_or(DiskError::Missing(file))
    }
}

/// A place in a file of this memory.
fn position(at: u64) -> Result<usize, DiskError> {
    usize::try_from(at).map_err(|_| DiskError::Failed(String::from("beyond the memory of this machine")))
}

impl Disk for MemoryDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.files.iter().map(|(file, bytes)| (*file, bytes.len() as u64)).collect())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        self.files.insert(file, alloc::vec![0; position(length)?]);
        Ok(())
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let bytes = self.file(file)?;
        let rest = bytes.get(position(at)?..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let (held, at) = (self.file(file)?, position(at)?);
        let end = at.checked_add(bytes.len()).ok_or(DiskError::Full)?;
        if held.len() < end {
            held.resize(end, 0);
        }
        held[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        self.file(file).map(|_| ())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        let bytes = self.files.remove(&from).ok_or(DiskError::Missing(from))?;
        self.files.insert(to, bytes);
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.files.remove(&file).map(|_| ()).ok_or(DiskError::Missing(file))
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_file_grows_as_far_as_it_is_written() {
        let (mut disk, file) = (MemoryDisk::default(), FileName::Segment(1));
        assert_eq!(disk.write(file, 0, b"x"), Err(DiskError::Missing(file)));
        disk.create(file, 2).unwrap();
        disk.write(file, 3, b"ab").unwrap();
        let mut bytes = [9; 8];
        assert_eq!(disk.read(file, 1, &mut bytes), Ok(4));
        assert_eq!(bytes, [0, 0, b'a', b'b', 9, 9, 9, 9]);
        assert_eq!(disk.read(file, 9, &mut bytes), Ok(0));
        disk.rename(file, FileName::Spare(1)).unwrap();
        assert_eq!(disk.list(), Ok(Vec::from([(FileName::Spare(1), 5)])));
        disk.remove(FileName::Spare(1)).unwrap();
        assert_eq!(disk.remove(file), Err(DiskError::Missing(file)));
    }
}
