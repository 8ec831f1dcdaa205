//! The verdict: whether the member may start, and with what.

use crate::durable::Durable;
use crate::log::LogSlice;
use crate::types::{Identity, Index};
use crate::wal::codec::Record;
use crate::wal::disk::{Disk, FileName};
use crate::wal::header::salt;
use crate::wal::log::{Start, Wal};
use crate::wal::recovery::error::{Missing, RecoverError};
use crate::wal::recovery::files::Files;
use crate::wal::recovery::found::Recovery;
use crate::wal::recovery::scan::{Last, Scan};
use crate::wal::recovery::segments::{SegmentFile, needed};
use crate::wal::recovery::snapshots::Shelf;
use crate::wal::recovery::state::{Checkpoint, Model};
use crate::wal::recovery::votes::Votes;
use alloc::vec::Vec;

/// What recovery knows of a directory beside its batches.
pub(super) struct Directory<'s> {
    pub(super) identity: Identity,
    pub(super) files: Files,
    pub(super) segments: &'s [SegmentFile],
    pub(super) votes: Votes,
    pub(super) shelf: Shelf,
}

/// How the next segment begins.
struct Beginning {
    /// The state that the segment continues from.
    before: Checkpoint,
    /// What is written again.
    records: Vec<Record>,
    /// The segment that is no longer needed, because its entries are written again.
    useless: Option<u64>,
}

/// Decides whether the member may start with what was read, and begins the next segment of the log.
pub(super) fn verdict<D: Disk>(
    scan: Scan<'_, D>,
    directory: Directory<'_>,
) -> Result<Recovery, RecoverError> {
    let Scan { disk, options, synced, mut found, model, last } = scan;
    let Model { mut durable, places, now, .. } = model;
    let Directory { identity, files, segments, votes, shelf } = directory;
    check(&durable, &now)?;
    found = shelf.tell(disk, &mut durable, found)?;
    durable.skip(options.cached_bytes);
    found.lost = durable.lost();
    // Entries that only their own batch shows to be durable are written again. So are entries that are alone
    // in their segment, so that it can be removed.
    let again = last.filter(|last| last.first_of_segment || last.number > synced);
    let Beginning { before, records, useless } = beginning(again, now, durable.base.index);
    for snapshot in durable.snapshot.iter().chain(&before.snapshot) {
        if snapshot.membership.voters().is_empty() {
            return Err(Missing::Membership(snapshot.last).into());
        }
    }
    let is_entry = |record: &&Record| matches!(record, Record::Append(_) | Record::RepairResponse(_));
    found.rewritten = records.iter().filter(is_entry).count() as u64;
    let void: Vec<_> = segments.iter().filter(|segment| segment.is_void()).map(|it| it.number).collect();
    let not_needed: Vec<_> = void.iter().copied().chain(useless).collect();
    let greatest = segments.iter().map(|segment| segment.number).max().unwrap_or(0);
    let start = Start {
        identity,
        options,
        number: greatest + 1,
        salt: next_salt(segments, &[greatest, before.link.number, before.link.chain, durable.starts]),
        continues: before.link,
        segments: needed(segments, &not_needed, before.summary.last.index),
        before: before.summary,
        snapshot_before: before.snapshot,
        records,
        ballot: durable.ballot,
        places,
        useless: useless.filter(|number| !void.contains(number)).map(FileName::Segment).into_iter().collect(),
        void,
        generation: votes.latest.as_ref().map_or(0, |(_, vote)| vote.generation),
        first_copy: votes.first_copy(),
        slots: votes.written,
        spares: files.spares,
    };
    let (wal, first) = Wal::start(start, &durable);
    Ok(Recovery { wal, durable, found, first })
}

/// Checks that what was read is a log: without gaps, and resting on a snapshot.
fn check(durable: &Durable, now: &Checkpoint) -> Result<(), Missing> {
    let whole = LogSlice::check(durable.skipped_through(), &durable.entries);
    let begins = durable.skipped.terms.first().is_none_or(|first| first.term >= durable.base.term);
    let floor = durable.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
    let rests = durable.base.index <= floor && floor <= durable.last().index;
    if durable.base != now.summary.base || whole.is_err() || !begins || !rests {
        return Err(Missing::Ids { after: now.summary.base, through: durable.last().index });
    }
    Ok(())
}

/// Decides what the next segment repeats of the last batch, if that must be written again.
fn beginning(again: Option<Last>, now: Checkpoint, base: Index) -> Beginning {
    match again {
        Some(last) if last.whole => {
            let useless = last.first_of_segment.then_some(last.segment);
            Beginning { before: last.before, records: last.records, useless }
        }
        // Batches behind lost entries cannot be repeated from before the loss. Their state becomes the
        // beginning of the new segment, and their readable entries are written as repairs.
        Some(last) => {
            let records = last.records.into_iter().filter_map(|record| match record {
                Record::Append(entry) | Record::RepairResponse(entry) => {
                    let is_there = now.summary.id(entry.id.index) == Some(entry.id) && entry.id.index > base;
                    is_there.then_some(Record::RepairResponse(entry))
                }
                Record::Truncate(_) | Record::Rebase(_) | Record::Space => None,
            });
            let records = records.collect();
            Beginning { before: now, records, useless: None }
        }
        None => Beginning { before: now, records: Vec::new(), useless: None },
    }
}

/// A salt that no earlier segment of this directory has.
fn next_salt(segments: &[SegmentFile], more: &[u64]) -> u64 {
    let salts: Vec<u64> = segments.iter().filter_map(|it| it.header.as_ref()).map(|it| it.salt).collect();
    salt(&[&salts[..], more].concat())
}
