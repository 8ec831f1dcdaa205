//! One member's log: its entries, and how far they are written, durable, committed and applied.
//!
//! ```text
//!   base ······ applied ≤ committed ······ last        what the group knows of it
//!               handed to Apply ≤ min(committed, durable)
//!               durable ≤ written ≤ last               what the disk knows of it
//! ```
//!
//! The log owns these cursors and their order. No index is ever a position in a vector: the log begins after
//! `base`, wherever that is.

mod entry;
#[cfg(test)]
mod model;
mod terms;

pub use entry::{Discontinuity, Entries, Entry, EntryBody, LogSlice};

use crate::types::{Index, LogId, Term};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use terms::Terms;

/// A member's log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Log {
    base: Index,
    terms: Terms,
    entries: VecDeque<Entry>,
    /// The run of entries that was built or received last, to be shared by whoever needs the same run next: the
    /// write and every peer's message.
    batch: Entries,
    /// Everything through here was handed out to be written, if not since truncated.
    written: Index,
    /// Set where entries that were handed out to be written are gone, until the next write says so.
    cut: Option<Index>,
    durable: Index,
    committed: Index,
    /// Everything through here was handed out to be applied.
    applying: Index,
    applied: Index,
}

/// An append would replace an entry that was agreed upon: somewhere safety is already broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contradiction {
    pub(crate) ours: LogId,
    pub(crate) theirs: LogId,
}

impl Log {
    /// A log as it was read back from disk, all of it durable. The caller has checked that `entries` follow `base`
    /// and that `base <= applied <= committed <= last`.
    pub(crate) fn restore(base: LogId, entries: Vec<Entry>, committed: Index, applied: Index) -> Self {
        let mut terms = Terms::new(base);
        terms.extend(entries.iter().map(|entry| entry.id.term));
        let last = terms.last().index;
        assert!(base.index <= applied && applied <= committed && committed <= last);
        Self {
            base: base.index,
            terms,
            entries: entries.into(),
            batch: Entries::EMPTY,
            written: last,
            cut: None,
            durable: last,
            committed,
            applying: applied,
            applied,
        }
    }

    /// The last entry, or the base of an empty log.
    pub fn last(&self) -> LogId {
        self.terms.last()
    }

    /// The index of the entry before the first.
    pub fn base(&self) -> Index {
        self.base
    }

    /// How far this log is on the disk.
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// How far this member knows the log to be committed.
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// How far the host has reported the log applied.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The term of the entry at `index`, where this log knows it.
    pub fn term(&self, index: Index) -> Option<Term> {
        self.terms.get(index)
    }

    /// Whether this log has the entry `id`, which by Log Matching means everything before it too (paper §5.3).
    pub fn contains(&self, id: LogId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The entry at `index`, where this log holds it.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let position = index.get().checked_sub(self.base.next().get())?;
        self.entries.get(usize::try_from(position).ok()?)
    }

    /// The entries after `after`, through `through`, as far as this log holds them: what
    /// [`Action::Apply`](crate::action::Action::Apply) names.
    pub fn entries(&self, after: Index, through: Index) -> impl ExactSizeIterator<Item = &Entry> + Clone {
        let (after, through) = (after.clamp(self.base, self.last().index), through.min(self.last().index));
        self.entries.range(self.position_after(after)..self.position_after(through.max(after)))
    }

    /// The size of all entries that wait to be committed; see [`Entry::size`].
    pub(crate) fn uncommitted_size(&self) -> u64 {
        self.entries(self.committed, self.last().index).map(Entry::size).sum()
    }

    /// Appends one entry that this member creates as leader of `term`.
    pub(crate) fn append(&mut self, term: Term, body: EntryBody) -> LogId {
        self.terms.push(term);
        let id = self.terms.last();
        self.entries.push_back(Entry { id, body });
        id
    }

    /// Takes over what a leader sent, of which [`LogSlice::prev`] is known to match. Entries that are already here
    /// stay (a stale or repeated message removes nothing); the first that conflicts goes, with all that follow it
    /// (paper, figure 2). Returns how far this log now agrees with the leader's. Nothing through `agreed`, which is
    /// committed or came from the same leader before, may conflict.
    pub(crate) fn adopt(&mut self, slice: &LogSlice, agreed: Index) -> Result<Index, Contradiction> {
        debug_assert!(self.contains(slice.prev()));
        let entries = slice.entries();
        let new_from = entries.iter().position(|entry| !self.contains(entry.id));
        let Some(new_from) = new_from else {
            return Ok(slice.last().index);
        };
        let first = entries[new_from].id;
        if first.index <= agreed {
            let ours = self.term(first.index).map_or(LogId::ZERO, |term| LogId { term, index: first.index });
            return Err(Contradiction { ours, theirs: first });
        }
        if first.index <= self.last().index {
            self.truncate(first.index.prev().unwrap_or_default());
        }
        let new = &entries[new_from..];
        self.terms.extend(new.iter().map(|entry| entry.id.term));
        self.entries.extend(new.iter().cloned());
        if new_from == 0 {
            self.batch = entries.clone();
        }
        Ok(slice.last().index)
    }

