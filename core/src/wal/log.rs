//! The log as it is written: writes become batches, batches become operations on files.

use crate::action::Write;
use crate::durable::Durable;
use crate::log::{Entries, Entry, Rebase, Snapshot, Terms};
use crate::types::{Ballot, Identity, Index, LogId, WriteSeq};
use crate::wal::batch::{self, blocks_for};
use crate::wal::codec::Record;
use crate::wal::disk::{Damage, DiskError, FileName, Slot};
use crate::wal::header::{
    BatchHeader, HEADER_BLOCKS, Link, SegmentHeader, Summary, TERMS, VOTE_BLOCKS, Vote, salt,
};
use crate::wal::operation::Operation;
use crate::wal::places::{Change, Place, Places};
use crate::wal::sector::{BLOCK, SECTOR, SECTORS_PER_BLOCK, Seal, block_at};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How many copies of the vote there are.
const SLOTS: usize = 2;

/// How a log is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct WalOptions {
    /// How long a segment is, in bytes: rounded up to whole blocks of 4096, at least 16 of them. A batch that
    /// is larger gets one of its own. 64 MiB unless told. May differ from start to start.
    pub segment_bytes: u64,
    /// How much of the log recovery leaves in memory, in bytes: see [`Durable::skip`]. 64 MiB unless told.
    pub cached_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, cached_bytes: 64 << 20 }
    }
}

impl WalOptions {
    /// How many blocks a segment has.
    fn segment_blocks(&self) -> u64 {
        self.segment_bytes.div_ceil(BLOCK as u64).clamp(16, u64::from(MAX_BLOCKS))
    }
}

/// Sectors are numbered by 32 bits.
const MAX_BLOCKS: u32 = u32::MAX / SECTORS_PER_BLOCK - 1;

/// A member's log on its disk, without the disk: what is to be done to it is handed out as data.
///
/// The verbs: [`open`](Self::open) it, [`submit`](Self::submit) writes, carry out the
/// [`next_job`](Self::next_job) and say that it is [`completed`](Self::completed). Beside that,
/// [`upkeep`](Self::upkeep). A job any of whose operations failed must not be reported: stop the member, and
/// open it again.
#[derive(Clone, PartialEq, Debug)]
pub struct Wal {
    identity: Identity,
    options: WalOptions,
    /// What is submitted, each with the bytes that it takes at most, and the sum of these.
    queue: VecDeque<(Write, u64)>,
    queued: u64,
    /// The last write that is durable, and the base of the log as of that.
    durable: WriteSeq,
    durable_base: Index,
    flight: Option<Flight>,
    segment: Segment,
    spare: Spare,
    tail: Tail,
    copies: Copies,
    places: Places,
    /// Every segment whose entries the log may need, and the last entry before it.
    segments: BTreeMap<u64, Kept>,
    /// Files that nothing needs any more.
    useless: Vec<FileName>,
    upkeep: Option<Upkeep>,
    /// The segment that this life began with.
    life: u64,
    /// How many bytes this life has written to segments.
    written: u64,
}

/// The segment that is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    seal: Seal,
    blocks: u32,
    /// How many of them are written.
    used: u32,
}

impl Segment {
    fn rest(&self) -> u64 {
        u64::from(self.blocks - self.used)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kept {
    /// None where its header cannot be read, and so nothing in it.
    salt: Option<u64>,
    before: Index,
}

/// The next segment, which is prepared while there is time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spare {
    /// There is none, or one of this number that is too small.
    None,
    /// The disk had no space for it.
    Refused,
    Ready {
        blocks: u32,
    },
}

/// What the next batch follows.
#[derive(Clone, PartialEq, Debug)]
struct Tail {
    link: Link,
    ballot: Ballot,
    starts: u64,
    committed: Index,
    snapshot: Option<Snapshot>,
    base: LogId,
    terms: Terms,
}

impl Tail {
    fn summary(&self) -> Summary {
        let runs = self.terms.runs();
        Summary {
            ballot: self.ballot,
            starts: self.starts,
            committed: self.committed,
            base: self.base,
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.last),
            last: self.terms.last(),
            terms: runs[runs.len().saturating_sub(TERMS)..].to_vec(),
        }
    }
}

