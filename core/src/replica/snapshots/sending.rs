//! Snapshots for others: a piece whenever one is asked for, as fast as the options allow.
//!
//! Nothing is remembered of a follower but what it has asked for and not got yet: so nothing is lost when
//! this member starts anew.

use crate::replica::Replica;
use crate::replica::frame::ReplicaBody;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::replica::snapshots::files::{edition_of, file};
use crate::time::{Instant, Nanos};
use crate::types::{LogId, Member, NodeId, Payload};
use crate::wal::SnapshotHeader;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sending {
    /// One transfer for each follower: a request for another snapshot takes the place of what it asked
    /// before.
    transfers: BTreeMap<NodeId, Transfer>,
    /// The member that was served last; the next one in order is served next.
    served: Option<NodeId>,
    /// Whether a piece is being read.
    reading: bool,
    /// The rate is kept by not sending before then.
    send_at: Instant,
}

#[derive(Clone, PartialEq, Debug)]
struct Transfer {
    member: Member,
    last: LogId,
    asked: VecDeque<u64>,
    /// When it asked last.
    active: Instant,
}

/// How many pieces one follower may wait for.
const MAX_ASKED: usize = 64;

/// How much may be sent at once after a time in which nothing was: what is sent in this time.
const BURST: Nanos = Nanos::new(100_000_000);

impl Sending {
    pub(super) fn new(now: Instant) -> Self {
        Self { transfers: BTreeMap::new(), served: None, reading: false, send_at: now }
    }

    /// Whether a member has asked for this snapshot lately.
    pub(super) fn is_sent(&self, last: LogId, now: Instant, patience: Nanos) -> bool {
        self.transfers.values().any(|transfer| transfer.last == last && now - transfer.active < patience)
    }

    fn ask(&mut self, from: Member, last: LogId, piece: u64, now: Instant) {
        let blank = Transfer { member: from, last, asked: VecDeque::new(), active: now };
        let transfer = self.transfers.entry(from.id).or_insert_with(|| blank.clone());
        if transfer.member != from || transfer.last != last {
            *transfer = blank;
        }
        transfer.active = now;
        if transfer.asked.len() < MAX_ASKED && !transfer.asked.contains(&piece) {
            transfer.asked.push_back(piece);
        }
    }

    fn waits(&self) -> bool {
        self.transfers.values().any(|transfer| !transfer.asked.is_empty())
    }

    /// The next piece to be sent, each follower in its turn.
    fn next(&mut self) -> Option<(Member, LogId, u64)> {
        let waiting = |(id, transfer): (&NodeId, &Transfer)| (!transfer.asked.is_empty()).then_some(*id);
        let after = self.transfers.iter().filter(|(id, _)| Some(**id) > self.served).find_map(waiting);
        let id = after.or_else(|| self.transfers.iter().find_map(waiting))?;
        self.served = Some(id);
        let transfer = self.transfers.get_mut(&id)?;
        Some((transfer.member, transfer.last, transfer.asked.pop_front()?))
    }
}

impl Replica {
    pub(super) fn sending_deadline(&self) -> Instant {
        let sending = &self.snapshots.sending;
        if sending.waits() && !sending.reading { sending.send_at } else { Instant::NEVER }
    }

    /// How long a follower may be silent before its snapshot is not kept for it any more.
    pub(super) fn sending_patience(&self) -> Nanos {
        let retries = u64::from(self.options.snapshot_retries) + 1;
        Nanos::from(self.options.snapshot_timeout).times(retries)
    }

    /// A member asks for a piece of a snapshot.
    pub(in crate::replica) fn on_piece_asked(
        &mut self,
        from: Member,
        last: LogId,
        edition: Option<u64>,
        piece: u64,
        out: &mut Vec<Output>,
    ) {
        if !self.raft.membership().contains(from) {
            self.counters.unexpected_messages += 1;
            return;
        }
        let has = match self.snapshots.files.get(&last) {
            None => false,
            Some(None) => true,
            Some(Some(header)) => {
                edition.is_none_or(|edition| edition == edition_of(header)) && piece <= header.chunks()
            }
        };
        if has {
            self.snapshots.sending.ask(from, last, piece, self.now);
        } else {
            self.send_replica(from, Lane::Log, ReplicaBody::SnapshotGone { last, edition }, out);
        }
    }

