//! The segments of a directory, by their headers.

use crate::types::{Identity, Index};
use crate::wal::disk::{Disk, FileName};
use crate::wal::header::{HEADER_BLOCKS, NoHeader, SegmentHeader};
use crate::wal::recovery::error::{RecoverError, check_identity};
use crate::wal::recovery::files::Files;
use crate::wal::sector::{BLOCK, SECTORS_PER_BLOCK};
use alloc::vec::Vec;

/// A segment, before its batches are read.
pub(super) struct SegmentFile {
    pub(super) number: u64,
    pub(super) blocks: u32,
    pub(super) header: Option<SegmentHeader>,
    /// Batches after this number are void: another segment continues the log.
    pub(super) limit: u64,
}

impl SegmentFile {
    pub(super) fn read_all<D: Disk>(
        disk: &mut D,
        files: &Files,
        identity: Identity,
    ) -> Result<Vec<Self>, RecoverError> {
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

    pub(super) fn is_void(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.first > self.limit)
    }
}

/// The segments that are still needed, each with the last entry before it; the next one begins after `end`.
/// Where a header cannot be read this entry is unknown: the contents of such a segment lie before the next
/// segment, and so do those of the segments before it.
pub(super) fn needed(
    segments: &[SegmentFile],
    useless: &[u64],
    end: Index,
) -> Vec<(u64, Option<u64>, Index)> {
    let mut before = end;
    let needed = segments.iter().rev().filter(|segment| !useless.contains(&segment.number));
    let needed = needed.map(|segment| {
        let header = segment.header.as_ref();
        before = header.map_or(before, |header| header.summary.last.index);
        (segment.number, header.map(|header| header.salt), before)
    });
    needed.collect()
}
