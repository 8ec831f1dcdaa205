//! Recovery: reads a member's directory and tells what it had written.
//!
//! ```text
//!   1 the files, the copies of the vote, the headers of the segments; who goes on after which batch, and so what is void
//!   2 batch after batch, in the order of their numbers:   whole      → as it says
//!                                                         damaged    → what it says that there is, and what can be read of that
//!                                                         missing    → what the next one says that there is
//!                                                         unfinished → the end
//!   3 the next segment: it goes on after the last batch that is known to be durable, and says again what came after that
//! ```

use crate::durable::Durable;
use crate::log::{Entry, EntryBody, LogSlice, Snapshot};
use crate::membership::Membership;
use crate::types::{Ballot, ClusterId, Identity, Index, LogId, Member};
use crate::wal::batch::{self, Sectors};
use crate::wal::codec::Record;
use crate::wal::disk::{Disk, DiskError, FileName, Operation, Slot};
use crate::wal::header::{
    BatchHeader, HEADER_BLOCKS, Link, NoHeader, SegmentHeader, Summary, VERSION, VOTE_BLOCKS, Vote, salt,
};
use crate::wal::log::{Start, Wal, WalOptions, change};
use crate::wal::places::{Change, Places};
use crate::wal::sector::{BLOCK, Kind, SECTOR, SECTORS_PER_BLOCK, Seal, Sector, block_at, first_sector};
use crate::wal::snapshot_file::{SnapshotHeader, whole};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// What a member's directory holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Recovery {
    /// The log, to go on with.
    pub wal: Wal,
    /// What the kernel starts from.
    pub durable: Durable,
    /// What recovery saw, for reports.
    pub found: Found,
    /// The operations that must all be carried out, in order, before the member may start: only then is the
    /// result durable. Empty after [`Wal::open`].
    pub first: Vec<Operation>,
}

/// What recovery saw, for reports.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Found {
    /// How many batches the log has, as far as they are read.
    pub batches: u64,
    /// How many of them are damaged, or missing between others.
    pub rotten_batches: u64,
    /// How many of their sectors are damaged.
    pub rotten_sectors: u64,
    /// How many batches were unfinished. They were never acknowledged, and are cut off.
    pub torn: u64,
    /// The lost entries, as runs: the entry before the first and the last one.
    pub lost: Vec<(LogId, LogId)>,
    /// How many entries are written again, because only their own batch shows that they are durable.
    pub rewritten: u64,
    /// How many of the two copies of the vote are unreadable or missing.
    pub bad_votes: u64,
    /// How many segments have a header that cannot be read.
    pub bad_segments: u64,
    /// The last entries of the snapshots whose files exist. The snapshot that the log rests on is listed only
    /// if its file is whole; of the others only the header was read.
    pub snapshots: Vec<LogId>,
    /// The last entries of the snapshots whose files were found damaged.
    pub bad_snapshots: Vec<LogId>,
    /// The last entries of the snapshots that were being taken or fetched. A fetch may be continued.
    pub partial_snapshots: Vec<LogId>,
}

/// Why a member must not start from its directory. Nothing in it was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverError {
    /// The disk could not be read.
    Disk(DiskError),
    /// The directory belongs to a member of another cluster.
    OtherCluster {
        /// The owner of the directory.
        found: ClusterId,
        /// The identity that the member was started with.
        expected: ClusterId,
    },
    /// The directory belongs to another member, or to another incarnation.
    OtherMember {
        /// Whose it is.
        found: Member,
        /// Who wanted it.
        expected: Member,
    },
    /// A file is of a later format.
    Version {
        /// Which file.
        file: FileName,
        /// Its format.
        found: u32,
    },
    /// No copy of the vote can be read, so the vote of this member is unknown.
    VoteLost,
    /// So much is damaged that the ids of the lost entries are unknown.
    TooMuch(Missing),
    /// The first state of a new log is no log, or has lost or skipped entries.
    Beginning,
}

/// What recovery lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The whole log: there is a vote, and no segment.
    Log,
    /// Everything after this entry; nothing tells how far the log went.
    EndAfter(LogId),
    /// The ids of the entries after the one through the index.
    Ids {
        /// The last entry before.
        after: LogId,
        /// The last index whose entry is unknown.
        through: Index,
    },
    /// The membership as of this snapshot.
    Membership(LogId),
}

/// Why a directory could not be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WalOpenError {
    /// Recovery failed.
    Recover(RecoverError),
    /// The disk failed at the operations that had to come first. For [`DiskError::Full`], make space and open
    /// it again.
    Disk(DiskError),
}

impl From<DiskError> for RecoverError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Missing> for RecoverError {
    fn from(missing: Missing) -> Self {
        Self::TooMuch(missing)
    }
}

