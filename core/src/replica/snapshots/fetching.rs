//! Fetches a snapshot from another member: asks for it piece by piece, checks and writes the pieces, and uses
//! the file only once it is whole.
//!
//! The fetching member keeps track of the pieces that are written and those that are asked for. A lost piece
//! is asked for again; a piece that arrives twice, too late, or from another snapshot changes nothing. If the
//! sender goes away, another member that offers the same snapshot (the same last entry and the same file) is
//! asked for the rest. Before the first request, and again after the last write, the whole file is read back:
//! so a fetch continues after a restart of this member, and the result matches its digest.

use crate::event::Event;
use crate::log::Snapshot;
use crate::replica::Replica;
use crate::replica::frame::ReplicaBody;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::replica::snapshots::fetch::{Check, Fetch, Piece, State, write_where_it_stands};
use crate::replica::snapshots::files::{edition_of, file, header_of, partial};
use crate::time::{Instant, Nanos};
use crate::types::{LogId, Member, NodeId};
use crate::wal::{Operation, SnapshotDigest, SnapshotHeader};
use alloc::vec;
use alloc::vec::Vec;

impl Replica {
    /// A message of this member comes to the kernel next; and it offers a snapshot.
    pub(in crate::replica) fn offered(&mut self, from: Member, snapshot: &Snapshot) {
        self.snapshots.sender = Some(from);
        if let Some(fetch) = &mut self.snapshots.fetch {
            if fetch.snapshot != *snapshot {
                fetch.passed_over = true;
            } else if fetch.from != from {
                fetch.other = Some(from);
            }
        }
    }

    pub(super) fn fetch_deadline(&self) -> Instant {
        match &self.snapshots.fetch {
            Some(Fetch { state: State::Asking, retry_at, .. }) => *retry_at,
            _ => Instant::NEVER,
        }
    }

    /// Whether a snapshot is on its way here.
    pub(super) fn is_fetching(&self) -> bool {
        self.snapshots.fetch.as_ref().is_some_and(|fetch| fetch.state != State::Resting)
    }

    fn retry_at(&self) -> Instant {
        self.now + Nanos::from(self.options.snapshot_timeout)
    }

    /// The kernel wants a snapshot. What is written of the same one already is kept; a part of any other is
    /// removed.
    pub(in crate::replica) fn fetch(&mut self, from: NodeId, snapshot: Snapshot, out: &mut Vec<Output>) {
        if self.now < self.snapshots.fetch_at {
            // It is offered again.
            return self.events.push_back(Event::SnapshotFailed(snapshot.last));
        }
        let sender = self.snapshots.sender.filter(|member| member.id == from);
        let known = snapshot.membership.incarnation(from).map(|incarnation| Member::new(from, incarnation));
        let from = sender.or(known).unwrap_or(Member::from(from));
        let retry_at = self.retry_at();
        match self.snapshots.fetch.take() {
            Some(fetch)
                if fetch.snapshot == snapshot
                    && matches!(fetch.state, State::Checking { .. } | State::Finishing) =>
            {
                self.snapshots.fetch = Some(Fetch { from, passed_over: false, ..fetch });
            }
            Some(mut fetch) if fetch.snapshot == snapshot => {
                self.counters.fetches_resumed += 1;
                fetch.pieces.retain(|_, piece| *piece != Piece::Asked);
                let mut resumed = Fetch { from, retry_at, retries: 0, state: State::Asking, ..fetch };
                (resumed.other, resumed.passed_over) = (None, false);
                self.snapshots.fetch = Some(resumed);
            }
            former => {
                if let Some(former) = former {
                    self.remove_file(partial(former.snapshot.last), out);
                }
                self.snapshots.fetch = Some(Fetch::new(snapshot, from, retry_at));
                self.check_fetched(out);
            }
        }
    }