impl Tail {
    /// Takes over what a write says of anything but the log.
    fn take(&mut self, write: &Write) {
        (self.ballot, self.starts, self.committed) = (write.ballot, write.starts, write.committed);
    }

    /// Takes over what records say of the log.
    fn advance(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Truncate(after) => self.terms.truncate(*after),
                Record::Rebase(rebase) => {
                    self.terms.compact_to(rebase.base);
                    self.base = rebase.base;
                    self.snapshot = Some(rebase.snapshot.clone());
                }
                Record::Append(entry) => self.terms.push(entry.id.term),
                Record::RepairResponse(_) | Record::Space => {}
            }
        }
    }
}

/// How far a log that ends at `last` stays as it is.
fn kept(last: Index, records: &[Record]) -> Index {
    let truncated = records.iter().filter_map(|record| match record {
        Record::Truncate(after) => Some(*after),
        _ => None,
    });
    truncated.fold(last, Index::min)
}

/// The two copies of the vote. One is written over while the other stands, so an unfinished write spoils none
/// that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Copies {
    /// How often one of them was written.
    generation: u64,
    /// The one that was written last, and what it must be up to date with.
    latest: Slot,
    says: Option<Copied>,
    /// How many of them name the last batch, and so show that it was durable and what it held. The name of a
    /// segment does the first for its first batch, and not the second.
    current: usize,
}

/// What a copy of the vote must be up to date with before a write is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Copied {
    ballot: Ballot,
    starts: u64,
    base: LogId,
    snapshot: Option<LogId>,
}

impl Copied {
    fn of(tail: &Tail) -> Self {
        let Tail { ballot, starts, base, ref snapshot, .. } = *tail;
        Self { ballot, starts, base, snapshot: snapshot.as_ref().map(|snapshot| snapshot.last) }
    }
}

/// What is being written.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Flight {
    through: WriteSeq,
    base: Index,
    segment: u64,
    /// Set where the segment is a new one: until it is durable, those before are needed.
    opens: Option<Kept>,
    changes: Vec<Change>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Upkeep {
    Prepare { blocks: u32 },
    Remove(Vec<FileName>),
}

/// The writes of a batch as one: no entry is written that a later one of them takes back.
#[derive(Default)]
struct Joined {
    truncate: Option<Index>,
    repaired: Vec<Entry>,
    rebase: Option<Box<Rebase>>,
    append: Vec<Entry>,
}

impl Joined {
    fn add(&mut self, write: &Write) {
        if let Some(after) = write.truncate_after {
            self.truncate = Some(self.truncate.map_or(after, |earlier| earlier.min(after)));
            self.repaired.retain(|entry| entry.id.index <= after);
            self.append.retain(|entry| entry.id.index <= after);
        }
        self.repaired.extend(write.repaired.iter().cloned());
        if let Some(rebase) = &write.rebase {
            self.repaired.retain(|entry| entry.id.index > rebase.base.index);
            self.append.retain(|entry| entry.id.index > rebase.base.index);
            self.rebase = Some(rebase.clone());
        }
        self.append.extend(write.append.iter().cloned());
    }

    fn records(self, last: Index) -> Vec<Record> {
        let truncate = self.truncate.filter(|after| *after < last).map(Record::Truncate);
        let repaired = self.repaired.into_iter().map(Record::RepairResponse);
        // Twice: in a member that keeps no snapshots it is the only place that tells the membership.
        let rebase = self.rebase.into_iter().flat_map(|rebase| {
            let rebase = Record::Rebase(*rebase);
            [rebase.clone(), Record::Space, rebase]
        });
        let append = self.append.into_iter().map(Record::Append);
        truncate.into_iter().chain(repaired).chain(rebase).chain(append).collect()
    }
}

