//! What a disk will do wrong.

use kontiki_core::wal::FileName;

/// The calls that a disk takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "they are called as in Disk")]
pub enum Call {
    List,
    Create,
    Read,
    Write,
    Sync,
    Rename,
    Remove,
    SyncDirectory,
}

/// Something that a disk will do wrong once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Armed {
    pub(super) call: Call,
    /// At which file; any, where none is named.
    pub(super) file: Option<FileName>,
    pub(super) wrong: Wrong,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wrong {
    Fail,
    Lose,
    Misdirect { to: FileName, at: u64 },
}
