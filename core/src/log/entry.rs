//! Entries, and runs of them that are shared between the log, the disk and every peer's message.

use crate::membership::Membership;
use crate::types::{Index, LogId, Payload, Term};
use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;

/// One entry of the replicated log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// Its place and the term of the leader that created it, which never change.
    pub id: LogId,
    /// What it holds.
    pub body: EntryBody,
}

/// What an entry holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum EntryBody {
    /// Nothing: what a new leader appends so that the entries of earlier terms can commit (thesis 6.4).
    Blank,
    /// What the host proposed.
    Data(Payload),
    /// The membership from this entry on: it takes effect as soon as it is in a log, committed or not (paper
    /// §6).
    Config(Arc<Membership>),
    /// What a witness gets in the place of [`EntryBody::Data`]: that there is an entry, and not what is in
    /// it.
    Withheld,
    /// What stands in this member's own log for an entry that its disk has damaged: which entry it was is
    /// known, what was in it is not. Never sent, never written and never applied; filled again from another
    /// member's copy.
    Lost,
}

const _: () = assert!(size_of::<Entry>() == 40);

impl Entry {
    /// What this entry counts for against the byte limits of [`Options`](crate::config::Options): its
    /// payload, and a fixed part for the rest.
    pub fn size(&self) -> u64 {
        self.body.size()
    }

    /// The part of [`Entry::size`] that is not payload.
    pub const OVERHEAD: u64 = size_of::<Self>() as u64;
}

impl EntryBody {
    /// The size of an entry with this body.
    pub(crate) fn size(&self) -> u64 {
        Entry::OVERHEAD
            + match self {
                Self::Blank | Self::Withheld | Self::Lost => 0,
                Self::Data(payload) => payload.len() as u64,
                Self::Config(membership) => Entry::OVERHEAD * membership.members().len() as u64,
            }
    }
}

/// A run of entries behind one shared pointer. Cloning it copies no entry.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Entries(Option<Arc<[Entry]>>);

impl Entries {
    /// No entries; allocates nothing.
    pub const EMPTY: Self = Self(None);

    /// As many of these entries as fit, but at least one.
    #[cfg(feature = "replica")]
    pub(crate) fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>, max_bytes: u64) -> Self {
        let mut size = 0_u64;
        let fits = |entry: &&Entry| {
            let first = size == 0;
            size = size.saturating_add(entry.size());
            first || size <= max_bytes
        };
        entries.take_while(fits).cloned().collect()
    }

    /// One entry.
    pub(super) fn of(entry: Entry) -> Self {
        Self(Some(Arc::new([entry])))
    }

    /// Exchanges one of them. Those that share them keep the old one.
    pub(super) fn replace(&mut self, at: usize, entry: &Entry) {
        if let Some(own) = self.0.as_mut().and_then(Arc::get_mut) {
            own[at] = entry.clone();
        } else {
            let place = |(place, old): (usize, &Entry)| if place == at { entry.clone() } else { old.clone() };
            *self = self.iter().enumerate().map(place).collect();
        }
    }
}

impl FromIterator<Entry> for Entries {
    /// Allocates once where the iterator knows its length, and not at all where it is empty.
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut entries = entries.into_iter().peekable();
        match entries.peek() {
            None => Self::EMPTY,
            Some(_) => Self(Some(entries.collect())),
        }
    }
}

impl Deref for Entries {
    type Target = [Entry];
    fn deref(&self) -> &[Entry] {
        self.0.as_deref().unwrap_or(&[])
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// `[5:3 "x", 6:3 -]`: each entry's index and term, and its payload or a dash for a blank one.
impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (position, entry) in self.iter().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            match &entry.body {
                EntryBody::Blank => write!(f, "{comma}{} -", entry.id)?,
                EntryBody::Data(payload) => write!(f, "{comma}{} {payload:?}", entry.id)?,
                EntryBody::Config(membership) => write!(f, "{comma}{} {membership}", entry.id)?,
                EntryBody::Withheld => write!(f, "{comma}{} ?", entry.id)?,
                EntryBody::Lost => write!(f, "{comma}{} lost", entry.id)?,
            }
        }
        f.write_str("]")
    }
}

/// A piece of a leader's log: the entry before it, and the entries that follow without a gap.
///
/// The constructor checks what the handlers then rely on: indexes rise by one from `prev`, terms never fall.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogSlice {
    prev: LogId,
    entries: Entries,
}

