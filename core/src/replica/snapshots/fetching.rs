//! A snapshot from another member: asked for piece by piece, checked, written, and put in the place of nothing before it is whole.
//!
//! The member that fetches keeps the book: which pieces are written, which are asked for. A piece that is lost is asked for again; one that
//! comes twice, too late, or from another snapshot changes nothing. Where the sender goes away, whoever offers the same snapshot (the same
//! last entry and the same digest) is asked for the rest.

use crate::event::Event;
use crate::log::Snapshot;
use crate::replica::Replica;
use crate::replica::frame::Note;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::Job;
use crate::replica::snapshots::{SnapshotJob, file, header_of, partial};
use crate::time::{Instant, Nanos};
use crate::types::{LogId, Member, NodeId};
use crate::wal::{Operation, SnapshotHeader};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// A snapshot on its way here. As many pieces as the window allows are in memory at most.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Fetch {
    snapshot: Snapshot,
    /// Who is asked.
    from: Member,
    /// Who else has offered it since.
    other: Option<Member>,
    /// Once the first piece has come: what all others are held against.
    header: Option<SnapshotHeader>,
    /// Every piece before is written.
    base: u64,
    /// What is known of those from `base` on, as far as the window reaches.
    pieces: BTreeMap<u64, Piece>,
    /// When what is asked for is asked for again.
    retry_at: Instant,
    /// How often that was done since a piece came.
    retries: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Asked,
    Writing,
    Written,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Asking,
    /// Every piece is written, and the file is being made whole.
    Finishing,
    /// It was given up; what is written of it stays, should it be wanted again.
    Resting,
}

impl Fetch {
    fn new(snapshot: Snapshot, from: Member, retry_at: Instant) -> Self {
        Self {
            snapshot,
            from,
            other: None,
            header: None,
            base: 0,
            pieces: BTreeMap::new(),
            retry_at,
            retries: 0,
            state: State::Asking,
        }
    }

    fn digest(&self) -> Option<u64> {
        self.header.as_ref().map(SnapshotHeader::digest)
    }

    /// How many pieces there are: the header, and the chunks that it tells of.
    fn count(&self) -> u64 {
        self.header.as_ref().map_or(1, |header| header.chunks() + 1)
    }

    /// The pieces to be asked for next.
    fn wanted(&self, window: u32) -> Vec<u64> {
        let end = self.count().min(self.base.saturating_add(u64::from(window)));
        (self.base..end).filter(|piece| !self.pieces.contains_key(piece)).collect()
    }

    fn asked(&self) -> Vec<u64> {
        let asked = self.pieces.iter().filter(|(_, piece)| **piece == Piece::Asked);
        asked.map(|(number, _)| *number).collect()
    }

    /// A piece is on the disk.
    fn written(&mut self, piece: u64) {
        self.pieces.insert(piece, Piece::Written);
        while self.pieces.get(&self.base) == Some(&Piece::Written) {
            self.pieces.remove(&self.base);
            self.base += 1;
        }
    }
}