/// See [`Wal::recover`].
pub(super) fn recover<D: Disk>(
    disk: &mut D,
    identity: Identity,
    options: WalOptions,
    begin: &Durable,
) -> Result<Recovery, RecoverError> {
    let mut files = Files::default();
    disk.list()?.into_iter().for_each(|(file, length)| files.add(file, length));
    files.segments.sort_unstable();
    let votes = Votes::read(disk, &files, identity)?;
    if files.segments.is_empty() {
        return if !votes.written.is_empty() {
            Err(Missing::Log.into())
        } else {
            new(disk, identity, options, begin, files)
        };
    }
    let segments = SegmentFile::read_all(disk, &files, identity)?;
    let shelf = Shelf::read(disk, &files)?;
    let mut scan = Scan {
        disk,
        options,
        synced: votes.latest.as_ref().map_or(0, |(_, vote)| vote.synced.number),
        found: Found { bad_votes: votes.bad, ..Found::default() },
        model: Model::new(&votes, &segments, &shelf, options.cached_bytes),
        last: None,
    };
    match scan.run(&segments) {
        Err(RecoverError::TooMuch(Missing::EndAfter(_))) if votes.latest.is_none() => {
            return Err(RecoverError::VoteLost);
        }
        result => result?,
    }
    match &votes.latest {
        Some((_, vote)) => scan.adopt(vote)?,
        // A ballot written without entries is in the vote alone.
        None if votes.written.contains(&Slot::B) || scan.model.durable.starts > begin.starts => {
            return Err(RecoverError::VoteLost);
        }
        None => {}
    }
    scan.finish(identity, files, &segments, votes, shelf)
}

/// Begins a new log.
fn new<D: Disk>(
    disk: &mut D,
    identity: Identity,
    options: WalOptions,
    begin: &Durable,
    files: Files,
) -> Result<Recovery, RecoverError> {
    let lost = !begin.lost().is_empty();
    let last = LogSlice::check(begin.base, &begin.entries);
    let sound = last.is_ok_and(|last| last.term <= begin.ballot.term() && begin.committed <= last.index);
    if lost || begin.skipped.last.is_some() || !sound {
        return Err(RecoverError::Beginning);
    }
    let shelf = Shelf::read(disk, &files)?;
    let before = Summary {
        ballot: begin.ballot,
        starts: begin.starts,
        committed: begin.base.index,
        base: begin.base,
        snapshot: begin.snapshot.as_ref().map(|snapshot| snapshot.last),
        last: begin.base,
        terms: Vec::new(),
    };
    let start = Start {
        identity,
        options,
        number: 1,
        salt: salt(&[identity.cluster.0, identity.member.id.get(), identity.member.incarnation.0, 1]),
        continues: Link::default(),
        before,
        snapshot_before: begin.snapshot.clone(),
        records: begin.entries.iter().cloned().map(Record::Append).collect(),
        ballot: begin.ballot,
        places: Places::default(),
        segments: Vec::new(),
        void: Vec::new(),
        useless: Vec::new(),
        generation: 0,
        first_copy: Slot::A,
        slots: Vec::new(),
        spares: files.spares,
    };
    let mut durable = Durable { applied: Index::ZERO, ..begin.clone() };
    let found = shelf.tell(disk, &mut durable, Found::default())?;
    let (wal, first) = Wal::start(start, &durable);
    Ok(Recovery { wal, durable, found, first })
}

/// The files of the directory.
#[derive(Default)]
struct Files {
    segments: Vec<(u64, u64)>,
    spares: Vec<u64>,
    slots: Vec<Slot>,
    snapshots: Vec<(LogId, u64)>,
    partials: Vec<LogId>,
}

impl Files {
    fn add(&mut self, file: FileName, length: u64) {
        match file {
            FileName::Segment(number) if number < u64::MAX / 2 => self.segments.push((number, length)),
            FileName::Spare(number) => self.spares.push(number),
            FileName::Vote(slot) => self.slots.push(slot),
            FileName::Snapshot { term, index } => self.snapshots.push((LogId::new(term, index), length)),
            FileName::Partial { term, index } => self.partials.push(LogId::new(term, index)),
            FileName::Segment(_) => {}
        }
    }
}

/// The snapshots whose files exist.
#[derive(Default)]
struct Shelf {
    headers: Vec<SnapshotHeader>,
    bad: Vec<LogId>,
    partials: Vec<LogId>,
}

impl Shelf {
    fn read<D: Disk>(disk: &mut D, files: &Files) -> Result<Self, DiskError> {
        let mut shelf = Self { partials: files.partials.clone(), ..Self::default() };
        for (last, _) in &files.snapshots {
            let bytes = SnapshotHeader::read(whole(*last)).perform(disk)?;
            match SnapshotHeader::decode(whole(*last), &bytes) {
                Ok(header) if header.snapshot().last == *last => shelf.headers.push(header),
                _ => shelf.bad.push(*last),
            }
        }
        Ok(shelf)
    }

