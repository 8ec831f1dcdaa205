//! One member's log: its entries, its memberships, and how far it is written, durable, committed and applied.
//!
//! ```text
//!   snapshot ≥ base ······ applied ≤ committed ······ last     what the group knows of it
//!                    handed to Apply ≤ min(committed, durable)
//!                    durable ≤ written ≤ last                  what the disk knows of it
//!              base ≤ evicted ≤ applied, durable               what only the disk still has
//! ```
//!
//! The log owns these cursors and their order. No index is ever a position in a vector: the log begins after
//! `base`, wherever that is, and the entries in memory begin after `evicted`. Of every entry after `base` the
//! term is known, and every membership that a truncation could bring back.

mod batch;
mod cached;
mod configs;
mod entry;
mod holes;
#[cfg(test)]
mod model;
mod runs;
mod sizes;
mod skipped;
mod snapshot;
mod terms;

pub use entry::{Discontinuity, Entries, Entry, EntryBody, LogSlice};
pub(crate) use runs::Runs;
pub use skipped::Skipped;
pub use snapshot::Snapshot;
#[cfg(feature = "wal")]
pub(crate) use terms::Terms;

use crate::membership::Membership;
use crate::types::{Index, LogId, Term, WriteSeq};
use alloc::boxed::Box;
use alloc::vec::Vec;
use batch::Batch;
use cached::{Cached, Piece};
use configs::Configs;
use holes::Holes;
use sizes::Sizes;
#[cfg(not(feature = "wal"))]
use terms::Terms;

/// A member's log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Log {
    base: Index,
    terms: Terms,
    sizes: Sizes,
    configs: Configs,
    /// The latest snapshot; `None` on a member that has not received its group's first membership yet.
    snapshot: Option<Snapshot>,
    /// Entries through here are not in memory.
    evicted: Index,
    entries: Cached,
    /// The damaged entries; nearly always there are none.
    holes: Option<Box<Holes>>,
    /// The size of `entries`.
    cached_size: u64,
    /// What was asked for last and was no run of its own: others want the same.
    batch: Batch,
    /// Everything through here was handed out to be written, if not since truncated.
    written: Index,
    /// Set where entries that were handed out to be written were truncated, until the next write says so.
    cut: Option<Index>,
    /// Set where what was handed out to be written has been replaced after this index, until the next write
    /// says so.
    replaced: Option<Index>,
    /// Set where the snapshot or the base has changed, until the next write says so.
    rebased: bool,
    durable: Index,
    committed: Index,
    /// Set while the state machine must be put into the snapshot's state.
    restoring: bool,
    /// Everything through here was handed out to be applied.
    applying: Index,
    applied: Index,
}

/// Changes that are not handed out to the disk yet.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) rebase: Option<Rebase>,
    pub(crate) truncate_after: Option<Index>,
    pub(crate) repaired: Entries,
    pub(crate) append: Entries,
    /// If set, earlier writes no longer make the log durable after this index.
    pub(crate) replaced_after: Option<Index>,
}

/// A run of entries of a log: how many, and of what size.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Span {
    /// How many entries.
    pub entries: u64,
    /// How many bytes; see [`Entry::size`].
    pub bytes: u64,
}

/// A log's beginning has moved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rebase {
    /// The snapshot that the log rests on from now on. The host keeps the previous one until this write is
    /// durable: a crash may take the log back to it.
    pub snapshot: Snapshot,
    /// The log begins after this entry, which is in the snapshot: forget everything through it, and where the
    /// log ends before it, everything.
    pub base: LogId,
}

/// The next work for the state machine.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Applicable {
    /// To go to the state of the snapshot.
    Restore(Snapshot),
    /// To apply the next entries, through this one.
    Apply(Index),
}

impl Applicable {
    /// How far the state machine has applied the log after it.
    pub(crate) fn through(&self) -> Index {
        match self {
            Self::Restore(snapshot) => snapshot.last.index,
            Self::Apply(through) => *through,
        }
    }
}

/// What a log is restored from. The caller has checked that `entries` follow `base`, that `base` is in the
/// snapshot, if there is one, and that `applied <= committed <= last`.
pub(crate) struct Stored {
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) snapshot_lost: bool,
    pub(crate) base: LogId,
    pub(crate) skipped: Skipped,
    pub(crate) entries: Vec<Entry>,
    pub(crate) committed: Index,
    pub(crate) applied: Index,
    /// Whether the base is later than the disk knows.
    pub(crate) trimmed: bool,
}

/// An append would replace an agreed entry: safety is already broken somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contradiction {
    pub(crate) ours: LogId,
    pub(crate) theirs: LogId,
}

