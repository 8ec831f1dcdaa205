//! Reads the segments batch by batch.

use crate::wal::batch::{self, Sectors};
use crate::wal::codec::Record;
use crate::wal::disk::Disk;
use crate::wal::header::{BatchHeader, HEADER_BLOCKS, SegmentHeader, Vote};
use crate::wal::log::WalOptions;
use crate::wal::recovery::end::{self, End, is_followed};
use crate::wal::recovery::error::{Missing, RecoverError};
use crate::wal::recovery::found::Found;
use crate::wal::recovery::segments::SegmentFile;
use crate::wal::recovery::state::{Checkpoint, Model};
use crate::wal::recovery::votes::later;
use crate::wal::recovery::window::Window;
use crate::wal::sector::first_sector;
use alloc::vec::Vec;

/// The last batch that was read.
pub(super) struct Last {
    pub(super) records: Vec<Record>,
    /// The state before it.
    pub(super) before: Checkpoint,
    pub(super) segment: u64,
    pub(super) number: u64,
    pub(super) first_of_segment: bool,
    pub(super) whole: bool,
}

pub(super) struct Scan<'a, D> {
    pub(super) disk: &'a mut D,
    pub(super) options: WalOptions,
    /// Batches through this number were durable, by the copies of the vote.
    pub(super) synced: u64,
    pub(super) found: Found,
    pub(super) model: Model,
    pub(super) last: Option<Last>,
}