/// Where entries stand: to be read, and then given to [`Wal::entries`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    seal: Seal,
    first: Index,
    through: Index,
    max_bytes: u64,
    begin: u32,
    end: u32,
    places: Vec<Place>,
}

impl Extent {
    /// The operation that reads it.
    pub fn read(&self) -> Operation {
        Operation::Read {
            file: FileName::Segment(self.seal.file),
            at: u64::from(self.begin) * SECTOR as u64,
            length: (self.end - self.begin) as usize * SECTOR,
        }
    }
}

impl Wal {
    /// Takes a write of the kernel, to be written with the next job. In the order of their numbers.
    pub fn submit(&mut self, write: Write) {
        let bytes = length(&write);
        self.queued += bytes;
        self.queue.push_back((write, bytes));
    }

    /// What makes all submitted writes durable: to be carried out in order, and then reported by
    /// [`completed`](Self::completed). None while a job is in flight, where nothing waits, and where there is
    /// no room until [`upkeep`](Self::upkeep) has made some; then the writes go on waiting.
    pub fn next_job(&mut self) -> Option<Vec<Operation>> {
        if self.flight.is_some() || self.queue.is_empty() {
            return None;
        }
        if let Some(count) = self.ballots() {
            return Some(self.write_ballot(count));
        }
        let rest = self.segment.rest();
        let spare = match self.spare {
            Spare::Ready { blocks } => u64::from(blocks - HEADER_BLOCKS),
            Spare::None | Spare::Refused => 0,
        };
        let all = blocks_for(self.queued);
        let roll = all > rest && spare > rest;
        let count = self.fitting(if roll { spare } else { rest });
        if count == 0 {
            return None;
        }
        let mut joined = Joined::default();
        let mut through = self.durable;
        let header = roll.then(|| self.roll());
        for (write, bytes) in self.queue.drain(..count) {
            joined.add(&write);
            self.tail.take(&write);
            through = write.seq;
            self.queued -= bytes;
        }
        let records = joined.records(self.tail.terms.last().index);
        Some(self.seal(&records, header, through))
    }

    /// How many of the submitted writes, from the first on, leave the log as it is. None where they change
    /// nothing.
    fn ballots(&self) -> Option<usize> {
        let count = self.queue.iter().take_while(|(_, bytes)| *bytes == 0).count();
        let (last, _) = self.queue.get(count.checked_sub(1)?)?;
        ((last.ballot, last.starts) != (self.tail.ballot, self.tail.starts)).then_some(count)
    }

    /// Makes so many writes durable which change the ballot alone: one sync, for an election waits for it.
    /// They need no room in a segment.
    fn write_ballot(&mut self, count: usize) -> Vec<Operation> {
        let mut through = self.durable;
        for (write, _) in self.queue.drain(..count) {
            self.tail.take(&write);
            through = write.seq;
        }
        self.copies.current = 0;
        self.write_copy(through)
    }

    /// A job that writes a copy of the vote and nothing else.
    fn write_copy(&mut self, through: WriteSeq) -> Vec<Operation> {
        self.flight = Some(Flight {
            through,
            base: self.tail.base.index,
            segment: self.segment.seal.file,
            opens: None,
            changes: Vec::new(),
        });
        self.copy_vote()
    }

    /// How many of the submitted writes fit into so many blocks, as one batch.
    fn fitting(&self, blocks: u64) -> usize {
        let mut bytes = 0;
        let fits = |(_, more): &&(Write, u64)| {
            bytes += more;
            blocks_for(bytes) <= blocks
        };
        self.queue.iter().take_while(fits).count()
    }

