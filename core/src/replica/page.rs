//! Pages of the log, read for clients.

use crate::log::Entries;
use crate::types::Index;

/// A part of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LogRange {
    /// So many entries from the first one of the log.
    First(u64),
    /// The last so many entries, by ascending index.
    Last(u64),
    /// The entries after one index through another, as many as fit.
    Between(Index, Index),
}

/// A piece of the log.
///
/// **Invariant:** its entries are consecutive and begin after `after`. There are none only where `through` is
/// `after`: where nothing was asked for, or at the end of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPage {
    /// The index before the first entry.
    pub after: Index,
    /// The last index that was asked for and that the log had when it was read. The page may end before it.
    pub through: Index,
    /// The entries, by rising index.
    pub entries: Entries,
    /// How far the log is known to be committed here.
    pub committed: Index,
}

impl LogPage {
    /// What to ask for next, where the page ends before what was asked for.
    pub fn rest(&self) -> Option<LogRange> {
        let last = self.entries.last()?.id.index;
        (last < self.through).then_some(LogRange::Between(last, self.through))
    }
}
