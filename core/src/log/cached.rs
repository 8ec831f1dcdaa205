//! The entries of a log that are in memory.

use crate::log::{Entries, Entry};
use crate::types::Index;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::{mem, slice};

/// The entries of a log that are in memory, in the runs in which they came: a write to the disk and a message
/// that want the same run share it, and no entry is copied. A run is freed with the last of its entries.
#[derive(Clone, Default, Debug)]
pub(crate) struct Cached {
    /// Without a gap between one and the next.
    runs: VecDeque<Run>,
    /// So many entries of the first run have left already.
    left: usize,
    /// At least so many of the latest runs are small, and wait to be joined.
    small: usize,
    /// What was pushed since, which nothing shares yet.
    tail: Vec<Entry>,
    /// The sum of [`Entry::size`] of these.
    tail_size: u64,
}

/// Some entries that are shared together, never none.
#[derive(Clone, Debug)]
pub(super) struct Run {
    first: Index,
    /// The sum of [`Entry::size`].
    pub(super) size: u64,
    pub(super) entries: Entries,
}

/// Some of a run.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) run: &'a Entries,
    pub(super) entries: &'a [Entry],
    /// The last of them.
    pub(super) through: Index,
    /// The sum of [`Entry::size`].
    pub(super) size: u64,
}

fn size_of(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::size).sum()
}

/// A run with fewer bytes is small: what it takes beside its entries counts.
const SMALL: u64 = 1 << 10;
/// So many small runs are joined as soon as there are [`KEPT`] more.
const JOINED: usize = 48;
/// So many of the latest small runs stay as they are: others may still want them one by one.
const KEPT: usize = 16;

/// Room for so many entries is kept for what is pushed next.
const TAIL: usize = 256;

impl Run {
    pub(super) fn last(&self) -> Index {
        self.first + (self.entries.len() as u64 - 1)
    }

    /// How many of its entries are not after this one.
    fn through(&self, index: Index) -> usize {
        if index < self.first { 0 } else { self.entries.len().min((index - self.first) as usize + 1) }
    }
}

impl Cached {
    /// These entries, in runs of at most so many bytes, or of one entry.
    pub(super) fn restore(entries: Vec<Entry>, max_bytes: u64) -> Self {
        let mut cached = Self::default();
        for entry in entries {
            if cached.tail_size + entry.size() > max_bytes {
                cached.seal();
            }
            cached.push(entry);
        }
        cached.seal();
        cached
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.tail_size += entry.size();
        self.tail.push(entry);
    }

    /// Appends a run that others have, too, of this size.
    pub(super) fn share(&mut self, entries: Entries, size: u64) {
        self.seal();
        self.append(entries, size);
    }