    /// What makes it known, wherever the last batch should be damaged, that it was durable once, and which
    /// entries it held: worth a sync where nothing follows for a while. It takes a job for each copy of the
    /// vote that does not say so yet, so that what is to be written meanwhile waits for one sync at most: ask
    /// again. None where both say so, and where something waits to be written. Reported by
    /// [`completed`](Self::completed) like any other job.
    pub fn mark(&mut self) -> Option<Vec<Operation>> {
        if !self.is_idle() || self.is_marked() {
            return None;
        }
        // It stands elsewhere than the log: it needs no room, even where the disk is full, and what damages
        // the end of the log leaves it. Both copies, so that neither alone is all that tells of the last
        // batch and the ballot.
        Some(self.write_copy(self.durable))
    }

    /// Whether there is nothing to [`mark`](Self::mark).
    pub(super) fn is_marked(&self) -> bool {
        self.copies.current == SLOTS
    }

    /// Makes a batch of records; the first of a segment where its header is given.
    fn seal(
        &mut self,
        records: &[Record],
        header: Option<SegmentHeader>,
        through: WriteSeq,
    ) -> Vec<Operation> {
        let before = self.tail.terms.last();
        self.tail.advance(records);
        let mut operations = self.write(records, header, before, through);
        if self.copies.says != Some(Copied::of(&self.tail)) {
            operations.extend(self.copy_vote());
        }
        operations
    }

    /// The same, where the tail is already as it will be after it.
    fn write(
        &mut self,
        records: &[Record],
        header: Option<SegmentHeader>,
        before: LogId,
        through: WriteSeq,
    ) -> Vec<Operation> {
        let synced = header.as_ref().map_or(self.tail.link, |header| header.continues);
        let blocks = u32::try_from(blocks_for(records.iter().map(Record::length).sum())).expect("it fits");
        let head = if header.is_some() { HEADER_BLOCKS } else { 0 };
        let mut bytes: Arc<[u8]> = core::iter::repeat_n(0, (head + blocks) as usize * BLOCK).collect();
        let (head_bytes, body) =
            Arc::get_mut(&mut bytes).expect("not shared yet").split_at_mut(head as usize * BLOCK);
        if let Some(header) = &header {
            header.encode_to(head_bytes);
        }
        let mut batch = BatchHeader {
            number: synced.number + 1,
            previous: synced.chain,
            synced: synced.number,
            blocks,
            before,
            kept: kept(before.index, records),
            summary: self.tail.summary(),
            body: 0,
        };
        debug_assert!(batch.summary.is_sound(), "what recovery would refuse: {batch:?}");
        let at = self.segment.used;
        let seal = self.segment.seal;
        let (link, begins) = batch::encode(&mut batch, records, seal, at + head, body);
        self.segment.used += head + blocks;
        self.written += u64::from(head + blocks) * BLOCK as u64;
        self.tail.link = link;
        self.copies.current = 0;
        let changes =
            records.iter().zip(begins).filter_map(|(record, begin)| change(record, begin)).collect();
        let opens = header.as_ref().map(|_| Kept { salt: Some(seal.salt), before: before.index });
        let base = self.tail.base.index;
        self.flight = Some(Flight { through, base, segment: seal.file, opens, changes });
        written(seal.file, header.is_some(), block_at(at), bytes)
    }

    /// Goes on to the spare segment. Returns its header.
    fn roll(&mut self) -> SegmentHeader {
        let Spare::Ready { blocks } = self.spare else { unreachable!("the caller has seen the spare") };
        let Link { number, chain } = self.tail.link;
        let Seal { salt: old, file } = self.segment.seal;
        let seal = Seal { salt: salt(&[old, file, chain]), file: file + 1 };
        self.segment = Segment { seal, blocks, used: 0 };
        self.spare = Spare::None;
        SegmentHeader {
            identity: self.identity,
            number: seal.file,
            salt: seal.salt,
            first: number + 1,
            continues: self.tail.link,
            summary: self.tail.summary(),
            snapshot: self.tail.snapshot.clone(),
        }
    }

