//! What stands in front: of a segment, of a batch, and what a copy of the vote holds.
//!
//! Each of them sums up the member's state but for the bodies of its entries, so that what is damaged
//! elsewhere is known to have been.

use crate::bytes::Reader;
use crate::crc32c::CRC32;
use crate::log::Snapshot;
use crate::types::{Ballot, Identity, Index, LogId};
use crate::wal::codec::Sink;
use crate::wal::disk::Slot;
use crate::wal::sector::{
    BLOCK, DATA, FIRST, Kind, SECTOR, SECTORS_PER_BLOCK, Seal, Sector, data, first_sector,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use crc::{CRC_64_XZ, Crc, Table};

/// The format that this version of the library writes.
pub const VERSION: u32 = 1;

/// How many blocks of a segment its header takes: the same twice.
pub(super) const HEADER_BLOCKS: u32 = 2;

/// Of how many terms, the last, a summary says where they begin.
pub(super) const TERMS: usize = 8;

const SEGMENT_MAGIC: &[u8; 8] = b"kontikiL";
const VOTE_MAGIC: &[u8; 8] = b"kontikiV";

pub(super) static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

/// A batch, and by its checksum everything before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Link {
    /// Its number.
    pub(super) number: u64,
    /// The checksum of its header, which holds that of the one before and those of its sectors.
    pub(super) chain: u64,
}

/// The state of a member after a batch, without the bodies of its entries.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Summary {
    pub(super) ballot: Ballot,
    pub(super) starts: u64,
    pub(super) committed: Index,
    pub(super) base: LogId,
    /// The last entry of the snapshot that the log rests on.
    pub(super) snapshot: Option<LogId>,
    pub(super) last: LogId,
    /// The first entries of the last terms, at most [`TERMS`]: so the ids of entries are known that are not
    /// there any more.
    pub(super) terms: Vec<LogId>,
}

impl Summary {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_ballot(self.ballot);
        out.put_u64(self.starts);
        out.put_u64(self.committed.get());
        out.put_log_id(self.base);
        out.put_u8(u8::from(self.snapshot.is_some()));
        out.put_log_id(self.snapshot.unwrap_or_default());
        out.put_log_id(self.last);
        out.put_log_ids(&self.terms);
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let summary = Self {
            ballot: reader.ballot()?,
            starts: reader.u64()?,
            committed: reader.index()?,
            base: reader.log_id()?,
            snapshot: {
                let there = reader.u8()? != 0;
                Some(reader.log_id()?).filter(|_| there)
            },
            last: reader.log_id()?,
            terms: reader.log_ids(TERMS)?,
        };
        summary.is_sound().then_some(summary)
    }

    /// Whether its fields agree with one another, as those of every member do.
    pub(super) fn is_sound(&self) -> bool {
        let Self { ballot, committed, base, snapshot, last, ref terms, .. } = *self;
        let rises = |pair: &[LogId]| pair[0].index < pair[1].index && pair[0].term < pair[1].term;
        let runs = match (terms.first(), terms.last()) {
            (Some(first), Some(latest)) => {
                first.index > base.index
                    && first.term >= base.term
                    && latest.index <= last.index
                    && latest.term == last.term
            }
            _ => last == base,
        };
        runs && terms.windows(2).all(rises)
            && last.term <= ballot.term()
            && committed <= last.index
            && snapshot.is_none_or(|snapshot| snapshot.index >= base.index)
    }

    /// The id of the entry at `index`, where it is known.
    pub(super) fn id(&self, index: Index) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        if index > self.last.index {
            return None;
        }
        let run = self.terms.partition_point(|run| run.index <= index).checked_sub(1)?;
        Some(LogId { term: self.terms[run].term, index })
    }
}

/// The header of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BatchHeader {
    pub(super) number: u64,
    /// The checksum of the batch before.
    pub(super) previous: u64,
    /// The batch of this number and all before it were durable when this one was written.
    pub(super) synced: u64,
    pub(super) blocks: u32,
    /// The last entry before it.
    pub(super) before: LogId,
    /// The log through here is not changed by it.
    pub(super) kept: Index,
    pub(super) summary: Summary,
    /// The checksum of the checksums of its sectors between the two headers.
    pub(super) body: u32,
}

impl BatchHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(DATA);
        out.put_u64(self.number);
        out.put_u64(self.previous);
        out.put_u64(self.synced);
        out.put_u32(self.blocks);
        out.put_log_id(self.before);
        out.put_u64(self.kept.get());
        self.summary.encode(&mut out);
        out.put_u32(self.body);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let header = Self {
            number: reader.u64()?,
            previous: reader.u64()?,
            synced: reader.u64()?,
            blocks: reader.u32()?,
            before: reader.log_id()?,
            kept: reader.index()?,
            summary: Summary::decode(&mut reader)?,
            body: reader.u32()?,
        };
        (header.blocks > 0 && header.number < u64::MAX / 2).then_some(header)
    }

    /// Through which batch all were durable when this header was written, of which no more than the first
    /// fields may be left in its sector.
    pub(super) fn beginning(sector: &[u8]) -> Option<u64> {
        let mut reader = Reader(sector.strip_prefix(&[0; FIRST])?);
        let (number, _, synced) = (reader.u64()?, reader.u64()?, reader.u64()?);
        (number.checked_sub(1)? == synced && synced > 0).then_some(synced)
    }

    /// This batch, for the next one to follow.
    pub(super) fn link(&self) -> Link {
        Link { number: self.number, chain: CRC64.checksum(&self.encode()) }
    }
}

