//! The two copies of the vote: the latest ballot, and what they say of the log.

use crate::log::Snapshot;
use crate::types::{Ballot, Identity};
use crate::wal::disk::{Disk, FileName, Slot};
use crate::wal::header::{NoHeader, VOTE_BLOCKS, Vote};
use crate::wal::recovery::error::{RecoverError, check_identity};
use crate::wal::recovery::files::Files;
use crate::wal::sector::BLOCK;
use alloc::vec::Vec;

/// The two copies of the vote.
pub(super) struct Votes {
    pub(super) latest: Option<(Slot, Vote)>,
    /// The snapshots that they name.
    pub(super) snapshots: Vec<Snapshot>,
    /// The slots that were ever written. Slot A was whole before slot B was begun.
    pub(super) written: Vec<Slot>,
    pub(super) bad: u64,
}

impl Votes {
    pub(super) fn read<D: Disk>(
        disk: &mut D,
        files: &Files,
        identity: Identity,
    ) -> Result<Self, RecoverError> {
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
    pub(super) fn first_copy(&self) -> Slot {
        match &self.latest {
            Some((latest, _)) if self.bad > 0 && self.written.contains(&latest.other()) => latest.other(),
            Some((latest, _)) => *latest,
            None => Slot::A,
        }
    }
}

/// The later of two ballots of one member.
pub(super) fn later(a: Ballot, b: Ballot) -> Ballot {
    let rank = |ballot: Ballot| (ballot.term(), ballot.vote().is_some());
    if rank(b) > rank(a) { b } else { a }
}
