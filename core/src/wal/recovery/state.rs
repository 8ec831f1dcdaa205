//! The member's state, rebuilt batch by batch.

use crate::durable::Durable;
use crate::log::{Entry, EntryBody, Snapshot};
use crate::membership::Membership;
use crate::types::{Index, LogId};
use crate::wal::codec::Record;
use crate::wal::header::{Link, SegmentHeader, Summary};
use crate::wal::log::change;
use crate::wal::places::{Change, Places};
use crate::wal::recovery::error::Missing;
use crate::wal::recovery::segments::SegmentFile;
use crate::wal::recovery::snapshots::Shelf;
use crate::wal::recovery::votes::{Votes, later};
use crate::wal::sector::block_at;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A position in the log, from which later writes follow.
#[derive(Clone, Default, Debug)]
pub(super) struct Checkpoint {
    pub(super) link: Link,
    pub(super) summary: Summary,
    pub(super) snapshot: Option<Snapshot>,
}

/// The member's state as of the last batch that was read.
pub(super) struct Model {
    pub(super) durable: Durable,
    pub(super) places: Places,
    /// The state after the last batch that was read.
    pub(super) now: Checkpoint,
    /// Snapshots whose membership is known.
    pub(super) snapshots: Vec<Snapshot>,
    /// A lower bound of the log's base.
    pub(super) base: LogId,
    /// An upper bound of the number of entries.
    pub(super) max_entries: u64,
    /// How much of the log stays in memory, in bytes.
    pub(super) cached_bytes: u64,
    /// By how many bytes the log in memory has grown since it was last cut to that.
    pub(super) unskipped: u64,
}

/// Why a record contradicts what is known.
pub(super) struct Unsound;

impl Model {
    pub(super) fn new(votes: &Votes, segments: &[SegmentFile], shelf: &Shelf, cached_bytes: u64) -> Self {
        let headers = segments.iter().filter_map(|segment| segment.header.as_ref());
        let bases = headers.clone().map(|header| header.summary.base);
        let base = bases
            .chain(votes.latest.as_ref().map(|(_, vote)| vote.summary.base))
            .max_by_key(|base| base.index);
        let bytes: u64 = segments.iter().map(|segment| block_at(segment.blocks)).sum();
        Self {
            durable: Durable::default(),
            places: Places::default(),
            now: Checkpoint::default(),
            snapshots: headers
                .filter_map(|header| header.snapshot.clone())
                .chain(shelf.headers.iter().map(|header| header.snapshot().clone()))
                .chain(votes.snapshots.iter().cloned())
                .collect(),
            base: base.unwrap_or_default(),
            max_entries: bytes / 16,
            cached_bytes,
            unskipped: 0,
        }
    }

    /// Begins with the oldest segment of the directory.
    pub(super) fn begin(&mut self, header: &SegmentHeader) -> Result<(), Missing> {
        let summary = &header.summary;
        let base = if self.base.index > summary.base.index { self.base } else { summary.base };
        // Entries before the base were left behind with older segments. Any other missing entry is lost.
        self.durable.base = if summary.last.index <= base.index { summary.last } else { base };
        self.durable.snapshot = header.snapshot.clone();
        self.lose(summary, summary.last.index)?;
        self.reached(header.continues, summary);
        Ok(())
    }

    /// Applies the header of a batch or a segment.
    pub(super) fn reached(&mut self, link: Link, summary: &Summary) {
        let durable = &mut self.durable;
        durable.ballot = later(durable.ballot, summary.ballot);
        durable.starts = durable.starts.max(summary.starts);
        durable.committed = summary.committed.min(durable.last().index);
        self.now = Checkpoint { link, summary: summary.clone(), snapshot: durable.snapshot.clone() };
    }

    pub(super) fn truncate(&mut self, after: Index) {
        self.places.change(0, Change::Truncate(after));
        self.durable.truncate(after);
        if after < self.durable.base.index {
            // Only where the base is assumed for segments that were left behind.
            let base = self.now.summary.id(after);
            self.durable.base = LogId { index: after, ..base.unwrap_or_default() };
        }
    }

    pub(super) fn forget(&mut self, base: LogId) {
        if base.index >= self.durable.base.index {
            self.places.change(0, Change::Forget(base.index));
            self.durable.forget(base);
        }
    }