    /// Asks for what is wanted next, and again for what has not come in time.
    pub(super) fn fetch_on(&mut self, out: &mut Vec<Output>) {
        let (now, retry_at, retries) = (self.now, self.retry_at(), self.options.snapshot_retries);
        let Some(fetch) = self.snapshots.fetch.as_mut().filter(|fetch| fetch.state == State::Asking) else {
            return;
        };
        if fetch.base == fetch.count() {
            return self.check_fetched(out);
        }
        let mut ask = Vec::new();
        if now >= fetch.retry_at {
            // Where there is another to be had, this one is not waited for.
            if fetch.retries >= retries || (fetch.passed_over && fetch.other.is_none()) {
                return self.fetch_failed();
            }
            fetch.retries += 1;
            fetch.retry_at = retry_at;
            if let Some(other) = fetch.other.take() {
                fetch.other = Some(core::mem::replace(&mut fetch.from, other));
            }
            ask = fetch.asked();
            self.counters.pieces_asked_again += ask.len() as u64;
        }
        let wanted = fetch.wanted(self.options.snapshot_window);
        fetch.pieces.extend(wanted.iter().map(|piece| (*piece, Piece::Asked)));
        ask.extend(wanted);
        let (to, last, edition) = (fetch.from, fetch.snapshot.last, fetch.edition());
        for piece in ask {
            self.send_replica(to, Lane::Log, ReplicaBody::SnapshotRequest { last, edition, piece }, out);
        }
    }

    /// A piece has come. It is written if it was asked for, is of this snapshot, and is whole.
    pub(in crate::replica) fn on_piece(
        &mut self,
        from: Member,
        last: LogId,
        edition: u64,
        piece: u64,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let retry_at = self.retry_at();
        let is_wanted = |fetch: &&mut Fetch| {
            fetch.state == State::Asking
                && (fetch.from, fetch.snapshot.last) == (from, last)
                && fetch.edition().is_none_or(|known| known == edition)
                && fetch.pieces.get(&piece) == Some(&Piece::Asked)
        };
        let Some(fetch) = self.snapshots.fetch.as_mut().filter(is_wanted) else {
            return self.counters.pieces_dropped += 1;
        };
        let operations = match &fetch.header {
            Some(header) => header.check_chunk(piece.saturating_sub(1), bytes).ok().and_then(|_| {
                let operation = header.read_chunk(partial(last), piece.checked_sub(1)?);
                write_where_it_stands(&operation, bytes)
            }),
            None => header_of(&fetch.snapshot, bytes)
                .ok()
                .filter(|header| edition_of(header) == edition)
                .and_then(|header| {
                    let operation = SnapshotHeader::read(partial(last));
                    fetch.header = Some(header);
                    let mut operations = vec![Operation::Create { file: partial(last), length: 0 }];
                    operations.extend(write_where_it_stands(&operation, bytes)?);
                    Some(operations)
                }),
        };
        let Some(operations) = operations else {
            return self.counters.pieces_dropped += 1;
        };
        fetch.pieces.insert(piece, Piece::Writing);
        (fetch.retry_at, fetch.retries) = (retry_at, 0);
        self.counters.pieces_taken += 1;
        let job = SnapshotJob::Fetched { last, edition, piece };
        self.start(Job::Snapshot(job), Lane::Bulk, operations, out);
    }

    /// A piece is on the disk.
    pub(super) fn on_piece_written(&mut self, last: LogId, edition: u64, piece: u64) {
        if let Some(fetch) = &mut self.snapshots.fetch
            && fetch.snapshot.last == last
            && fetch.edition() == Some(edition)
            && fetch.pieces.get(&piece) == Some(&Piece::Writing)
        {
            fetch.written(piece);
        }
    }

    /// Reads back what is written, from the beginning.
    fn check_fetched(&mut self, out: &mut Vec<Output>) {
        if let Some(fetch) = &mut self.snapshots.fetch {
            fetch.state = State::Checking { piece: 0 };
            fetch.digest = SnapshotDigest::default();
            let last = fetch.snapshot.last;
            self.check_piece(last, 0, vec![SnapshotHeader::read(partial(last))], out);
        }
    }

    fn check_piece(&mut self, last: LogId, piece: u64, operations: Vec<Operation>, out: &mut Vec<Output>) {
        let job = SnapshotJob::Checked { last, piece };
        self.start(Job::Snapshot(job), Lane::Bulk, operations, out);
    }

