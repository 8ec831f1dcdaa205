//! The run of entries that was asked for last: the write and the message to each follower share it.

use crate::log::Entries;
use crate::types::Index;

/// A run of entries, where it is in the log, and what it weighs.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Batch {
    /// The index before the first.
    after: Index,
    /// The sum of [`Entry::size`](crate::log::Entry::size).
    size: u64,
    entries: Entries,
}

impl Batch {
    /// No run; allocates nothing.
    pub(crate) const EMPTY: Self = Self { after: Index::ZERO, size: 0, entries: Entries::EMPTY };

    /// The entries after `after`, which have this size in all.
    pub(crate) fn new(after: Index, entries: Entries, size: u64) -> Self {
        Self { after, size, entries }
    }

    /// Whether these are the entries after `after` through `through`.
    pub(crate) fn is(&self, after: Index, through: Index) -> bool {
        self.after == after && self.after + self.entries.len() as u64 == through
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }
}