    /// Whether the file of this snapshot exists and matches its digests.
    fn holds<D: Disk>(&mut self, disk: &mut D, snapshot: &Snapshot) -> Result<bool, DiskError> {
        let last = snapshot.last;
        let Some(at) = self.headers.iter().position(|header| header.snapshot() == snapshot) else {
            return Ok(false);
        };
        if self.headers[at].verify(disk, whole(last))? {
            return Ok(true);
        }
        self.headers.remove(at);
        self.bad.push(last);
        Ok(false)
    }

    /// Reports the snapshots, and whether the one that the log rests on is lost.
    fn tell<D: Disk>(
        mut self,
        disk: &mut D,
        durable: &mut Durable,
        found: Found,
    ) -> Result<Found, DiskError> {
        // A snapshot at index zero is the empty state, and has no file.
        if let Some(snapshot) = durable.snapshot.as_ref().filter(|snapshot| snapshot.last.index > Index::ZERO)
        {
            durable.snapshot_lost = !self.holds(disk, snapshot)?;
        }
        let snapshots = self.headers.iter().map(|header| header.snapshot().last).collect();
        Ok(Found { snapshots, bad_snapshots: self.bad, partial_snapshots: self.partials, ..found })
    }
}

/// The two copies of the vote.
struct Votes {
    latest: Option<(Slot, Vote)>,
    /// The snapshots that they name.
    snapshots: Vec<Snapshot>,
    /// The slots that were ever written. Slot A was whole before slot B was begun.
    written: Vec<Slot>,
    bad: u64,
}

impl Votes {
    fn read<D: Disk>(disk: &mut D, files: &Files, identity: Identity) -> Result<Self, RecoverError> {
        let mut votes = Self { latest: None, snapshots: Vec::new(), written: Vec::new(), bad: 2 };
        for &slot in &files.slots {
            let file = FileName::Vote(slot);
            let mut bytes = [0; BLOCK * VOTE_BLOCKS as usize];
            disk.read(file, 0, &mut bytes)?;
            if bytes.iter().any(|&byte| byte != 0) {
                votes.written.push(slot);
            }
            match Vote::decode(&bytes, slot) {
                Ok(vote) => {
                    check_identity(vote.identity, identity)?;
                    votes.bad -= 1;
                    votes.snapshots.extend(vote.snapshot.clone());
                    let latest = votes.latest.as_ref().map(|(_, latest)| latest.generation);
                    if latest.is_none_or(|latest| latest < vote.generation) {
                        votes.latest = Some((slot, vote));
                    }
                }
                Err(NoHeader::Version(found)) => return Err(RecoverError::Version { file, found }),
                Err(NoHeader::Unreadable) => {}
            }
        }
        Ok(votes)
    }

    /// The copy to overwrite first. The latest copy may have been read from a cache and not be durable, so
    /// the other one stays until it is. If the other cannot be read, its write was cut short, and the latest
    /// is durable.
    fn first_copy(&self) -> Slot {
        match &self.latest {
            Some((latest, _)) if self.bad > 0 && self.written.contains(&latest.other()) => latest.other(),
            Some((latest, _)) => *latest,
            None => Slot::A,
        }
    }
}

fn check_identity(found: Identity, expected: Identity) -> Result<(), RecoverError> {
    if found.cluster != expected.cluster {
        return Err(RecoverError::OtherCluster { found: found.cluster, expected: expected.cluster });
    }
    if found.member != expected.member {
        return Err(RecoverError::OtherMember { found: found.member, expected: expected.member });
    }
    Ok(())
}

/// A segment, before its batches are read.
struct SegmentFile {
    number: u64,
    blocks: u32,
    header: Option<SegmentHeader>,
    /// Batches after this number are void: another segment continues the log.
    limit: u64,
}

impl SegmentFile {
    fn read_all<D: Disk>(disk: &mut D, files: &Files, identity: Identity) -> Result<Vec<Self>, RecoverError> {
        let mut segments = Vec::with_capacity(files.segments.len());
        for &(number, length) in &files.segments {
            let mut bytes = [0; BLOCK * HEADER_BLOCKS as usize];
            disk.read(FileName::Segment(number), 0, &mut bytes)?;
            let header = match SegmentHeader::decode(&bytes, number) {
                Ok(header) => {
                    check_identity(header.identity, identity)?;
                    Some(header)
                }
                Err(NoHeader::Version(found)) => {
                    return Err(RecoverError::Version { file: FileName::Segment(number), found });
                }
                Err(NoHeader::Unreadable) => None,
            };
            let blocks = u32::try_from(length / BLOCK as u64).unwrap_or(u32::MAX / SECTORS_PER_BLOCK);
            segments.push(Self { number, blocks, header, limit: u64::MAX });
        }
        let mut limit = u64::MAX;
        for segment in segments.iter_mut().rev() {
            segment.limit = limit;
            limit = segment.header.as_ref().map_or(limit, |header| limit.min(header.continues.number));
        }
        Ok(segments)
    }

