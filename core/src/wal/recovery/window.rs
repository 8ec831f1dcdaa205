//! Reads the blocks of one segment.

use crate::wal::disk::{Disk, DiskError, FileName};
use crate::wal::header::BatchHeader;
use crate::wal::recovery::segments::SegmentFile;
use crate::wal::sector::{BLOCK, Kind, SECTOR, SECTORS_PER_BLOCK, Seal, Sector, block_at, first_sector};
use alloc::vec::Vec;

/// Reads a segment from its beginning to its end.
pub(super) struct Window {
    pub(super) file: FileName,
    pub(super) seal: Seal,
    pub(super) blocks: u32,
    pub(super) at: u32,
    pub(super) bytes: Vec<u8>,
}

/// The number of blocks that are read at once.
const READ_AHEAD: u32 = 64;

impl Window {
    pub(super) fn new(segment: &SegmentFile, seal: Seal) -> Self {
        let file = FileName::Segment(segment.number);
        Self { file, seal, blocks: segment.blocks, at: 0, bytes: Vec::new() }
    }

    pub(super) fn block<D: Disk>(&mut self, disk: &mut D, block: u32) -> Result<&[u8], DiskError> {
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
    pub(super) fn find<D: Disk>(
        &mut self,
        disk: &mut D,
        from: u32,
    ) -> Result<Option<(u32, BatchHeader)>, DiskError> {
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
    pub(super) fn faults<D: Disk>(&mut self, disk: &mut D, block: u32) -> Result<(u32, u32), DiskError> {
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
    pub(super) fn batch<D: Disk>(
        &mut self,
        disk: &mut D,
        block: u32,
        count: u32,
    ) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::with_capacity(count as usize * BLOCK);
        for block in block..block + count {
            bytes.extend_from_slice(self.block(disk, block)?);
        }
        Ok(bytes)
    }
}
