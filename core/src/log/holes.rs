//! The entries of a log that the disk has damaged, and those repaired since.
//!
//! The ids of lost entries are known, their contents are not (Alagappan et al., "Protocol-Aware Recovery",
//! FAST'18). Their ids count when a vote is decided, because the entries were acknowledged. Until other
//! members have repaired the log, this member does not stand for election, and neither applies nor
//! acknowledges anything beyond the first lost entry.
//!
//! A hole may lie in a part of the log that is not in memory. Its repaired entries are kept here until they
//! are handed out to be written.

use crate::log::{Entries, Entry, Runs};
use crate::types::{Index, WriteSeq};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Holes {
    /// Set where the snapshot is damaged: everything through this index is lost with it.
    floor: Option<Index>,
    /// Lost entries that no other member has sent yet.
    lost: Runs,
    /// Repaired entries that are not handed out to be written yet.
    filled: BTreeMap<Index, Entry>,
    /// Repaired entries that are being written, each with its write and its size in bytes.
    written: BTreeMap<Index, (WriteSeq, u64)>,
    /// The size in bytes of all repaired entries that are not durable.
    waiting: u64,
}

impl Holes {
    /// The holes of a log that is restored; none where it is whole.
    pub(crate) fn of(lost: Runs, floor: Option<Index>) -> Option<Box<Self>> {
        let holes = Self { floor, lost, ..Self::default() };
        if holes.is_empty() { None } else { Some(Box::new(holes)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floor.is_none() && self.lost.is_empty() && self.filled.is_empty() && self.written.is_empty()
    }

    /// Everything through here is on the disk.
    pub(crate) fn held(&self) -> Index {
        if self.floor.is_some() {
            return Index::ZERO;
        }
        let lost = self.lost.first().map(|(first, _)| first);
        let back = [self.filled.keys().next(), self.written.keys().next()];
        let first = back.into_iter().flatten().copied().chain(lost).min();
        first.map_or(Index::MAX, |first| first.prev().unwrap_or_default())
    }

    /// The first run of what is still to be had from others: everything after the one, through the other.
    pub(crate) fn missing(&self) -> Option<(Index, Index)> {
        if let Some(floor) = self.floor {
            return Some((Index::ZERO, floor));
        }
        let (first, last) = self.lost.first()?;
        Some((first.prev().unwrap_or_default(), last))
    }

    /// Whether the entry at `index` is lost.
    pub(crate) fn is_lost(&self, index: Index) -> bool {
        self.lost.contains(index)
    }

    /// Everything after `after` through here can be read.
    pub(crate) fn readable_after(&self, after: Index) -> Index {
        self.lost.first_after(after).map_or(Index::MAX, |lost| lost.prev().unwrap_or_default())
    }

    /// This entry, which was lost, has come back.
    pub(crate) fn fill(&mut self, entry: Entry) {
        self.lost.remove(entry.id.index);
        self.waiting += entry.size();
        self.filled.insert(entry.id.index, entry);
    }

    /// The size of all that has come back and is not on the disk yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Which entries the disk must be told, with write `seq`.
    pub(crate) fn take_filled(&mut self, seq: WriteSeq) -> Entries {
        let filled = core::mem::take(&mut self.filled);
        self.written.extend(filled.iter().map(|(index, entry)| (*index, (seq, entry.size()))));
        filled.into_values().collect()
    }

    /// Whether there is anything that the disk must be told.
    pub(crate) fn has_filled(&self) -> bool {
        !self.filled.is_empty()
    }

    /// The disk has everything through write `seq`.
    pub(crate) fn persisted(&mut self, seq: WriteSeq) {
        self.written.retain(|_, (written, _)| *written > seq);
        self.weigh();
    }

    /// Every entry after `through` is gone.
    pub(crate) fn truncate(&mut self, through: Index) {
        self.lost.keep_through(through);
        self.filled.retain(|index, _| *index <= through);
        self.written.retain(|index, _| *index <= through);
        self.weigh();
    }

    /// Another snapshot, which is not damaged, stands for everything through `last`.
    pub(crate) fn cover(&mut self, last: Index) {
        self.floor = None;
        self.lost.keep_after(last);
        self.filled.retain(|index, _| *index > last);
        self.written.retain(|index, _| *index > last);
        self.weigh();
    }

    fn weigh(&mut self) {
        let filled: u64 = self.filled.values().map(Entry::size).sum();
        self.waiting = filled + self.written.values().map(|(_, size)| size).sum::<u64>();
    }
}