    /// Applies a record. A record of a damaged batch is applied only if it fits.
    pub(super) fn apply(&mut self, segment: u64, record: &Record, sector: u32) -> Result<(), Unsound> {
        match record {
            Record::Truncate(after) => self.truncate(*after),
            Record::Rebase(rebase) => {
                self.forget(rebase.base);
                self.durable.snapshot = Some(rebase.snapshot.clone());
            }
            Record::Append(entry) => {
                let last = self.durable.last();
                if entry.id.index != last.index.next() || entry.id.term < last.term {
                    return Err(Unsound);
                }
                self.durable.entries.push(entry.clone());
                self.place(segment, record, sector);
            }
            Record::RepairResponse(entry) => self.fill(segment, entry, sector),
            Record::Space => {}
        }
        Ok(())
    }

    /// Replaces a lost entry by a copy with the same id.
    pub(super) fn fill(&mut self, segment: u64, entry: &Entry, sector: u32) {
        if self.durable.repair(entry) {
            self.place(segment, &Record::RepairResponse(entry.clone()), sector);
        }
    }

    /// Cuts the log in memory to its limit, from time to time.
    pub(super) fn grown(&mut self, bytes: u64) {
        self.unskipped += bytes;
        if self.unskipped > self.cached_bytes / 2 {
            self.unskipped = 0;
            self.durable.skip(self.cached_bytes);
        }
    }

    pub(super) fn place(&mut self, segment: u64, record: &Record, sector: u32) {
        if let Some(change) = change(record, sector) {
            self.places.change(segment, change);
        }
    }

    /// Brings the log to the state that a header names, through `through`. An entry with the same id is the
    /// same entry, and so is everything before it (Log Matching); an entry that is not here is lost.
    /// Everything through `kept` stays.
    pub(super) fn reconcile(
        &mut self,
        summary: &Summary,
        through: Index,
        kept: Index,
    ) -> Result<(), Missing> {
        self.forget(summary.base);
        self.rest_on(summary.snapshot);
        let through = through.min(summary.last.index);
        // The base is assumed for segments that were left behind, and may have been taken back since.
        let base = self.durable.base;
        let is_taken_back =
            base.index < self.base.index && summary.id(base.index).is_some_and(|id| id != base);
        let known = if is_taken_back { Index::ZERO } else { self.durable.skipped_through().index };
        let floor = known.max(kept);
        let mut agreed = self.durable.last().index.min(through);
        while agreed > floor && self.durable.id(agreed) != summary.id(agreed) {
            agreed = agreed.prev().unwrap_or_default();
        }
        if agreed < self.durable.last().index {
            self.truncate(agreed);
        }
        self.lose(summary, through)
    }

    /// Extends the log through `through` by lost entries.
    pub(super) fn lose(&mut self, summary: &Summary, through: Index) -> Result<(), Missing> {
        let after = self.durable.last();
        let unknown = Missing::Ids { after, through };
        if through.get().saturating_sub(after.index.get()) > self.max_entries {
            return Err(unknown);
        }
        // Committed entries need not stay in memory.
        self.durable.committed = self.durable.committed.max(summary.committed.min(through));
        let mut next = after.index.next();
        while next <= through {
            let last = self.durable.last();
            // Before the first known term there may be other terms, unless the log was in that very term
            // already.
            let same = summary.terms.first().filter(|first| first.term == last.term && first.index > next);
            let id = summary.id(next).or(same.map(|first| LogId { term: first.term, index: next }));
            let id = id.filter(|id| id.term >= last.term).ok_or(unknown)?;
            self.durable.entries.push(Entry { id, body: EntryBody::Lost });
            self.grown(Entry::OVERHEAD);
            next = next.next();
        }
        Ok(())
    }

    pub(super) fn rest_on(&mut self, snapshot: Option<LogId>) {
        let Some(last) = snapshot else { return };
        if self.durable.snapshot.as_ref().is_some_and(|snapshot| snapshot.last == last) {
            return;
        }
        let known = self.snapshots.iter().find(|snapshot| snapshot.last == last);
        // Its membership is unknown here, and may not matter by the end of the log.
        let unknown =
            || Snapshot { last, configured: LogId::ZERO, membership: Arc::new(Membership::unknown()) };
        self.durable.snapshot = Some(known.cloned().unwrap_or_else(unknown));
    }

    pub(super) fn agrees(&self, summary: &Summary) -> bool {
        let snapshot = self.durable.snapshot.as_ref().map(|snapshot| snapshot.last);
        self.durable.last() == summary.last
            && self.durable.base.index >= summary.base.index
            && snapshot == summary.snapshot
    }
}
