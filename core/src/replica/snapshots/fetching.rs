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
use crate::replica::common::ReplicaCommon;
use crate::replica::frame::ReplicaBody;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::replica::snapshots::fetch::{Check, Fetch, Piece, State, write_where_it_stands};
use crate::replica::snapshots::files::{edition_of, file, header_of, partial};
use crate::replica::snapshots::keeping::{Kept, remove_files};
use crate::time::{Instant, Nanos};
use crate::types::{LogId, Member, NodeId};
use crate::wal::{Operation, SnapshotDigest, SnapshotHeader};
use alloc::vec;
use alloc::vec::Vec;

/// The snapshot that is fetched, if one is.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Fetching {
    fetch: Option<Fetch>,
    /// After a full disk: not before this instant.
    fetch_at: Instant,
    /// The sender of the message that the kernel handles next.
    sender: Option<Member>,
}

impl Fetching {
    pub(super) fn new(now: Instant) -> Self {
        Self { fetch: None, fetch_at: now, sender: None }
    }

    /// Forgets a fetch that was given up, if the log rests on something later by now. Its last entry, where
    /// there was one.
    pub(super) fn given_up_before(&mut self, rests_on: LogId) -> Option<LogId> {
        let is_late = |fetch: &mut Fetch| fetch.state == State::Resting && fetch.snapshot.last < rests_on;
        self.fetch.take_if(is_late).map(|fetch| fetch.snapshot.last)
    }

    /// Forgets a fetch of this snapshot that was given up: its file is made anew of this member's own state.
    pub(super) fn forget(&mut self, last: LogId) {
        self.fetch.take_if(|fetch| fetch.state == State::Resting && fetch.snapshot.last == last);
    }

    /// A message of this member comes to the kernel next; and it offers a snapshot.
    pub(super) fn on_offered(&mut self, from: Member, snapshot: &Snapshot) {
        self.sender = Some(from);
        if let Some(fetch) = &mut self.fetch {
            if fetch.snapshot != *snapshot {
                fetch.passed_over = true;
            } else if fetch.from != from {
                fetch.other = Some(from);
            }
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        match &self.fetch {
            Some(Fetch { state: State::Asking, retry_at, .. }) => *retry_at,
            _ => Instant::NEVER,
        }
    }

    /// How many pieces are asked for or being written.
    pub(super) fn pieces(&self) -> usize {
        let is_on_its_way = |piece: &&Piece| matches!(piece, Piece::Asked | Piece::Writing);
        self.fetch.as_ref().map_or(0, |fetch| fetch.pieces.values().filter(is_on_its_way).count())
    }

    /// Whether a snapshot is on its way here.
    pub(super) fn is_active(&self) -> bool {
        self.fetch.as_ref().is_some_and(|fetch| fetch.state != State::Resting)
    }

    /// The kernel wants a snapshot. What is written of the same one already is kept; a part of any other is
    /// removed.
    pub(super) fn fetch(
        &mut self,
        common: &mut ReplicaCommon,
        kept: &mut Kept,
        from: NodeId,
        snapshot: Snapshot,
        out: &mut Vec<Output>,
    ) {
        if common.now < self.fetch_at {
            // It is offered again.
            return common.events.push_back(Event::SnapshotFailed(snapshot.last));
        }
        let sender = self.sender.filter(|member| member.id == from);
        let known = snapshot.membership.incarnation(from).map(|incarnation| Member::new(from, incarnation));
        let from = sender.or(known).unwrap_or(Member::from(from));
        let retry_at = retry_at(common);
        match self.fetch.take() {
            Some(fetch)
                if fetch.snapshot == snapshot
                    && matches!(fetch.state, State::Checking { .. } | State::Finishing) =>
            {
                self.fetch = Some(Fetch { from, passed_over: false, ..fetch });
            }
            Some(mut fetch) if fetch.snapshot == snapshot => {
                common.counters.fetches_resumed += 1;
                fetch.pieces.retain(|_, piece| *piece != Piece::Asked);
                let mut resumed = Fetch { from, retry_at, retries: 0, state: State::Asking, ..fetch };
                (resumed.other, resumed.passed_over) = (None, false);
                self.fetch = Some(resumed);
            }
            former => {
                if let Some(former) = former {
                    remove_files(&mut common.jobs, [partial(former.snapshot.last)], out);
                }
                kept.on_begun(snapshot.last);
                self.fetch = Some(Fetch::new(snapshot, from, retry_at));
                self.check_fetched(common, out);
            }
        }
    }

    /// Asks for what is wanted next, and again for what has not come in time.
    pub(super) fn go_on(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        let (now, retry_at, retries) = (common.now, retry_at(common), common.options.snapshot_retries);
        let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.state == State::Asking) else {
            return;
        };
        if fetch.base == fetch.count() {
            return self.check_fetched(common, out);
        }
        let mut ask = Vec::new();
        if now >= fetch.retry_at {
            // Where there is another to be had, this one is not waited for.
            if fetch.retries >= retries || (fetch.passed_over && fetch.other.is_none()) {
                return self.fetch_failed(common);
            }
            fetch.retries += 1;
            fetch.retry_at = retry_at;
            if let Some(other) = fetch.other.take() {
                fetch.other = Some(core::mem::replace(&mut fetch.from, other));
            }
            ask = fetch.asked();
            common.counters.pieces_asked_again += ask.len() as u64;
        }
        let wanted = fetch.wanted(common.options.snapshot_window);
        fetch.pieces.extend(wanted.iter().map(|piece| (*piece, Piece::Asked)));
        ask.extend(wanted);
        let (to, last, edition) = (fetch.from, fetch.snapshot.last, fetch.edition());
        for piece in ask {
            common.send(to, Lane::Log, ReplicaBody::SnapshotRequest { last, edition, piece }, out);
        }
    }