/// The header of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) identity: Identity,
    pub(super) number: u64,
    /// What its sectors are sealed with.
    pub(super) salt: u64,
    /// The number of its first batch.
    pub(super) first: u64,
    /// The batch that it goes on after. Whatever stands behind that one in segments before this is void.
    pub(super) continues: Link,
    /// The state after that batch.
    pub(super) summary: Summary,
    pub(super) snapshot: Option<Snapshot>,
}

/// What is wrong with the place where a header should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoHeader {
    /// It cannot be read.
    Unreadable,
    /// It is of a format that this library does not know.
    Version(u32),
}

impl NoHeader {
    /// What the first sector of a header says, where it is what was written there. Later formats keep that
    /// sector's checksum and first fields where they are, so that one says it is too new rather than damaged,
    /// and a damaged version says nothing.
    fn of(first: Option<&[u8]>, magic: &[u8; 8]) -> Self {
        let version = first.and_then(|data| {
            let mut reader = Reader(data);
            if reader.bytes(magic.len())? == magic { reader.u32() } else { None }
        });
        version.filter(|version| *version > VERSION).map_or(Self::Unreadable, Self::Version)
    }
}

impl SegmentHeader {
    pub(super) fn seal(&self) -> Seal {
        Seal { salt: self.salt, file: self.number }
    }

    /// Writes it to the first blocks of a segment.
    pub(super) fn encode_to(&self, blocks: &mut [u8]) {
        let mut out = Vec::with_capacity(BLOCK);
        out.put(SEGMENT_MAGIC);
        out.put_u32(VERSION);
        out.put_identity(self.identity);
        out.put_u64(self.number);
        out.put_u64(self.salt);
        out.put_u64(self.first);
        out.put_u64(self.continues.number);
        out.put_u64(self.continues.chain);
        self.summary.encode(&mut out);
        if let Some(snapshot) = &self.snapshot {
            out.put_snapshot(snapshot);
        }
        let seal = Seal { salt: 0, file: self.number };
        for (copy, block) in (0..).zip(blocks.chunks_exact_mut(BLOCK)) {
            spread(&out, block, seal, copy * SECTORS_PER_BLOCK, Kind::Segment);
        }
    }

    /// Reads it from the first blocks of segment `number`: each sector from either of its copies.
    pub(super) fn decode(blocks: &[u8], number: u64) -> Result<Self, NoHeader> {
        let seal = Seal { salt: 0, file: number };
        let good = |sector| {
            let mut copies = (0..HEADER_BLOCKS).map(|copy| sector + copy * SECTORS_PER_BLOCK);
            copies.find_map(|sector| valid(blocks, seal, sector, Kind::Segment))
        };
        let sectors: Option<Vec<&[u8]>> = (0..SECTORS_PER_BLOCK).map(good).collect();
        sectors
            .and_then(|sectors| Self::parse(&sectors.concat()))
            .filter(|header| header.number == number)
            .ok_or_else(|| NoHeader::of(good(0), SEGMENT_MAGIC))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.bytes(SEGMENT_MAGIC.len())? != SEGMENT_MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let mut header = Self {
            identity: reader.identity()?,
            number: reader.u64()?,
            salt: reader.u64()?,
            first: reader.u64()?,
            continues: Link { number: reader.u64()?, chain: reader.u64()? },
            summary: Summary::decode(&mut reader)?,
            snapshot: None,
        };
        if let Some(last) = header.summary.snapshot {
            header.snapshot = Some(reader.snapshot().filter(|snapshot| snapshot.last == last)?);
        }
        let follows = header.continues.number < header.first && header.first < u64::MAX / 2;
        follows.then_some(header)
    }
}

/// What a copy of the vote holds. What no other member knows is here once more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Vote {
    pub(super) identity: Identity,
    /// Rises with each writing of the two copies.
    pub(super) generation: u64,
    /// The last batch, which was durable when this was written.
    pub(super) synced: Link,
    pub(super) summary: Summary,
    /// The snapshot that the summary names; none where that part is damaged.
    pub(super) snapshot: Option<Snapshot>,
}

/// How long a copy of the vote is, and in which of its blocks it stands: the block between is blank, so that
/// no disk writes both as one.
pub(super) const VOTE_BLOCKS: u32 = 3;
pub(super) const VOTE_COPIES: [u32; 2] = [0, 2];

