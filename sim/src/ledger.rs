//! What the checks know of every member's log: a rolling hash of each prefix, so that two logs are compared by
//! comparing two numbers.

use crate::hash::StableHasher;
use kontiki_core::action::Write;
use kontiki_core::log::Entry;
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
        let content = StableHasher::of(&entry.body);
        let prefix = before.map_or(0, |link| link.prefix);
        let own = StableHasher::combine(entry.id.term.get(), content);
        Self { term: entry.id.term, content, prefix: StableHasher::combine(prefix, own) }
    }
}

/// The links of a log, without an entry at index zero.
pub type Chain = Vec<Link>;

/// The link at `index`, where the log goes so far.
pub fn link_at(chain: &[Link], index: Index) -> Option<&Link> {
    chain.get(usize::try_from(index.get().checked_sub(1)?).ok()?)
}

/// The last entry of a log.
pub fn last_of(chain: &[Link]) -> LogId {
    chain.last().map_or(LogId::ZERO, |link| LogId { term: link.term, index: Index::new(chain.len() as u64) })
}

/// Does to a chain what `write` does to a log, and returns the links that it appends.
pub fn write_to(chain: &mut Chain, write: &Write) -> Vec<Link> {
    if let Some(after) = write.truncate_after {
        chain.truncate(usize::try_from(after.get()).unwrap_or(usize::MAX));
    }
    let from = chain.len();
    for entry in write.append.iter() {
        chain.push(Link::after(chain.last(), entry));
    }
    chain[from..].to_vec()
}