    /// Brings the copy of the vote up to date that was not written last. It stands in two blocks: no bad one
    /// takes it, and one sync makes both durable.
    fn copy_vote(&mut self) -> Vec<Operation> {
        let Copies { generation, latest, current, .. } = self.copies;
        self.copies = Copies {
            generation: generation + 1,
            latest: latest.other(),
            says: Some(Copied::of(&self.tail)),
            current: SLOTS.min(current + 1),
        };
        let vote = Vote {
            identity: self.identity,
            generation: generation + 1,
            synced: self.tail.link,
            summary: self.tail.summary(),
            snapshot: self.tail.snapshot.clone(),
        };
        let slot = latest.other();
        let file = FileName::Vote(slot);
        let write = |(block, bytes)| Operation::Write { file, at: block_at(block), bytes };
        vote.encode(slot).map(write).into_iter().chain([Operation::Sync(file)]).collect()
    }

    /// The job in flight is durable. Returns the last write that is: report it to the kernel with
    /// [`Event::Persisted`](crate::event::Event::Persisted).
    pub fn completed(&mut self) -> WriteSeq {
        if let Some(Flight { through, base, segment, opens, changes }) = self.flight.take() {
            (self.durable, self.durable_base) = (through, base);
            self.segments.extend(opens.map(|kept| (segment, kept)));
            changes.into_iter().for_each(|change| self.places.change(segment, change));
        }
        self.durable
    }

    /// How many bytes this life has written to the log, whole blocks each: a small entry that is written
    /// alone takes one.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many segments the log has, that being written to included: files of [`WalOptions::segment_bytes`]
    /// or more.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Whether nothing waits to be written, and nothing is being written.
    pub fn is_idle(&self) -> bool {
        self.flight.is_none() && self.queue.is_empty()
    }

    /// What to do beside the writing: prepare the next segment, or remove what the log has left behind. To be
    /// carried out in order and reported by [`upkeep_done`](Self::upkeep_done); a job of
    /// [`next_job`](Self::next_job) may be in flight meanwhile, and reads. None where there is nothing to do,
    /// and while one is in flight.
    pub fn upkeep(&mut self) -> Option<Vec<Operation>> {
        if self.upkeep.is_some() {
            return None;
        }
        self.leave_behind();
        let (upkeep, operations) = if !self.useless.is_empty() {
            let removed = core::mem::take(&mut self.useless);
            let mut operations: Vec<_> = removed.iter().copied().map(Operation::Remove).collect();
            operations.push(Operation::SyncDirectory);
            (Upkeep::Remove(removed), operations)
        } else {
            let blocks = self.wanted_spare()?;
            let file = FileName::Spare(self.segment.seal.file + 1);
            // Until that is done there is none; and where there was no space, there may still be none.
            self.spare = if self.spare == Spare::Refused { Spare::Refused } else { Spare::None };
            let create = Operation::Create { file, length: block_at(blocks) };
            let operations = Vec::from([create, Operation::Sync(file), Operation::SyncDirectory]);
            (Upkeep::Prepare { blocks }, operations)
        };
        self.upkeep = Some(upkeep);
        Some(operations)
    }

    /// How large a spare segment is missing.
    fn wanted_spare(&self) -> Option<u32> {
        let first = self.queue.front().map_or(0, |(_, bytes)| blocks_for(*bytes));
        let wanted = (first + u64::from(HEADER_BLOCKS)).max(self.options.segment_blocks());
        let wanted = u32::try_from(wanted).unwrap_or(MAX_BLOCKS).min(MAX_BLOCKS);
        match self.spare {
            Spare::Ready { blocks } if u64::from(blocks) >= first + u64::from(HEADER_BLOCKS) => None,
            // One that is large enough for what waits does not matter to what fits into the segment's rest.
            Spare::Ready { .. } if first <= self.segment.rest() => None,
            _ => Some(wanted),
        }
    }