    /// Reads the next piece, if it may be sent by now.
    pub(super) fn send_pieces(&mut self, out: &mut Vec<Output>) {
        let sending = &mut self.snapshots.sending;
        if sending.reading || self.now < sending.send_at {
            return;
        }
        // What was asked for before the header was read may be no piece of it.
        let files = &self.snapshots.files;
        let exists = |last: &LogId, piece: u64| match files.get(last) {
            Some(Some(header)) => piece <= header.chunks(),
            _ => true,
        };
        let next = core::iter::from_fn(|| sending.next()).find(|(_, last, piece)| exists(last, *piece));
        let Some((to, last, piece)) = next else {
            let patience = self.sending_patience();
            let now = self.now;
            self.snapshots.sending.transfers.retain(|_, transfer| now - transfer.active < patience);
            return;
        };
        sending.reading = true;
        let (job, operation) = match self.snapshots.files.get(&last) {
            Some(Some(header)) if piece > 0 => {
                (SnapshotJob::PieceToSend { to, last, piece }, header.read_chunk(file(last), piece - 1))
            }
            Some(Some(_)) => (SnapshotJob::PieceToSend { to, last, piece }, SnapshotHeader::read(file(last))),
            _ => {
                // Which pieces there are, the header says. This one comes after it.
                self.snapshots.sending.ask(to, last, piece, self.now);
                (SnapshotJob::HeaderToSend(last), SnapshotHeader::read(file(last)))
            }
        };
        self.start(Job::Snapshot(job), Lane::Bulk, vec![operation], out);
    }

    pub(super) fn on_header_to_send(&mut self, last: LogId, bytes: &[u8], out: &mut Vec<Output>) {
        self.snapshots.sending.reading = false;
        match SnapshotHeader::decode(file(last), bytes) {
            Ok(header) if header.snapshot().last == last => {
                self.snapshots.files.insert(last, Some(header));
            }
            _ => self.send_no_more(last, out),
        }
    }

    /// A piece has been read: it is sent if it is what was written.
    pub(super) fn on_piece_read(
        &mut self,
        to: Member,
        last: LogId,
        piece: u64,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        self.snapshots.sending.reading = false;
        let Some(Some(header)) = self.snapshots.files.get(&last) else {
            return;
        };
        let edition = edition_of(header);
        let is_whole = match piece.checked_sub(1) {
            None => SnapshotHeader::decode(file(last), bytes).is_ok_and(|read| read == *header),
            Some(chunk) => header.check_chunk(chunk, bytes).is_ok(),
        };
        if !is_whole {
            return self.send_no_more(last, out);
        }
        let rate = self.options.snapshot_bytes_per_second;
        let sending = &mut self.snapshots.sending;
        let takes = Nanos::new((bytes.len() as u64).saturating_mul(1_000_000_000) / rate);
        let earliest = Instant::from_nanos(self.now.as_nanos().saturating_sub(BURST.get()));
        sending.send_at = sending.send_at.max(earliest) + takes;
        self.counters.pieces_sent += 1;
        let bytes = Payload::from(bytes);
        self.send_replica(to, Lane::Bulk, ReplicaBody::SnapshotPiece { last, edition, piece, bytes }, out);
    }

    /// The file is damaged or gone: members that fetch it must take another.
    fn send_no_more(&mut self, last: LogId, out: &mut Vec<Output>) {
        self.replace_damaged(last);
        let of_it = self.snapshots.sending.transfers.values().filter(|transfer| transfer.last == last);
        let members: Vec<Member> = of_it.map(|transfer| transfer.member).collect();
        self.snapshots.sending.transfers.retain(|_, transfer| transfer.last != last);
        for to in members {
            self.send_replica(to, Lane::Log, ReplicaBody::SnapshotGone { last, edition: None }, out);
        }
    }
}