/// Each of these blocks has two halves which are the same: a sector of all else, and what is known of the
/// snapshot in the rest.
const HALF: usize = BLOCK / 2;
const HALF_SECTORS: u32 = SECTORS_PER_BLOCK / 2;

impl Vote {
    /// The blocks of a copy, with their numbers. Each holds it twice.
    pub(super) fn encode(&self, slot: Slot) -> [(u32, Arc<[u8]>); VOTE_COPIES.len()] {
        let mut snapshot = Vec::with_capacity(HALF);
        if let Some(known) = &self.snapshot {
            snapshot.put_snapshot(known);
        }
        snapshot.resize(HALF / SECTOR * DATA - DATA, 0);
        let mut out = Vec::with_capacity(DATA);
        out.put(VOTE_MAGIC);
        out.put_u32(VERSION);
        out.put_identity(self.identity);
        out.put_u64(self.generation);
        out.put_u64(self.synced.number);
        out.put_u64(self.synced.chain);
        self.summary.encode(&mut out);
        out.put_u32(CRC32.checksum(&snapshot));
        out.resize(DATA, 0);
        out.put(&snapshot);
        VOTE_COPIES.map(|number| {
            let mut block: Arc<[u8]> = core::iter::repeat_n(0, BLOCK).collect();
            let bytes = Arc::get_mut(&mut block).expect("not shared yet");
            for (first, half) in halves(number).zip(bytes.chunks_exact_mut(HALF)) {
                spread(&out, half, slot.seal(), first, Kind::Vote);
            }
            (number, block)
        })
    }

    /// The latest of those in a file.
    pub(super) fn decode(file: &[u8], slot: Slot) -> Result<Self, NoHeader> {
        let seal = slot.seal();
        let halves = || VOTE_COPIES.into_iter().flat_map(halves);
        let snapshot = |first: u32| {
            let sectors = first + 1..first + HALF_SECTORS;
            let pieces: Option<Vec<&[u8]>> =
                sectors.map(|sector| valid(file, seal, sector, Kind::Vote)).collect();
            pieces.map(|pieces| pieces.concat())
        };
        let snapshots: Vec<_> = halves().filter_map(snapshot).collect();
        halves()
            .filter_map(|sector| Self::parse(valid(file, seal, sector, Kind::Vote)?, &snapshots))
            .max_by_key(|vote| vote.generation)
            .ok_or_else(|| {
                let first = halves().find_map(|sector| valid(file, seal, sector, Kind::Vote));
                NoHeader::of(first, VOTE_MAGIC)
            })
    }

    /// Reads the first sector of a half, and what goes with it of what there is.
    fn parse(bytes: &[u8], snapshots: &[Vec<u8>]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.bytes(VOTE_MAGIC.len())? != VOTE_MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let mut vote = Self {
            identity: reader.identity()?,
            generation: reader.u64()?,
            synced: Link { number: reader.u64()?, chain: reader.u64()? },
            summary: Summary::decode(&mut reader)?,
            snapshot: None,
        };
        let checksum = reader.u32()?;
        let snapshot = snapshots.iter().find(|bytes| CRC32.checksum(bytes) == checksum);
        vote.snapshot = snapshot
            .and_then(|bytes| Reader(bytes).snapshot())
            .filter(|snapshot| vote.summary.snapshot == Some(snapshot.last));
        (vote.generation < u64::MAX / 2).then_some(vote)
    }
}

/// Where the halves of a block of the vote begin.
fn halves(block: u32) -> impl Iterator<Item = u32> {
    (first_sector(block)..first_sector(block + 1)).step_by(HALF_SECTORS as usize)
}

/// The data of a sector of this kind, where it is what was written there.
fn valid(bytes: &[u8], seal: Seal, sector: u32, of: Kind) -> Option<&[u8]> {
    let at = sector as usize * SECTOR;
    match seal.open(bytes.get(at..at + SECTOR)?, sector) {
        Sector::Valid { kind, data, .. } if kind == of => Some(data),
        _ => None,
    }
}

/// Spreads bytes over the sectors of a block.
fn spread(bytes: &[u8], block: &mut [u8], seal: Seal, first: u32, kind: Kind) {
    let mut pieces = bytes.chunks(DATA);
    for (number, sector) in (first..).zip(block.chunks_exact_mut(SECTOR)) {
        if let Some(piece) = pieces.next() {
            data(sector)[..piece.len()].copy_from_slice(piece);
        }
        seal.close(sector, number, kind);
    }
    assert!(pieces.next().is_none(), "a header fits into a block");
}

/// A number for a new segment's sectors, which those of no other segment have been sealed with.
pub(super) fn salt(parts: &[u64]) -> u64 {
    let mut digest = CRC64.digest();
    parts.iter().for_each(|part| digest.update(&part.to_le_bytes()));
    digest.finalize()
}

/// The checksum of checksums.
pub(super) fn digest(checksums: impl Iterator<Item = u32>) -> u32 {
    let bytes: Vec<u8> = checksums.flat_map(u32::to_le_bytes).collect();
    CRC32.checksum(&bytes)
}