    /// Segments that hold no entry after the base go, the oldest first: so that what is left is the end of
    /// the log, without a gap.
    fn leave_behind(&mut self) {
        // Not that of what is being written.
        let base = self.durable_base;
        while let Some((&oldest, _)) = self.segments.first_key_value()
            && let Some((_, next)) = self.segments.iter().nth(1)
            && next.before <= base
        {
            self.segments.remove(&oldest);
            self.useless.push(FileName::Segment(oldest));
        }
    }

    /// What became of the last [`upkeep`](Self::upkeep). A disk that is full is not a failure: the next call
    /// asks for the same again. After any other error the member must be stopped.
    pub fn upkeep_done(&mut self, result: Result<(), &DiskError>) {
        match (self.upkeep.take(), result) {
            (Some(Upkeep::Prepare { blocks }), Ok(())) => self.spare = Spare::Ready { blocks },
            (Some(Upkeep::Prepare { .. }), Err(_)) => self.spare = Spare::Refused,
            (Some(Upkeep::Remove(files)), Err(_)) => self.useless.extend(files),
            (Some(Upkeep::Remove(_)) | None, _) => {}
        }
    }

    /// Whether there is room for more than what is submitted already. Where not, the disk had no space for
    /// another segment and this one is used up but for a quarter: take no new work. Try
    /// [`upkeep`](Self::upkeep) again from time to time.
    pub fn has_room(&self) -> bool {
        if self.spare != Spare::Refused {
            return true;
        }
        self.segment.rest().saturating_sub(blocks_for(self.queued)) >= self.options.segment_blocks() / 4
    }

    /// A number that no other life of this member has, and that rises from life to life.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Where the durable entries after `after` through `through` stand, as far as one read of about
    /// `max_bytes` goes, but one entry at least. None where the first of them is not durable, is lost, or has
    /// left the log.
    pub fn locate(&self, after: Index, through: Index, max_bytes: u64) -> Option<Extent> {
        let first = after.next();
        let places = self.places.from(first);
        let start = places.first().filter(|_| first <= through)?;
        let limit = u32::try_from(max_bytes / SECTOR as u64).unwrap_or(u32::MAX);
        let mut taken = Vec::from([*start]);
        for place in &places[1..] {
            let last = taken[taken.len() - 1];
            let follows = place.segment == last.segment
                && place.first == last.last.next()
                && place.begin >= last.begin
                && place.first <= through
                && place.end - start.begin <= limit;
            if !follows {
                break;
            }
            taken.push(*place);
        }
        let end = taken.iter().map(|place| place.end).max()?;
        let salt = self.segments.get(&start.segment)?.salt?;
        Some(Extent {
            seal: Seal { salt, file: start.segment },
            first,
            through,
            max_bytes,
            begin: start.begin,
            end,
            places: taken,
        })
    }

    /// The entries that were read, each checked: at least one, and not many more than fit into the
    /// `max_bytes` of [`locate`](Self::locate). None, where meanwhile they have left the log.
    pub fn entries(&self, extent: &Extent, bytes: &[u8]) -> Result<Entries, Damage> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut size = 0;
        let mut next = extent.first;
        'places: for place in &extent.places {
            let now = self.places.from(next).first();
            let Some(now) = now.filter(|now| (now.segment, now.begin) == (place.segment, place.begin)) else {
                break;
            };
            let last = place.last.min(now.last).min(extent.through);
            let sectors = (place.begin - extent.begin) as usize..(place.end - extent.begin) as usize;
            let there = bytes.len() / SECTOR;
            let piece = &bytes[sectors.start.min(there) * SECTOR..sectors.end.min(there) * SECTOR];
            for record in batch::records(piece, extent.seal, place.begin) {
                let (Record::Append(entry) | Record::RepairResponse(entry)) = record else { continue };
                if entry.id.index != next {
                    continue;
                }
                size += entry.size();
                if size > extent.max_bytes && !entries.is_empty() {
                    break 'places;
                }
                next = next.next();
                entries.push(entry);
                if next > last {
                    break;
                }
            }
            if next <= last {
                if entries.is_empty() {
                    return Err(Damage(FileName::Segment(extent.seal.file)));
                }
                break;
            }
        }
        Ok(entries.into_iter().collect())
    }
}