    /// Makes what was pushed a run.
    #[inline]
    pub(super) fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.seal_tail();
        }
    }

    fn seal_tail(&mut self) {
        let size = mem::take(&mut self.tail_size);
        let entries = match (self.tail.len(), self.tail.pop()) {
            (1, Some(only)) => Entries::of(only),
            (_, last) => self.tail.drain(..).chain(last).collect(),
        };
        self.tail.shrink_to(TAIL);
        self.append(entries, size);
    }

    fn append(&mut self, entries: Entries, size: u64) {
        let Some(first) = entries.first().map(|entry| entry.id.index) else { return };
        self.runs.push_back(Run { first, size, entries });
        self.small = if size < SMALL { self.small + 1 } else { 0 };
        if self.small == JOINED + KEPT {
            self.join();
        }
    }

    /// Makes one run of the first of the latest small ones.
    #[cold]
    fn join(&mut self) {
        self.small = KEPT;
        let end = self.runs.len() - KEPT;
        let start = end - JOINED;
        // What has left of the very first run is in none any more.
        let left = if start == 0 { mem::take(&mut self.left) } else { 0 };
        let runs = self.runs.range(start..end);
        let size = runs.clone().map(|run| run.size).sum::<u64>();
        let mut entries = Vec::with_capacity(runs.clone().map(|run| run.entries.len()).sum());
        for run in runs {
            entries.extend(run.entries.iter().cloned());
        }
        let size = size - size_of(&entries[..left]);
        entries.drain(..left);
        let Some(first) = entries.first().map(|entry| entry.id.index) else { return };
        let entries = entries.into_iter().collect();
        self.runs.drain(start + 1..end);
        self.runs[start] = Run { first, size, entries };
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        match self.runs.front() {
            Some(run) => run.entries.get(self.left),
            None => self.tail.first(),
        }
    }

    /// Takes the first away, if there is one.
    pub(super) fn forget_first(&mut self) {
        self.seal();
        self.left += 1;
        if self.runs.front().is_some_and(|run| run.entries.len() <= self.left) {
            self.runs.pop_front();
            self.small = self.small.min(self.runs.len());
        } else if !self.runs.is_empty() {
            return;
        }
        self.left = 0;
    }

    /// Takes everything after this entry away.
    pub(super) fn truncate(&mut self, through: Index) {
        self.seal();
        while self.runs.back().is_some_and(|run| run.last() > through)
            && let Some(mut run) = self.runs.pop_back()
        {
            self.small = 0;
            let kept = run.through(through);
            if kept > 0 {
                run.entries = run.entries[..kept].iter().cloned().collect();
                run.size = size_of(&run.entries);
                self.runs.push_back(run);
            }
        }
        // Where all that is left of the first has left already, nothing is.
        if self.first().is_none() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts an entry into the place of the one with its index.
    pub(super) fn replace(&mut self, entry: &Entry) {
        self.seal();
        let at = self.run_with(entry.id.index);
        let Some(run) = self.runs.get_mut(at) else { return };
        let place = (entry.id.index - run.first) as usize;
        run.size = run.size - run.entries[place].size() + entry.size();
        run.entries.replace(place, entry);
    }

    /// The last run, if it begins after this entry.
    #[inline]
    pub(super) fn newest(&self, after: Index) -> Option<&Run> {
        self.runs.back().filter(|run| run.first == after.next() && (self.left == 0 || self.runs.len() > 1))
    }

    /// What the run with the entry after `after` has of what is asked for, where that has at most so many
    /// bytes.
    pub(super) fn piece(&self, after: Index, last: Index, max_size: u64) -> Option<Piece<'_>> {
        let at = self.run_with(after.next());
        let run = self.runs.get(at)?;
        let (from, to) = (run.through(after), run.through(last));
        if from < to && run.first <= after.next() && (at > 0 || from >= self.left) {
            let entries = &run.entries[from..to];
            // None has less, so that no more are looked at than a message may carry.
            if entries.len() as u64 * Entry::OVERHEAD > max_size {
                return None;
            }
            let others = run.entries.len() - entries.len();
            let size = if others < entries.len() {
                run.size - size_of(&run.entries[..from]) - size_of(&run.entries[to..])
            } else {
                size_of(entries)
            };
            let through = run.first + (to as u64 - 1);
            return (size <= max_size).then_some(Piece { run: &run.entries, entries, through, size });
        }
        None
    }

    /// The entry before the run that has the entry after this one: the last run that ends by here ends there.
    pub(super) fn last_end(&self, through: Index) -> Option<Index> {
        let run = self.runs.get(self.run_with(through.next()))?;
        if run.first <= through.next() { run.first.prev() } else { None }
    }

    /// Which run has this entry, where one has: most often the last. The first where none begins so early.
    #[inline]
    fn run_with(&self, index: Index) -> usize {
        match self.runs.back() {
            Some(last) if index < last.first => self.earlier_run_with(index),
            _ => self.runs.len().saturating_sub(1),
        }
    }

    #[cold]
    fn earlier_run_with(&self, index: Index) -> usize {
        self.runs.partition_point(|run| run.first <= index).saturating_sub(1)
    }

    /// So many of them, from the one after this on.
    #[inline]
    pub(super) fn after(&self, after: Index, count: usize) -> CachedIter<'_> {
        let at = self.run_with(after.next());
        let current = self.runs.get(at).map_or(&[][..], |run| {
            let left = if at == 0 { self.left } else { 0 };
            &run.entries[run.through(after).max(left)..]
        });
        let mut tail = &self.tail[..];
        if let Some(first) = tail.first() {
            tail = &tail[tail.len().min((after.next() - first.id.index.min(after.next())) as usize)..];
        }
        CachedIter { current: current.iter(), cached: self, next: at + 1, tail: tail.iter(), count }
    }

    fn all(&self) -> CachedIter<'_> {
        let in_runs: usize = self.runs.iter().map(|run| run.entries.len()).sum();
        self.after(Index::ZERO, in_runs - self.left + self.tail.len())
    }

    /// How many there are.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn len(&self) -> usize {
        let last = self.tail.last().map(|entry| entry.id.index).or(self.runs.back().map(Run::last));
        last.zip(self.first()).map_or(0, |(last, first)| (last - first.id.index) as usize + 1)
    }
}

