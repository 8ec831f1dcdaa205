//! What was done to a disk and may be taken back: writes, and changes of names.

use kontiki_core::wal::FileName;
use std::collections::BTreeMap;
use std::fmt;

/// A file, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct FileId(pub(super) u64);

/// Something that was done to a disk and that no sync has covered yet: a crash may take it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A write to a file. One of no bytes is a file's new length, all zeros.
    Write {
        /// Which file, as it was called then.
        file: FileName,
        /// Where.
        at: u64,
        /// How many bytes.
        length: u64,
    },
    /// A file came to be; it took the place of any other of the name.
    Created(FileName),
    /// A file got another name; it took the place of any other of the name.
    Renamed {
        /// What it was called.
        from: FileName,
        /// What it is called.
        to: FileName,
    },
    /// A file went away.
    Removed(FileName),
}

/// A change of names: who is called how from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Naming {
    pub(super) order: u64,
    pub(super) change: Change,
    /// The file that is created or renamed.
    pub(super) id: Option<FileId>,
    /// The files that have lost a name to it.
    pub(super) displaced: [Option<FileId>; 2],
    /// A sync that should have covered it has failed.
    pub(super) dropped: bool,
}

impl Naming {
    /// Makes it so. Returns the files that have lost a name to that.
    pub(super) fn apply(&self, names: &mut BTreeMap<FileName, FileId>) -> [Option<FileId>; 2] {
        let (removed, target) = match self.change {
            Change::Write { .. } => (None, None),
            Change::Created(file) => (None, Some(file)),
            Change::Renamed { from, to } => (names.remove(&from), Some(to)),
            Change::Removed(file) => (names.remove(&file), None),
        };
        [removed, target.zip(self.id).and_then(|(target, id)| names.insert(target, id))]
    }
}

impl Change {
    /// The names that it changes; none for a write.
    pub(super) fn names(&self) -> [Option<FileName>; 2] {
        match *self {
            Self::Write { .. } => [None, None],
            Self::Created(file) | Self::Removed(file) => [Some(file), None],
            Self::Renamed { from, to } => [Some(from), Some(to)],
        }
    }

    /// How many bytes it writes; none for a change of names.
    pub fn length(&self) -> u64 {
        if let Self::Write { length, .. } = *self { length } else { 0 }
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    pub(super) fn shares_name_with(&self, other: &Self) -> bool {
        self.names().iter().flatten().any(|name| other.names().contains(&Some(*name)))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, at, length: 0 } => write!(f, "the length {at} of {file}"),
            Self::Write { file, at, length } => write!(f, "the write of {length} bytes at {at} of {file}"),
            Self::Created(file) => write!(f, "the creation of {file}"),
            Self::Renamed { from, to } => write!(f, "the renaming of {from} to {to}"),
            Self::Removed(file) => write!(f, "the removal of {file}"),
        }
    }
}
