//! What a log that does not fit into memory is restored from.

use crate::log::sizes::Sizes;
use crate::log::{Entry, EntryBody, Runs};
use crate::membership::Membership;
use crate::types::{Index, LogId};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What is left of entries that are on the disk and not in a [`Durable`](crate::durable::Durable): their
/// terms, the memberships among them, and which of them are lost.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Skipped {
    /// The last of them; none where there are none.
    pub(crate) last: Option<LogId>,
    /// The first of each term.
    pub(crate) terms: Vec<LogId>,
    pub(crate) configs: Vec<(LogId, Arc<Membership>)>,
    /// Which of them the disk has damaged.
    pub(crate) lost: Runs,
    pub(crate) sizes: Sizes,
}

impl Skipped {
    pub(crate) fn push(&mut self, entry: &Entry) {
        if self.terms.last().is_none_or(|first| first.term != entry.id.term) {
            self.terms.push(entry.id);
        }
        if let EntryBody::Config(membership) = &entry.body {
            self.configs.push((entry.id, membership.clone()));
        }
        if entry.body == EntryBody::Lost {
            self.lost.push(entry.id.index);
        }
        self.sizes.push(entry.id.index, entry.size());
        self.last = Some(entry.id);
    }

    /// Which entry is at `index`, if one of these is.
    pub(crate) fn id(&self, index: Index) -> Option<LogId> {
        let run = self.terms.partition_point(|first| first.index <= index).checked_sub(1)?;
        (index <= self.last?.index).then(|| self.terms[run].term.at(index))
    }

    /// An entry has come back. Whether it was lost here.
    pub(crate) fn repair(&mut self, entry: &Entry) -> bool {
        let index = entry.id.index;
        if !self.lost.contains(index) || self.id(index) != Some(entry.id) {
            return false;
        }
        self.lost.remove(index);
        self.sizes.grow(index, entry.size() - EntryBody::Lost.size());
        if let EntryBody::Config(membership) = &entry.body {
            let after = self.configs.partition_point(|(id, _)| id.index < index);
            self.configs.insert(after, (entry.id, membership.clone()));
        }
        true
    }

    /// The log begins after `base` now.
    pub(crate) fn forget(&mut self, base: Index) {
        if self.last.is_none_or(|last| last.index <= base) {
            return *self = Self::default();
        }
        // The term of what comes next is the last that begins there or before.
        let begun = self.terms.partition_point(|first| first.index <= base.next());
        self.terms.drain(..begun.saturating_sub(1));
        if let Some(first) = self.terms.first_mut() {
            first.index = first.index.max(base.next());
        }
        self.configs.retain(|(id, _)| id.index > base);
        self.lost.keep_after(base);
        self.sizes.forget(base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_ends_with_the_base_is_forgotten() {
        let mut skipped = Skipped::default();
        for (term, index) in [(1, 9), (1, 10), (2, 11), (2, 12), (4, 13)] {
            skipped.push(&Entry { id: LogId::new(term, index), body: EntryBody::Blank });
        }
        let after = |base| {
            let mut skipped = skipped.clone();
            skipped.forget(Index::new(base));
            skipped.terms
        };
        assert_eq!(after(9), [LogId::new(1, 10), LogId::new(2, 11), LogId::new(4, 13)]);
        assert_eq!(after(10), [LogId::new(2, 11), LogId::new(4, 13)]);
        assert_eq!(after(11), [LogId::new(2, 12), LogId::new(4, 13)]);
        assert_eq!(after(12), [LogId::new(4, 13)]);
        assert_eq!(after(13), []);
    }

    #[test]
    fn what_is_lost_is_known_until_it_has_come_back() {
        let membership = Arc::new(Membership::unknown());
        let body = |index| match index {
            2 | 3 | 5 => EntryBody::Lost,
            4 => EntryBody::Config(membership.clone()),
            _ => EntryBody::Blank,
        };
        let mut skipped = Skipped::default();
        for (term, index) in [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (2, 6)] {
            skipped.push(&Entry { id: LogId::new(term, index), body: body(index) });
        }
        let back =
            |term, index| Entry { id: LogId::new(term, index), body: EntryBody::Config(membership.clone()) };
        assert!(!skipped.repair(&back(1, 3)), "another entry");
        assert!(!skipped.repair(&back(2, 6)), "not lost");
        assert!(skipped.repair(&back(2, 3)) && !skipped.repair(&back(2, 3)));
        let configs: Vec<u64> = skipped.configs.iter().map(|(id, _)| id.index.get()).collect();
        assert_eq!(configs, [3, 4]);
        skipped.forget(Index::new(2));
        assert_eq!(skipped.lost.first(), Some((Index::new(5), Index::new(5))));
    }
}