/// What a log goes on from.
pub(super) struct Start {
    pub(super) identity: Identity,
    pub(super) options: WalOptions,
    /// The segment to begin, and what its salt is made of.
    pub(super) number: u64,
    pub(super) salt: u64,
    /// The batch to go on after, and the state after that.
    pub(super) continues: Link,
    pub(super) before: Summary,
    pub(super) snapshot_before: Option<Snapshot>,
    /// What to write first: what brings that state to `durable`.
    pub(super) records: Vec<Record>,
    /// The state that is found.
    pub(super) ballot: Ballot,
    pub(super) places: Places,
    /// The segments that are needed: number, salt where its header can be read, and the last entry before.
    pub(super) segments: Vec<(u64, Option<u64>, Index)>,
    /// Those that are void already, and files that are useless once it has begun.
    pub(super) void: Vec<u64>,
    pub(super) useless: Vec<FileName>,
    /// How often a copy of the vote was written, which of them to write first, and in which
    /// something was ever written: where nothing was, not even the name of the file need be durable.
    pub(super) generation: u64,
    pub(super) first_copy: Slot,
    pub(super) slots: Vec<Slot>,
    /// Spare segments that are there.
    pub(super) spares: Vec<u64>,
}

impl Start {
    /// How many blocks the segment has: as many as the first batch needs, at least.
    fn blocks(&self) -> u32 {
        let records: u64 = self.records.iter().map(Record::length).sum();
        let needed = blocks_for(records) + u64::from(HEADER_BLOCKS);
        u32::try_from(needed.max(self.options.segment_blocks())).expect("it was read from a segment")
    }

    fn header(&self) -> SegmentHeader {
        SegmentHeader {
            identity: self.identity,
            number: self.number,
            salt: self.salt,
            first: self.continues.number + 1,
            continues: self.continues,
            summary: Summary {
                ballot: self.ballot,
                snapshot: self.snapshot_before.as_ref().map(|snapshot| snapshot.last),
                ..self.before.clone()
            },
            snapshot: self.snapshot_before.clone(),
        }
    }

    fn tail(&self, durable: &Durable) -> Tail {
        let runs = durable.skipped.terms.clone();
        let mut terms = Terms::from_runs(durable.base, runs, durable.skipped_through().index);
        terms.extend(durable.entries.iter().map(|entry| entry.id.term));
        Tail {
            link: self.continues,
            ballot: self.ballot,
            starts: durable.starts,
            committed: durable.committed,
            snapshot: durable.snapshot.clone(),
            base: durable.base,
            terms,
        }
    }

    fn copies(&self) -> Copies {
        Copies { generation: self.generation, latest: self.first_copy.other(), says: None, current: 0 }
    }

    /// Removes what is void, before anything is made: the disk may be full, and a start that was cut short
    /// has left all it made.
    fn clear(&self) -> Vec<Operation> {
        let spares = self.spares.iter().map(|spare| Operation::Remove(FileName::Spare(*spare)));
        let mut clear: Vec<_> = spares.collect();
        if !self.void.is_empty() {
            // What goes on instead of them may have its name only since a moment ago, and not for good.
            clear.push(Operation::SyncDirectory);
            clear.extend(self.void.iter().map(|void| Operation::Remove(FileName::Segment(*void))));
        }
        clear
    }

