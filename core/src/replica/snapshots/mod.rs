//! Snapshots: taken here, sent to others, fetched from others, restored, and kept or not.

mod fetch;
mod fetching;
mod files;
mod keeping;
mod sending;
mod taking;

use crate::log::Snapshot;
use crate::replica::answer::Halt;
use crate::replica::applying::{Chunk, Part};
use crate::replica::common::ReplicaCommon;
use crate::replica::io::{Lane, Output, TaskId};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::time::Instant;
use crate::types::{Index, LogId, Member, NodeId, RequestId};
use crate::wal::{Damage, DiskError, Found, SnapshotHeader};
use alloc::vec;
use alloc::vec::Vec;
use fetching::Fetching;
use files::{file, header_of};
pub(super) use keeping::InUse;
use keeping::Kept;
use sending::Sending;
use taking::Taking;

/// Everything about snapshots.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Snapshots {
    kept: Kept,
    taking: Taking,
    sending: Sending,
    fetching: Fetching,
}

impl Snapshots {
    pub(super) fn new(found: &Found, now: Instant) -> Self {
        Self {
            kept: Kept::new(found),
            taking: Taking::new(now),
            sending: Sending::new(now),
            fetching: Fetching::new(now),
        }
    }

    pub(super) fn deadline(&self, common: &ReplicaCommon) -> Instant {
        self.fetching.deadline().min(self.sending.deadline()).min(self.taking.deadline(common))
    }

    /// How many requests wait for a snapshot.
    pub(super) fn waiting(&self) -> usize {
        self.taking.waiting()
    }

    /// How many pieces of a snapshot are on their way here, or to the disk.
    pub(super) fn fetched_pieces(&self) -> usize {
        self.fetching.pieces()
    }

    /// How many pieces a member waits for that waits for the most.
    pub(super) fn asked_pieces(&self) -> usize {
        self.sending.most_asked()
    }

    pub(super) fn take_waiting(&mut self) -> Vec<RequestId> {
        self.taking.take_waiting()
    }

    /// The kernel asks for a snapshot of this member.
    pub(super) fn want(&mut self) {
        self.taking.want();
    }

    /// A client asks for one.
    pub(super) fn on_asked(&mut self, common: &ReplicaCommon, request: RequestId, out: &mut Vec<Output>) {
        self.taking.on_asked(common, request, self.fetching.is_active(), out);
    }

    /// The state machine has applied entries of this size.
    pub(super) fn on_applied(&mut self, entries: u64, bytes: u64) {
        self.taking.on_applied(entries, bytes);
    }

    /// The state machine is restored.
    pub(super) fn on_restored(&mut self, common: &ReplicaCommon) {
        self.taking.count_anew(common);
    }

    /// The state machine has read on in the snapshot that is being taken.
    pub(super) fn on_chunk(
        &mut self,
        common: &mut ReplicaCommon,
        task: TaskId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        self.taking.on_chunk(common, task, bytes, out);
    }

    /// A message of this member comes to the kernel next; and it offers a snapshot.
    pub(super) fn on_offered(&mut self, from: Member, snapshot: &Snapshot) {
        self.fetching.on_offered(from, snapshot);
    }

    /// The kernel wants a snapshot of another member.
    pub(super) fn fetch(
        &mut self,
        common: &mut ReplicaCommon,
        from: NodeId,
        snapshot: Snapshot,
        out: &mut Vec<Output>,
    ) {
        self.fetching.fetch(common, &mut self.kept, from, snapshot, out);
    }

    /// A member asks for a piece.
    pub(super) fn on_piece_asked(
        &mut self,
        common: &mut ReplicaCommon,
        from: Member,
        piece: (LogId, Option<u64>, u64),
        out: &mut Vec<Output>,
    ) {
        self.sending.on_piece_asked(common, &self.kept, from, piece, out);
    }

    /// A piece has come.
    pub(super) fn on_piece(
        &mut self,
        common: &mut ReplicaCommon,
        from: Member,
        piece: (LogId, u64, u64),
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        self.fetching.on_piece(common, from, piece, bytes, out);
    }

    /// The sender says that it does not have the snapshot.
    pub(super) fn on_gone(
        &mut self,
        common: &mut ReplicaCommon,
        from: Member,
        last: LogId,
        edition: Option<u64>,
    ) {
        self.fetching.on_gone(common, from, last, edition);
    }

    /// Starts every snapshot job that can start now. The state machine `stands_at` an entry, unless it is at
    /// work.
    pub(super) fn go_on(
        &mut self,
        common: &mut ReplicaCommon,
        stands_at: Option<Index>,
        in_use: InUse,
        out: &mut Vec<Output>,
    ) {
        if let Some(last) = self.taking.take(common, stands_at, self.fetching.is_active(), out) {
            self.kept.on_begun(last);
            self.fetching.forget(last);
        }
        self.fetching.go_on(common, out);
        self.sending.send_pieces(common, &self.kept, out);
        if let Some(last) = self.fetching.given_up_before(in_use.rests_on) {
            self.kept.on_given_up(last);
        }
        let is_sent = |last, common: &ReplicaCommon| self.sending.is_sent(last, common);
        self.kept.remove_old(common, in_use, is_sent, out);
    }