/// Some of the entries in memory, in their order.
#[derive(Clone, Debug)]
pub(super) struct CachedIter<'a> {
    current: slice::Iter<'a, Entry>,
    cached: &'a Cached,
    /// Which run is next.
    next: usize,
    tail: slice::Iter<'a, Entry>,
    /// How many are still to come.
    count: usize,
}

impl<'a> Iterator for CachedIter<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        self.count = self.count.checked_sub(1)?;
        loop {
            if let Some(entry) = self.current.next() {
                return Some(entry);
            }
            let Some(run) = self.cached.runs.get(self.next) else { return self.tail.next() };
            self.current = run.entries.iter();
            self.next += 1;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for CachedIter<'_> {}

impl PartialEq for Cached {
    fn eq(&self, other: &Self) -> bool {
        self.all().eq(other.all())
    }
}

impl Eq for Cached {}

impl Hash for Cached {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let entries = self.all();
        state.write_usize(entries.len());
        entries.for_each(|entry| entry.hash(state));
    }
}

#[cfg(feature = "record")]
mod serde_cached {
    use super::Cached;
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl Serialize for Cached {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.all())
        }
    }

    impl<'de> Deserialize<'de> for Cached {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Self::restore(Vec::deserialize(deserializer)?, u64::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::EntryBody;
    use crate::types::LogId;
    use alloc::vec;
    use proptest::collection::vec as any_vec;
    use proptest::prelude::*;

    /// What is done; numbers are taken as parts of whatever there is.
    #[derive(Clone, Debug)]
    enum Deed {
        Push(usize),
        /// Runs of one entry each, so many.
        ShareEach(usize),
        Share(Vec<usize>),
        Seal,
        Forget(usize),
        Truncate(usize),
        Replace(usize),
        Restore(u64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let size = || prop_oneof![4 => 0..40_usize, 1 => 1_000..3_000_usize];
        prop_oneof![
            4 => size().prop_map(Deed::Push),
            2 => (1..100_usize).prop_map(Deed::ShareEach),
            2 => any_vec(size(), 1..30).prop_map(Deed::Share),
            1 => Just(Deed::Seal),
            3 => (0..90_usize).prop_map(Deed::Forget),
            1 => any::<usize>().prop_map(Deed::Truncate),
            1 => any::<usize>().prop_map(Deed::Replace),
            1 => (1..2_000_u64).prop_map(Deed::Restore),
        ]
    }

    fn entry(index: u64, bytes: usize) -> Entry {
        Entry { id: LogId::new(1, index), body: EntryBody::Data((&vec![index as u8; bytes][..]).into()) }
    }

    fn do_to(deed: Deed, cached: &mut Cached, all: &mut Vec<Entry>, gone: &mut u64) {
        let next = *gone + all.len() as u64 + 1;
        let last = Index::new(next - 1);
        match deed {
            Deed::Push(bytes) => {
                all.push(entry(next, bytes));
                cached.push(entry(next, bytes));
            }
            Deed::ShareEach(count) => (next..next + count as u64).for_each(|index| {
                let one = entry(index, 3);
                all.push(one.clone());
                cached.share(Entries::from_iter([one.clone()]), one.size());
            }),
            Deed::Share(sizes) => {
                let new: Vec<_> = sizes.into_iter().zip(next..).map(|(bytes, at)| entry(at, bytes)).collect();
                cached.share(new.iter().cloned().collect(), size_of(&new));
                all.extend(new);
            }
            Deed::Seal => cached.seal(),
            Deed::Forget(count) => (0..count.min(all.len())).for_each(|_| {
                all.remove(0);
                cached.forget_first();
                *gone += 1;
            }),
            Deed::Truncate(kept) => {
                let kept = kept % (all.len() + 1);
                all.truncate(kept);
                cached.truncate(Index::new(*gone + kept as u64));
            }
            Deed::Replace(at) if !all.is_empty() => {
                let at = at % all.len();
                all[at] = entry(*gone + at as u64 + 1, at % 50);
                cached.replace(&all[at]);
            }
            Deed::Replace(_) => {}
            Deed::Restore(max_bytes) => {
                *cached = Cached::restore(all.clone(), max_bytes);
                // Small ones may have been joined.
                let most = max_bytes.max(JOINED as u64 * SMALL);
                let fits = |run: &Run| run.size <= most || run.entries.len() == 1;
                assert!(cached.runs.iter().all(fits), "{max_bytes}: {cached:?}");
            }
        }
        assert!(cached.small <= cached.runs.len() && cached.small < JOINED + KEPT, "from {last}: {cached:?}");
    }

    proptest! {
        /// Against a vector.
        #[test]
        fn runs_have_what_was_put_into_them(deeds in any_vec(deed(), 1..60), max in 40..4_000_u64) {
            let (mut cached, mut all, mut gone) = (Cached::default(), Vec::new(), 0);
            for deed in deeds {
                do_to(deed, &mut cached, &mut all, &mut gone);
                prop_assert!(cached.all().eq(&all));
                prop_assert_eq!((cached.len(), cached.first()), (all.len(), all.first()));
                for after in [0, all.len() / 3, all.len()] {
                    let from = Index::new(gone + after as u64);
                    let some = (all.len() - after) / 2;
                    prop_assert!(cached.after(from, some).eq(&all[after..after + some]));
                    let last = from + some as u64;
                    if let Some(piece) = cached.piece(from, last, max) {
                        let (count, size) = (piece.entries.len(), size_of(piece.entries));
                        prop_assert!(count > 0 && count <= some && size <= max);
                        prop_assert_eq!(piece.entries, &all[after..after + count]);
                        prop_assert_eq!((piece.size, piece.through), (size, from + count as u64));
                    }
                    if let Some(run) = cached.newest(from) {
                        prop_assert_eq!(&*run.entries, &all[after..after + run.entries.len()]);
                        prop_assert_eq!(run.size, size_of(&run.entries));
                    }
                    let end = cached.last_end(last);
                    prop_assert!(end.is_none_or(|end| end <= last && end.next() >= from.min(end.next())));
                }
                prop_assert_eq!(&cached, &Cached::restore(all.clone(), 100));
            }
        }
    }

    #[test]
    fn a_run_is_shared_and_not_copied() {
        let run: Entries = (1..=3).map(|index| entry(index, 10)).collect();
        let mut cached = Cached::default();
        cached.share(run.clone(), size_of(&run));
        let last = Index::new(3);
        let piece = |cached: &Cached, after| {
            let piece = cached.piece(Index::new(after), last, 1_000)?;
            Some((core::ptr::eq(&**piece.run, &*run), piece.entries.len()))
        };
        assert_eq!((piece(&cached, 0), piece(&cached, 1)), (Some((true, 3)), Some((true, 2))));
        assert_eq!(piece(&cached, 3), None);
        cached.forget_first();
        assert_eq!((piece(&cached, 0), piece(&cached, 2)), (None, Some((true, 1))));
        let replaced = entry(2, 0);
        cached.replace(&replaced);
        assert_eq!((cached.first(), &run[1]), (Some(&replaced), &entry(2, 10)));
    }

    /// So many entries of `bytes` each, from `first` on.
    fn entries(first: u64, count: u64, bytes: usize) -> Entries {
        (first..first + count).map(|index| entry(index, bytes)).collect()
    }

    fn shared(all: impl IntoIterator<Item = Entries>) -> Cached {
        let mut cached = Cached::default();
        all.into_iter().for_each(|run| cached.share(run.clone(), size_of(&run)));
        cached
    }

    #[test]
    fn what_has_left_is_in_no_run() {
        let mut cached = shared([entries(1, 3, 10), entries(4, 3, 10)]);
        let piece = |cached: &Cached, after| {
            cached
                .piece(Index::new(after), Index::new(6), 10_000)
                .map(|piece| piece.entries[0].id.index.get())
        };
        let newest = |cached: &Cached, after| cached.newest(Index::new(after)).map(|run| run.first.get());
        (1..=3).for_each(|_| cached.forget_first());
        assert_eq!((piece(&cached, 0), piece(&cached, 2), piece(&cached, 3)), (None, None, Some(4)));
        assert_eq!(newest(&cached, 3), Some(4));
        cached.forget_first();
        assert_eq!((newest(&cached, 3), piece(&cached, 3), piece(&cached, 4)), (None, None, Some(5)));
        let end = |through| cached.last_end(Index::new(through)).map(Index::get);
        assert_eq!((end(1), end(2), end(3), end(5)), (None, None, Some(3), Some(3)));
    }

    /// What is restored is one run for each message that it fills, so that messages share it.
    #[test]
    fn what_is_restored_is_in_runs_of_the_size_that_is_asked_for() {
        let all = entries(1, 7, 1_100);
        let cached = Cached::restore(all.to_vec(), 2 * all[0].size() + 1);
        let counts: Vec<_> = cached.runs.iter().map(|run| run.entries.len()).collect();
        assert_eq!(counts, [2, 2, 2, 1]);
    }

    #[test]
    fn a_large_run_stays_as_it_is_among_small_ones() {
        let runs: Vec<_> =
            (1..=400).map(|index| entries(index, 1, if index % 2 == 0 { 1 << 10 } else { 8 })).collect();
        let cached = shared(runs.iter().cloned());
        let is_shared = |run: &&Entries| {
            let id = run[0].id.index;
            let piece = cached.piece(id.prev().unwrap(), id, u64::MAX);
            piece.is_some_and(|piece| core::ptr::eq(&**piece.run, &***run))
        };
        assert_eq!(runs.iter().filter(is_shared).count(), 400);
    }

    #[test]
    fn a_burst_does_not_keep_its_room() {
        let mut cached = Cached::default();
        (1..=100_000).for_each(|index| cached.push(entry(index, 0)));
        cached.seal();
        assert!(cached.tail.capacity() <= TAIL, "{}", cached.tail.capacity());
    }

    /// What one small run takes beside its entries would be more than they do.
    #[test]
    fn many_small_runs_become_few() {
        let mut cached = Cached::default();
        for index in 1..=10_000 {
            cached.share(Entries::from_iter([entry(index, 8)]), entry(index, 8).size());
        }
        assert!(cached.runs.len() < 10_000 / JOINED + JOINED + KEPT, "{}", cached.runs.len());
        assert_eq!(cached.len(), 10_000);
    }
}
