//! Snapshot files: a header, and what the state machine said in chunks, each checked for itself.
//!
//! ```text
//!   0         8 bytes magic, 4 version, 4 CRC-32C of what follows in this block,
//!             4 bytes of a chunk, 8 bytes of all content, 8 its digest (CRC-64), then what the kernel knows of the snapshot
//!   4096      chunk 0: 4 bytes CRC-32C over term, index, the chunk's number and its content; the content
//!   …         chunk n, 4096 + n * (4 + bytes of a chunk); all are full but the last
//! ```
//!
//! Nothing in it says whose it is: a file serves every member of the group as it is. The header is written
//! last. What is not whole yet is called [`FileName::Partial`].

use crate::bytes::Reader;
use crate::crc32c::CRC32;
use crate::log::Snapshot;
use crate::types::LogId;
use crate::wal::codec::Sink;
use crate::wal::disk::{Damage, Disk, DiskError, FileName};
use crate::wal::header::{CRC64, VERSION};
use crate::wal::operation::Operation;
use crate::wal::sector::BLOCK;
use alloc::vec::Vec;

const MAGIC: &[u8; 8] = b"kontikiS";
const CHECKED: usize = 16;
/// What stands in front of each chunk's content.
const PREFIX: u64 = 4;

/// Writes a snapshot's file, piece by piece. The operations are carried out in order; it holds one chunk in
/// memory.
///
/// A snapshot that is given up leaves a [`FileName::Partial`], which the caller must remove.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotWriter {
    header: SnapshotHeader,
    digest: crc_state::Digest64,
    held: Vec<u8>,
    begun: bool,
}

/// What a snapshot's file begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotHeader {
    snapshot: Snapshot,
    chunk_bytes: u32,
    length: u64,
    digest: u64,
}

impl SnapshotHeader {
    /// The operation that reads the header of a file.
    pub fn read(file: FileName) -> Operation {
        Operation::Read { file, at: 0, length: BLOCK }
    }

    /// The header in what was read from a file.
    pub fn decode(file: FileName, bytes: &[u8]) -> Result<Self, Damage> {
        Self::parse(bytes).ok_or(Damage(file))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let block = bytes.get(..BLOCK)?;
        let mut reader = Reader(block);
        if reader.bytes(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        if reader.u32()? != CRC32.checksum(&block[CHECKED..]) {
            return None;
        }
        let (chunk_bytes, length, digest) = (reader.u32()?, reader.u64()?, reader.u64()?);
        let header = Self { snapshot: reader.snapshot()?, chunk_bytes, length, digest };
        (chunk_bytes > 0 && length <= u64::MAX / 8).then_some(header)
    }

    fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK);
        block.put(MAGIC);
        block.put_u32(VERSION);
        block.put_u32(0);
        block.put_u32(self.chunk_bytes);
        block.put_u64(self.length);
        block.put_u64(self.digest);
        block.put_snapshot(&self.snapshot);
        block.resize(BLOCK, 0);
        let checksum = CRC32.checksum(&block[CHECKED..]);
        block[CHECKED - 4..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// What the kernel knows of it.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many bytes of content there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A checksum of all content. Two files with the same snapshot and digest are the same, however they are
    /// cut into chunks.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u64 {
        self.length.div_ceil(u64::from(self.chunk_bytes))
    }

    /// How many bytes of content chunk `n` has; none where there is no such chunk.
    fn content(&self, n: u64) -> u64 {
        let chunk = u64::from(self.chunk_bytes);
        self.length.saturating_sub(n.saturating_mul(chunk)).min(chunk)
    }

    /// Where a chunk begins in its file.
    fn position(&self, n: u64) -> u64 {
        n.saturating_mul(u64::from(self.chunk_bytes) + PREFIX).saturating_add(BLOCK as u64)
    }

    /// The operation that reads chunk `n` of a file, the first of which is zero: what
    /// [`check_chunk`](Self::check_chunk) takes, and what stands there in every other copy.
    pub fn read_chunk(&self, file: FileName, n: u64) -> Operation {
        let length = usize::try_from(self.content(n) + PREFIX).unwrap_or(usize::MAX);
        Operation::Read { file, at: self.position(n), length }
    }