    /// A job of the disk is done. Returns what the present restoration, if it is `restoring`, is fed with.
    pub(super) fn on_disk(
        &mut self,
        common: &mut ReplicaCommon,
        (job, result): (SnapshotJob, Result<Vec<Vec<u8>>, DiskError>),
        restoring: Option<(&Snapshot, Chunk)>,
        out: &mut Vec<Output>,
    ) -> Result<Option<Part>, Halt> {
        let read = match (&job, result) {
            (_, Ok(read)) => read.into_iter().next().unwrap_or_default(),
            // The snapshot was not acknowledged to any member: it is given up, and everything else goes on.
            (SnapshotJob::Taken | SnapshotJob::TakenWhole, Err(DiskError::Full)) => {
                self.taking.give_up(common, out);
                return Ok(None);
            }
            (
                SnapshotJob::Fetched { .. } | SnapshotJob::Checked { .. } | SnapshotJob::FetchedWhole(_),
                Err(DiskError::Full),
            ) => {
                self.fetching.give_up(common, out);
                return Ok(None);
            }
            // These files may be missing: one that other members fetch, one from an earlier fetch, one given
            // up before its first write.
            (
                SnapshotJob::HeaderToSend(_)
                | SnapshotJob::PieceToSend { .. }
                | SnapshotJob::Checked { .. }
                | SnapshotJob::Remove,
                Err(DiskError::Missing(_)),
            ) => Vec::new(),
            (_, Err(error)) => return Err(Halt::Disk(error)),
        };
        if let SnapshotJob::HeaderToRestore | SnapshotJob::ChunkToRestore = job {
            return match restoring {
                Some(restoring) => self.on_read_to_restore(common, &job, restoring, &read, out),
                None => Ok(None),
            };
        }
        self.on_done(common, job, &read, out);
        Ok(None)
    }

    /// A job is done, of those that no restoration waits for.
    fn on_done(&mut self, common: &mut ReplicaCommon, job: SnapshotJob, bytes: &[u8], out: &mut Vec<Output>) {
        let Self { kept, taking, sending, fetching } = self;
        match job {
            SnapshotJob::Taken => taking.read_on(common, out),
            SnapshotJob::TakenWhole => taking.on_taken(common, kept, out),
            SnapshotJob::HeaderToSend(last) => {
                if sending.on_header_read(common, kept, last, bytes, out).is_err() {
                    self.replace(common, last);
                }
            }
            SnapshotJob::PieceToSend { to, last, piece } => {
                if sending.on_piece_read(common, kept, (to, last, piece), bytes, out).is_err() {
                    self.replace(common, last);
                }
            }
            SnapshotJob::Checked { last, piece } => {
                fetching.on_piece_checked(common, last, piece, bytes, out);
            }
            SnapshotJob::Fetched { last, edition, piece } => fetching.on_piece_written(last, edition, piece),
            SnapshotJob::FetchedWhole(last) => fetching.on_fetched(common, kept, last),
            SnapshotJob::Remove | SnapshotJob::HeaderToRestore | SnapshotJob::ChunkToRestore => {}
        }
    }

    /// The file of this snapshot is damaged or gone: another snapshot is to take its place.
    fn replace(&mut self, common: &ReplicaCommon, last: LogId) {
        self.kept.on_damaged(last);
        self.taking.replace(common, last);
    }

    /// Reads the chunk that a restoration needs. Returns the end, if there is none.
    pub(super) fn read_to_restore(
        &self,
        common: &mut ReplicaCommon,
        Chunk { last, number }: Chunk,
        out: &mut Vec<Output>,
    ) -> Option<Part> {
        let (job, operation) = match self.kept.header(last) {
            Some(header) if number < header.chunks() => {
                (SnapshotJob::ChunkToRestore, header.read_chunk(file(last), number))
            }
            Some(_) => return Some(Part::End),
            None => (SnapshotJob::HeaderToRestore, SnapshotHeader::read(file(last))),
        };
        common.jobs.start(Job::Snapshot(job), Lane::Bulk, vec![operation], out);
        None
    }

    fn on_read_to_restore(
        &mut self,
        common: &mut ReplicaCommon,
        job: &SnapshotJob,
        (snapshot, chunk): (&Snapshot, Chunk),
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<Option<Part>, Halt> {
        if *job == SnapshotJob::HeaderToRestore {
            let header = header_of(snapshot, bytes).map_err(Halt::Damaged)?;
            self.kept.on_header(chunk.last, header);
            return Ok(self.read_to_restore(common, chunk, out));
        }
        // A read for a fetching member may have found it damaged meanwhile.
        let header = self.kept.header(chunk.last).ok_or(Halt::Damaged(Damage(file(chunk.last))))?;
        let content = header.check_chunk(chunk.number, bytes).map_err(Halt::Damaged)?;
        Ok(Some(Part::Content(content)))
    }
}
