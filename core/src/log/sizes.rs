//! How many bytes the entries of a log have, those included that are on the disk alone.

use crate::types::Index;
use alloc::collections::VecDeque;

/// Sums of the sizes of entries, to within a [`GRAIN`]: a mark stands after each grain, so the memory that it
/// takes does not depend on how small entries are.
#[derive(Clone, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Sizes {
    /// The size of everything through the last entry.
    total: u64,
    /// An entry before the first that counts or this one itself, and the size of everything through it.
    floor: (Index, u64),
    /// The same for entries after that, by rising index.
    marks: VecDeque<(Index, u64)>,
    /// What lost entries turned out to have when they came back, and the last of them: it lies somewhere
    /// before that.
    grown: (Index, u64),
}

/// How many bytes lie between two marks, if no larger entry does.
const GRAIN: u64 = 4 << 10;

impl Sizes {
    /// Of a log that begins after `base`.
    pub(crate) fn new(base: Index) -> Self {
        Self { floor: (base, 0), ..Self::default() }
    }

    /// An entry was appended.
    pub(crate) fn push(&mut self, index: Index, size: u64) {
        self.extend(core::iter::once((index, size)));
    }

    /// Entries were appended. Returns what they have in all.
    pub(crate) fn extend(&mut self, entries: impl Iterator<Item = (Index, u64)>) -> u64 {
        let (_, mut marked) = *self.marks.back().unwrap_or(&self.floor);
        let (before, mut total) = (self.total, self.total);
        for (index, size) in entries {
            total = total.saturating_add(size);
            if total - marked >= GRAIN {
                self.marks.push_back((index, total));
                marked = total;
            }
        }
        self.total = total;
        total - before
    }

    /// The entries after `through` are gone; they had this size.
    pub(crate) fn truncate(&mut self, through: Index, removed: u64) {
        while self.marks.back().is_some_and(|(index, _)| *index > through) {
            self.marks.pop_back();
        }
        // What has come back is in `removed`, and was not in the sum.
        let (_, marked) = *self.marks.back().unwrap_or(&self.floor);
        self.total = self.total.saturating_sub(removed).max(marked);
    }

    /// An entry has become larger: it was lost, and has come back.
    pub(crate) fn grow(&mut self, index: Index, more: u64) {
        self.grown = (self.grown.0.max(index), self.grown.1.saturating_add(more));
    }

    /// The log begins after `base` now.
    pub(crate) fn forget(&mut self, base: Index) {
        while let Some(&mark) = self.marks.front()
            && mark.0 <= base
        {
            self.floor = mark;
            self.marks.pop_front();
        }
        if self.grown.0 <= base {
            self.grown = (Index::ZERO, 0);
        }
    }

    /// The size of the entries after `after` through `through`, and at most a grain and two entries more, or
    /// what has come back.
    pub(crate) fn between(&self, after: Index, through: Index) -> u64 {
        let grown = if after < self.grown.0 { self.grown.1 } else { 0 };
        self.at_most(through).saturating_sub(self.at_least(after).1).saturating_add(grown)
    }

    /// The first entry such that those after it, through `through`, have at most `max` bytes: `through`
    /// itself where none fits.
    pub(crate) fn tail(&self, through: Index, max: u64) -> Index {
        // Where what has come back lies is not known: as if it were all there.
        let enough = self.at_most(through).saturating_sub(max.saturating_sub(self.grown.1));
        if self.floor.1 >= enough {
            return self.floor.0;
        }
        let first = self.marks.partition_point(|(_, size)| *size < enough);
        self.marks.get(first).map_or(through, |(index, _)| (*index).min(through))
    }

    /// The size of everything through this entry, or a little more.
    fn at_most(&self, through: Index) -> u64 {
        let first = self.marks.partition_point(|(index, _)| *index < through);
        self.marks.get(first).map_or(self.total, |(_, size)| *size)
    }

    /// The last mark that is not after this entry.
    fn at_least(&self, through: Index) -> (Index, u64) {
        let after = self.marks.partition_point(|(index, _)| *index <= through);
        let last = after.checked_sub(1).and_then(|last| self.marks.get(last));
        *last.unwrap_or(&self.floor)
    }
}

/// Logs with the same entries are the same, wherever the counting began.
impl PartialEq for Sizes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Sizes {}

impl core::hash::Hash for Sizes {
    fn hash<H: core::hash::Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::time::Nanos;
    use crate::types::NodeId;
    use alloc::vec::Vec;

    fn below(rng: &mut Rng, limit: u64) -> u64 {
        rng.below(Nanos::new(limit)).get()
    }

    /// Against a list of all sizes, which is what this stands for.
    #[test]
    fn a_tail_never_exceeds_its_limit_and_falls_short_of_it_by_little() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed, NodeId::new(1).unwrap());
            let largest = [10, 3_000, 50_000][seed as usize % 3];
            let (mut sizes, mut all, mut base) = (Sizes::new(Index::ZERO), Vec::<u64>::new(), 0_usize);
            for _ in 0..300 {
                match below(&mut rng, 10) {
                    0 => {
                        let kept = base + below(&mut rng, (all.len() - base) as u64 + 1) as usize;
                        sizes.truncate(Index::new(kept as u64), all[kept..].iter().sum());
                        all.truncate(kept);
                    }
                    1 => {
                        base += below(&mut rng, (all.len() - base) as u64 + 1) as usize;
                        sizes.forget(Index::new(base as u64));
                    }
                    2 if base < all.len() => {
                        let at = base + below(&mut rng, (all.len() - base) as u64) as usize;
                        all[at] += 100;
                        sizes.grow(Index::new(at as u64 + 1), 100);
                    }
                    _ => {
                        all.push(1 + below(&mut rng, largest));
                        sizes.push(Index::new(all.len() as u64), all[all.len() - 1]);
                    }
                }
                let through = base + below(&mut rng, (all.len() - base) as u64 + 1) as usize;
                let max = below(&mut rng, 3 * largest + 20_000);
                let tail = sizes.tail(Index::new(through as u64), max).get() as usize;
                assert!(tail <= through);
                let after = tail.max(base);
                let kept: u64 = all[after..through].iter().sum();
                let slack = 2 * (GRAIN + largest + 100) + sizes.grown.1;
                assert!(kept <= max, "{kept} of {max}");
                let more: u64 = all[base..after].iter().sum();
                assert!(more == 0 || kept + slack >= max, "{kept} of {max}, and {more} before");
                let told = sizes.between(Index::new(base as u64), Index::new(through as u64));
                let exact: u64 = all[base..through].iter().sum();
                assert!(told >= exact && told <= exact + slack, "{told} for {exact}");
            }
        }
    }
}