    /// A piece was read back. From the first that is not as it should be, they are asked for again.
    pub(super) fn on_piece_checked(&mut self, last: LogId, piece: u64, bytes: &[u8], out: &mut Vec<Output>) {
        let retry_at = self.retry_at();
        let is_checked =
            |fetch: &&mut Fetch| fetch.snapshot.last == last && fetch.state == State::Checking { piece };
        let Some(fetch) = self.snapshots.fetch.as_mut().filter(is_checked) else {
            return;
        };
        let was_whole = fetch.is_whole();
        let check = fetch.check(piece, bytes);
        // What an earlier life of this member wrote can be read back and not be on the disk, and a sync would
        // not know: its own may have failed. So it is written again.
        let mut operations = match &check {
            Check::Next(_) | Check::Whole if !was_whole => fetch.write_again(piece, bytes),
            _ => Vec::new(),
        };
        match check {
            Check::Next(read) => {
                fetch.state = State::Checking { piece: piece + 1 };
                operations.push(read);
                self.check_piece(last, piece + 1, operations, out);
            }
            Check::Whole => self.finish_fetch(operations, out),
            Check::Until(missing) => {
                fetch.ask_from(missing, retry_at);
                self.counters.fetches_resumed += u64::from(missing > 1 && !was_whole);
            }
            Check::Wrong => {
                self.fetch_anew();
                self.fetch_failed();
            }
        }
    }

    /// Every piece is written, and as it should be: makes the file durable, and only then gives it its name.
    fn finish_fetch(&mut self, mut operations: Vec<Operation>, out: &mut Vec<Output>) {
        let Some(fetch) = &mut self.snapshots.fetch else {
            return;
        };
        fetch.state = State::Finishing;
        let last = fetch.snapshot.last;
        operations.extend([
            Operation::Sync(partial(last)),
            Operation::Rename { from: partial(last), to: file(last) },
            Operation::SyncDirectory,
        ]);
        self.start(Job::Snapshot(SnapshotJob::FetchedWhole(last)), Lane::Bulk, operations, out);
    }

    /// The file is whole and durable.
    pub(super) fn fetched(&mut self, last: LogId) {
        let finished = |fetch: &mut Fetch| fetch.snapshot.last == last && fetch.state == State::Finishing;
        let header = match self.snapshots.fetch.take_if(finished) {
            Some(fetch) => {
                self.counters.snapshots_fetched += 1;
                self.events.push_back(Event::SnapshotFetched(fetch.snapshot));
                fetch.header
            }
            None => None,
        };
        self.snapshots.files.insert(last, header);
        self.snapshots.leftovers.retain(|(leftover, _)| *leftover != last);
    }

    /// The sender says that it does not have it. If it has another of the same entries, that one will do,
    /// from the beginning.
    pub(in crate::replica) fn on_gone(&mut self, from: Member, last: LogId, edition: Option<u64>) {
        let is_asked = |fetch: &&mut Fetch| {
            fetch.state == State::Asking && (fetch.from, fetch.snapshot.last) == (from, last)
        };
        let Some(fetch) = self.snapshots.fetch.as_mut().filter(is_asked) else {
            self.counters.unexpected_messages += 1;
            return;
        };
        match (fetch.edition(), edition) {
            (Some(known), Some(asked)) if known == asked => self.fetch_anew(),
            (_, None) => self.fetch_failed(),
            // The answer to what was asked before it was begun anew.
            _ => self.counters.unexpected_messages += 1,
        }
    }

    /// Forgets what is written of the snapshot, and fetches it from the beginning.
    fn fetch_anew(&mut self) {
        let retry_at = self.retry_at();
        if let Some(fetch) = &mut self.snapshots.fetch {
            *fetch = Fetch::new(fetch.snapshot.clone(), fetch.from, retry_at);
        }
    }

    /// There is no space for it: the kernel may want another later.
    pub(super) fn give_up_fetching(&mut self, out: &mut Vec<Output>) {
        if let Some(fetch) = self.snapshots.fetch.take() {
            let last = fetch.snapshot.last;
            self.counters.snapshots_failed += 1;
            self.snapshots.fetch_at = self.now + Nanos::from(self.options.full_disk_retry);
            self.events.push_back(Event::SnapshotFailed(last));
            self.remove_file(partial(last), out);
        }
    }

    /// It cannot be had for now. What is written of it stays.
    fn fetch_failed(&mut self) {
        if let Some(fetch) = &mut self.snapshots.fetch {
            fetch.state = State::Resting;
            self.counters.snapshots_failed += 1;
            self.events.push_back(Event::SnapshotFailed(fetch.snapshot.last));
        }
    }
}
