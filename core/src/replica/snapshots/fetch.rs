//! The book of a fetch: which pieces of a snapshot are written, which are asked for, and what all of them are
//! held against.

use crate::log::Snapshot;
use crate::replica::snapshots::files::{edition_of, header_of, partial};
use crate::time::Instant;
use crate::types::Member;
use crate::wal::{Operation, SnapshotDigest, SnapshotHeader};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A snapshot on its way here. As many pieces as the window allows are in memory at most.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Fetch {
    pub(super) snapshot: Snapshot,
    /// The member that is asked.
    pub(super) from: Member,
    /// Who else has offered it since.
    pub(super) other: Option<Member>,
    /// Whether another snapshot has been offered since.
    pub(super) passed_over: bool,
    /// Once the first piece has come: what all others are held against.
    pub(super) header: Option<SnapshotHeader>,
    /// Every piece before is written.
    pub(super) base: u64,
    /// What is known of those from `base` on, as far as the window reaches.
    pub(super) pieces: BTreeMap<u64, Piece>,
    /// When what is asked for is asked for again.
    pub(super) retry_at: Instant,
    /// How often that was done since a piece came.
    pub(super) retries: u32,
    pub(super) state: State,
    /// Of what was read back.
    pub(super) digest: SnapshotDigest,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Asked,
    Writing,
    Written,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Asking,
    /// What is written is read back, and was whole through the piece before this one.
    Checking {
        piece: u64,
    },
    /// Every piece is written, and the file is being made whole.
    Finishing,
    /// It was given up; what is written of it stays, should it be wanted again.
    Resting,
}

/// What comes of reading a piece back.
pub(super) enum Check {
    /// It is as it should be; this reads the next.
    Next(Operation),
    /// It was the last, and all together are what they should be.
    Whole,
    /// This is the first piece that is missing.
    Until(u64),
    /// Each is as it should be, and all together are not: it is another snapshot than its header says.
    Wrong,
}

impl Fetch {
    pub(super) fn new(snapshot: Snapshot, from: Member, retry_at: Instant) -> Self {
        Self {
            snapshot,
            from,
            other: None,
            passed_over: false,
            header: None,
            base: 0,
            pieces: BTreeMap::new(),
            retry_at,
            retries: 0,
            state: State::Asking,
            digest: SnapshotDigest::default(),
        }
    }

    pub(super) fn edition(&self) -> Option<u64> {
        self.header.as_ref().map(edition_of)
    }

    /// Asks for everything from this piece on.
    pub(super) fn ask_from(&mut self, piece: u64, retry_at: Instant) {
        self.base = piece;
        self.pieces.clear();
        (self.retry_at, self.retries, self.state) = (retry_at, 0, State::Asking);
    }

    /// How many pieces there are: the header, and the chunks that it tells of.
    pub(super) fn count(&self) -> u64 {
        self.header.as_ref().map_or(1, |header| header.chunks() + 1)
    }

    /// The pieces to be asked for next.
    pub(super) fn wanted(&self, window: u32) -> Vec<u64> {
        let end = self.count().min(self.base.saturating_add(u64::from(window)));
        (self.base..end).filter(|piece| !self.pieces.contains_key(piece)).collect()
    }

    pub(super) fn asked(&self) -> Vec<u64> {
        let asked = self.pieces.iter().filter(|(_, piece)| **piece == Piece::Asked);
        asked.map(|(number, _)| *number).collect()
    }

    /// Whether every piece is written.
    pub(super) fn is_whole(&self) -> bool {
        self.base == self.count()
    }

    /// Holds what was read back of a piece against what it should be.
    pub(super) fn check(&mut self, piece: u64, bytes: &[u8]) -> Check {
        let last = self.snapshot.last;
        let Some(chunk) = piece.checked_sub(1) else {
            self.header = header_of(&self.snapshot, bytes).ok();
            return match &self.header {
                Some(header) if header.chunks() > 0 => Check::Next(header.read_chunk(partial(last), 0)),
                Some(_) => Check::Whole,
                None => Check::Until(0),
            };
        };
        let Some(header) = &self.header else {
            return Check::Until(0);
        };
        match header.check_chunk(chunk, bytes) {
            Err(_) => Check::Until(piece),
            Ok(content) => {
                self.digest.update(&content);
                match (chunk + 1 < header.chunks(), self.digest.finish() == header.digest()) {
                    (true, _) => Check::Next(header.read_chunk(partial(last), chunk + 1)),
                    (false, true) => Check::Whole,
                    (false, false) => Check::Wrong,
                }
            }
        }
    }

    /// To write a piece that was checked once more.
    pub(super) fn write_again(&self, piece: u64, bytes: &[u8]) -> Vec<Operation> {
        let file = partial(self.snapshot.last);
        let read = match (&self.header, piece.checked_sub(1)) {
            (Some(header), Some(chunk)) => header.read_chunk(file, chunk),
            _ => SnapshotHeader::read(file),
        };
        write_where_it_stands(&read, bytes).unwrap_or_default()
    }

    /// A piece is on the disk.
    pub(super) fn written(&mut self, piece: u64) {
        self.pieces.insert(piece, Piece::Written);
        while self.pieces.get(&self.base) == Some(&Piece::Written) {
            self.pieces.remove(&self.base);
            self.base += 1;
        }
    }
}

/// To write bytes where this operation would read them.
pub(super) fn write_where_it_stands(read: &Operation, bytes: &[u8]) -> Option<Vec<Operation>> {
    match *read {
        Operation::Read { file, at, .. } => {
            Some(Vec::from([Operation::Write { file, at, bytes: Arc::from(bytes) }]))
        }
        _ => None,
    }
}
