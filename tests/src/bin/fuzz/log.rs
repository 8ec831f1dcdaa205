//! A member's directory, damaged anywhere: recovery says what it can still say, and makes nothing up.

use crate::memory::bounded;
use crate::rng::Rng;
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entry, EntryBody, LogSlice, Rebase, Snapshot};
use kontiki_core::membership::Membership;
use kontiki_core::types::{Ballot, ClusterId, Identity, Index, LogId, NodeId, Payload, Term, WriteSeq};
use kontiki_core::wal::{FileName, MemoryDisk, Operation, Wal, WalOptions};
use std::collections::BTreeMap;

/// Recovery reads with one buffer, and keeps what [`WalOptions::cached_bytes`] allows: so nothing for each
/// byte that there is, but for batches, which are small here.
const EACH: u64 = 1;
const FIXED: u64 = 1 << 20;

const SECTOR: usize = 512;

pub(crate) fn case(rng: &mut Rng) -> &'static str {
    let mut history = History::begin(rng);
    for _ in 0..rng.below(12) {
        history.go_on(rng);
    }
    let mut disk = history.disk.clone();
    let damages = rng.below(5);
    for _ in 0..damages {
        damage(&mut disk, &history.older, rng);
    }
    let size = disk.files.values().map(Vec::len).sum();
    let mut read = disk.clone();
    let recovered = bounded(size, EACH, FIXED, || {
        Wal::recover(&mut read, history.identity, history.options, &history.first)
    });
    assert_eq!(read, disk, "recovery only reads");
    let recovery = match recovered {
        Ok(recovery) => recovery,
        Err(error) => {
            assert!(damages > 0, "an intact directory was refused: {error}");
            assert!(!error.to_string().is_empty(), "a refusal says why");
            return "refused";
        }
    };
    history.check(&recovery.durable);
    if damages == 0 {
        assert_same(&recovery.durable, &history.model);
    }
    carry_out(&recovery.first, &mut disk);
    let again = open(&mut disk, &history);
    assert_same(&again.1, &recovery.durable);
    let (wal, mut durable) = again;
    if durable.last().index < Index::MAX {
        let write = history.next(&durable, 1, rng);
        carry_on(wal, vec![write.clone()], &mut disk);
        durable.write(&write);
        assert_same(&open(&mut disk, &history).1, &durable);
    }
    let lost = !durable.lost().is_empty();
    match (damages, lost || durable.snapshot_lost) {
        (0, _) => "intact",
        (_, true) => "recovered with losses",
        (_, false) => "recovered",
    }
}

/// What was ever written, and where.
struct History {
    identity: Identity,
    options: WalOptions,
    first: Durable,
    disk: MemoryDisk,
    /// The directory at earlier times.
    older: Vec<MemoryDisk>,
    /// What is acknowledged.
    model: Durable,
    entries: BTreeMap<LogId, Vec<EntryBody>>,
    ballots: Vec<Ballot>,
    committed: Index,
    wal: Option<Wal>,
    seq: u64,
}

impl History {
    fn begin(rng: &mut Rng) -> Self {
        let ids = [1, 2, 3].map(|number| NodeId::new(number).expect("not zero"));
        let first = Durable::bootstrap(Membership::of(ids).expect("distinct ids"));
        let options = WalOptions {
            segment_bytes: rng.pick(&[1 << 16, 1 << 17]),
            cached_bytes: rng.pick(&[0, 1000, 1 << 20]),
        };
        Self {
            identity: Identity::new(ClusterId(7), ids[0]),
            options,
            disk: MemoryDisk::default(),
            older: Vec::new(),
            model: first.clone(),
            entries: BTreeMap::new(),
            ballots: vec![first.ballot],
            committed: Index::ZERO,
            wal: None,
            seq: 0,
            first,
        }
    }

    /// Some writes in one batch, an idle mark, upkeep, or a new start.
    fn go_on(&mut self, rng: &mut Rng) {
        if self.wal.is_none() {
            let mut disk = self.disk.clone();
            let (wal, durable) = open(&mut disk, self);
            assert_same(&durable, &self.model);
            (self.wal, self.disk, self.seq) = (Some(wal), disk, 0);
        }
        if rng.one_in(3) {
            self.older.push(self.disk.clone());
        }
        let mut wal = self.wal.take().expect("just opened");
        match rng.below(10) {
            0 => return,
            1 => {
                if let Some(job) = wal.mark() {
                    carry_out(&job, &mut self.disk);
                    wal.completed();
                }
            }
            2 | 3 => {
                if let Some(job) = wal.upkeep() {
                    carry_out(&job, &mut self.disk);
                    wal.upkeep_done(Ok(()));
                }
            }
            _ => {
                let mut writes = Vec::new();
                for _ in 0..1 + rng.below(3) {
                    self.seq += 1;
                    let write = self.next(&self.model, self.seq, rng);
                    self.model.write(&write);
                    self.ballots.push(write.ballot);
                    self.committed = self.committed.max(write.committed);
                    for entry in write.append.iter() {
                        self.entries.entry(entry.id).or_default().push(entry.body.clone());
                    }
                    writes.push(write);
                }
                wal = carry_on(wal, writes, &mut self.disk);
            }
        }
        self.wal = Some(wal);
    }