/// Why entries are no piece of any log: the first one that does not follow its predecessor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discontinuity {
    /// The entry before the gap.
    pub after: LogId,
    /// The entry that does not follow it.
    pub found: LogId,
}

impl LogSlice {
    /// Checks that `entries` follow `prev` and one another.
    pub fn new(prev: LogId, entries: Entries) -> Result<Self, Discontinuity> {
        Self::check(prev, &entries)?;
        Ok(Self { prev, entries })
    }

    /// The same check of entries that are not to be shared. Returns the last of them, or `prev`.
    pub(crate) fn check(prev: LogId, entries: &[Entry]) -> Result<LogId, Discontinuity> {
        let mut after = prev;
        for entry in entries {
            let found = entry.id;
            if after.index >= Index::MAX || found.index != after.index.next() || found.term < after.term {
                return Err(Discontinuity { after, found });
            }
            after = found;
        }
        Ok(after)
    }

    /// The entry before the first of the slice.
    pub fn prev(&self) -> LogId {
        self.prev
    }

    /// The entries; empty for a slice that only asks whether `prev` matches.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The last entry that the slice speaks of: `prev` where it holds none.
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.prev, |entry| entry.id)
    }

    /// The same without the payloads: what a witness gets.
    pub(crate) fn withheld(&self) -> Self {
        let entries = self.entries.iter().map(|entry| match entry.body {
            EntryBody::Data(_) => Entry { id: entry.id, body: EntryBody::Withheld },
            _ => entry.clone(),
        });
        Self { prev: self.prev, entries: entries.collect() }
    }

    pub(crate) fn new_unchecked(prev: LogId, entries: Entries) -> Self {
        debug_assert!(Self::new(prev, entries.clone()).is_ok());
        Self { prev, entries }
    }
}

impl fmt::Display for Discontinuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {} cannot follow entry {}: indexes must rise by one and terms never fall",
            self.found, self.after
        )
    }
}

impl core::error::Error for Discontinuity {}

impl Term {
    /// The entry at `index` of this term.
    pub(crate) const fn at(self, index: Index) -> LogId {
        LogId { term: self, index }
    }
}

/// On the wire an entry is its term and its body; the index follows from `prev`, so a gap cannot be written
/// down.
#[cfg(feature = "serde")]
mod serde_slice {
    use super::{Entries, Entry, EntryBody, LogSlice};
    use crate::types::{Index, LogId, Term};
    use alloc::vec::Vec;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct OutSlice<'a>(LogId, Bodies<'a>);
    struct Bodies<'a>(&'a [Entry]);

    impl Serialize for Bodies<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.0.iter().map(|entry| (entry.id.term, &entry.body)))
        }
    }

    impl Serialize for LogSlice {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            OutSlice(self.prev, Bodies(&self.entries)).serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for LogSlice {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (prev, bodies) = <(LogId, Vec<(Term, EntryBody)>)>::deserialize(deserializer)?;
            if prev.index >= Index::MAX && !bodies.is_empty() {
                return Err(D::Error::custom("entries beyond the greatest index"));
            }
            if bodies.iter().any(|(_, body)| *body == EntryBody::Lost) {
                return Err(D::Error::custom("an entry that its sender does not have"));
            }
            let first = prev.index.get().saturating_add(1);
            let entries = bodies
                .into_iter()
                .zip(first..)
                .map(|((term, body), index)| Entry { id: term.at(Index::new(index)), body });
            LogSlice::new(prev, entries.collect()).map_err(D::Error::custom)
        }
    }

    impl Serialize for Entries {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.iter())
        }
    }

    impl<'de> Deserialize<'de> for Entries {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Vec::<Entry>::deserialize(deserializer)?.into_iter().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(term: u64, index: u64) -> Entry {
        Entry { id: LogId::new(term, index), body: EntryBody::Blank }
    }

    #[test]
    fn a_slice_has_no_gap_and_no_falling_term() {
        let slice = |entries: &[Entry]| LogSlice::new(LogId::new(2, 4), entries.iter().cloned().collect());
        assert!(slice(&[]).is_ok());
        assert!(slice(&[blank(2, 5), blank(3, 6)]).is_ok());
        let gap = Discontinuity { after: LogId::new(2, 4), found: LogId::new(2, 6) };
        assert_eq!(slice(&[blank(2, 6)]), Err(gap));
        assert!(slice(&[blank(1, 5)]).is_err());
        assert!(slice(&[blank(3, 5), blank(2, 6)]).is_err());
    }
}