    /// Creates the copies of the vote that are not there.
    fn create_copies(&self) -> Vec<Operation> {
        let missing = [Slot::A, Slot::B].into_iter().filter(|slot| !self.slots.contains(slot));
        let create = |slot| Operation::Create { file: FileName::Vote(slot), length: block_at(VOTE_BLOCKS) };
        let mut operations: Vec<_> = missing.map(create).collect();
        if !operations.is_empty() {
            // Before the second is written the first is there for good.
            operations.push(Operation::SyncDirectory);
        }
        operations
    }
}

impl Wal {
    /// A log that goes on with a new segment, and what makes that durable.
    pub(super) fn start(start: Start, durable: &Durable) -> (Self, Vec<Operation>) {
        let (header, blocks, last_before) = (start.header(), start.blocks(), start.before.last);
        let (mut first, create_copies) = (start.clear(), start.create_copies());
        let kept = |&(number, salt, before): &(u64, Option<u64>, Index)| (number, Kept { salt, before });
        let mut wal = Self {
            identity: start.identity,
            options: start.options,
            queue: VecDeque::new(),
            queued: 0,
            durable: WriteSeq::ZERO,
            durable_base: durable.base.index,
            flight: None,
            segment: Segment { seal: header.seal(), blocks, used: 0 },
            spare: Spare::None,
            tail: start.tail(durable),
            copies: start.copies(),
            segments: start.segments.iter().map(kept).collect(),
            places: start.places,
            useless: start.useless,
            upkeep: None,
            life: start.number,
            written: 0,
        };
        first.push(Operation::Create { file: FileName::Spare(start.number), length: block_at(blocks) });
        first.extend(wal.write(&start.records, Some(header), last_before, WriteSeq::ZERO));
        first.extend(create_copies);
        // What was read of the copies need not be durable; but the segment is by now, and holds the ballot.
        for _ in 0..SLOTS {
            first.extend(wal.copy_vote());
        }
        wal.completed();
        (wal, first)
    }
}

/// How many bytes of records a write becomes, at most.
fn length(write: &Write) -> u64 {
    let truncate = write.truncate_after.map_or(0, |after| Record::Truncate(after).length());
    let rebase = write
        .rebase
        .as_ref()
        .map_or(0, |rebase| 2 * Record::Rebase((**rebase).clone()).length() + Record::Space.length());
    let entries = write.repaired.iter().chain(write.append.iter());
    truncate + rebase + entries.map(|entry| Record::Append(entry.clone()).length()).sum::<u64>()
}

/// What a record that begins in this sector changes about where entries stand.
pub(super) fn change(record: &Record, begin: u32) -> Option<Change> {
    // The first byte may be the last of its sector; what follows may end anywhere in the last.
    let sectors = record.length().div_ceil(crate::wal::sector::DATA as u64) + 1;
    let end = begin.saturating_add(u32::try_from(sectors).unwrap_or(u32::MAX));
    match record {
        Record::Truncate(after) => Some(Change::Truncate(*after)),
        Record::Rebase(rebase) => Some(Change::Forget(rebase.base.index)),
        Record::Append(entry) => Some(Change::Append { index: entry.id.index, begin, end }),
        Record::RepairResponse(entry) => Some(Change::RepairResponse { index: entry.id.index, begin, end }),
        Record::Space => None,
    }
}

/// The operations that make a batch durable, in a segment that is there or in a new one.
fn written(segment: u64, new: bool, at: u64, bytes: Arc<[u8]>) -> Vec<Operation> {
    let (file, spare) = (FileName::Segment(segment), FileName::Spare(segment));
    if !new {
        return Vec::from([Operation::Write { file, at, bytes }, Operation::Sync(file)]);
    }
    // The segment is durable, with its first batch, before it is called one.
    Vec::from([
        Operation::Write { file: spare, at, bytes },
        Operation::Sync(spare),
        Operation::Rename { from: spare, to: file },
        Operation::SyncDirectory,
    ])
}