impl Replica {
    /// A message of this member comes to the kernel next; and it offers a snapshot.
    pub(in crate::replica) fn offered(&mut self, from: Member, snapshot: &Snapshot) {
        self.snapshots.sender = Some(from);
        if let Some(fetch) = &mut self.snapshots.fetch
            && fetch.snapshot == *snapshot
            && fetch.from != from
        {
            fetch.other = Some(from);
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

    /// The kernel wants a snapshot. What is written of the same one already is kept; a part of any other is removed.
    pub(in crate::replica) fn fetch(&mut self, from: NodeId, snapshot: Snapshot, out: &mut Vec<Output>) {
        let sender = self.snapshots.sender.filter(|member| member.id == from);
        let known = snapshot.membership.incarnation(from).map(|incarnation| Member::new(from, incarnation));
        let from = sender.or(known).unwrap_or(Member::from(from));
        let retry_at = self.retry_at();
        match self.snapshots.fetch.take() {
            Some(fetch) if fetch.snapshot == snapshot && fetch.state == State::Finishing => {
                self.snapshots.fetch = Some(fetch);
            }
            Some(mut fetch) if fetch.snapshot == snapshot => {
                self.counters.fetches_resumed += 1;
                fetch.pieces.retain(|_, piece| *piece != Piece::Asked);
                let resumed =
                    Fetch { from, retry_at, retries: 0, other: None, state: State::Asking, ..fetch };
                self.snapshots.fetch = Some(resumed);
            }
            former => {
                if let Some(former) = former.filter(|former| former.header.is_some()) {
                    self.remove_files(vec![Operation::Remove(partial(former.snapshot.last))], out);
                }
                self.snapshots.fetch = Some(Fetch::new(snapshot, from, retry_at));
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
            return self.finish_fetch(out);
        }
        let mut ask = Vec::new();
        if now >= fetch.retry_at {
            if fetch.retries >= retries {
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
        let (to, last, digest) = (fetch.from, fetch.snapshot.last, fetch.digest());
        for piece in ask {
            self.send_note(to, Lane::Log, Note::SnapshotRequest { last, digest, piece }, out);
        }
    }

    /// A piece has come. It is written if it was asked for, is of this snapshot, and is whole.
    pub(in crate::replica) fn on_piece(
        &mut self,
        from: Member,
        last: LogId,
        digest: u64,
        piece: u64,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let retry_at = self.retry_at();
        let is_wanted = |fetch: &&mut Fetch| {
            fetch.state == State::Asking
                && (fetch.from, fetch.snapshot.last) == (from, last)
                && fetch.digest().is_none_or(|known| known == digest)
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
                .filter(|header| header.digest() == digest)
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
        let job = SnapshotJob::Fetched { last, digest, piece };
        self.start(Job::Snapshot(job), Lane::Bulk, operations, out);
    }

    /// A piece is on the disk.
    pub(super) fn on_piece_written(&mut self, last: LogId, digest: u64, piece: u64) {
        if let Some(fetch) = &mut self.snapshots.fetch
            && fetch.snapshot.last == last
            && fetch.digest() == Some(digest)
            && fetch.pieces.get(&piece) == Some(&Piece::Writing)
        {
            fetch.written(piece);
        }
    }

    /// Every piece is written: makes the file durable, and only then gives it its name.
    fn finish_fetch(&mut self, out: &mut Vec<Output>) {
        let Some(fetch) = &mut self.snapshots.fetch else {
            return;
        };
        fetch.state = State::Finishing;
        let last = fetch.snapshot.last;
        let operations = vec![
            Operation::Sync(partial(last)),
            Operation::Rename { from: partial(last), to: file(last) },
            Operation::SyncDirectory,
        ];
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
    }

    /// The sender says that it does not have it. If it has another of the same entries, that one will do, from the beginning.
    pub(in crate::replica) fn on_gone(
        &mut self,
        from: Member,
        last: LogId,
        digest: Option<u64>,
        out: &mut Vec<Output>,
    ) {
        let is_asked = |fetch: &&mut Fetch| {
            fetch.state == State::Asking && (fetch.from, fetch.snapshot.last) == (from, last)
        };
        let Some(fetch) = self.snapshots.fetch.as_mut().filter(is_asked) else {
            self.counters.stray_notes += 1;
            return;
        };
        match (fetch.digest(), digest) {
            (Some(known), Some(asked)) if known == asked => self.fetch_anew(out),
            (_, None) => self.fetch_failed(),
            // The answer to what was asked before it was begun anew.
            _ => self.counters.stray_notes += 1,
        }
    }

    /// Forgets what is written of the snapshot, and fetches it from the beginning.
    fn fetch_anew(&mut self, out: &mut Vec<Output>) {
        let retry_at = self.retry_at();
        if let Some(fetch) = &mut self.snapshots.fetch {
            let last = fetch.snapshot.last;
            *fetch = Fetch::new(fetch.snapshot.clone(), fetch.from, retry_at);
            self.remove_files(vec![Operation::Remove(partial(last))], out);
        }
    }

    /// There is no space for it: the kernel may want another later.
    pub(super) fn give_up_fetching(&mut self, out: &mut Vec<Output>) {
        if let Some(fetch) = self.snapshots.fetch.take() {
            let last = fetch.snapshot.last;
            self.counters.snapshots_failed += 1;
            self.events.push_back(Event::SnapshotFailed(last));
            self.remove_files(vec![Operation::Remove(partial(last))], out);
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

/// To write bytes where this operation would read them.
fn write_where_it_stands(read: &Operation, bytes: &[u8]) -> Option<Vec<Operation>> {
    match *read {
        Operation::Read { file, at, .. } => {
            Some(vec![Operation::Write { file, at, bytes: Arc::from(bytes) }])
        }
        _ => None,
    }
}
