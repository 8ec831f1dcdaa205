//! Why a member must not start from its directory.

use crate::types::{ClusterId, Identity, Index, LogId, Member};
use crate::wal::disk::{DiskError, FileName};
use crate::wal::header::VERSION;
use core::fmt;

/// Why a member must not start from its directory. Nothing in it was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverError {
    /// The disk could not be read.
    Disk(DiskError),
    /// The directory belongs to a member of another cluster.
    OtherCluster {
        /// The owner of the directory.
        found: ClusterId,
        /// The identity that the member was started with.
        expected: ClusterId,
    },
    /// The directory belongs to another member, or to another incarnation.
    OtherMember {
        /// Whose it is.
        found: Member,
        /// Who wanted it.
        expected: Member,
    },
    /// A file is of a later format.
    Version {
        /// Which file.
        file: FileName,
        /// Its format.
        found: u32,
    },
    /// No copy of the vote can be read, so the vote of this member is unknown.
    VoteLost,
    /// So much is damaged that the ids of the lost entries are unknown.
    TooMuch(Missing),
    /// The first state of a new log is no log, or has lost or skipped entries.
    Beginning,
}

/// What recovery lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The whole log: there is a vote, and no segment.
    Log,
    /// Everything after this entry; nothing tells how far the log went.
    EndAfter(LogId),
    /// The ids of the entries after the one through the index. The headers of the log name the last eight
    /// terms.
    Ids {
        /// The last entry before.
        after: LogId,
        /// The last index whose entry is unknown.
        through: Index,
    },
    /// The membership as of this snapshot.
    Membership(LogId),
}

/// Why a directory could not be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WalOpenError {
    /// Recovery failed.
    Recover(RecoverError),
    /// The disk failed at the operations that had to come first. For [`DiskError::Full`], make space and open
    /// it again.
    Disk(DiskError),
}

impl From<DiskError> for RecoverError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Missing> for RecoverError {
    fn from(missing: Missing) -> Self {
        Self::TooMuch(missing)
    }
}

/// Checks that a file belongs to this member.
pub(super) fn check_identity(found: Identity, expected: Identity) -> Result<(), RecoverError> {
    if found.cluster != expected.cluster {
        return Err(RecoverError::OtherCluster { found: found.cluster, expected: expected.cluster });
    }
    if found.member != expected.member {
        return Err(RecoverError::OtherMember { found: found.member, expected: expected.member });
    }
    Ok(())
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str("the whole log is gone"),
            Self::EndAfter(after) => {
                write!(f, "what followed entry {after} is damaged, and nothing says what it was")
            }
            Self::Ids { after, through } => {
                write!(
                    f,
                    "what followed entry {after} through index {through} is damaged, and nothing says what it was"
                )
            }
            Self::Membership(last) => {
                write!(f, "the members of the group as of snapshot {last} are damaged")
            }
        }
    }
}

const REPLACE: &str = "do not start this member: put back its directory from before the damage, or remove it from its group and add it \
                       again under a new incarnation with an empty directory";

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::OtherCluster { found, expected } => {
                write!(
                    f,
                    "the directory is of cluster {found} and not {expected}: start the member on its own"
                )
            }
            Self::OtherMember { found, expected } => {
                write!(
                    f,
                    "the directory is of member {found} and not {expected}: start each member on its own"
                )
            }
            Self::Version { file, found } => {
                write!(f, "{file} is of format {found}, and this library reads {VERSION}: take a later one")
            }
            Self::VoteLost => {
                write!(f, "both copies of the vote are damaged: {REPLACE}")
            }
            Self::TooMuch(missing) => write!(f, "{missing}: {REPLACE}"),
            Self::Beginning => f.write_str(
                "a new log cannot begin with entries that are lost, left out or out of order: give it all of them",
            ),
        }
    }
}

impl core::error::Error for RecoverError {}

impl fmt::Display for WalOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recover(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WalOpenError {}
