//! The files of snapshots.

use crate::log::Snapshot;
use crate::replica::options::MAX_CHUNK_BYTES;
use crate::types::LogId;
use crate::wal::{Damage, FileName, Operation, SnapshotHeader};

/// The header in `bytes`, if it belongs to this snapshot and its chunks are no larger than the largest that a
/// member writes.
pub(super) fn header_of(snapshot: &Snapshot, bytes: &[u8]) -> Result<SnapshotHeader, Damage> {
    let file = file(snapshot.last);
    let header = SnapshotHeader::decode(file, bytes)?;
    let fits = chunk_length(&header) <= MAX_CHUNK_BYTES as usize + CHUNK_OVERHEAD;
    if fits && header.snapshot() == snapshot { Ok(header) } else { Err(Damage(file)) }
}

/// More than what stands beside the content in a chunk.
const CHUNK_OVERHEAD: usize = 16;

/// The length of the first chunk in its file, in bytes. All chunks have this length but the last, which may
/// be shorter.
fn chunk_length(header: &SnapshotHeader) -> usize {
    match header.read_chunk(file(header.snapshot().last), 0) {
        Operation::Read { length, .. } => length,
        _ => 0,
    }
}

/// Identifies a snapshot's file: two files with the same contents and chunks have the same edition, and their
/// pieces are interchangeable.
pub(super) fn edition_of(header: &SnapshotHeader) -> u64 {
    header.digest() ^ (chunk_length(header) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The file of a whole snapshot.
pub(super) fn file(last: LogId) -> FileName {
    FileName::Snapshot { term: last.term.get(), index: last.index.get() }
}

/// The file of a snapshot that is not whole yet.
pub(super) fn partial(last: LogId) -> FileName {
    FileName::Partial { term: last.term.get(), index: last.index.get() }
}
