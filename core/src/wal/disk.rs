//! What the durable log needs of a disk, and what it asks of it, as data.

use crate::wal::sector::Seal;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One directory of files. Bytes in, bytes out, and what a crash leaves.
///
/// The contract, which `kontiki_sim::conformance` checks of any implementation:
/// - what was written is read back at once, but survives a crash only if a [`sync`](Self::sync) of that file
///   that began after the write has returned `Ok`. Until then a crash may keep any part of it, in any order,
///   torn at any byte; but of each sector of 512 bytes, counted from the beginning of the file, it keeps a
///   beginning;
/// - a file that was created, renamed or removed is so after a crash only if a
///   [`sync_directory`](Self::sync_directory) that began later has returned `Ok`. Until then a crash may
///   leave either state, but a rename is never half done: its target is the one file or the other;
/// - a sync that fails says nothing of what it should have covered, ever: what was written may be lost
///   although it is read back, and a later sync that succeeds does not cover it.
pub trait Disk {
    /// The files that there are, with their lengths, in any order. What is no [`FileName`] is left out and
    /// left alone.
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError>;

    /// Makes a file of this length, filled with zeros, whose blocks are allocated: a later write into it does
    /// not fail for want of space. Where there is one of this name, it is replaced.
    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError>;

    /// Reads from `at` on, until `into` is full or the file ends. Says how many bytes that were.
    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes all of `bytes` at `at`; a file that ends before it grows.
    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes what was written to this file durable.
    fn sync(&mut self, file: FileName) -> Result<(), DiskError>;

    /// Gives a file another name; one that had it before is gone.
    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError>;

    /// Removes a file.
    fn remove(&mut self, file: FileName) -> Result<(), DiskError>;

    /// Makes durable which files there are, and under which names.
    fn sync_directory(&mut self) -> Result<(), DiskError>;
}

/// The files of a member's directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileName {
    /// A piece of the log.
    Segment(u64),
    /// What will be the next piece of the log, and is not yet.
    Spare(u64),
    /// One of the two copies of what no other member knows: the vote.
    Vote(Slot),
    /// A snapshot whose last entry is of this term and index.
    Snapshot {
        /// The term of its last entry.
        term: u64,
        /// The index of its last entry.
        index: u64,
    },
    /// A snapshot that is not yet whole.
    Partial {
        /// The term of its last entry.
        term: u64,
        /// The index of its last entry.
        index: u64,
    },
}

/// Which of two copies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// What its sectors are sealed with.
    pub(super) fn seal(self) -> Seal {
        Seal { salt: 0, file: u64::from(self == Self::B) }
    }
}

impl FileName {
    /// The file that is called so, if it is one of ours: the reverse of its `Display`.
    pub fn parse(name: &str) -> Option<Self> {
        let number = |hex: &str| {
            let digits =
                hex.len() == 16 && hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            if digits { u64::from_str_radix(hex, 16).ok() } else { None }
        };
        let pair = |rest: &str| {
            let (term, index) = rest.split_once('-')?;
            Some((number(term)?, number(index)?))
        };
        let (kind, rest) = name.split_once('-')?;
        match (kind, rest) {
            ("log", rest) => Some(Self::Segment(number(rest)?)),
            ("spare", rest) => Some(Self::Spare(number(rest)?)),
            ("vote", "a") => Some(Self::Vote(Slot::A)),
            ("vote", "b") => Some(Self::Vote(Slot::B)),
            ("snapshot", rest) => pair(rest).map(|(term, index)| Self::Snapshot { term, index }),
            ("partial", rest) => pair(rest).map(|(term, index)| Self::Partial { term, index }),
            _ => None,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(f, "log-{number:016x}"),
            Self::Spare(number) => write!(f, "spare-{number:016x}"),
            Self::Vote(Slot::A) => f.write_str("vote-a"),
            Self::Vote(Slot::B) => f.write_str("vote-b"),
            Self::Snapshot { term, index } => write!(f, "snapshot-{term:016x}-{index:016x}"),
            Self::Partial { term, index } => write!(f, "partial-{term:016x}-{index:016x}"),
        }
    }
}

/// Why a disk did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DiskError {
    /// There is no space left for what was to be made or to grow. Nothing was done, and everything else is as
    /// it was.
    Full,
    /// There is no such file.
    Missing(FileName),
    /// Anything else. What is on the disk is not known any more.
    Failed(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full: make space"),
            Self::Missing(file) => write!(f, "there is no file {file}"),
            Self::Failed(why) => write!(f, "the disk failed: {why}"),
        }
    }
}

impl core::error::Error for DiskError {}

/// What was durable cannot be read back: the disk has damaged this file. Stop the member and open its log
/// again: recovery finds out what is lost, and it is had from others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Damage(pub FileName);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged: stop the member and start it again, to have from others what is lost",
            self.0
        )
    }
}

impl core::error::Error for Damage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let pair = FileName::Snapshot { term: 3, index: u64::MAX };
        let names = [FileName::Segment(7), FileName::Spare(8), FileName::Vote(Slot::B), pair];
        for name in names {
            assert_eq!(FileName::parse(&alloc::format!("{name}")), Some(name));
        }
        for other in ["log-7", "log-000000000000000G", "snapshot-0000000000000001", "vote-c", "lock", ""] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }
}
