//! A sparse index of where entries are in the segments: about one place for every 32 KiB.

use crate::types::Index;
use crate::wal::sector::SECTOR;
use alloc::vec::Vec;

/// Entries in a row, which stand in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The first and the last of them.
    pub(super) first: Index,
    pub(super) last: Index,
    pub(super) segment: u64,
    /// The first of them begins in this sector.
    pub(super) begin: u32,
    /// And the last of them ends before this one.
    pub(super) end: u32,
}

/// How a record changes the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Everything after this index is gone.
    Truncate(Index),
    /// Everything through this index is gone.
    Forget(Index),
    /// The entry now stands in these sectors, and none follows it.
    Append { index: Index, begin: u32, end: u32 },
    /// The entry now stands in these sectors, and those that follow it stay where they are.
    RepairResponse { index: Index, begin: u32, end: u32 },
}

/// The most bytes that one place covers: a lookup reads at most this much in vain.
const GRAIN: u32 = 32 * 1024 / SECTOR as u32;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Places {
    places: Vec<Place>,
    /// Whether the last of them may grow. Not after a truncation: entries that are gone stand behind it.
    open: bool,
}

impl Places {
    pub(super) fn change(&mut self, segment: u64, change: Change) {
        match change {
            Change::Truncate(after) => self.truncate(after),
            Change::Forget(through) => self.forget(through),
            Change::Append { index, begin, end } => {
                self.truncate(index.prev().unwrap_or_default());
                self.append(Place { first: index, last: index, segment, begin, end });
            }
            Change::RepairResponse { index, begin, end } => {
                self.replace(Place { first: index, last: index, segment, begin, end });
            }
        }
    }

    fn append(&mut self, new: Place) {
        if self.open
            && let Some(last) = self.places.last_mut()
            && (last.segment, last.last.next()) == (new.segment, new.first)
            && new.begin.saturating_sub(last.begin) < GRAIN
        {
            (last.last, last.end) = (new.last, new.end);
            return;
        }
        self.places.push(new);
        self.open = true;
    }

    fn truncate(&mut self, after: Index) {
        while self.places.last().is_some_and(|place| place.first > after) {
            self.places.pop();
            self.open = false;
        }
        if let Some(place) = self.places.last_mut().filter(|place| place.last > after) {
            place.last = after;
            self.open = false;
        }
    }

    fn forget(&mut self, through: Index) {
        let gone = self.places.partition_point(|place| place.last <= through);
        self.places.drain(..gone);
        if let Some(place) = self.places.first_mut() {
            place.first = place.first.max(through.next());
        }
    }

    fn replace(&mut self, new: Place) {
        let at = self.places.partition_point(|place| place.last < new.first);
        let Some(&old) = self.places.get(at).filter(|old| old.first <= new.first) else {
            return self.places.insert(at, new);
        };
        let before =
            (old.first < new.first).then(|| Place { last: new.first.prev().unwrap_or_default(), ..old });
        let after = (old.last > new.last).then(|| Place { first: new.last.next(), ..old });
        self.places.splice(at..=at, before.into_iter().chain([new]).chain(after));
    }

    /// The place of the entry at `index`, and those that follow it in a row, in the order of the log.
    pub(super) fn from(&self, index: Index) -> &[Place] {
        let at = self.places.partition_point(|place| place.last < index);
        let found = &self.places[at..];
        if found.first().is_some_and(|place| place.first <= index) { found } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 1 to 9 in a row, each in a sector of its own.
    fn nine() -> Places {
        let mut places = Places::default();
        for number in 1..=9 {
            let begin = number as u32;
            places.change(7, Change::Append { index: Index::new(number), begin, end: begin + 1 });
        }
        places
    }

    fn rows(places: &Places) -> Vec<(u64, u64, u64, u32)> {
        let row = |place: &Place| (place.first.get(), place.last.get(), place.segment, place.begin);
        places.places.iter().map(row).collect()
    }

    #[test]
    fn an_entry_that_comes_back_leaves_those_around_it_where_they_are() {
        let again = |index| Change::RepairResponse { index: Index::new(index), begin: 40, end: 41 };
        for (index, expected) in [
            (1, &[(1, 1, 8, 40), (2, 9, 7, 1)][..]),
            (5, &[(1, 4, 7, 1), (5, 5, 8, 40), (6, 9, 7, 1)]),
            (9, &[(1, 8, 7, 1), (9, 9, 8, 40)]),
        ] {
            let mut places = nine();
            places.change(8, again(index));
            assert_eq!(rows(&places), expected, "entry {index}");
        }
    }

    #[test]
    fn an_entry_that_stands_nowhere_gets_a_place_of_its_own() {
        let mut places = nine();
        places.change(7, Change::Truncate(Index::new(3)));
        places.change(8, Change::RepairResponse { index: Index::new(4), begin: 40, end: 41 });
        assert_eq!(rows(&places), [(1, 3, 7, 1), (4, 4, 8, 40)]);
    }
}
