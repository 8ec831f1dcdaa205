//! What a log that does not fit into memory is restored from.

use crate::log::{Entry, EntryBody};
use crate::membership::Membership;
use crate::types::{Index, LogId};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What is left of entries that are on the disk and not in a [`Durable`](crate::raft::Durable): their terms, and the memberships among them.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Skipped {
    /// The last of them; none where there are none.
    pub(crate) last: Option<LogId>,
    /// The first of each term.
    pub(crate) terms: Vec<LogId>,
    pub(crate) configs: Vec<(LogId, Arc<Membership>)>,
}

impl Skipped {
    pub(crate) fn push(&mut self, entry: &Entry) {
        if self.terms.last().is_none_or(|first| first.term != entry.id.term) {
            self.terms.push(entry.id);
        }
        if let EntryBody::Config(membership) = &entry.body {
            self.configs.push((entry.id, membership.clone()));
        }
        self.last = Some(entry.id);
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
}
