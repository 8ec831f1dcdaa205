//! What of a log its member's disk has damaged, and what has come back of it since.
//!
//! Which entries are lost is known, what was in them is not (Alagappan et al., "Protocol-Aware Recovery", FAST'18). Their ids count
//! in votes like any others: they were acknowledged. But who has lost entries does not stand for election, applies nothing beyond
//! the first, and acknowledges nothing beyond it, until others have filled it again.

use crate::log::{Entry, EntryBody};
use crate::types::{Index, WriteSeq};
use alloc::boxed::Box;
use alloc::vec::Vec;

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Holes {
    /// Set where the snapshot is damaged: everything through here is lost with it.
    floor: Option<Index>,
    /// Entries, in the order of the log.
    entries: Vec<Hole>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
struct Hole {
    index: Index,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
enum State {
    Lost,
    /// In memory again.
    Filled,
    /// Handed out to be written with this write.
    Written(WriteSeq),
}

impl Holes {
    /// The holes of a log that is restored; none where it is whole.
    pub(crate) fn of(entries: &[Entry], floor: Option<Index>) -> Option<Box<Self>> {
        let lost = entries.iter().filter(|entry| entry.body == EntryBody::Lost);
        let entries: Vec<_> = lost.map(|entry| Hole { index: entry.id.index, state: State::Lost }).collect();
        let holes = Self { floor, entries };
        if holes.is_empty() { None } else { Some(Box::new(holes)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floor.is_none() && self.entries.is_empty()
    }

    /// Everything through here is on the disk.
    pub(crate) fn held(&self) -> Index {
        match (self.floor, self.entries.first()) {
            (None, Some(first)) => first.index.prev().unwrap_or_default(),
            (None, None) => Index::MAX,
            (Some(_), _) => Index::ZERO,
        }
    }

    /// The first run of what is still to be had from others: everything after the one, through the other.
    pub(crate) fn missing(&self) -> Option<(Index, Index)> {
        if let Some(floor) = self.floor {
            return Some((Index::ZERO, floor));
        }
        let mut lost = self.entries.iter().filter(|hole| hole.state == State::Lost).map(|hole| hole.index);
        let first = lost.next()?;
        let last = lost.fold(first, |last, index| if index == last.next() { index } else { last });
        Some((first.prev().unwrap_or_default(), last))
    }

    /// Whether the entry at `index` is lost.
    pub(crate) fn is_lost(&self, index: Index) -> bool {
        self.entries.iter().any(|hole| hole.index == index && hole.state == State::Lost)
    }

    /// Everything after `after` through here can be read.
    pub(crate) fn readable_after(&self, after: Index) -> Index {
        let next = self.entries.iter().find(|hole| hole.index > after && hole.state == State::Lost);
        next.map_or(Index::MAX, |hole| hole.index.prev().unwrap_or_default())
    }

    /// The entry at `index` is in memory again.
    pub(crate) fn fill(&mut self, index: Index) {
        if let Some(hole) = self.entries.iter_mut().find(|hole| hole.index == index) {
            hole.state = State::Filled;
        }
    }

    /// Which entries the disk must be told, with write `seq`.
    pub(crate) fn take_filled(&mut self, seq: WriteSeq) -> Vec<Index> {
        let mut filled = Vec::new();
        for hole in self.entries.iter_mut().filter(|hole| hole.state == State::Filled) {
            hole.state = State::Written(seq);
            filled.push(hole.index);
        }
        filled
    }

    /// Whether there is anything that the disk must be told.
    pub(crate) fn has_filled(&self) -> bool {
        self.entries.iter().any(|hole| hole.state == State::Filled)
    }

    /// The disk has everything through write `seq`.
    pub(crate) fn persisted(&mut self, seq: WriteSeq) {
        self.entries.retain(|hole| !matches!(hole.state, State::Written(written) if written <= seq));
    }

    /// Every entry after `through` is gone.
    pub(crate) fn truncate(&mut self, through: Index) {
        self.entries.retain(|hole| hole.index <= through);
    }

    /// Another snapshot, which is not damaged, stands for everything through `last`.
    pub(crate) fn cover(&mut self, last: Index) {
        self.floor = None;
        self.entries.retain(|hole| hole.index > last);
    }
}
