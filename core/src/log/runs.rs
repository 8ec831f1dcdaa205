//! Some of a log's entries, as runs: what damage takes lies side by side.

use crate::types::Index;
use alloc::vec::Vec;

/// A set of indexes. Takes memory for its runs, however long they are.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Runs(Vec<Run>);

/// Everything from the one through the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Run {
    first: Index,
    last: Index,
}

impl Runs {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each run, by its first and its last, in the order of the log.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Index, Index)> {
        self.0.iter().map(|run| (run.first, run.last))
    }

    /// The first of all, and the last in a row with it.
    pub(crate) fn first(&self) -> Option<(Index, Index)> {
        self.iter().next()
    }

    /// The last at or before `index`.
    pub(crate) fn last_through(&self, index: Index) -> Option<Index> {
        let begun = self.0.partition_point(|run| run.first <= index);
        Some(self.0[begun.checked_sub(1)?].last.min(index))
    }

    /// The first after `index`.
    pub(crate) fn first_after(&self, index: Index) -> Option<Index> {
        let run = self.0.get(self.ended_before(index.next()))?;
        Some(run.first.max(index.next()))
    }

    pub(crate) fn contains(&self, index: Index) -> bool {
        self.0.get(self.ended_before(index)).is_some_and(|run| run.first <= index)
    }

    /// Adds what is behind all others.
    pub(crate) fn push(&mut self, index: Index) {
        match self.0.last_mut() {
            Some(run) if run.last.next() == index => run.last = index,
            _ => self.0.push(Run { first: index, last: index }),
        }
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, index: Index) {
        let at = self.ended_before(index);
        let Some(&Run { first, last }) = self.0.get(at).filter(|run| run.first <= index) else { return };
        let before = (first < index).then(|| Run { first, last: index.prev().unwrap_or_default() });
        let after = (index < last).then(|| Run { first: index.next(), last });
        self.0.splice(at..=at, before.into_iter().chain(after));
    }

    /// Leaves only what is at or before `index`.
    pub(crate) fn keep_through(&mut self, index: Index) {
        self.0.retain(|run| run.first <= index);
        if let Some(run) = self.0.last_mut() {
            run.last = run.last.min(index);
        }
    }

    /// Leaves only what is after `index`.
    pub(crate) fn keep_after(&mut self, index: Index) {
        self.0.retain(|run| run.last > index);
        if let Some(run) = self.0.first_mut() {
            run.first = run.first.max(index.next());
        }
    }

    /// How many runs end before `index`.
    fn ended_before(&self, index: Index) -> usize {
        self.0.partition_point(|run| run.last < index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::collection::{btree_set, vec as any_vec};
    use proptest::prelude::*;

    proptest! {
        /// Whatever is done to it, it holds what a set holds, and its runs are as few as can be.
        #[test]
        fn runs_are_a_set(set in btree_set(1..40_u64, 0..20), deeds in any_vec((0..3_u8, 0..42_u64), 0..8)) {
            let mut set: BTreeSet<u64> = set;
            let mut runs = Runs::default();
            set.iter().for_each(|&index| runs.push(Index::new(index)));
            for (deed, index) in deeds {
                match deed {
                    0 => {
                        set.remove(&index);
                        runs.remove(Index::new(index));
                    }
                    1 => {
                        set.retain(|other| *other <= index);
                        runs.keep_through(Index::new(index));
                    }
                    _ => {
                        set.retain(|other| *other > index);
                        runs.keep_after(Index::new(index));
                    }
                }
            }
            for index in 0..42 {
                let at = Index::new(index);
                prop_assert_eq!(runs.contains(at), set.contains(&index));
                prop_assert_eq!(runs.first_after(at).map(Index::get), set.range(index + 1..).next().copied());
                prop_assert_eq!(runs.last_through(at).map(Index::get), set.range(..=index).next_back().copied());
            }
            let begins = set.iter().filter(|&&index| index == 0 || !set.contains(&(index - 1))).count();
            prop_assert_eq!((runs.iter().count(), runs.is_empty()), (begins, set.is_empty()));
        }
    }
}
