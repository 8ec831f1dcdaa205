//! Recovery: reads a member's directory and tells what it had written.
//!
//! ```text
//!   1 directory   files, votes, segments, snapshots: which segment continues which batch, and what is void so
//!   2 scan        batch after batch, in the order of their numbers, into the state (state):
//!                   whole        the state changes as the batch says
//!                   damaged      the state becomes the one that the header names; readable entries are kept
//!                   missing      the state becomes the one that the next header names
//!                   unfinished   the log ends here (end)
//!   3 verdict     whether the member may start; the next segment, which repeats what only the last batch holds
//! ```

mod end;
mod error;
mod files;
mod found;
mod scan;
mod segments;
mod snapshots;
mod state;
mod verdict;
mod votes;
mod window;

pub use error::{Missing, RecoverError, WalOpenError};
pub use found::{Found, Recovery};

use crate::durable::Durable;
use crate::log::LogSlice;
use crate::types::{Identity, Index};
use crate::wal::codec::Record;
use crate::wal::disk::{Disk, Slot};
use crate::wal::header::{Link, Summary, salt};
use crate::wal::log::{Start, Wal, WalOptions};
use crate::wal::patient::Patient;
use crate::wal::places::Places;
use crate::wal::recovery::files::Files;
use crate::wal::recovery::scan::Scan;
use crate::wal::recovery::segments::SegmentFile;
use crate::wal::recovery::snapshots::Shelf;
use crate::wal::recovery::state::Model;
use crate::wal::recovery::verdict::{Directory, verdict};
use crate::wal::recovery::votes::Votes;
use alloc::vec::Vec;

impl Wal {
    /// Reads a member's directory, and changes nothing in it. Nothing that the member had written is to be
    /// relied upon before [`Recovery::first`] is carried out.
    ///
    /// In a directory that holds no log a new one begins, with `begin`: [`Durable::bootstrap`], or the
    /// default for a member that joins later.
    ///
    /// Takes memory for [`WalOptions::cached_bytes`], for what is not committed, and for the largest batch;
    /// and time for reading what lies after the log's base.
    pub fn recover(
        disk: &mut impl Disk,
        identity: Identity,
        options: WalOptions,
        begin: &Durable,
    ) -> Result<Recovery, RecoverError> {
        recover(&mut Patient::new(disk), identity, options, begin)
    }

    /// [`recover`](Self::recover), and carries out what follows from it.
    pub fn open(
        disk: &mut impl Disk,
        identity: Identity,
        options: WalOptions,
        begin: &Durable,
    ) -> Result<Recovery, WalOpenError> {
        let mut recovery = Self::recover(disk, identity, options, begin).map_err(WalOpenError::Recover)?;
        for operation in recovery.first.drain(..) {
            operation.perform(disk).map_err(WalOpenError::Disk)?;
        }
        Ok(recovery)
    }
}

/// See [`Wal::recover`].
fn recover<D: Disk>(
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
    verdict(scan, Directory { identity, files, segments: &segments, votes, shelf })
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