    /// The content of chunk `n`, checked.
    pub fn check_chunk(&self, n: u64, bytes: &[u8]) -> Result<Vec<u8>, Damage> {
        self.checked(n, bytes).map(Vec::from).ok_or(Damage(whole(self.snapshot.last)))
    }

    fn checked<'a>(&self, n: u64, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (checksum, content) = bytes.split_first_chunk()?;
        let sound = content.len() as u64 == self.content(n)
            && n < self.chunks()
            && u32::from_le_bytes(*checksum) == chunk_checksum(self.snapshot.last, n, content);
        sound.then_some(content)
    }

    /// Reads a whole file, one chunk at a time, and says whether all of it is as it was written.
    pub(super) fn verify<D: Disk>(&self, disk: &mut D, file: FileName) -> Result<bool, DiskError> {
        let mut digest = crc_state::Digest64::default();
        for n in 0..self.chunks() {
            let bytes = self.read_chunk(file, n).perform(disk)?;
            let Some(content) = self.checked(n, &bytes) else {
                return Ok(false);
            };
            digest.update(content);
        }
        Ok(digest.finish() == self.digest)
    }
}

impl SnapshotWriter {
    /// A file for this snapshot, cut into chunks of so many bytes (one at least).
    pub fn new(snapshot: Snapshot, chunk_bytes: u32) -> Self {
        Self {
            header: SnapshotHeader { snapshot, chunk_bytes: chunk_bytes.max(1), length: 0, digest: 0 },
            digest: crc_state::Digest64::default(),
            held: Vec::new(),
            begun: false,
        }
    }

    /// Takes more content. What is to be done to the disk by that; often nothing.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Operation> {
        let mut operations = self.begin();
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let room = self.header.chunk_bytes as usize - self.held.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.held.extend_from_slice(now);
            if now.len() == room {
                operations.push(self.chunk());
            }
            bytes = later;
        }
        operations
    }

    fn begin(&mut self) -> Vec<Operation> {
        if self.begun {
            return Vec::new();
        }
        self.begun = true;
        Vec::from([Operation::Create { file: partial(self.header.snapshot.last), length: BLOCK as u64 }])
    }

    fn chunk(&mut self) -> Operation {
        let last = self.header.snapshot.last;
        let n = self.header.length / u64::from(self.header.chunk_bytes);
        let mut bytes = Vec::with_capacity(self.held.len() + 4);
        bytes.put_u32(chunk_checksum(last, n, &self.held));
        bytes.put(&self.held);
        self.digest.update(&self.held);
        self.header.length += self.held.len() as u64;
        self.held.clear();
        Operation::Write { file: partial(last), at: self.header.position(n), bytes: bytes.into() }
    }

    /// That was all content. After these operations the snapshot is durable, under its name.
    pub fn finish(&mut self) -> Vec<Operation> {
        let mut operations = self.begin();
        if !self.held.is_empty() {
            operations.push(self.chunk());
        }
        self.header.digest = self.digest.finish();
        let last = self.header.snapshot.last;
        let (from, to) = (partial(last), whole(last));
        operations.push(Operation::Write { file: from, at: 0, bytes: self.header.encode().into() });
        operations.extend([Operation::Sync(from), Operation::Rename { from, to }, Operation::SyncDirectory]);
        operations
    }
}

fn chunk_checksum(last: LogId, n: u64, content: &[u8]) -> u32 {
    let mut digest = CRC32.digest();
    for number in [last.term.get(), last.index.get(), n] {
        digest.update(&number.to_le_bytes());
    }
    digest.update(content);
    digest.finalize()
}

fn partial(last: LogId) -> FileName {
    FileName::Partial { term: last.term.get(), index: last.index.get() }
}

/// The file of a whole snapshot.
pub(super) fn whole(last: LogId) -> FileName {
    FileName::Snapshot { term: last.term.get(), index: last.index.get() }
}

#[cfg(feature = "replica")]
pub(crate) use crc_state::Digest64 as SnapshotDigest;

/// A CRC-64 that can be kept between calls, compared and cloned.
mod crc_state {
    use super::CRC64;

    #[derive(Clone, PartialEq, Eq, Default, Debug)]
    pub(crate) struct Digest64(Option<u64>);