impl Log {
    /// A log as it was read back from disk, all of it durable. At most so many bytes of entries are shared
    /// together: those of a message.
    pub(crate) fn restore(stored: Stored, run_bytes: u64) -> Self {
        let Stored { snapshot, snapshot_lost, base, skipped, entries, committed, applied, trimmed } = stored;
        let mut terms = Terms::from_runs(base, skipped.terms, skipped.last.unwrap_or(base).index);
        let evicted = terms.last().index;
        terms.extend(entries.iter().map(|entry| entry.id.term));
        let mut sizes = skipped.sizes;
        entries.iter().for_each(|entry| sizes.push(entry.id.index, entry.size()));
        let last = terms.last().index;
        let floor = snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        let mut configs = Configs::new(
            snapshot.as_ref().map(|snapshot| (snapshot.configured, snapshot.membership.clone())),
        );
        // The snapshot's membership is that of its last entry, and replaces earlier ones of the log.
        skipped
            .configs
            .into_iter()
            .filter(|(id, _)| id.index > floor)
            .for_each(|config| configs.push(config));
        entries.iter().filter(|entry| entry.id.index > floor).for_each(|entry| configs.appended(entry));
        let restoring = applied < floor;
        let committed = committed.max(applied).max(floor);
        let mut lost = skipped.lost;
        let damaged = entries.iter().filter(|entry| entry.body == EntryBody::Lost);
        damaged.for_each(|entry| lost.push(entry.id.index));
        assert!(base.index <= floor && committed <= last);
        Self {
            base: base.index,
            terms,
            sizes,
            configs,
            snapshot,
            evicted,
            holes: Holes::of(lost, snapshot_lost.then_some(floor)),
            cached_size: entries.iter().map(Entry::size).sum(),
            entries: Cached::restore(entries, run_bytes),
            batch: Batch::EMPTY,
            written: last,
            cut: None,
            replaced: None,
            rebased: trimmed,
            durable: last,
            committed,
            restoring,
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

    /// The entry before the first.
    pub(crate) fn base_id(&self) -> LogId {
        self.term(self.base).unwrap_or_default().at(self.base)
    }

    /// The latest snapshot; none on a member that has never heard of its group.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The membership in force: the latest in this log, committed or not (paper §6). Empty on a member that
    /// has not received its group's first membership yet.
    pub fn membership(&self) -> &Membership {
        &self.configs.latest().1
    }

    /// The membership before the one in force, while that is not known to be committed.
    pub(crate) fn fallback(&self) -> Option<&Membership> {
        if self.configured().index > self.committed { self.configs.previous() } else { None }
    }

    /// The entry that holds the membership in force; zero for the group's first.
    pub fn configured(&self) -> LogId {
        self.configs.latest().0
    }

    /// Entries through here are not in memory: the host has them on its disk.
    pub fn evicted(&self) -> Index {
        self.evicted
    }

    /// The size of the entries in memory; see [`Entry::size`].
    pub fn cached_size(&self) -> u64 {
        self.cached_size
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

    /// Whether this log has the entry `id`, which by Log Matching means everything before it too (paper
    /// §5.3).
    pub fn contains(&self, id: LogId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The entry at `index`, where it is in memory.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        if index > self.evicted { self.entries(index.prev()?, index).next() } else { None }
    }

    /// The entries after `after` through `through`, as far as they are in memory. Entries that
    /// [`Action::Apply`](crate::action::Action::Apply) names stay in memory until they are reported as
    /// applied or a snapshot replaces them.
    pub fn entries(&self, after: Index, through: Index) -> impl ExactSizeIterator<Item = &Entry> + Clone {
        let (after, through) = self.in_memory(after, through);
        // The difference is a number of entries in memory.
        self.entries.after(after, (through - after) as usize)
    }

    /// The part of a range that is in memory. A client may have asked for any.
    fn in_memory(&self, after: Index, through: Index) -> (Index, Index) {
        let after = after.clamp(self.evicted, self.last().index);
        (after, through.clamp(after, self.last().index))
    }

    /// The entries after `after` through `through` that are in memory: as many as fit into `max_size`, but at
    /// least one. A run of them is shared, not copied.
    #[cfg(feature = "replica")]
    pub(crate) fn fitting(&self, after: Index, through: Index, max_size: u64) -> Entries {
        let (after, through) = self.in_memory(after, through);
        if let Some(Piece { run, entries, through: last, .. }) = self.entries.piece(after, through, max_size)
            && last == through
            && entries.len() == run.len()
        {
            return run.clone();
        }
        Entries::fitting(self.entries(after, through), max_size)
    }

    /// The entry after which this log begins once a snapshot of everything through `index` was taken. At most
    /// so many entries, of so many bytes, stay for followers that are a little behind.
    pub(crate) fn tail(&self, index: Index, max_entries: u64, max_bytes: u64) -> Index {
        let by_count = Index::new(index.get().saturating_sub(max_entries));
        by_count.max(self.sizes.tail(index, max_bytes))
    }

    /// How many entries there are after `after` through `through`, on the disk or in memory, and how many
    /// bytes they have, to within some 4 KiB and an entry.
    pub(crate) fn span(&self, after: Index, through: Index) -> Span {
        let after = after.max(self.base).min(through);
        match through - after {
            0 => Span::default(),
            entries => Span { entries, bytes: self.sizes.between(after, through) },
        }
    }

    /// The size of all entries that wait to be committed; see [`Entry::size`].
    pub(crate) fn uncommitted_size(&self) -> u64 {
        self.entries(self.committed, self.last().index).map(Entry::size).sum()
    }

    /// Appends one entry that this member creates as leader of `term`.
    pub(crate) fn append(&mut self, term: Term, body: EntryBody) -> LogId {
        self.terms.push(term);
        let entry = Entry { id: self.terms.last(), body };
        let id = entry.id;
        self.configs.appended(&entry);
        self.cached_size += entry.size();
        self.sizes.push(id.index, entry.size());
        self.entries.push(entry);
        id
    }

    /// Adopts a leader's entries; their [`LogSlice::prev`] is known to match. Entries that are already here
    /// stay, since a stale or repeated message must remove nothing. The first conflicting entry is removed,
    /// with all that follow it (paper, figure 2). Returns how far this log now agrees with the leader's.
    /// Nothing through `agreed`, which is committed or came from the same leader before, may conflict.
    pub(crate) fn adopt(&mut self, slice: &LogSlice, agreed: Index) -> Result<Index, Contradiction> {
        debug_assert!(self.contains(slice.prev()));
        let entries = slice.entries();
        if !self.is_whole() {
            self.repair(entries.iter());
        }
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
        self.terms.append(new);
        let noted = new.iter().inspect(|entry| self.configs.appended(entry));
        let size = self.sizes.extend(noted.map(|entry| (entry.id.index, entry.size())));
        self.cached_size += size;
        let new = if new_from == 0 { entries.clone() } else { new.iter().cloned().collect() };
        self.entries.share(new, size);
        Ok(slice.last().index)
    }

    /// The hint for a leader whose `prev` was refused: the last entry on which this log and the leader's
    /// could agree. Terms of ours that are later than the leader's are skipped whole.
    pub(crate) fn conflict_hint(&self, prev: LogId) -> LogId {
        self.terms.last_at_most(prev.index, prev.term)
    }

    /// The last of our entries that a follower whose log ends at `hint` could hold.
    pub(crate) fn last_shared(&self, hint: LogId) -> LogId {
        self.terms.last_at_most(hint.index, hint.term)
    }

    /// The entries after `after`, through `last`, as many as fit into `max_size` but at least one if there is
    /// one, and their size; fewer where the entries of some run end there. They must be in memory.
    pub(crate) fn slice(&mut self, after: LogId, last: Index, max_size: u64) -> (LogSlice, u64) {
        let last = last.min(self.last().index);
        let (entries, size) = self.some_of(after.index, last, max_size);
        (LogSlice::new_unchecked(after, entries), size)
    }

    fn some_of(&mut self, after: Index, last: Index, max_size: u64) -> (Entries, u64) {
        self.entries.seal();
        // Most often it is what came last.
        match self.entries.newest(after) {
            Some(run) if run.last() == last && run.size <= max_size => (run.entries.clone(), run.size),
            _ => self.some_earlier(after, last, max_size),
        }
    }

    fn some_earlier(&mut self, after: Index, last: Index, max_size: u64) -> (Entries, u64) {
        if self.batch.is(after, last) && self.batch.size() <= max_size {
            return (self.batch.entries().clone(), self.batch.size());
        }
        let piece = self.entries.piece(after, last, max_size);
        match piece.filter(|piece| piece.through == last || piece.size > max_size / 2) {
            Some(Piece { run, entries, size, .. }) if entries.len() == run.len() => (run.clone(), size),
            Some(Piece { entries, size, .. }) => {
                self.gathered(after, entries.iter().cloned().collect(), size)
            }
            None => self.gather(after, last, max_size),
        }
    }

    /// The entries after `after`, through `last`: as many as fit into `max_size`, but at least one.
    fn gather(&mut self, after: Index, last: Index, max_size: u64) -> (Entries, u64) {
        let (mut through, mut size) = (after, 0);
        for entry in self.entries(after, last) {
            if size + entry.size() > max_size && through > after {
                break;
            }
            size += entry.size();
            through = entry.id.index;
        }
        // What comes next begins with a run then, and is shared.
        if through < last
            && let Some(end) = self.entries.last_end(through)
            && end > after
        {
            let more: u64 = self.entries(end, through).map(Entry::size).sum();
            if size - more > max_size / 2 {
                (through, size) = (end, size - more);
            }
        }
        if self.batch.is(after, through) {
            return (self.batch.entries().clone(), size);
        }
        self.gathered(after, self.entries(after, through).cloned().collect(), size)
    }

    /// Keeps what was put together: others want the same.
    fn gathered(&mut self, after: Index, entries: Entries, size: u64) -> (Entries, u64) {
        if !entries.is_empty() {
            self.batch = Batch::new(after, entries.clone(), size);
        }
        (entries, size)
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

    /// Whether no entry is lost, and every repaired entry is durable again.
    pub fn is_whole(&self) -> bool {
        self.holes.is_none()
    }

    /// Everything through this index can be read, and every repaired entry of it is durable again. What
    /// follows counts for no majority. [`Index::MAX`] where nothing is lost.
    pub fn held(&self) -> Index {
        self.holes.as_ref().map_or(Index::MAX, |holes| holes.held())
    }

    /// Everything after `after` through here can be read.
    pub(crate) fn readable_after(&self, after: Index) -> Index {
        self.holes.as_ref().map_or(Index::MAX, |holes| holes.readable_after(after))
    }

    /// The first run of entries that are lost: the one before the first, and the last. A lost snapshot is
    /// lost from the very beginning.
    pub(crate) fn missing(&self) -> Option<(LogId, LogId)> {
        let (after, through) = self.holes.as_ref()?.missing()?;
        let snapshot = self.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let id = |index: Index| self.term(index).map(|term| term.at(index));
        let after = if after == Index::ZERO { LogId::ZERO } else { id(after)? };
        Some((after, id(through).unwrap_or(snapshot)))
    }

    /// The size of the repaired entries that are not durable yet.
    pub(crate) fn repairing(&self) -> u64 {
        self.holes.as_ref().map_or(0, |holes| holes.waiting())
    }

    /// Takes the bodies of lost entries from another member's copy: the same id is the same entry (Log
    /// Matching).
    pub(crate) fn repair<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        for entry in entries {
            let lost = self.holes.as_ref().is_some_and(|holes| holes.is_lost(entry.id.index));
            if !lost || !self.contains(entry.id) || entry.body == EntryBody::Lost {
                continue;
            }
            self.sizes.grow(entry.id.index, entry.size() - EntryBody::Lost.size());
            if entry.id.index > self.evicted {
                self.cached_size += entry.size() - EntryBody::Lost.size();
                self.entries.replace(entry);
            }
            if let EntryBody::Config(membership) = &entry.body {
                self.configs.push((entry.id, membership.clone()));
            }
            if let Some(holes) = &mut self.holes {
                holes.fill(entry.clone());
            }
            self.batch = Batch::EMPTY;
        }
    }

    /// Everything through write `seq` is durable.
    pub(crate) fn persisted(&mut self, seq: WriteSeq) {
        self.mend(|holes| holes.persisted(seq));
    }

    fn mend(&mut self, how: impl FnOnce(&mut Holes)) {
        if let Some(holes) = &mut self.holes {
            how(holes);
            if holes.is_empty() {
                self.holes = None;
            }
        }
    }

    /// Whether a change is not handed out to the disk yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.cut.is_some()
            || self.rebased
            || self.written != self.last().index
            || self.holes.as_ref().is_some_and(|holes| holes.has_filled())
    }

    /// Hands out the changes for the disk, as write `seq`.
    pub(crate) fn take_unwritten(&mut self, seq: WriteSeq) -> Unwritten {
        let repaired = self.holes.as_mut().map_or(Entries::EMPTY, |holes| holes.take_filled(seq));
        let last = self.last().index;
        let append = self.shared(self.written, last);
        self.written = last;
        let snapshot = if self.rebased { self.snapshot.clone() } else { None };
        self.rebased = false;
        let rebase = snapshot.map(|snapshot| Rebase { snapshot, base: self.base_id() });
        Unwritten {
            rebase,
            truncate_after: self.cut.take(),
            repaired,
            append,
            replaced_after: self.replaced.take(),
        }
    }

    /// Hands out the next work for the state machine; each entry is named once. **Invariant:** an entry is
    /// applied only once it is committed and durable here, so a state machine never gets ahead of its own
    /// log.
    #[inline]
    pub(crate) fn take_applicable(&mut self) -> Option<Applicable> {
        if self.restoring {
            return self.take_restorable().map(Applicable::Restore);
        }
        let through = self.committed.min(self.durable).min(self.held());
        if through <= self.applying {
            return None;
        }
        self.applying = through;
        Some(Applicable::Apply(through))
    }

    #[cold]
    fn take_restorable(&mut self) -> Option<Snapshot> {
        if self.holes.as_ref().is_some_and(|holes| holes.held() == Index::ZERO) {
            return None;
        }
        let snapshot = self.snapshot.clone().filter(|snapshot| snapshot.last.index <= self.durable)?;
        self.restoring = false;
        self.applying = snapshot.last.index;
        Some(snapshot)
    }

    /// The metadata of a snapshot of everything through `index`, which is applied. `None` where the
    /// membership at `index` is unknown: before the latest snapshot, and on a newcomer before the first
    /// membership in its log.
    pub(crate) fn snapshot_at(&self, index: Index) -> Option<Snapshot> {
        let last = self.term(index)?.at(index);
        let (configured, membership) = self.configs.as_of(index).clone();
        if configured.index > index || membership.voters().is_empty() {
            return None;
        }
        Some(Snapshot { last, configured, membership })
    }

    /// The host has this snapshot of its own state: entries through `through`, which are in it, are no longer
    /// needed.
    pub(crate) fn compact(&mut self, snapshot: Snapshot, through: Index) {
        let through = through.min(snapshot.last.index).max(self.base);
        let Some(base) = self.term(through).map(|term| term.at(through)) else {
            return;
        };
        self.configs.compact_to(snapshot.last.index);
        self.snapshot = Some(snapshot);
        self.rebased = true;
        self.begin_after(base);
    }

    /// Replaces the whole log by a snapshot beyond the commit index (paper §7). Any later entries of this log
    /// conflict with the snapshot, or it would not be needed.
    pub(crate) fn install(&mut self, snapshot: Snapshot) {
        let last = snapshot.last;
        assert!(last.index > self.committed && !self.contains(last), "a snapshot that brings nothing");
        if self.written > last.index {
            self.cut = Some(self.cut.map_or(last.index, |cut| cut.min(last.index)));
        }
        self.entries.clear();
        self.cached_size = 0;
        self.batch = Batch::EMPTY;
        self.terms = Terms::new(last);
        self.sizes = Sizes::new(last.index);
        self.holes = None;
        (self.base, self.evicted) = (last.index, last.index);
        self.configs = Configs::new(Some((snapshot.configured, snapshot.membership.clone())));
        self.snapshot = Some(snapshot);
        self.rebased = true;
        self.restoring = true;
        self.written = last.index;
        // The durable entries no longer belong to this log. The write that installs the snapshot makes it
        // durable up to its new beginning.
        self.durable = self.durable.min(self.committed);
        self.replaced = Some(self.replaced.map_or(self.committed, |replaced| replaced.min(self.committed)));
        self.committed = last.index;
    }

    /// Replaces everything through the snapshot's last entry by the snapshot. The log has these entries, and
    /// has lost some of them.
    pub(crate) fn rest_on(&mut self, snapshot: Snapshot) {
        let last = snapshot.last;
        assert!(self.contains(last), "a snapshot of another log");
        self.commit_to(last.index);
        self.configs.begin_with((snapshot.configured, snapshot.membership.clone()), last.index);
        self.snapshot = Some(snapshot);
        self.rebased = true;
        self.restoring = true;
        self.mend(|holes| holes.cover(last.index));
        self.begin_after(last);
    }

    /// Learns the group's first membership.
    pub(crate) fn begin(&mut self, snapshot: Snapshot) {
        assert!(self.snapshot.is_none() && snapshot.last == LogId::ZERO, "a log begins once");
        self.configs = Configs::new(Some((snapshot.configured, snapshot.membership.clone())));
        self.snapshot = Some(snapshot);
        self.rebased = true;
    }

    /// Evicts applied and durable entries from memory beyond `max_size` bytes.
    #[inline]
    pub(crate) fn evict(&mut self, max_size: u64) {
        if self.cached_size > max_size {
            self.evict_to(max_size);
        }
    }

    fn evict_to(&mut self, max_size: u64) {
        let evictable = self.applied.min(self.durable);
        while self.cached_size > max_size
            && let Some(entry) = self.entries.first()
            && entry.id.index <= evictable
        {
            self.forget_first();
        }
    }

    fn begin_after(&mut self, base: LogId) {
        while self.entries.first().is_some_and(|entry| entry.id.index <= base.index) {
            self.forget_first();
        }
        self.terms.compact_to(base);
        self.sizes.forget(base.index);
        self.base = base.index;
        self.evicted = self.evicted.max(base.index);
    }

    fn forget_first(&mut self) {
        if let Some((size, index)) = self.entries.first().map(|entry| (entry.size(), entry.id.index)) {
            self.entries.forget_first();
            self.cached_size -= size;
            self.evicted = index;
        }
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
        assert_eq!(self.terms.last().index - self.evicted, self.entries.len() as u64);
        assert!(self.get(self.last().index).is_none_or(|entry| entry.id == self.last()));
        assert!(self.base <= self.evicted && self.applied <= self.applying);
        assert!(self.evicted <= self.committed, "what is not committed is in memory");
        assert!(self.restoring || self.base <= self.applying);
        assert!(
            self.applying <= self.committed.min(self.durable.max(self.base)),
            "applying what is not committed and durable"
        );
        assert!(self.durable <= self.written && self.written <= self.last().index);
        assert!(self.committed <= self.last().index && self.base <= self.committed);
        let floor = self.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        assert!(self.base <= floor && floor <= self.committed);
    }

    fn truncate(&mut self, through: Index) {
        assert!(
            through >= self.committed,
            "truncation to {through:?} below the commit index {:?}",
            self.committed
        );
        let removed = self.entries(through, self.last().index).map(Entry::size).sum::<u64>();
        self.terms.truncate(through);
        self.configs.truncate(through);
        self.mend(|holes| holes.truncate(through));
        self.cached_size -= removed;
        self.sizes.truncate(through, removed);
        self.entries.truncate(through);
        if self.written > through {
            self.written = through;
            self.cut = Some(self.cut.map_or(through, |cut| cut.min(through)));
            self.replaced = Some(self.replaced.map_or(through, |replaced| replaced.min(through)));
        }
        self.durable = self.durable.min(through);
        self.batch = Batch::EMPTY;
    }

    /// Forgets which entries were asked for last.
    #[cfg(feature = "explore")]
    pub(crate) fn forget_batch(&mut self) {
        self.batch = Batch::EMPTY;
    }

    /// The entries after `after` through `through`, behind one pointer that repeated requests for the same
    /// run share.
    fn shared(&mut self, after: Index, through: Index) -> Entries {
        self.some_of(after, through, u64::MAX).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;
    use alloc::string::ToString;
    use alloc::sync::Arc;
    use alloc::vec;

    fn log(terms: &[u64]) -> Log {
        let entry = |(&term, index)| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
        let entries = terms.iter().zip(1..).map(entry).collect();
        stored(LogId::ZERO, entries)
    }

    fn stored(base: LogId, entries: Vec<Entry>) -> Log {
        let (committed, applied) = (base.index, base.index);
        let membership = Arc::new(Membership::of([NodeId::new(1).unwrap()]).unwrap());
        let snapshot = Some(Snapshot { last: base, configured: LogId::ZERO, membership });
        let skipped = Skipped::default();
        let stored = Stored {
            snapshot,
            snapshot_lost: false,
            base,
            skipped,
            entries,
            committed,
            applied,
            trimmed: false,
        };
        Log::restore(stored, 1 << 20)
    }

    fn slice(prev: LogId, terms: &[u64]) -> LogSlice {
        let entry = |(&term, index)| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
        LogSlice::new(prev, terms.iter().zip(prev.index.get() + 1..).map(entry).collect()).unwrap()
    }

    fn terms(log: &Log) -> Vec<u64> {
        log.entries(log.base(), log.last().index).map(|entry| entry.id.term.get()).collect()
    }

    /// A log of entries of 10 kB each, which the group has committed and this member has applied.
    fn large(count: u64) -> Log {
        let body = || EntryBody::Data((&alloc::vec![0; 10_000][..]).into());
        let entries = (1..=count).map(|index| Entry { id: LogId::new(1, index), body: body() }).collect();
        let mut log = stored(LogId::ZERO, entries);
        log.commit_to(Index::new(count));
        while let Some(Applicable::Apply(through)) = log.take_applicable() {
            log.applied_to(through);
        }
        log
    }

    #[test]
    fn a_tail_is_limited_by_entries_and_by_bytes_in_memory_or_not() {
        let mut log = large(100);
        let tail = |log: &Log, entries, bytes| log.tail(Index::new(90), entries, bytes).get();
        for _ in 0..2 {
            assert_eq!(tail(&log, 20, u64::MAX), 70);
            assert_eq!(tail(&log, u64::MAX, u64::MAX), 0);
            assert_eq!(tail(&log, 20, 0), 90);
            assert_eq!(tail(&log, 20, 9_000), 90, "not even one fits");
            assert_eq!(tail(&log, 20, 30 * 11_000), 70);
            let by_bytes = tail(&log, 20, 110_000);
            assert!((79..=82).contains(&by_bytes), "{by_bytes}");
            // The same where the entries are on the disk alone.
            log.evict(0);
            assert!(log.get(Index::new(85)).is_none());
        }
        assert_eq!(log.span(Index::new(40), Index::new(50)).entries, 10);
        let bytes = log.span(Index::new(40), Index::new(50)).bytes;
        assert!((100_000..=130_000).contains(&bytes), "{bytes}");
        assert_eq!(log.span(Index::new(50), Index::new(50)), Span::default());
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
        let Unwritten { truncate_after, append, .. } = log.take_unwritten(WriteSeq::new(1));
        assert_eq!((truncate_after, append.len(), append[0].id), (Some(Index::new(1)), 1, LogId::new(2, 2)));
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
        let (first, _) = log.slice(LogId::new(1, 1), Index::MAX, u64::MAX);
        let (second, _) = log.slice(LogId::new(1, 1), Index::MAX, u64::MAX);
        let written = log.take_unwritten(WriteSeq::new(1)).append;
        assert!(core::ptr::eq(&**first.entries(), &**second.entries()));
        assert!(core::ptr::eq(&**first.entries(), &*written));
    }

    /// Otherwise each message would begin in the midst of a run, and none could be shared.
    #[test]
    fn a_message_ends_where_a_run_ends_if_it_is_more_than_half_full() {
        let mut log = log(&[]);
        // Entries 1 to 6, 7 to 8, and 9 to 14.
        for (prev, count) in [(LogId::ZERO, 6), (LogId::new(1, 6), 2), (LogId::new(1, 8), 6)] {
            log.adopt(&slice(prev, &vec![1; count]), Index::ZERO).unwrap();
        }
        let mut ends = |after, max| {
            let after = if after == 0 { LogId::ZERO } else { LogId::new(1, after) };
            log.slice(after, Index::MAX, max * Entry::OVERHEAD).0.last().index.get()
        };
        for (after, max, end) in [
            (0, 11, 6),
            (0, 12, 8),
            (0, 13, 8),
            (0, 14, 14),
            (5, 5, 8),
            (5, 6, 11),
            (2, 4, 6),
            (6, 3, 8),
            (6, 4, 10),
            (8, 8, 14),
        ] {
            assert_eq!(ends(after, max), end, "after {after}, at most {max}");
        }
    }

    #[test]
    fn a_message_goes_no_further_than_it_is_asked_to() {
        let mut log = log(&[1]);
        log.adopt(&slice(LogId::new(1, 1), &[1, 1, 1]), Index::ZERO).unwrap();
        for last in 2..=4 {
            let (sent, size) = log.slice(LogId::new(1, 1), Index::new(last), u64::MAX);
            assert_eq!((sent.last().index.get(), size), (last, (last - 1) * Entry::OVERHEAD));
        }
    }

    /// Each is read again by many followers.
    #[test]
    fn what_is_restored_is_shared_by_all_messages_of_the_size_that_it_was_restored_for() {
        let entry = |index| Entry { id: LogId::new(1, index), body: EntryBody::Data((&[7; 600][..]).into()) };
        let entries: Vec<_> = (1..=4_000).map(entry).collect();
        let mut log = stored(LogId::ZERO, entries);
        let max = 1 << 20;
        let (first, _) = log.slice(LogId::ZERO, Index::MAX, max);
        let (second, _) = log.slice(first.last(), Index::MAX, max);
        let (again, _) = log.slice(LogId::ZERO, Index::MAX, max);
        assert!(core::ptr::eq(&**first.entries(), &**again.entries()));
        assert_eq!(second.prev(), first.last());
    }

    #[cfg(feature = "replica")]
    #[test]
    fn what_is_applied_together_shares_the_run_in_which_it_came() {
        let mut log = log(&[1]);
        let came = slice(LogId::new(1, 1), &[2, 2, 2]);
        assert_eq!(log.adopt(&came, log.committed()), Ok(Index::new(4)));
        let fitting = |after, through, max| log.fitting(Index::new(after), Index::new(through), max);
        let is_shared = |entries: &Entries| core::ptr::eq(&**entries, &**came.entries());
        assert!(is_shared(&fitting(1, 4, 3 * Entry::OVERHEAD)));
        for (after, through, max, count) in
            [(1, 4, 3 * Entry::OVERHEAD - 1, 2), (1, 3, 1_000, 2), (0, 4, 1_000, 4)]
        {
            let some = fitting(after, through, max);
            assert!(!is_shared(&some) && some.len() == count, "{some}");
            assert!(log.entries(Index::new(after), Index::new(after + count as u64)).eq(some.iter()));
        }
        assert_eq!(fitting(2, 4, 0).len(), 1);
        // Clients ask for what they like.
        for (after, through, count) in
            [(u64::MAX, u64::MAX, 0), (3, u64::MAX, 1), (u64::MAX, 0, 0), (4, 2, 0)]
        {
            assert_eq!(fitting(after, through, u64::MAX).len(), count, "after {after} through {through}");
        }
    }

    #[test]
    fn a_slice_holds_at_least_one_entry() {
        let mut log = log(&[1, 1, 1]);
        let limits = [0, 2 * Entry::OVERHEAD, u64::MAX];
        let mut slice = |max| log.slice(LogId::ZERO, Index::MAX, max);
        assert_eq!(limits.map(|max| slice(max).0.entries().len()), [1, 2, 3]);
        // What was gathered last is taken again only where it fits.
        assert_eq!(limits.map(|max| slice(max).1), [1, 2, 3].map(|count| count * Entry::OVERHEAD));
    }

    #[test]
    fn what_has_come_back_takes_the_room_that_it_takes() {
        let data = |index| Entry { id: LogId::new(1, index), body: EntryBody::Data((&[7; 100][..]).into()) };
        let lost = Entry { id: LogId::new(1, 2), body: EntryBody::Lost };
        let mut log = stored(LogId::ZERO, vec![data(1), lost.clone(), data(3)]);
        assert_eq!(log.cached_size(), 2 * data(1).size() + lost.size());
        log.repair([&data(2)]);
        assert_eq!(log.cached_size(), 3 * data(1).size());
        assert!(log.entries(Index::ZERO, Index::new(3)).eq(&[data(1), data(2), data(3)]));
    }

    #[test]
    fn applying_waits_for_the_commit_and_for_the_disk() {
        let mut log = log(&[1]);
        log.append(Term::new(1), EntryBody::Blank);
        log.commit_to(Index::new(2));
        assert_eq!(log.take_applicable(), Some(Applicable::Apply(Index::new(1))));
        assert_eq!(log.take_applicable(), None);
        log.take_unwritten(WriteSeq::new(1));
        log.durable_to(Index::new(2));
        assert_eq!(log.take_applicable(), Some(Applicable::Apply(Index::new(2))));
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

    fn config(term: u64, index: u64, voters: &[u64]) -> Entry {
        let voters = voters.iter().map(|&id| NodeId::new(id).unwrap());
        let membership = Arc::new(Membership::of(voters).unwrap());
        Entry { id: LogId::new(term, index), body: EntryBody::Config(membership) }
    }

    #[test]
    fn a_membership_is_in_force_once_appended_and_undone_by_truncation() {
        let mut log = log(&[1]);
        assert_eq!(log.membership().to_string(), "{1}");
        let slice = LogSlice::new(
            LogId::new(1, 1),
            [config(2, 2, &[1, 2]), config(2, 3, &[1, 2, 3])].into_iter().collect(),
        );
        log.adopt(&slice.unwrap(), log.committed()).unwrap();
        assert_eq!(
            (log.membership().to_string(), log.configured()),
            ("{1 2 3}".to_string(), LogId::new(2, 3))
        );
        let slice = LogSlice::new(LogId::new(2, 2), [config(3, 3, &[1, 2, 4])].into_iter().collect());
        log.adopt(&slice.unwrap(), log.committed()).unwrap();
        assert_eq!(log.membership().to_string(), "{1 2 4}");
        log.commit_to(Index::new(2));
        let earlier = log.snapshot_at(Index::new(2)).unwrap();
        assert_eq!(
            (earlier.membership.to_string(), earlier.configured),
            ("{1 2}".to_string(), LogId::new(2, 2))
        );
    }

    fn applied(log: &mut Log, index: u64) {
        log.take_unwritten(WriteSeq::new(1));
        log.durable_to(Index::new(index));
        log.commit_to(Index::new(index));
        log.take_applicable();
        log.applied_to(Index::new(index));
    }

    #[test]
    fn compaction_keeps_a_tail_and_says_so_once() {
        let mut log = log(&[1, 1, 2, 2, 2]);
        applied(&mut log, 4);
        log.compact(log.snapshot_at(Index::new(4)).unwrap(), Index::new(3));
        assert_eq!((log.base_id(), log.last()), (LogId::new(2, 3), LogId::new(2, 5)));
        assert_eq!((log.term(Index::new(3)), log.term(Index::new(2))), (Some(Term::new(2)), None));
        let rebase = log.take_unwritten(WriteSeq::new(1)).rebase.unwrap();
        assert_eq!((rebase.base, rebase.snapshot.last), (LogId::new(2, 3), LogId::new(2, 4)));
        assert!(!log.has_unwritten());
        assert_eq!(terms(&log), [2, 2]);
    }

    #[test]
    fn an_installed_snapshot_takes_the_place_of_everything() {
        let mut log = log(&[1, 1, 1, 1, 1]);
        let membership = Arc::new(Membership::of([NodeId::new(2).unwrap()]).unwrap());
        log.install(Snapshot { last: LogId::new(2, 3), configured: LogId::new(2, 2), membership });
        assert_eq!(
            (log.last(), log.committed(), log.base_id()),
            (LogId::new(2, 3), Index::new(3), LogId::new(2, 3))
        );
        assert_eq!(log.membership().to_string(), "{2}");
        let unwritten = log.take_unwritten(WriteSeq::new(1));
        assert_eq!((unwritten.truncate_after, unwritten.append.len()), (Some(Index::new(3)), 0));
        assert_eq!(log.take_applicable(), None, "the snapshot is not yet durable");
        log.durable_to(Index::new(3));
        assert!(
            matches!(log.take_applicable(), Some(Applicable::Restore(snapshot)) if snapshot.last.index.get() == 3)
        );
        assert_eq!(log.take_applicable(), None);
        log.applied_to(Index::new(3));
        log.append(Term::new(3), EntryBody::Blank);
        assert_eq!(terms(&log), [3]);
    }

    #[test]
    fn what_is_applied_leaves_memory_when_there_is_too_much() {
        let mut log = log(&[1, 1, 1, 1]);
        applied(&mut log, 3);
        log.evict(2 * Entry::OVERHEAD);
        assert_eq!(
            (log.evicted(), log.base(), log.cached_size()),
            (Index::new(2), Index::ZERO, 2 * Entry::OVERHEAD)
        );
        assert_eq!((log.get(Index::new(2)), log.term(Index::new(2))), (None, Some(Term::new(1))));
        log.evict(0);
        assert_eq!(log.evicted(), Index::new(3), "what is not applied stays");
        let (slice, _) = log.slice(LogId::new(1, 3), Index::MAX, u64::MAX);
        assert_eq!(slice.entries().len(), 1);
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
