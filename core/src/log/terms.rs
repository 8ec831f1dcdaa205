//! The term of every entry, as runs: a log has few terms and many entries.

use crate::log::Entry;
use crate::types::{Index, LogId, Term};
use alloc::vec::Vec;

/// Where each term begins. Runs are in the order of both their indexes and their terms, so both are searched
/// by halving, and the term of a recent entry is found at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Terms {
    base: LogId,
    runs: Vec<LogId>,
    last: Index,
}

impl Terms {
    /// A log without entries whose first will follow `base`.
    pub(crate) fn new(base: LogId) -> Self {
        Self { base, runs: Vec::new(), last: base.index }
    }

    /// A log after `base`, through `last`, of which this is the first entry of each term.
    pub(crate) fn from_runs(base: LogId, runs: Vec<LogId>, last: Index) -> Self {
        Self { base, runs, last }
    }

    /// The last entry, or the base where there is none.
    pub(crate) fn last(&self) -> LogId {
        let term = self.runs.last().map_or(self.base.term, |run| run.term);
        LogId { term, index: self.last }
    }

    /// The first entry of each term, in the order of the log.
    #[cfg(feature = "wal")]
    pub(crate) fn runs(&self) -> &[LogId] {
        &self.runs
    }

    /// One more entry.
    pub(crate) fn push(&mut self, term: Term) {
        self.extend(core::iter::once(term));
    }

    /// More entries, in the order of the log.
    pub(crate) fn extend(&mut self, terms: impl Iterator<Item = Term>) {
        let mut newest = self.last().term;
        let mut last = self.last;
        for term in terms {
            last = last.next();
            if term != newest || self.runs.is_empty() {
                assert!(term >= newest, "terms never fall along a log: {term:?} after {newest:?}");
                self.runs.push(LogId { term, index: last });
                newest = term;
            }
        }
        self.last = last;
    }

    /// These entries, of terms that never fall.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        match entries {
            // Nearly always they are all of one term.
            [first, .., last] if first.id.term == last.id.term => {
                self.push(first.id.term);
                self.last = self.last + (entries.len() as u64 - 1);
            }
            _ => self.extend(entries.iter().map(|entry| entry.id.term)),
        }
    }

    /// Forgets every entry through `base`, which may lie beyond the last.
    pub(crate) fn compact_to(&mut self, base: LogId) {
        let begun = self.runs.partition_point(|run| run.index <= base.index);
        if base.index >= self.last {
            self.runs.clear();
        } else if self.runs.get(begun).is_some_and(|next| next.index == base.index.next()) {
            self.runs.drain(..begun);
        } else {
            self.runs.drain(..begun - 1);
            self.runs[0].index = base.index.next();
        }
        self.last = self.last.max(base.index);
        self.base = base;
    }

    /// Forgets every entry after `index`.
    pub(crate) fn truncate(&mut self, index: Index) {
        while self.runs.last().is_some_and(|run| run.index > index) {
            self.runs.pop();
        }
        self.last = self.last.min(index);
    }

    /// The term of the entry at `index`; `None` where this log knows nothing of it. An unknown term is never
    /// zero: zero would match a peer that knows nothing either.
    pub(crate) fn get(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index > self.last || index < self.base.index {
            return None;
        }
        let newest = self.runs.last()?;
        if index >= newest.index {
            return Some(newest.term);
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        Some(self.runs[after - 1].term)
    }

    /// The last entry at or before `index` whose term is at most `term`: the last place where a log that ends
    /// so could agree with this one. The base where there is no such entry.
    pub(crate) fn last_at_most(&self, index: Index, term: Term) -> LogId {
        let run = self.runs.partition_point(|run| run.term <= term && run.index <= index);
        let Some(found) = run.checked_sub(1).map(|run| self.runs[run]) else {
            return self.base;
        };
        let end = self.runs.get(run).map_or(self.last, |next| next.index.prev().unwrap_or_default());
        LogId { term: found.term, index: end.min(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(of: &[u64]) -> Terms {
        let mut terms = Terms::new(LogId::new(1, 10));
        of.iter().for_each(|&term| terms.push(Term::new(term)));
        terms
    }

    #[test]
    fn terms_are_known_from_the_base_to_the_last() {
        let terms = terms(&[1, 3, 3, 5]);
        let get = |index| terms.get(Index::new(index)).map(Term::get);
        assert_eq!(
            [9, 10, 11, 12, 13, 14, 15].map(get),
            [None, Some(1), Some(1), Some(3), Some(3), Some(5), None]
        );
    }

    #[test]
    fn the_last_possible_agreement_skips_whole_terms() {
        let terms = terms(&[1, 3, 3, 5]);
        let at_most = |index, term| terms.last_at_most(Index::new(index), Term::new(term));
        assert_eq!(at_most(14, 9), LogId::new(5, 14));
        assert_eq!(at_most(14, 4), LogId::new(3, 13));
        assert_eq!(at_most(12, 4), LogId::new(3, 12));
        assert_eq!(at_most(14, 2), LogId::new(1, 11));
        assert_eq!(at_most(14, 0), LogId::new(1, 10));
    }

    #[test]
    fn compaction_keeps_what_follows() {
        for base in 10..=16 {
            let mut terms = terms(&[1, 3, 3, 5]);
            let id =
                LogId { term: terms.get(Index::new(base)).unwrap_or(Term::new(7)), index: Index::new(base) };
            terms.compact_to(id);
            assert_eq!(terms.get(Index::new(base)), Some(id.term));
            assert_eq!(terms.last().index.get(), base.max(14));
            let rest: Vec<_> =
                (base + 1..=14).map(|index| terms.get(Index::new(index)).map(Term::get)).collect();
            assert_eq!(rest, [Some(1), Some(3), Some(3), Some(5)][(base as usize - 10).min(4)..]);
            terms.push(Term::new(7));
            assert_eq!(terms.last(), LogId::new(7, base.max(14) + 1));
        }
    }

    #[test]
    fn truncation_forgets_whole_runs() {
        let mut terms = terms(&[1, 3, 3, 5]);
        terms.truncate(Index::new(12));
        assert_eq!(terms.last(), LogId::new(3, 12));
        terms.truncate(Index::new(10));
        assert_eq!(terms.last(), LogId::new(1, 10));
        terms.push(Term::new(7));
        assert_eq!(terms.last(), LogId::new(7, 11));
    }
}