    /// Where this log could last agree with a leader that just asked about `prev` and was refused. Whole terms of
    /// ours that are later than the leader's are skipped at once.
    pub(crate) fn conflict_hint(&self, prev: LogId) -> LogId {
        self.terms.last_at_most(prev.index, prev.term)
    }

    /// The last of our entries that a follower whose log ends at `hint` could hold.
    pub(crate) fn last_shared(&self, hint: LogId) -> LogId {
        self.terms.last_at_most(hint.index, hint.term)
    }

    /// The entries after `after`, as many as fit into `max_size` but at least one if there is one, and their size.
    pub(crate) fn slice(&mut self, after: LogId, max_size: u64) -> (LogSlice, u64) {
        let mut size = 0;
        let mut through = after.index;
        for entry in self.entries(after.index, self.last().index) {
            size += entry.size();
            if size > max_size && through > after.index {
                size -= entry.size();
                break;
            }
            through = entry.id.index;
        }
        (LogSlice::new_unchecked(after, self.shared(after.index, through)), size)
    }

    /// Raises the commit index; lower values change nothing.
    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.last().index, "commit {index:?} beyond the log's end {:?}", self.last());
        self.committed = self.committed.max(index);
    }

    /// Notes that everything through `index` is on the disk.
    pub(crate) fn durable_to(&mut self, index: Index) {
        debug_assert!(index <= self.written);
        self.durable = self.durable.max(index);
    }

    /// Whether there is anything that the disk must be told.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.cut.is_some() || self.written != self.last().index
    }

    /// What the disk must be told next: where to cut, and what to append.
    pub(crate) fn take_unwritten(&mut self) -> (Option<Index>, Entries) {
        let last = self.last().index;
        let append = self.shared(self.written, last);
        self.written = last;
        (self.cut.take(), append)
    }

    /// The next entries to apply, as the index through which to; each is named once. Only what is both committed
    /// and on this disk: a state machine never gets ahead of its own log.
    pub(crate) fn take_applicable(&mut self) -> Option<Index> {
        let through = self.committed.min(self.durable);
        if through <= self.applying {
            return None;
        }
        self.applying = through;
        Some(through)
    }

    /// How far entries were handed out to be applied.
    pub(crate) fn applying(&self) -> Index {
        self.applying
    }

    /// The host has applied everything through `index`.
    pub(crate) fn applied_to(&mut self, index: Index) {
        debug_assert!(index <= self.applying);
        self.applied = self.applied.max(index);
    }

    /// What must hold of a log at any time.
    #[cfg(debug_assertions)]
    pub(crate) fn check(&self) {
        assert_eq!(self.terms.last().index - self.base, self.entries.len() as u64);
        assert!(self.entries.back().is_none_or(|entry| entry.id == self.last()));
        assert!(self.base <= self.applied && self.applied <= self.applying);
        assert!(
            self.applying <= self.committed.min(self.durable),
            "applying what is not committed and durable"
        );
        assert!(self.durable <= self.written && self.written <= self.last().index);
        assert!(self.committed <= self.last().index);
    }

    fn truncate(&mut self, through: Index) {
        assert!(
            through >= self.committed,
            "truncation to {through:?} below the commit index {:?}",
            self.committed
        );
        self.terms.truncate(through);
        self.entries.truncate(self.position_after(through));
        if self.written > through {
            self.written = through;
            self.cut = Some(self.cut.map_or(through, |cut| cut.min(through)));
        }
        self.durable = self.durable.min(through);
        self.batch = Entries::EMPTY;
    }

    /// The entries after `after` through `through`, behind one pointer for all who ask for the same run in turn.
    fn shared(&mut self, after: Index, through: Index) -> Entries {
        if after >= through {
            return Entries::EMPTY;
        }
        let known = self.batch.first().zip(self.batch.last());
        if known.is_none_or(|(first, last)| first.id.index != after.next() || last.id.index != through) {
            self.batch = self.entries(after, through).cloned().collect();
        }
        self.batch.clone()
    }

    fn position_after(&self, index: Index) -> usize {
        // The difference is a number of entries in memory.
        (index - self.base) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn log(terms: &[u64]) -> Log {
        let entry = |(&term, index)| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
        let entries = terms.iter().zip(1..).map(entry).collect();
        Log::restore(LogId::ZERO, entries, Index::ZERO, Index::ZERO)
    }

    fn slice(prev: LogId, terms: &[u64]) -> LogSlice {
        let entry = |(&term, index)| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
        LogSlice::new(prev, terms.iter().zip(prev.index.get() + 1..).map(entry).collect()).unwrap()
    }

    fn terms(log: &Log) -> Vec<u64> {
        log.entries(log.base(), log.last().index).map(|entry| entry.id.term.get()).collect()
    }

    #[test]
    fn a_repeated_message_removes_nothing() {
        let mut log = log(&[1, 1, 1]);
        assert_eq!(log.adopt(&slice(LogId::new(1, 1), &[1]), log.committed()), Ok(Index::new(2)));
        assert_eq!(terms(&log), [1, 1, 1]);
        assert!(!log.has_unwritten());
    }

    #[test]
    fn a_conflict_removes_all_that_follow_and_the_disk_is_told() {
        let mut log = log(&[1, 1, 1]);
        assert_eq!(log.adopt(&slice(LogId::new(1, 1), &[2]), log.committed()), Ok(Index::new(2)));
        assert_eq!(terms(&log), [1, 2]);
        assert_eq!(log.durable(), Index::new(1));
        let (cut, append) = log.take_unwritten();
        assert_eq!((cut, append.len(), append[0].id), (Some(Index::new(1)), 1, LogId::new(2, 2)));
        assert!(!log.has_unwritten());
    }

    #[test]
    fn a_conflict_with_a_committed_entry_is_a_contradiction() {
        let mut log = log(&[1, 1, 1]);
        log.commit_to(Index::new(2));
        let contradiction = Contradiction { ours: LogId::new(1, 2), theirs: LogId::new(2, 2) };
        assert_eq!(log.adopt(&slice(LogId::new(1, 1), &[2]), log.committed()), Err(contradiction));
        assert_eq!(terms(&log), [1, 1, 1]);
    }

    #[test]
    fn the_write_and_every_message_share_one_run() {
        let mut log = log(&[1]);
        log.append(Term::new(2), EntryBody::Blank);
        log.append(Term::new(2), EntryBody::Blank);
        let (first, _) = log.slice(LogId::new(1, 1), u64::MAX);
        let (second, _) = log.slice(LogId::new(1, 1), u64::MAX);
        let (_, written) = log.take_unwritten();
        assert!(core::ptr::eq(&**first.entries(), &**second.entries()));
        assert!(core::ptr::eq(&**first.entries(), &*written));
    }

    #[test]
    fn a_slice_holds_at_least_one_entry() {
        let mut log = log(&[1, 1, 1]);
        let lengths =
            [0, 2 * Entry::OVERHEAD, u64::MAX].map(|max| log.slice(LogId::ZERO, max).0.entries().len());
        assert_eq!(lengths, [1, 2, 3]);
    }

    #[test]
    fn applying_waits_for_the_commit_and_for_the_disk() {
        let mut log = log(&[1]);
        log.append(Term::new(1), EntryBody::Blank);
        log.commit_to(Index::new(2));
        assert_eq!(log.take_applicable(), Some(Index::new(1)));
        assert_eq!(log.take_applicable(), None);
        log.take_unwritten();
        log.durable_to(Index::new(2));
        assert_eq!(log.take_applicable(), Some(Index::new(2)));
    }

    #[test]
    fn what_is_uncommitted_follows_commit_and_truncation() {
        let mut log = log(&[1, 1, 1]);
        assert_eq!(log.uncommitted_size(), 3 * Entry::OVERHEAD);
        log.commit_to(Index::new(1));
        log.adopt(&slice(LogId::new(1, 1), &[2]), log.committed()).unwrap();
        assert_eq!(log.uncommitted_size(), Entry::OVERHEAD);
        log.commit_to(Index::new(2));
        assert_eq!(log.uncommitted_size(), 0);
    }

    #[test]
    fn a_log_of_k_divergent_terms_agrees_after_k_hints() {
        let leader = log(&[1, 1, 1, 5, 5, 5, 8, 8, 8]);
        let follower = log(&[1, 1, 1, 2, 2, 3, 3, 4, 4, 4]);
        let mut prev = leader.last();
        let mut trips = vec![];
        while !follower.contains(prev) {
            trips.push(prev);
            prev = leader.last_shared(follower.conflict_hint(prev));
        }
        assert_eq!(prev, LogId::new(1, 3));
        assert_eq!(trips, [LogId::new(8, 9)], "terms that cannot match are skipped whole, on either side");
    }
}