    impl Digest64 {
        pub(crate) fn update(&mut self, bytes: &[u8]) {
            let mut digest = self.resumed();
            digest.update(bytes);
            self.0 = Some(digest.finalize());
        }

        pub(crate) fn finish(&self) -> u64 {
            self.resumed().finalize()
        }

        /// Goes on from a checksum that was finished: what this kind of CRC does to it in the end is undone
        /// first.
        fn resumed(&self) -> crc::Digest<'static, u64, crc::Table<16>> {
            match self.0 {
                None => CRC64.digest(),
                // The register is kept reversed, as the checksum is, so only the inversion at the end is to
                // be undone; and the initial value is given the other way round.
                Some(checksum) => CRC64.digest_with_initial((!checksum).reverse_bits()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Membership;
    use crate::types::NodeId;
    use crate::wal::memory::MemoryDisk;
    use alloc::sync::Arc;

    fn snapshot() -> Snapshot {
        let membership = Arc::new(Membership::of([NodeId::new(1).unwrap()]).unwrap());
        Snapshot { last: LogId::new(3, 9), configured: LogId::new(2, 5), membership }
    }

    fn write(content: &[u8], pieces: usize, chunk_bytes: u32) -> MemoryDisk {
        let (mut disk, mut writer) = (MemoryDisk::default(), SnapshotWriter::new(snapshot(), chunk_bytes));
        for piece in content.chunks(pieces) {
            writer.push(piece).iter().for_each(|operation| drop(operation.perform(&mut disk).unwrap()));
        }
        writer.finish().iter().for_each(|operation| drop(operation.perform(&mut disk).unwrap()));
        disk
    }

    fn header(disk: &mut MemoryDisk) -> SnapshotHeader {
        let file = whole(snapshot().last);
        let bytes = SnapshotHeader::read(file).perform(disk).unwrap();
        SnapshotHeader::decode(file, &bytes).unwrap()
    }

    #[test]
    fn content_is_read_back_however_it_is_cut() {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut digests = Vec::new();
        for (pieces, chunk_bytes) in [(1, 7), (999, 100), (1000, 1000), (13, 5000)] {
            let mut disk = write(&content, pieces, chunk_bytes);
            let (file, header) = (whole(snapshot().last), header(&mut disk));
            assert_eq!((header.snapshot(), header.length()), (&snapshot(), 1000));
            let mut read = Vec::new();
            for n in 0..header.chunks() {
                let bytes = header.read_chunk(file, n).perform(&mut disk).unwrap();
                read.extend(header.check_chunk(n, &bytes).unwrap());
            }
            assert_eq!(read, content);
            assert_eq!(header.verify(&mut disk, file), Ok(true));
            assert_eq!(disk.files.len(), 1);
            digests.push(header.digest());
        }
        assert_eq!(digests, [CRC64.checksum(&content); 4]);
        assert_eq!(header(&mut write(&[], 1, 8)).chunks(), 0);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let disk = write(b"some state", 4, 4);
        let file = whole(snapshot().last);
        for bit in 0..disk.files[&file].len() * 8 {
            let mut damaged = disk.clone();
            damaged.files.get_mut(&file).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let bytes = SnapshotHeader::read(file).perform(&mut damaged).unwrap();
            let whole = SnapshotHeader::decode(file, &bytes)
                .is_ok_and(|header| header.verify(&mut damaged, file).unwrap());
            assert!(!whole, "bit {bit}");
        }
    }

    #[test]
    fn a_chunk_is_that_of_its_place_and_a_file_that_ends_early_is_not_whole() {
        let mut disk = write(b"aaaabbbb", 8, 4);
        let (file, header) = (whole(snapshot().last), header(&mut disk));
        let first = header.read_chunk(file, 0).perform(&mut disk).unwrap();
        assert!(header.check_chunk(0, &first).is_ok());
        assert_eq!(header.check_chunk(1, &first), Err(Damage(file)));
        assert_eq!(header.check_chunk(u64::MAX, &[0; 4]), Err(Damage(file)));
        let length = disk.files[&file].len();
        disk.files.get_mut(&file).unwrap().truncate(length - 1);
        assert_eq!(header.verify(&mut disk, file), Ok(false));
    }
}