    /// A piece has come. It is written if it was asked for, is of this snapshot, and is whole.
    pub(super) fn on_piece(
        &mut self,
        common: &mut ReplicaCommon,
        from: Member,
        (last, edition, piece): (LogId, u64, u64),
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let retry_at = retry_at(common);
        let is_wanted = |fetch: &&mut Fetch| {
            fetch.state == State::Asking
                && (fetch.from, fetch.snapshot.last) == (from, last)
                && fetch.edition().is_none_or(|known| known == edition)
                && fetch.pieces.get(&piece) == Some(&Piece::Asked)
        };
        let Some(fetch) = self.fetch.as_mut().filter(is_wanted) else {
            return common.counters.pieces_dropped += 1;
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
            return common.counters.pieces_dropped += 1;
        };
        fetch.pieces.insert(piece, Piece::Writing);
        (fetch.retry_at, fetch.retries) = (retry_at, 0);
        common.counters.pieces_taken += 1;
        let job = SnapshotJob::Fetched { last, edition, piece };
        common.jobs.start(Job::Snapshot(job), Lane::Bulk, operations, out);
    }

    /// A piece is on the disk.
    pub(super) fn on_piece_written(&mut self, last: LogId, edition: u64, piece: u64) {
        if let Some(fetch) = &mut self.fetch
            && fetch.snapshot.last == last
            && fetch.edition() == Some(edition)
            && fetch.pieces.get(&piece) == Some(&Piece::Writing)
        {
            fetch.written(piece);
        }
    }

    /// Reads back what is written, from the beginning.
    fn check_fetched(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        if let Some(fetch) = &mut self.fetch {
            fetch.state = State::Checking { piece: 0 };
            fetch.digest = SnapshotDigest::default();
            let last = fetch.snapshot.last;
            Self::check_piece(common, last, 0, vec![SnapshotHeader::read(partial(last))], out);
        }
    }

    fn check_piece(
        common: &mut ReplicaCommon,
        last: LogId,
        piece: u64,
        operations: Vec<Operation>,
        out: &mut Vec<Output>,
    ) {
        let job = SnapshotJob::Checked { last, piece };
        common.jobs.start(Job::Snapshot(job), Lane::Bulk, operations, out);
    }

