//! Snapshots: taken here, sent to others, fetched from others, restored, and kept or not.

mod fetch;
mod fetching;
mod files;
mod keeping;
mod sending;
mod taking;

use crate::replica::Replica;
use crate::replica::answer::Halt;
use crate::replica::applying::Work;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::time::Instant;
use crate::types::{LogId, Member, RequestId};
use crate::wal::{Damage, DiskError, FileName, Found, SnapshotHeader};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use fetch::{Fetch, State};
use files::{file, header_of, partial};
use sending::Sending;
use taking::Taking;

/// Everything about snapshots.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Snapshots {
    /// The whole files in the directory, with their headers once they were read.
    files: BTreeMap<LogId, Option<SnapshotHeader>>,
    /// Files that are damaged or were never whole, by the last entry. They are removed once the log rests on
    /// a later snapshot.
    leftovers: Vec<(LogId, FileName)>,
    /// A file is damaged, and a new snapshot must replace it even if the log has not grown.
    wanted: bool,
    /// The requests that wait for a snapshot to be taken.
    waiting: Vec<RequestId>,
    taking: Option<Taking>,
    /// After a full disk: not before this instant.
    take_at: Instant,
    fetch_at: Instant,
    sending: Sending,
    fetch: Option<Fetch>,
    /// The sender of the message that the kernel handles next.
    sender: Option<Member>,
}

impl Snapshots {
    pub(super) fn new(found: &Found, now: Instant) -> Self {
        let bad = found.bad_snapshots.iter().map(|last| (*last, file(*last)));
        let leftovers = bad.chain(found.partial_snapshots.iter().map(|last| (*last, partial(*last))));
        Self {
            files: found.snapshots.iter().map(|id| (*id, None)).collect(),
            leftovers: leftovers.collect(),
            wanted: false,
            waiting: Vec::new(),
            taking: None,
            take_at: now,
            fetch_at: now,
            sending: Sending::new(now),
            fetch: None,
            sender: None,
        }
    }

    /// Forgets a fetch that was given up, if the log rests on something later by now. Its last entry, where
    /// there was one.
    fn given_up_before(&mut self, rests_on: LogId) -> Option<LogId> {
        let is_late = |fetch: &mut Fetch| fetch.state == State::Resting && fetch.snapshot.last < rests_on;
        self.fetch.take_if(is_late).map(|fetch| fetch.snapshot.last)
    }

    /// Takes a snapshot soon, unless one is being taken. A member that this does not help asks again.
    pub(super) fn want(&mut self) {
        self.wanted |= self.taking.is_none();
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn take_waiting(&mut self) -> Vec<RequestId> {
        core::mem::take(&mut self.waiting)
    }
}

impl Replica {
    /// Starts every snapshot job that can start now.
    pub(super) fn tend_snapshots(&mut self, out: &mut Vec<Output>) {
        self.take_snapshot(out);
        self.fetch_on(out);
        self.send_pieces(out);
        self.remove_old(out);
    }

    pub(super) fn snapshots_deadline(&self) -> Instant {
        self.fetch_deadline().min(self.sending_deadline()).min(self.taking_deadline())
    }

    pub(super) fn on_snapshot_job(
        &mut self,
        job: SnapshotJob,
        result: Result<Vec<Vec<u8>>, DiskError>,
        out: &mut Vec<Output>,
    ) {
        let read = match (&job, result) {
            (_, Ok(read)) => Ok(read.into_iter().next().unwrap_or_default()),
            // The snapshot was not acknowledged to any member: it is given up, and everything else goes on.
            (SnapshotJob::Taken | SnapshotJob::TakenWhole, Err(DiskError::Full)) => {
                return self.give_up_taking(out);
            }
            (
                SnapshotJob::Fetched { .. } | SnapshotJob::Checked { .. } | SnapshotJob::FetchedWhole(_),
                Err(DiskError::Full),
            ) => return self.give_up_fetching(out),
            // These files may be missing: one that other members fetch, one from an earlier fetch, one given
            // up before its first write.
            (
                SnapshotJob::HeaderToSend(_)
                | SnapshotJob::PieceToSend { .. }
                | SnapshotJob::Checked { .. }
                | SnapshotJob::Remove,
                Err(DiskError::Missing(_)),
            ) => Err(()),
            (_, Err(error)) => return self.halt(Halt::Disk(error), out),
        };
        let bytes = read.as_deref().unwrap_or_default();
        match job {
            SnapshotJob::HeaderToRestore => self.on_header_to_restore(bytes, out),
            SnapshotJob::ChunkToRestore => self.on_chunk_to_restore(bytes, out),
            SnapshotJob::Taken => self.read_on(out),
            SnapshotJob::TakenWhole => self.taken(out),
            SnapshotJob::HeaderToSend(last) => self.on_header_to_send(last, bytes, out),
            SnapshotJob::PieceToSend { to, last, piece } => self.on_piece_read(to, last, piece, bytes, out),
            SnapshotJob::Checked { last, piece } => self.on_piece_checked(last, piece, bytes, out),
            SnapshotJob::Fetched { last, edition, piece } => self.on_piece_written(last, edition, piece),
            SnapshotJob::FetchedWhole(last) => self.fetched(last),
            SnapshotJob::Remove => {}
        }
    }

    /// Reads the next part of the snapshot that the state machine is restored from.
    pub(super) fn read_to_restore(&mut self, last: LogId, chunk: u64, out: &mut Vec<Output>) {
        let (job, operation) = match self.snapshots.files.get(&last) {
            Some(Some(header)) if chunk < header.chunks() => {
                (SnapshotJob::ChunkToRestore, header.read_chunk(file(last), chunk))
            }
            Some(Some(_)) => return self.finish_restore(out),
            _ => (SnapshotJob::HeaderToRestore, SnapshotHeader::read(file(last))),
        };
        self.start(Job::Snapshot(job), Lane::Bulk, alloc::vec![operation], out);
    }

    fn on_header_to_restore(&mut self, bytes: &[u8], out: &mut Vec<Output>) {
        let Work::Restoring { snapshot, chunk, .. } = &self.applying.work else {
            return;
        };
        let (last, chunk) = (snapshot.last, *chunk);
        match header_of(snapshot, bytes) {
            Ok(header) => {
                self.snapshots.files.insert(last, Some(header));
                self.read_to_restore(last, chunk, out);
            }
            Err(damage) => self.halt(Halt::Damaged(damage), out),
        }
    }

    fn on_chunk_to_restore(&mut self, bytes: &[u8], out: &mut Vec<Output>) {
        let Work::Restoring { snapshot, chunk, .. } = &self.applying.work else {
            return;
        };
        let last = snapshot.last;
        let Some(Some(header)) = self.snapshots.files.get(&last) else {
            // A read for a fetching member has found it damaged meanwhile.
            return self.halt(Halt::Damaged(Damage(file(last))), out);
        };
        match header.check_chunk(*chunk, bytes) {
            Ok(content) => self.feed(content, out),
            Err(damage) => self.halt(Halt::Damaged(damage), out),
        }
    }
}
