//! Snapshots for others: a piece whenever one is asked for, as fast as the options allow.
//!
//! Nothing is remembered of a follower but what it has asked for and not got yet: so nothing is lost when
//! this member starts anew.

use crate::replica::common::ReplicaCommon;
use crate::replica::frame::ReplicaBody;
use crate::replica::held::MAX_ASKED_PIECES;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::replica::options::ReplicaOptions;
use crate::replica::snapshots::files::{edition_of, file};
use crate::replica::snapshots::keeping::Kept;
use crate::time::{Instant, Nanos};
use crate::types::{LogId, Member, NodeId, Payload};
use crate::wal::{Damage, SnapshotHeader};
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

/// How much may be sent at once after a time in which nothing was: what is sent in this time.
const BURST: Nanos = Nanos::new(100_000_000);

impl Sending {
    pub(super) fn new(now: Instant) -> Self {
        Self { transfers: BTreeMap::new(), served: None, reading: false, send_at: now }
    }

    /// Whether a member has asked for this snapshot lately.
    pub(super) fn is_sent(&self, last: LogId, common: &ReplicaCommon) -> bool {
        let (now, patience) = (common.now, patience(&common.options));
        self.transfers.values().any(|transfer| transfer.last == last && now - transfer.active < patience)
    }

    fn ask(&mut self, from: Member, last: LogId, piece: u64, now: Instant) {
        let blank = Transfer { member: from, last, asked: VecDeque::new(), active: now };
        let transfer = self.transfers.entry(from.id).or_insert_with(|| blank.clone());
        if transfer.member != from || transfer.last != last {
            *transfer = blank;
        }
        transfer.active = now;
        if transfer.asked.len() < MAX_ASKED_PIECES && !transfer.asked.contains(&piece) {
            transfer.asked.push_back(piece);
        }
    }

    pub(super) fn most_asked(&self) -> usize {
        self.transfers.values().map(|transfer| transfer.asked.len()).max().unwrap_or(0)
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

    pub(super) fn deadline(&self) -> Instant {
        if self.waits() && !self.reading { self.send_at } else { Instant::NEVER }
    }

    /// A member asks for a piece of a snapshot.
    pub(super) fn on_piece_asked(
        &mut self,
        common: &mut ReplicaCommon,
        kept: &Kept,
        from: Member,
        (last, edition, piece): (LogId, Option<u64>, u64),
        out: &mut Vec<Output>,
    ) {
        if !common.raft.membership().contains(from) {
            common.counters.unexpected_messages += 1;
            return;
        }
        let has = match kept.header(last) {
            None => kept.contains(last),
            Some(header) => {
                edition.is_none_or(|edition| edition == edition_of(header)) && piece <= header.chunks()
            }
        };
        if has {
            self.ask(from, last, piece, common.now);
        } else {
            common.send(from, Lane::Log, ReplicaBody::SnapshotGone { last, edition }, out);
        }
    }

    /// Reads the next piece, if it may be sent by now.
    pub(super) fn send_pieces(&mut self, common: &mut ReplicaCommon, kept: &Kept, out: &mut Vec<Output>) {
        if self.reading || common.now < self.send_at {
            return;
        }
        // What was asked for before the header was read may be no piece of it.
        let exists =
            |last: LogId, piece: u64| kept.header(last).is_none_or(|header| piece <= header.chunks());
        let next = core::iter::from_fn(|| self.next()).find(|(_, last, piece)| exists(*last, *piece));
        let Some((to, last, piece)) = next else {
            let (now, patience) = (common.now, patience(&common.options));
            self.transfers.retain(|_, transfer| now - transfer.active < patience);
            return;
        };
        self.reading = true;
        let (job, operation) = match kept.header(last) {
            Some(header) if piece > 0 => {
                (SnapshotJob::PieceToSend { to, last, piece }, header.read_chunk(file(last), piece - 1))
            }
            Some(_) => (SnapshotJob::PieceToSend { to, last, piece }, SnapshotHeader::read(file(last))),
            None => {
                // Which pieces there are, the header says. This one comes after it.
                self.ask(to, last, piece, common.now);
                (SnapshotJob::HeaderToSend(last), SnapshotHeader::read(file(last)))
            }
        };
        common.jobs.start(Job::Snapshot(job), Lane::Bulk, vec![operation], out);
    }

    /// The header of a snapshot has been read.
    pub(super) fn on_header_read(
        &mut self,
        common: &mut ReplicaCommon,
        kept: &mut Kept,
        last: LogId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), Damage> {
        self.reading = false;
        match SnapshotHeader::decode(file(last), bytes) {
            Ok(header) if header.snapshot().last == last => {
                kept.on_header(last, header);
                Ok(())
            }
            _ => Err(self.send_no_more(common, last, out)),
        }
    }

    /// A piece has been read: it is sent if it is what was written.
    pub(super) fn on_piece_read(
        &mut self,
        common: &mut ReplicaCommon,
        kept: &Kept,
        (to, last, piece): (Member, LogId, u64),
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), Damage> {
        self.reading = false;
        let Some(header) = kept.header(last) else {
            return Ok(());
        };
        let edition = edition_of(header);
        let is_whole = match piece.checked_sub(1) {
            None => SnapshotHeader::decode(file(last), bytes).is_ok_and(|read| read == *header),
            Some(chunk) => header.check_chunk(chunk, bytes).is_ok(),
        };
        if !is_whole {
            return Err(self.send_no_more(common, last, out));
        }
        let rate = common.options.snapshot_bytes_per_second;
        let takes = Nanos::new((bytes.len() as u64).saturating_mul(1_000_000_000) / rate);
        let earliest = Instant::from_nanos(common.now.as_nanos().saturating_sub(BURST.get()));
        self.send_at = self.send_at.max(earliest) + takes;
        common.counters.pieces_sent += 1;
        let bytes = Payload::from(bytes);
        common.send(to, Lane::Bulk, ReplicaBody::SnapshotPiece { last, edition, piece, bytes }, out);
        Ok(())
    }

    /// The file is damaged or gone: members that fetch it must take another.
    fn send_no_more(&mut self, common: &mut ReplicaCommon, last: LogId, out: &mut Vec<Output>) -> Damage {
        let of_it = self.transfers.values().filter(|transfer| transfer.last == last);
        let members: Vec<Member> = of_it.map(|transfer| transfer.member).collect();
        self.transfers.retain(|_, transfer| transfer.last != last);
        for to in members {
            common.send(to, Lane::Log, ReplicaBody::SnapshotGone { last, edition: None }, out);
        }
        Damage(file(last))
    }
}

/// How long a follower may be silent before its snapshot is not kept for it any more.
fn patience(options: &ReplicaOptions) -> Nanos {
    Nanos::from(options.snapshot_timeout).times(u64::from(options.snapshot_retries) + 1)
}