    /// A piece was read back. From the first that is not as it should be, they are asked for again.
    pub(super) fn on_piece_checked(
        &mut self,
        common: &mut ReplicaCommon,
        last: LogId,
        piece: u64,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let retry_at = retry_at(common);
        let is_checked =
            |fetch: &&mut Fetch| fetch.snapshot.last == last && fetch.state == State::Checking { piece };
        let Some(fetch) = self.fetch.as_mut().filter(is_checked) else {
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
                Self::check_piece(common, last, piece + 1, operations, out);
            }
            Check::Whole => self.finish_fetch(common, operations, out),
            Check::Until(missing) => {
                fetch.ask_from(missing, retry_at);
                common.counters.fetches_resumed += u64::from(missing > 1 && !was_whole);
            }
            Check::Wrong => {
                self.fetch_anew(common);
                self.fetch_failed(common);
            }
        }
    }

    /// Every piece is written, and as it should be: makes the file durable, and only then gives it its name.
    fn finish_fetch(
        &mut self,
        common: &mut ReplicaCommon,
        mut operations: Vec<Operation>,
        out: &mut Vec<Output>,
    ) {
        let Some(fetch) = &mut self.fetch else {
            return;
        };
        fetch.state = State::Finishing;
        let last = fetch.snapshot.last;
        operations.extend([
            Operation::Sync(partial(last)),
            Operation::Rename { from: partial(last), to: file(last) },
            Operation::SyncDirectory,
        ]);
        common.jobs.start(Job::Snapshot(SnapshotJob::FetchedWhole(last)), Lane::Bulk, operations, out);
    }

    /// The file is whole and durable.
    pub(super) fn on_fetched(&mut self, common: &mut ReplicaCommon, kept: &mut Kept, last: LogId) {
        let finished = |fetch: &mut Fetch| fetch.snapshot.last == last && fetch.state == State::Finishing;
        let header = match self.fetch.take_if(finished) {
            Some(fetch) => {
                common.counters.snapshots_fetched += 1;
                common.events.push_back(Event::SnapshotFetched(fetch.snapshot));
                fetch.header
            }
            None => None,
        };
        kept.add(last, header);
    }

    /// The sender says that it does not have it. If it has another of the same entries, that one will do,
    /// from the beginning.
    pub(super) fn on_gone(
        &mut self,
        common: &mut ReplicaCommon,
        from: Member,
        last: LogId,
        edition: Option<u64>,
    ) {
        let is_asked = |fetch: &&mut Fetch| {
            fetch.state == State::Asking && (fetch.from, fetch.snapshot.last) == (from, last)
        };
        let Some(fetch) = self.fetch.as_mut().filter(is_asked) else {
            common.counters.unexpected_messages += 1;
            return;
        };
        match (fetch.edition(), edition) {
            (Some(known), Some(asked)) if known == asked => self.fetch_anew(common),
            (_, None) => self.fetch_failed(common),
            // The answer to what was asked before it was begun anew.
            _ => common.counters.unexpected_messages += 1,
        }
    }

    /// Forgets what is written of the snapshot, and fetches it from the beginning.
    fn fetch_anew(&mut self, common: &mut ReplicaCommon) {
        let retry_at = retry_at(common);
        if let Some(fetch) = &mut self.fetch {
            *fetch = Fetch::new(fetch.snapshot.clone(), fetch.from, retry_at);
        }
    }

    /// There is no space for it: the kernel may want another later.
    pub(super) fn give_up(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        if let Some(fetch) = self.fetch.take() {
            let last = fetch.snapshot.last;
            common.counters.snapshots_failed += 1;
            self.fetch_at = common.now + Nanos::from(common.options.full_disk_retry);
            common.events.push_back(Event::SnapshotFailed(last));
            remove_files(&mut common.jobs, [partial(last)], out);
        }
    }

    /// It cannot be had for now. What is written of it stays.
    fn fetch_failed(&mut self, common: &mut ReplicaCommon) {
        if let Some(fetch) = &mut self.fetch {
            fetch.state = State::Resting;
            common.counters.snapshots_failed += 1;
            common.events.push_back(Event::SnapshotFailed(fetch.snapshot.last));
        }
    }
}

/// When what is asked for now is asked for again.
fn retry_at(common: &ReplicaCommon) -> Instant {
    common.now + Nanos::from(common.options.snapshot_timeout)
}