    /// A write that may follow what is durable.
    fn next(&self, durable: &Durable, seq: u64, rng: &mut Rng) -> Write {
        let term = durable.ballot.term().max(durable.last().term);
        let term = if rng.one_in(4) { term.next() } else { term };
        let vote = match durable.ballot.vote() {
            Some(vote) if term == durable.ballot.term() => Some(vote),
            _ => NodeId::new(rng.below(4)),
        };
        let bottom = durable.committed.max(durable.base.index).max(durable.skipped_through().index);
        let truncate_after = (rng.one_in(4) && bottom < durable.last().index)
            .then(|| bottom + rng.below(durable.last().index - bottom));
        let mut left = durable.clone();
        if let Some(after) = truncate_after {
            left.entries.retain(|entry| entry.id.index <= after);
        }
        let mut id = left.last();
        let committed = bottom + rng.below(id.index - bottom + 1);
        let rebase = left.entries.iter().find(|entry| entry.id.index == committed).filter(|_| rng.one_in(5));
        let rebase = rebase.map(|entry| {
            let membership = durable.snapshot.as_ref().expect("a bootstrapped one").membership.clone();
            Box::new(Rebase {
                snapshot: Snapshot { last: entry.id, configured: LogId::ZERO, membership },
                base: entry.id,
            })
        });
        let append = (0..rng.below(6)).map(|_| {
            id = LogId::new(term.get().max(1), id.index.get() + 1);
            let length = rng.pick(&[0, 5, 300, 700, 5000]);
            let text = format!("entry {id}, ");
            let body = match rng.below(8) {
                0 => EntryBody::Blank,
                _ => EntryBody::Data(Payload::from(&text.repeat(length / text.len() + 1)[..])),
            };
            Entry { id, body }
        });
        let append = append.collect();
        Write {
            seq: WriteSeq::new(seq),
            ballot: Ballot::new(term.max(Term::new(1)), vote),
            starts: durable.starts + 1,
            truncate_after,
            rebase,
            repaired: Default::default(),
            append,
            committed,
        }
    }

    /// All of it was once written.
    fn check(&self, durable: &Durable) {
        let found = durable.entries.iter().cloned().collect();
        LogSlice::new(durable.skipped_through(), found).expect("entries without a gap");
        for entry in durable.entries.iter().filter(|entry| entry.body != EntryBody::Lost) {
            let was = self.entries.get(&entry.id);
            assert!(was.is_some_and(|bodies| bodies.contains(&entry.body)), "{} was made up", entry.id);
        }
        assert!(self.ballots.contains(&durable.ballot), "{:?} was made up", durable.ballot);
        assert!(durable.committed <= self.committed, "more is committed than ever was");
    }
}

fn open(disk: &mut MemoryDisk, history: &History) -> (Wal, Durable) {
    let recovery = Wal::open(disk, history.identity, history.options, &history.first);
    let recovery = recovery.unwrap_or_else(|error| panic!("it does not open: {error}"));
    (recovery.wal, recovery.durable)
}

fn carry_out(job: &[Operation], disk: &mut MemoryDisk) {
    for operation in job {
        operation.perform(disk).expect("this disk does what it is told");
    }
}

/// Writes these in one batch.
fn carry_on(mut wal: Wal, writes: Vec<Write>, disk: &mut MemoryDisk) -> Wal {
    let last = writes.last().expect("one write at least").seq;
    let mut durable = WriteSeq::ZERO;
    writes.into_iter().for_each(|write| wal.submit(write));
    while !wal.is_idle() {
        if let Some(job) = wal.next_job() {
            carry_out(&job, disk);
            durable = wal.completed();
        } else {
            let job = wal.upkeep().expect("there is room, once the next segment is made");
            carry_out(&job, disk);
            wal.upkeep_done(Ok(()));
        }
    }
    assert_eq!(durable, last);
    wal
}

/// The same, but for how much of it is in memory.
fn assert_same(a: &Durable, b: &Durable) {
    let whole = |durable: &Durable| (durable.ballot, durable.base, durable.last(), durable.committed);
    assert_eq!(whole(a), whole(b));
    assert_eq!(a.snapshot, b.snapshot);
    let from = a.skipped_through().index.max(b.skipped_through().index);
    let tail = |durable: &Durable| -> Vec<Entry> {
        durable.entries.iter().filter(|entry| entry.id.index > from).cloned().collect()
    };
    assert_eq!(tail(a), tail(b));
}

/// One thing that may have become of a directory.
fn damage(disk: &mut MemoryDisk, older: &[MemoryDisk], rng: &mut Rng) {
    let names: Vec<FileName> = disk.files.keys().copied().collect();
    if names.is_empty() {
        return;
    }
    let (name, other) = (rng.pick(&names), rng.pick(&names));
    let kind = rng.below(12);
    let source = match rng.below(2) {
        1 if !older.is_empty() => older[rng.place(older.len())].files.get(&name).cloned(),
        _ => disk.files.get(&other).cloned(),
    };
    let source = source.unwrap_or_default();
    let bytes = disk.files.get_mut(&name).expect("it is in the list");
    if bytes.is_empty() {
        return;
    }
    // What is written lies at the beginning of a file that was made longer.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let at = rng.place(used);
    let sector = at / SECTOR * SECTOR;
    let end = (sector + SECTOR).min(bytes.len());
    match kind {
        0 | 1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes[sector..end].fill(0),
        3 => bytes[sector..end].iter_mut().for_each(|byte| *byte = rng.next() as u8),
        4 => bytes[at..end].fill(0),
        5 => bytes.truncate(at),
        // A sector of another place, file or time.
        6..=8 => {
            let from = rng.place(source.len().max(1)) / SECTOR * SECTOR;
            let from = if rng.one_in(2) { sector } else { from };
            if let Some(piece) = source.get(from..from + (end - sector)) {
                bytes[sector..end].copy_from_slice(piece);
            }
        }
        // All that lies behind, lost.
        9 => bytes[sector..].fill(0),
        10 => *bytes = source,
        _ => drop(disk.files.remove(&name)),
    }
}