    fn is_void(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.first > self.limit)
    }
}

/// A position in the log, from which later writes follow.
#[derive(Clone, Default, Debug)]
struct Checkpoint {
    link: Link,
    summary: Summary,
    snapshot: Option<Snapshot>,
}

/// The member's state as of the last batch that was read.
struct Model {
    durable: Durable,
    places: Places,
    /// The state after the last batch that was read.
    now: Checkpoint,
    /// Snapshots whose membership is known.
    snapshots: Vec<Snapshot>,
    /// A lower bound of the log's base.
    base: LogId,
    /// An upper bound of the number of entries.
    max_entries: u64,
    /// How much of the log stays in memory, in bytes.
    cached_bytes: u64,
    /// By how many bytes the log in memory has grown since it was last cut to that.
    unskipped: u64,
}

/// Why a record contradicts what is known.
struct Unsound;

impl Model {
    fn new(votes: &Votes, segments: &[SegmentFile], shelf: &Shelf, cached_bytes: u64) -> Self {
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
    fn begin(&mut self, header: &SegmentHeader) -> Result<(), Missing> {
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
    fn reached(&mut self, link: Link, summary: &Summary) {
        let durable = &mut self.durable;
        durable.ballot = later(durable.ballot, summary.ballot);
        durable.starts = durable.starts.max(summary.starts);
        durable.committed = summary.committed.min(durable.last().index);
        self.now = Checkpoint { link, summary: summary.clone(), snapshot: durable.snapshot.clone() };
    }

    fn position(&self, index: Index) -> Option<usize> {
        let before = self.durable.skipped_through().index;
        usize::try_from(index.get().checked_sub(before.get())?.checked_sub(1)?).ok()
    }

    fn entry(&mut self, index: Index) -> Option<&mut Entry> {
        let position = self.position(index)?;
        self.durable.entries.get_mut(position)
    }

    fn truncate(&mut self, after: Index) {
        self.places.change(0, Change::Truncate(after));
        let durable = &mut self.durable;
        if after < durable.base.index {
            // Only where the base is assumed for segments that were left behind.
            durable.entries.clear();
            durable.base.index = after;
            durable.base.term = self.now.summary.id(after).map_or_else(Default::default, |id| id.term);
            return;
        }
        let kept = self.position(after.next()).unwrap_or(0);
        self.durable.entries.truncate(kept);
    }

    fn forget(&mut self, base: LogId) {
        let durable = &mut self.durable;
        if base.index < durable.base.index {
            return;
        }
        self.places.change(0, Change::Forget(base.index));
        let before = durable.skipped_through().index;
        let forgotten = base.index.get().saturating_sub(before.get());
        let forgotten = usize::try_from(forgotten).unwrap_or(usize::MAX).min(durable.entries.len());
        durable.entries.drain(..forgotten);
        durable.skipped.forget(base.index);
        durable.base = base;
    }

    /// Applies a record. A record of a damaged batch is applied only if it fits.
    fn apply(&mut self, segment: u64, record: &Record, sector: u32) -> Result<(), Unsound> {
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
    fn fill(&mut self, segment: u64, entry: &Entry, sector: u32) {
        let fills = match self.entry(entry.id.index) {
            Some(lost) if lost.id == entry.id && lost.body == EntryBody::Lost => {
                *lost = entry.clone();
                true
            }
            Some(_) => false,
            None => self.durable.skipped.repair(entry),
        };
        if fills {
            self.place(segment, &Record::RepairResponse(entry.clone()), sector);
        }
    }

    /// Cuts the log in memory to its limit, from time to time.
    fn grown(&mut self, bytes: u64) {
        self.unskipped += bytes;
        if self.unskipped > self.cached_bytes / 2 {
            self.unskipped = 0;
            self.durable.skip(self.cached_bytes);
        }
    }

    fn place(&mut self, segment: u64, record: &Record, sector: u32) {
        if let Some(change) = change(record, sector) {
            self.places.change(segment, change);
        }
    }

    /// Brings the log to the state that a header names, through `through`. An entry with the same id is the
    /// same entry, and so is everything before it (Log Matching); an entry that is not here is lost.
    /// Everything through `kept` stays.
    fn reconcile(&mut self, summary: &Summary, through: Index, kept: Index) -> Result<(), Missing> {
        self.forget(summary.base);
        self.rest_on(summary.snapshot);
        let through = through.min(summary.last.index);
        let floor = self.durable.skipped_through().index.max(kept);
        let mut agreed = self.durable.last().index.min(through);
        while agreed > floor && self.entry(agreed).map(|entry| entry.id) != summary.id(agreed) {
            agreed = agreed.prev().unwrap_or_default();
        }
        if agreed < self.durable.last().index {
            self.truncate(agreed);
        }
        self.lose(summary, through)
    }

    /// Extends the log through `through` by lost entries.
    fn lose(&mut self, summary: &Summary, through: Index) -> Result<(), Missing> {
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

    fn rest_on(&mut self, snapshot: Option<LogId>) {
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

    fn agrees(&self, summary: &Summary) -> bool {
        let snapshot = self.durable.snapshot.as_ref().map(|snapshot| snapshot.last);
        self.durable.last() == summary.last
            && self.durable.base.index >= summary.base.index
            && snapshot == summary.snapshot
    }
}

/// The later of two ballots of one member.
fn later(a: Ballot, b: Ballot) -> Ballot {
    let rank = |ballot: Ballot| (ballot.term(), ballot.vote().is_some());
    if rank(b) > rank(a) { b } else { a }
}

/// The last batch that was read.
struct Last {
    records: Vec<Record>,
    /// The state before it.
    before: Checkpoint,
    segment: u64,
    number: u64,
    first_of_segment: bool,
    whole: bool,
}

struct Scan<'a, D> {
    disk: &'a mut D,
    options: WalOptions,
    /// Batches through this number were durable, by the copies of the vote.
    synced: u64,
    found: Found,
    model: Model,
    last: Option<Last>,
}

impl<D: Disk> Scan<'_, D> {
    fn run(&mut self, segments: &[SegmentFile]) -> Result<(), RecoverError> {
        // Segments before the base are no longer needed, and may have been removed in part.
        let base = self.model.base.index;
        let passed = |header: &SegmentHeader| header.summary.last.index <= base;
        let first = segments.iter().rposition(|it| !it.is_void() && it.header.as_ref().is_some_and(passed));
        let segments = &segments[first.unwrap_or(0)..];
        let mut begun = false;
        for (at, segment) in segments.iter().enumerate() {
            let Some(header) = &segment.header else {
                self.found.bad_segments += 1;
                if segments[at + 1..].iter().all(|later| later.header.is_none() || later.is_void()) {
                    return Err(Missing::EndAfter(self.model.durable.last()).into());
                }
                continue;
            };
            if segment.is_void() {
                continue;
            }
            if !begun {
                self.model.begin(header)?;
                begun = true;
            } else if header.continues != self.model.now.link || !self.model.agrees(&header.summary) {
                self.found.rotten_batches += 1;
                let committed = self.model.durable.committed;
                self.model.reconcile(&header.summary, header.summary.last.index, committed)?;
            }
            self.model.reached(header.continues, &header.summary);
            self.read_segment(segment, header)?;
        }
        Ok(())
    }

    fn read_segment(&mut self, segment: &SegmentFile, header: &SegmentHeader) -> Result<(), RecoverError> {
        let mut window = Window::new(segment, header.seal());
        let mut at = HEADER_BLOCKS;
        while self.model.now.link.number < segment.limit {
            let Some((block, batch)) = window.find(self.disk, at)? else {
                return self.end(segment, header, &mut window, at);
            };
            let link = self.model.now.link;
            if batch.number > segment.limit {
                break;
            }
            if batch.number <= link.number {
                at = block + 1;
                continue;
            }
            let bytes = window.batch(self.disk, block, batch.blocks)?;
            let mut sectors = batch::read(&bytes, header.seal(), first_sector(block));
            let first_of_segment = batch.number == header.first;
            let complete = sectors.damaged + sectors.unwritten == 0;
            let whole = complete && sectors.body == batch.body;
            if complete && !whole {
                // One of the sectors is of an earlier batch in this place, and cannot be told from the
                // others.
                sectors.records.clear();
            }
            let end = block + batch.blocks;
            // The checksum chain of a batch covers every batch before it. Where an earlier batch is missing,
            // it was durable once.
            let follows = link.chain == batch.previous;
            let covered = first_of_segment
                || !follows
                || batch.number <= self.synced
                || segment.limit < u64::MAX
                || complete
                || sectors.damaged > 0;
            if !whole && !covered && !self.is_followed(segment, &mut window, end)? {
                self.found.torn += 1;
                return Ok(());
            }
            self.take(segment.number, &batch, sectors, follows, whole, first_of_segment)?;
            at = end;
        }
        Ok(())
    }

    /// Whether anything was ever written behind a batch that ends at this block. If so the batch was durable,
    /// because nothing is written behind it before.
    fn is_followed(
        &mut self,
        segment: &SegmentFile,
        window: &mut Window,
        end: u32,
    ) -> Result<bool, DiskError> {
        let readable = window.find(self.disk, end)?.is_some();
        Ok(readable || end < segment.blocks && self.was_written(window, end)?)
    }

    /// Whether this block was once written as a whole and is damaged now.
    fn was_written(&mut self, window: &mut Window, block: u32) -> Result<bool, DiskError> {
        let (blank, damaged) = window.faults(self.disk, block)?;
        Ok(blank == 0 && damaged > 0)
    }

    /// No further batch can be read in a segment. Decides whether there was one.
    fn end(
        &mut self,
        segment: &SegmentFile,
        header: &SegmentHeader,
        window: &mut Window,
        at: u32,
    ) -> Result<(), RecoverError> {
        if segment.limit < u64::MAX {
            return Ok(());
        }
        // A segment gets its name only once its first batch is durable, so there was one.
        if self.model.now.link.number.max(self.synced) < header.first {
            return Err(Missing::EndAfter(self.model.durable.last()).into());
        }
        if at >= segment.blocks {
            return Ok(());
        }
        // An acknowledged batch has no blank sector, and an unfinished write leaves no damaged one.
        let named = self.synced.saturating_sub(self.model.now.link.number);
        let (blank, damaged) = window.faults(self.disk, at)?;
        let (hidden, end) = match blank == 0 && damaged > 0 {
            true => self.hidden(segment, window, at)?,
            false => (0, at),
        };
        let mut is_more = hidden > named;
        // Where a sector is blank, a write may have been lost, with another one behind it. Each batch that
        // the vote names takes at least one block.
        let behind = at.saturating_add(u32::try_from(named.max(1)).unwrap_or(u32::MAX)).max(end);
        for block in behind..segment.blocks {
            is_more |= self.was_written(window, block)?;
        }
        if is_more {
            return Err(Missing::EndAfter(self.model.durable.last()).into());
        }
        self.found.torn += u64::from(blank < SECTORS_PER_BLOCK);
        Ok(())
    }

    /// Returns how many batches may once have been durable in the blocks from `at` on, where no header can be
    /// read: the one that began there, and one for every block that may be the first of another. Only the
    /// vote can say what was in them. Also returns the end of these blocks: the first block with a blank
    /// sector.
    fn hidden(
        &mut self,
        segment: &SegmentFile,
        window: &mut Window,
        at: u32,
    ) -> Result<(u64, u32), DiskError> {
        let (mut count, mut ended) = (0, false);
        for block in at..segment.blocks {
            let bytes = window.batch(self.disk, block, 1)?;
            let open = |sector: u32| {
                window.seal.open(&bytes[sector as usize * SECTOR..][..SECTOR], first_sector(block) + sector)
            };
            if (0..SECTORS_PER_BLOCK).any(|sector| open(sector) == Sector::Blank) {
                return Ok((count, block));
            }
            // A batch ends at the end of a block. A valid sector without a header belongs to the middle of a
            // batch.
            let begins = ended && open(0) == Sector::Damaged;
            count += u64::from(block == at || begins);
            ended = !matches!(open(SECTORS_PER_BLOCK - 1), Sector::Valid { .. });
        }
        Ok((count, segment.blocks))
    }

    /// Applies a batch.
    fn take(
        &mut self,
        segment: u64,
        batch: &BatchHeader,
        sectors: Sectors,
        follows: bool,
        whole: bool,
        first_of_segment: bool,
    ) -> Result<(), RecoverError> {
        let Sectors { records, damaged, unwritten, .. } = sectors;
        let summary = &batch.summary;
        for (record, _) in &records {
            if let Record::Rebase(rebase) = record {
                self.model.snapshots.push(rebase.snapshot.clone());
            }
        }
        if !follows {
            self.found.rotten_batches += 1;
            let committed = self.model.durable.committed;
            self.model.reconcile(summary, batch.kept, committed)?;
        }
        let before = self.model.now.clone();
        let (mut sound, mut read) = (whole, 0);
        for (record, sector) in records.iter().filter(|_| whole) {
            sound = sound && self.model.apply(segment, record, *sector).is_ok();
            read += record.length();
        }
        if !sound || !self.model.agrees(summary) {
            self.found.rotten_batches += 1;
            self.found.rotten_sectors += damaged + unwritten;
            self.model.reconcile(summary, summary.last.index, batch.kept)?;
            for (record, sector) in &records {
                if let Record::Append(entry) | Record::RepairResponse(entry) = record {
                    self.model.fill(segment, entry, *sector);
                }
            }
        }
        self.model.reached(batch.link(), summary);
        self.found.batches += 1;
        self.model.grown(read);
        let records = records.into_iter().map(|(record, _)| record).collect();
        self.last = Some(Last {
            records,
            before,
            segment,
            number: batch.number,
            first_of_segment,
            whole: sound && follows,
        });
        Ok(())
    }

    /// The copies of the vote may name a batch of which nothing else is left.
    fn adopt(&mut self, vote: &Vote) -> Result<(), RecoverError> {
        let durable = &mut self.model.durable;
        durable.ballot = later(durable.ballot, vote.summary.ballot);
        durable.starts = durable.starts.max(vote.summary.starts);
        if vote.synced.number > self.model.now.link.number {
            self.found.rotten_batches += 1;
            let committed = self.model.durable.committed;
            self.model.reconcile(&vote.summary, vote.summary.last.index, committed)?;
            self.model.reached(vote.synced, &vote.summary);
            self.last = None;
        } else if vote.synced == self.model.now.link {
            // The vote was written after that batch.
            let durable = &mut self.model.durable;
            durable.committed = durable.committed.max(vote.summary.committed).min(durable.last().index);
        }
        Ok(())
    }

    /// Begins the next segment of the log.
    fn finish(
        self,
        identity: Identity,
        files: Files,
        segments: &[SegmentFile],
        votes: Votes,
        shelf: Shelf,
    ) -> Result<Recovery, RecoverError> {
        let Self { disk, options, synced, mut found, model, last, .. } = self;
        let Model { mut durable, places, now, .. } = model;
        let whole = LogSlice::check(durable.skipped_through(), &durable.entries);
        let begins = durable.skipped.terms.first().is_none_or(|first| first.term >= durable.base.term);
        let floor = durable.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        let rests = durable.base.index <= floor && floor <= durable.last().index;
        if durable.base != now.summary.base || whole.is_err() || !begins || !rests {
            let through = durable.last().index;
            return Err(Missing::Ids { after: now.summary.base, through }.into());
        }
        found = shelf.tell(disk, &mut durable, found)?;
        durable.skip(options.cached_bytes);
        found.lost = durable.lost();
        // Entries that only their own batch shows to be durable are written again. So are entries that are
        // alone in their segment, so that it can be removed.
        let again = last.filter(|last| last.first_of_segment || last.number > synced);
        let void: Vec<_> = segments.iter().filter(|segment| segment.is_void()).map(|it| it.number).collect();
        let mut useless = void.clone();
        let (before, records) = match again {
            Some(last) if last.whole => {
                if last.first_of_segment {
                    useless.push(last.segment);
                }
                (last.before, last.records)
            }
            // Batches behind lost entries cannot be repeated from before the loss. Their state becomes the
            // beginning of the new segment, and their readable entries are written as repairs.
            Some(last) => {
                let records = last.records.into_iter().filter_map(|record| match record {
                    Record::Append(entry) | Record::RepairResponse(entry) => {
                        let is_there = now.summary.id(entry.id.index) == Some(entry.id)
                            && entry.id.index > durable.base.index;
                        is_there.then_some(Record::RepairResponse(entry))
                    }
                    Record::Truncate(_) | Record::Rebase(_) | Record::Space => None,
                });
                let records = records.collect();
                (now, records)
            }
            None => (now, Vec::new()),
        };
        for snapshot in durable.snapshot.iter().chain(&before.snapshot) {
            if snapshot.membership.voters().is_empty() {
                return Err(Missing::Membership(snapshot.last).into());
            }
        }
        let is_entry = |record: &&Record| matches!(record, Record::Append(_) | Record::RepairResponse(_));
        found.rewritten = records.iter().filter(is_entry).count() as u64;
        let greatest = segments.iter().map(|segment| segment.number).max().unwrap_or(0);
        let needed = needed(segments, &useless, before.summary.last.index);
        let salts: Vec<u64> = segments.iter().filter_map(|it| it.header.as_ref()).map(|it| it.salt).collect();
        let start = Start {
            identity,
            options,
            number: greatest + 1,
            salt: salt(
                &[&salts[..], &[greatest, before.link.number, before.link.chain, durable.starts]].concat(),
            ),
            continues: before.link,
            before: before.summary,
            snapshot_before: before.snapshot,
            records,
            ballot: durable.ballot,
            places,
            segments: needed,
            useless: useless
                .into_iter()
                .filter(|number| !void.contains(number))
                .map(FileName::Segment)
                .collect(),
            void,
            generation: votes.latest.as_ref().map_or(0, |(_, vote)| vote.generation),
            first_copy: votes.first_copy(),
            slots: votes.written,
            spares: files.spares,
        };
        let (wal, first) = Wal::start(start, &durable);
        Ok(Recovery { wal, durable, found, first })
    }
}

/// The segments that are still needed, each with the last entry before it; the next one begins after `end`.
/// Where a header cannot be read this entry is unknown: the contents of such a segment lie before the next
/// segment, and so do those of the segments before it.
fn needed(segments: &[SegmentFile], useless: &[u64], end: Index) -> Vec<(u64, Option<u64>, Index)> {
    let mut before = end;
    let needed = segments.iter().rev().filter(|segment| !useless.contains(&segment.number));
    let needed = needed.map(|segment| {
        let header = segment.header.as_ref();
        before = header.map_or(before, |header| header.summary.last.index);
        (segment.number, header.map(|header| header.salt), before)
    });
    needed.collect()
}

/// Reads a segment from its beginning to its end.
struct Window {
    file: FileName,
    seal: Seal,
    blocks: u32,
    at: u32,
    bytes: Vec<u8>,
}

/// The number of blocks that are read at once.
const READ_AHEAD: u32 = 64;

impl Window {
    fn new(segment: &SegmentFile, seal: Seal) -> Self {
        let file = FileName::Segment(segment.number);
        Self { file, seal, blocks: segment.blocks, at: 0, bytes: Vec::new() }
    }

    fn block<D: Disk>(&mut self, disk: &mut D, block: u32) -> Result<&[u8], DiskError> {
        let there = u32::try_from(self.bytes.len() / BLOCK).unwrap_or(0);
        if block < self.at || block >= self.at + there {
            let count = READ_AHEAD.min(self.blocks.saturating_sub(block).max(1));
            self.bytes.clear();
            self.bytes.resize(count as usize * BLOCK, 0);
            disk.read(self.file, block_at(block), &mut self.bytes)?;
            self.at = block;
        }
        Ok(&self.bytes[(block - self.at) as usize * BLOCK..][..BLOCK])
    }

    /// The next batch at `from` or after, by either of its headers, and where it begins.
    fn find<D: Disk>(&mut self, disk: &mut D, from: u32) -> Result<Option<(u32, BatchHeader)>, DiskError> {
        let (seal, blocks) = (self.seal, self.blocks);
        for block in from..blocks {
            let bytes = self.block(disk, block)?;
            let last = SECTORS_PER_BLOCK - 1;
            for (sector, wanted) in [(0, Kind::First), (last, Kind::Last)] {
                let number = first_sector(block) + sector;
                let sector = &bytes[sector as usize * SECTOR..][..SECTOR];
                let Sector::Valid { kind, data, .. } = seal.open(sector, number) else { continue };
                let Some(header) = BatchHeader::decode(data).filter(|_| kind == wanted) else { continue };
                let begin = match kind {
                    Kind::First => Some(block),
                    _ => (block + 1).checked_sub(header.blocks),
                };
                let begin = begin.filter(|begin| *begin >= from && header.blocks <= blocks - begin);
                if let Some(begin) = begin {
                    return Ok(Some((begin, header)));
                }
            }
        }
        Ok(None)
    }

    /// How many sectors of a block are blank, and how many are damaged.
    fn faults<D: Disk>(&mut self, disk: &mut D, block: u32) -> Result<(u32, u32), DiskError> {
        let seal = self.seal;
        let (mut blank, mut damaged) = (0, 0);
        for (sector, number) in self.block(disk, block)?.chunks(SECTOR).zip(first_sector(block)..) {
            match seal.open(sector, number) {
                Sector::Blank => blank += 1,
                Sector::Damaged => damaged += 1,
                Sector::Torn | Sector::Valid { .. } => {}
            }
        }
        Ok((blank, damaged))
    }

    /// The bytes of so many blocks.
    fn batch<D: Disk>(&mut self, disk: &mut D, block: u32, count: u32) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::with_capacity(count as usize * BLOCK);
        for block in block..block + count {
            bytes.extend_from_slice(self.block(disk, block)?);
        }
        Ok(bytes)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str("the whole log is gone"),
            Self::EndAfter(after) => {
                write!(f, "what followed entry {after} is damaged, and nothing says what it was")
            }
            Self::Ids { after, through } => {
                write!(
                    f,
                    "what followed entry {after} through index {through} is damaged, and nothing says what it was"
                )
            }
            Self::Membership(last) => {
                write!(f, "the members of the group as of snapshot {last} are damaged")
            }
        }
    }
}

const REPLACE: &str = "do not start this member: put back its directory from before the damage, or remove it from its group and add it \
                       again under a new incarnation with an empty directory";

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::OtherCluster { found, expected } => {
                write!(
                    f,
                    "the directory is of cluster {found} and not {expected}: start the member on its own"
                )
            }
            Self::OtherMember { found, expected } => {
                write!(
                    f,
                    "the directory is of member {found} and not {expected}: start each member on its own"
                )
            }
            Self::Version { file, found } => {
                write!(f, "{file} is of format {found}, and this library reads {VERSION}: take a later one")
            }
            Self::VoteLost => {
                write!(f, "both copies of the vote are damaged: {REPLACE}")
            }
            Self::TooMuch(missing) => write!(f, "{missing}: {REPLACE}"),
            Self::Beginning => f.write_str(
                "a new log cannot begin with entries that are lost, left out or out of order: give it all of them",
            ),
        }
    }
}

impl core::error::Error for RecoverError {}

impl fmt::Display for WalOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recover(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WalOpenError {}