impl<D: Disk> Scan<'_, D> {
    pub(super) fn run(&mut self, segments: &[SegmentFile]) -> Result<(), RecoverError> {
        // Segments before the base are no longer needed, and may have been removed in part.
        let base = self.model.base.index;
        let passed = |header: &SegmentHeader| header.summary.last.index <= base;
        let first = segments.iter().rposition(|it| !it.is_void() && it.header.as_ref().is_some_and(passed));
        let segments = &segments[first.unwrap_or(0)..];
        let mut begun = false;
        for (at, segment) in segments.iter().enumerate() {
            let Some(header) = &segment.header else {
                self.found.bad_segments += 1;
                if segments[at + 1..].iter().all(|later| later.header.is_none() || later.is_void()) {
                    return Err(Missing::EndAfter(self.model.durable.last()).into());
                }
                continue;
            };
            if segment.is_void() {
                continue;
            }
            if !begun {
                self.model.begin(header)?;
                begun = true;
            } else if header.continues != self.model.now.link || !self.model.agrees(&header.summary) {
                self.found.rotten_batches += 1;
                let committed = self.model.durable.committed;
                self.model.reconcile(&header.summary, header.summary.last.index, committed)?;
            }
            self.model.reached(header.continues, &header.summary);
            self.read_segment(segment, header)?;
        }
        Ok(())
    }

    fn read_segment(&mut self, segment: &SegmentFile, header: &SegmentHeader) -> Result<(), RecoverError> {
        let mut window = Window::new(segment, header.seal());
        let mut at = HEADER_BLOCKS;
        while self.model.now.link.number < segment.limit {
            let Some((block, batch)) = window.find(self.disk, at)? else {
                return self.end(segment, header, &mut window, at);
            };
            let link = self.model.now.link;
            if batch.number > segment.limit {
                break;
            }
            if batch.number <= link.number {
                at = block + 1;
                continue;
            }
            let bytes = window.batch(self.disk, block, batch.blocks)?;
            let mut sectors = batch::read(&bytes, header.seal(), first_sector(block));
            let first_of_segment = batch.number == header.first;
            let complete = sectors.damaged + sectors.unwritten == 0;
            let whole = complete && sectors.body == batch.body;
            if complete && !whole {
                // One of the sectors is of an earlier batch in this place, and cannot be told from the
                // others.
                sectors.records.clear();
            }
            let end = block + batch.blocks;
            // The checksum chain of a batch covers every batch before it. Where an earlier batch is missing,
            // it was durable once.
            let follows = link.chain == batch.previous;
            let covered = first_of_segment
                || !follows
                || batch.number <= self.synced
                || segment.limit < u64::MAX
                || complete
                || sectors.damaged > 0;
            if !whole && !covered && !is_followed(self.disk, segment, &mut window, end)? {
                self.found.torn += 1;
                return Ok(());
            }
            self.take(segment.number, &batch, sectors, follows, whole, first_of_segment)?;
            at = end;
        }
        Ok(())
    }

    /// No further batch can be read in a segment. Decides whether there was one.
    fn end(
        &mut self,
        segment: &SegmentFile,
        header: &SegmentHeader,
        window: &mut Window,
        at: u32,
    ) -> Result<(), RecoverError> {
        if segment.limit < u64::MAX {
            return Ok(());
        }
        // A segment gets its name only once its first batch is durable, so there was one.
        let number = self.model.now.link.number;
        if number.max(self.synced) < header.first {
            return Err(Missing::EndAfter(self.model.durable.last()).into());
        }
        if at >= segment.blocks {
            return Ok(());
        }
        let named = self.synced.saturating_sub(number);
        match end::judge(self.disk, segment, window, at, (number, named))? {
            End::Clean => Ok(()),
            End::Torn => {
                self.found.torn += 1;
                Ok(())
            }
            End::Lost => Err(Missing::EndAfter(self.model.durable.last()).into()),
        }
    }

    /// Applies a batch.
    fn take(
        &mut self,
        segment: u64,
        batch: &BatchHeader,
        sectors: Sectors,
        follows: bool,
        whole: bool,
        first_of_segment: bool,
    ) -> Result<(), RecoverError> {
        let Sectors { records, damaged, unwritten, .. } = sectors;
        let summary = &batch.summary;
        for (record, _) in &records {
            if let Record::Rebase(rebase) = record {
                self.model.snapshots.push(rebase.snapshot.clone());
            }
        }
        if !follows {
            self.found.rotten_batches += 1;
            let committed = self.model.durable.committed;
            self.model.reconcile(summary, batch.kept, committed)?;
        }
        let before = self.model.now.clone();
        let (mut sound, mut read) = (whole, 0);
        for (record, sector) in records.iter().filter(|_| whole) {
            sound = sound && self.model.apply(segment, record, *sector).is_ok();
            read += record.length();
        }
        if !sound || !self.model.agrees(summary) {
            self.found.rotten_batches += 1;
            self.found.rotten_sectors += damaged + unwritten;
            self.model.reconcile(summary, summary.last.index, batch.kept)?;
            for (record, sector) in &records {
                if let Record::Append(entry) | Record::RepairResponse(entry) = record {
                    self.model.fill(segment, entry, *sector);
                }
            }
        }
        self.model.reached(batch.link(), summary);
        self.found.batches += 1;
        self.model.grown(read);
        let records = records.into_iter().map(|(record, _)| record).collect();
        self.last = Some(Last {
            records,
            before,
            segment,
            number: batch.number,
            first_of_segment,
            whole: sound && follows,
        });
        Ok(())
    }

    /// The copies of the vote may name a batch of which nothing else is left.
    pub(super) fn adopt(&mut self, vote: &Vote) -> Result<(), RecoverError> {
        let durable = &mut self.model.durable;
        durable.ballot = later(durable.ballot, vote.summary.ballot);
        durable.starts = durable.starts.max(vote.summary.starts);
        if vote.synced.number > self.model.now.link.number {
            self.found.rotten_batches += 1;
            let committed = self.model.durable.committed;
            self.model.reconcile(&vote.summary, vote.summary.last.index, committed)?;
            self.model.reached(vote.synced, &vote.summary);
            self.last = None;
        } else if vote.synced == self.model.now.link {
            // The vote was written after that batch.
            let durable = &mut self.model.durable;
            durable.committed = durable.committed.max(vote.summary.committed).min(durable.last().index);
        }
        Ok(())
    }
}
