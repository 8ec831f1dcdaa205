//! What the checks know of every member's log: a rolling hash of each prefix, so that two logs are compared
//! by comparing two numbers.

use crate::hash::StableHasher;
use crate::part::{Involvement, LogEntry};
use kontiki_core::action::Write;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::types::{Index, LogId, Term};

/// An entry as the checks remember it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The entry's term.
    pub term: Term,
    /// The hash of what the entry holds.
    pub content: u64,
    /// The hash of this entry and all before it.
    pub prefix: u64,
}

impl Link {
    /// The link of `entry` behind `before`.
    pub fn after(before: Option<&Self>, entry: &Entry) -> Self {
        Self::new(before, entry.id.term, StableHasher::of(&entry.body))
    }

    /// Whether this is the link of its entry behind `before`.
    pub(crate) fn follows(&self, before: Option<&Self>) -> bool {
        *self == Self::new(before, self.term, self.content)
    }

    fn new(before: Option<&Self>, term: Term, content: u64) -> Self {
        let prefix = before.map_or(0, |link| link.prefix);
        let own = StableHasher::combine(term.get(), content);
        Self { term, content, prefix: StableHasher::combine(prefix, own) }
    }
}

/// The links of a log, without an entry at index zero: from the first that was ever there, whether the member
/// still has it or not.
pub type Chain = Vec<Link>;

/// The link at `index`, where the log goes so far.
pub fn link_at(chain: &[Link], index: Index) -> Option<&Link> {
    chain.get(usize::try_from(index.get().checked_sub(1)?).ok()?)
}

/// The entry at this index of a log, with the hash of what it holds.
pub(crate) fn entry_at(index: Index, link: &Link) -> LogEntry {
    LogEntry::new(LogId { term: link.term, index }, link.content)
}

/// What a member's log has at this index.
pub(crate) fn held_at(chain: &[Link], index: Index) -> Involvement {
    match link_at(chain, index) {
        Some(link) => Involvement::Holds(entry_at(index, link)),
        None => Involvement::HoldsNothing(index),
    }
}

/// The index of what is at this position of a chain.
pub(crate) fn index_of(position: usize) -> Index {
    Index::new(position as u64 + 1)
}

/// The position of the first entry in which two logs differ, counted from zero: the end of the shorter one,
/// where it is the beginning of the other.
pub(crate) fn first_difference(one: &[Link], other: &[Link]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one.prefix == other.prefix).count()
}

/// The last entry of a log.
pub fn last_of(chain: &[Link]) -> LogId {
    chain.last().map_or(LogId::ZERO, |link| LogId { term: link.term, index: Index::new(chain.len() as u64) })
}

/// What a write does to a chain.
#[derive(Clone, Default, Debug)]
pub struct Links {
    /// Set where a snapshot takes the place of everything: the log that it holds.
    pub installed: Option<Chain>,
    /// What is appended.
    pub appended: Vec<Link>,
}

/// What the cluster as a whole knows: the committed log, and the payloads that witnesses do not receive.
pub trait Known {
    /// What the group has committed.
    fn committed(&self) -> &[Link];
    /// What an entry holds, by its hash.
    fn content(&self, id: LogId) -> Option<u64>;
}

/// Does to a chain what `write` does to a log, and returns how. An installed snapshot stands for what the
/// group has committed so far.
pub fn write_to(chain: &mut Chain, write: &Write, known: &impl Known) -> Links {
    let mut links = Links::default();
    if let Some(after) = write.truncate_after {
        chain.truncate(usize::try_from(after.get()).unwrap_or(usize::MAX));
    }
    if let Some(rebase) = &write.rebase {
        let last = rebase.snapshot.last;
        if link_at(chain, last.index).map(|link| link.term) != Some(last.term) && last.index > Index::ZERO {
            let through =
                usize::try_from(last.index.get()).unwrap_or(usize::MAX).min(known.committed().len());
            *chain = known.committed()[..through].to_vec();
            links.installed = Some(chain.clone());
        }
    }
    for entry in write.append.iter() {
        let link = match entry.body {
            EntryBody::Withheld => {
                Link::new(chain.last(), entry.id.term, known.content(entry.id).unwrap_or_default())
            }
            _ => Link::after(chain.last(), entry),
        };
        chain.push(link);
        links.appended.push(link);
    }
    links
}
