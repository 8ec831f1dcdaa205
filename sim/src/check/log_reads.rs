//! Log Reads: a page of the log that a client is given holds what was committed at those indexes, is no
//! larger than it may be, and is empty only where nothing follows. A page that cannot be had is refused, with
//! a reason that is true.

use crate::hash::StableHasher;
use crate::ledger::{Link, link_at};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::replica::{Answer, LogPage, LogRange, ReplicaRefusal};
use kontiki_core::types::Index;

/// The property's name.
pub const NAME: &str = "Log Reads";

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which entries.
    pub range: LogRange,
    /// How many bytes of them at most.
    pub max_bytes: u64,
    /// How many of them at most.
    pub max_entries: u64,
}

/// The member that was asked, when it answered.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The index before the first entry of its log.
    pub base: Index,
    /// The last index of its log.
    pub last: Index,
    /// What the group has committed.
    pub committed: &'a [Link],
    /// Whether its disk has damaged something.
    pub is_damaged: bool,
    /// Whether it is a witness.
    pub is_witness: bool,
}

/// What an answer came to, where nothing is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Entries, or nothing where there are none.
    Entries,
    /// The log begins later.
    Compacted,
    /// An entry cannot be read.
    Unreadable,
    /// The member takes no requests now.
    Refused,
}

impl Reader<'_> {
    /// Looks at an answer.
    pub fn judge(&self, asked: Asked, answer: &Answer) -> Result<Read, String> {
        match answer {
            Answer::Entries(page) => self.judge_page(asked, page).map(|()| Read::Entries),
            Answer::Refused(ReplicaRefusal::Compacted { first }) => match asked.range {
                LogRange::Between(after, _) if after.next() < *first && *first <= self.base.next() => {
                    Ok(Read::Compacted)
                }
                range => Err(format!("{range:?} is compacted, says a log that begins after {}", self.base)),
            },
            Answer::Refused(ReplicaRefusal::Unreadable { .. }) if !self.is_damaged => {
                Err(format!("nothing is damaged, and {:?} was answered: {answer}", asked.range))
            }
            Answer::Refused(ReplicaRefusal::Unreadable { .. }) => Ok(Read::Unreadable),
            Answer::Refused(ReplicaRefusal::Raft(_) | ReplicaRefusal::TooMany) => Ok(Read::Refused),
            other => Err(format!("{:?} was answered: {other}", asked.range)),
        }
    }

    fn judge_page(&self, asked: Asked, page: &LogPage) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{:?} was answered with {page:?}: {what}", asked.range));
        let wanted = match asked.range {
            LogRange::Between(_, through) => through.min(self.last),
            LogRange::First(0) | LogRange::Last(0) => Index::ZERO,
            LogRange::First(_) | LogRange::Last(_) => self.last,
        };
        if page.entries.is_empty() && page.after < wanted {
            return wrong(&format!("it is empty, and the log goes on through {}", self.last));
        }
        if page.entries.len() as u64 > asked.max_entries {
            return wrong("it has more entries than it may");
        }
        if page.entries.first().is_some_and(|first| first.id.index <= self.base) {
            return wrong(&format!("entries through {} have left the log", self.base));
        }
        let bytes: u64 = page.entries.iter().map(Entry::size).sum();
        if page.entries.len() > 1 && bytes > asked.max_bytes {
            return wrong("it has more bytes than it may");
        }
        if page.committed.get() > self.committed.len() as u64 {
            return wrong("the group has committed less");
        }
        for (entry, index) in page.entries.iter().zip(page.after.get().saturating_add(1)..) {
            if entry.id.index.get() != index {
                return wrong("its entries do not follow one another");
            }
            let body_is_known = match entry.body {
                EntryBody::Withheld if !self.is_witness => return wrong("it withholds an entry"),
                EntryBody::Lost if !self.is_damaged => return wrong("it has lost an entry"),
                EntryBody::Withheld | EntryBody::Lost => false,
                _ => true,
            };
            if entry.id.index > page.committed {
                continue;
            }
            let Some(link) = link_at(self.committed, entry.id.index) else {
                return wrong("the group has committed less");
            };
            let is_same = link.term == entry.id.term
                && (!body_is_known || link.content == StableHasher::of(&entry.body));
            if !is_same {
                return wrong(&format!("entry {} is not what was committed there", entry.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::chain;
    use kontiki_core::types::{LogId, Payload};

    const ASKED: Asked =
        Asked { range: LogRange::Between(Index::new(1), Index::new(9)), max_bytes: 1 << 10, max_entries: 2 };

    fn judge(answer: &Answer) -> Result<Read, String> {
        judge_after(Index::ZERO, answer)
    }

    fn judge_after(base: Index, answer: &Answer) -> Result<Read, String> {
        let committed = chain(&[(1, "a"), (1, "b"), (2, "c")]);
        let last = Index::new(4);
        Reader { base, last, committed: &committed, is_damaged: false, is_witness: false }
            .judge(ASKED, answer)
    }

    fn page(entries: &[(u64, u64, &str)]) -> Answer {
        let entry = |&(term, index, text): &(u64, u64, &str)| Entry {
            id: LogId::new(term, index),
            body: EntryBody::Data(Payload::from(text)),
        };
        let entries = entries.iter().map(entry).collect();
        Answer::Entries(LogPage {
            after: Index::new(1),
            through: Index::new(4),
            entries,
            committed: Index::new(3),
        })
    }

    #[test]
    fn what_was_committed_may_be_read() {
        assert_eq!(judge(&page(&[(1, 2, "b"), (2, 3, "c")])), Ok(Read::Entries));
        assert_eq!(judge(&page(&[(1, 2, "b")])), Ok(Read::Entries), "a page may end early");
    }

    #[test]
    fn what_has_left_the_log_is_in_no_page() {
        let both = page(&[(1, 2, "b"), (2, 3, "c")]);
        assert_eq!(judge_after(Index::new(1), &both), Ok(Read::Entries));
        let seen = judge_after(Index::new(2), &both).expect_err("entry 2 has left");
        assert!(seen.ends_with("entries through 2 have left the log"), "{seen}");
    }

    #[test]
    fn a_page_is_empty_only_where_nothing_follows() {
        assert!(judge(&page(&[])).is_err());
    }

    #[test]
    fn what_was_not_committed_shows() {
        assert!(judge(&page(&[(1, 2, "x")])).is_err(), "another content");
        assert!(judge(&page(&[(2, 2, "b")])).is_err(), "another term");
        assert!(judge(&page(&[(2, 3, "c")])).is_err(), "an entry is left out");
    }

    #[test]
    fn a_page_is_no_larger_than_it_may_be() {
        assert!(judge(&page(&[(1, 2, "b"), (2, 3, "c"), (2, 4, "d")])).is_err());
    }

    #[test]
    fn a_refusal_must_be_true() {
        let compacted =
            |first| judge(&Answer::Refused(ReplicaRefusal::Compacted { first: Index::new(first) }));
        assert!(compacted(3).is_err(), "the log begins with entry 1");
        let lost = ReplicaRefusal::Unreadable { index: Index::new(2), damage: None };
        assert!(judge(&Answer::Refused(lost)).is_err(), "nothing is damaged");
        assert_eq!(judge(&Answer::Refused(ReplicaRefusal::TooMany)), Ok(Read::Refused));
    }
}
