//! The log against the sum of its writes, over a disk that loses, tears and damages.

use super::*;
use crate::action::Write;
use crate::log::{Entry, EntryBody, Rebase, Snapshot};
use crate::membership::Membership;
use crate::raft::Durable;
use crate::types::{Ballot, ClusterId, Identity, Index, LogId, NodeId, Payload, Term, WriteSeq};
use crate::wal::sector::SECTOR;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use proptest::collection::vec as any_vec;
use proptest::prelude::*;

/// Chance, from a list that proptest can shorten: when it is used up, everything is zero.
struct Choices {
    list: Vec<u16>,
    at: usize,
    seed: u64,
}

impl Choices {
    fn new(list: Vec<u16>) -> Self {
        Self { list, at: 0, seed: 0 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        let value = self.list.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        u64::from(value) % bound.max(1)
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) + 1 == times
    }

    /// Chance that costs no choice: for what happens to each of many sectors.
    fn cheap(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.seed >> 33) % bound
    }

    fn is_over(&self) -> bool {
        self.at >= self.list.len()
    }
}

type File = Vec<u8>;

/// A disk of which a crash keeps any part of what was not synced.
#[derive(Default)]
struct Fragile {
    /// Each file as it is read, and as it is durable with the writes since.
    files: BTreeMap<u64, (File, File, Vec<(u64, Vec<u8>)>)>,
    names: BTreeMap<FileName, u64>,
    durable_names: BTreeMap<FileName, u64>,
    /// What was done to the names since they were synced.
    renamed: Vec<BTreeMap<FileName, u64>>,
    next: u64,
}

impl Fragile {
    fn id(&self, file: FileName) -> Result<u64, DiskError> {
        self.names.get(&file).copied().ok_or(DiskError::Missing(file))
    }

    fn crash(&mut self, choices: &mut Choices) {
        choices.seed = choices.below(1 << 16);
        self.renamed.push(self.names.clone());
        let kept = choices.below(self.renamed.len() as u64 + 1) as usize;
        if let Some(names) = kept.checked_sub(1).map(|kept| self.renamed[kept].clone()) {
            self.durable_names = names;
        }
        (self.names, self.renamed) = (self.durable_names.clone(), Vec::new());
        let patience = [1, 2, 100][choices.below(3) as usize];
        for (now, durable, writes) in self.files.values_mut() {
            for (at, bytes) in writes.drain(..) {
                for (piece, at) in bytes.chunks(SECTOR).zip((at as usize..).step_by(SECTOR)) {
                    let kept = match choices.cheap(patience) {
                        0 => 0,
                        1 => choices.cheap(SECTOR as u64) as usize,
                        _ => SECTOR,
                    };
                    let end = at + piece.len();
                    if durable.len() < end {
                        durable.resize(end, 0);
                    }
                    let kept = kept.min(piece.len());
                    durable[at..at + kept].copy_from_slice(&piece[..kept]);
                }
            }
            now.clone_from(durable);
        }
    }

    fn memory(&self) -> MemoryDisk {
        let files = self.names.iter().map(|(name, id)| (*name, self.files[id].0.clone())).collect();
        MemoryDisk { files }
    }

    fn note(&mut self) {
        self.renamed.push(self.names.clone());
    }
}

impl Disk for Fragile {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.names.iter().map(|(name, id)| (*name, self.files[id].0.len() as u64)).collect())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        self.next += 1;
        let zeros = vec![0; length as usize];
        self.files.insert(self.next, (zeros.clone(), zeros, Vec::new()));
        self.names.insert(file, self.next);
        self.note();
        Ok(())
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let (now, ..) = &self.files[&self.id(file)?];
        let rest = now.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let id = self.id(file)?;
        let (now, _, writes) = self.files.get_mut(&id).unwrap();
        let end = at as usize + bytes.len();
        now.resize(now.len().max(end), 0);
        now[at as usize..end].copy_from_slice(bytes);
        writes.push((at, bytes.to_vec()));
        Ok(())
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        let id = self.id(file)?;
        let (now, durable, writes) = self.files.get_mut(&id).unwrap();
        durable.clone_from(now);
        writes.clear();
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        let id = self.names.remove(&from).ok_or(DiskError::Missing(from))?;
        self.names.insert(to, id);
        self.note();
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.names.remove(&file).ok_or(DiskError::Missing(file))?;
        self.note();
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        (self.durable_names, self.renamed) = (self.names.clone(), Vec::new());
        Ok(())
    }
}

fn identity() -> Identity {
    Identity::new(ClusterId(7), NodeId::new(1).unwrap())
}

fn membership(members: u64) -> Arc<Membership> {
    Arc::new(Membership::of((1..=members).map(|id| NodeId::new(id).unwrap())).unwrap())
}

fn group() -> Durable {
    Durable::bootstrap((*membership(3)).clone())
}

const SMALL: Options = Options { segment_bytes: 16 * 4096, cached_bytes: u64::MAX };

/// What a kernel could write, and the log that this makes.
struct Writer {
    state: Durable,
    seq: u64,
}

impl Writer {
    fn write(&mut self, choices: &mut Choices) -> Write {
        let state = &self.state;
        let mut write = Write {
            seq: WriteSeq::new(self.seq + 1),
            ballot: state.ballot,
            starts: state.starts,
            truncate_after: None,
            rebase: None,
            refilled: Default::default(),
            append: Default::default(),
            committed: state.committed,
        };
        let mut last = state.last();
        if choices.once_in(8) {
            let term = Term::new(state.ballot.term().get() + 1);
            write.ballot = Ballot::new(term, NodeId::new(choices.below(4)));
        }
        let uncommitted = last.index - state.committed.max(state.base.index);
        if uncommitted > 0 && choices.once_in(6) {
            let after = last.index.get() - 1 - choices.below(uncommitted);
            write.truncate_after = Some(Index::new(after));
            last = self.id(after);
        }
        let known = self.state.entries.iter().filter(|entry| entry.id.index <= last.index);
        let lost = known.filter(|entry| entry.body == EntryBody::Lost).map(|entry| entry.id);
        write.refilled = lost.map(|id| Entry { id, body: body(id, 0) }).collect();
        let committed = self.state.committed.max(self.state.base.index);
        match choices.below(12) {
            10 if committed > self.state.base.index && last.index >= committed => {
                let base = self
                    .id(self.state.base.index.get() + choices.below(committed - self.state.base.index) + 1);
                write.rebase = Some(Box::new(Rebase { snapshot: snapshot(self.id(committed.get())), base }));
            }
            11 => {
                let beyond = last.index.get() + 1 + choices.below(20);
                last = LogId { term: write.ballot.term(), index: Index::new(beyond) };
                write.rebase = Some(Box::new(Rebase { snapshot: snapshot(last), base: last }));
                write.committed = last.index;
                write.refilled = Default::default();
            }
            _ => {}
        }
        let size = [0, 10, 700, 3000, 20_000][choices.below(5) as usize];
        let count = choices.below(6);
        let term = write.ballot.term();
        let entries = (1..=count).map(|more| {
            let id = LogId { term, index: last.index + more };
            Entry { id, body: body(id, size) }
        });
        write.append = entries.collect();
        if choices.once_in(3) {
            let end = last.index + count;
            write.committed = Index::new(write.committed.get() + choices.below(end - write.committed + 1));
        }
        self.seq += 1;
        self.state.write(&write);
        write
    }

    fn id(&self, index: u64) -> LogId {
        let base = self.state.base;
        match index.checked_sub(base.index.get() + 1) {
            None => base,
            Some(position) => self.state.entries[position as usize].id,
        }
    }
}

fn snapshot(last: LogId) -> Snapshot {
    Snapshot { last, configured: LogId::ZERO, membership: membership(1 + last.index.get() % 5) }
}

/// The body of the one entry that has this id.
fn body(id: LogId, size: usize) -> EntryBody {
    match (id.index.get() + id.term.get()) % 9 {
        0 => EntryBody::Blank,
        1 => EntryBody::Config(membership(1 + id.index.get() % 4)),
        _ => {
            let salt = id.index.get() * 31 + id.term.get();
            let bytes: Vec<u8> = (0..size as u64).map(|at| (at * 7 + salt) as u8).collect();
            EntryBody::Data(Payload::from(&bytes[..]))
        }
    }
}

/// Snapshots of a test have no files.
fn plain(mut durable: Durable) -> Durable {
    durable.snapshot_lost = false;
    durable
}

/// Every entry that the log says where to find is found there.
fn check_places(wal: &Wal, disk: &mut impl Disk, state: &Durable, max_bytes: u64) {
    let mut after = state.base.index;
    while after < state.last().index {
        let expected = &state.entries[(after - state.base.index) as usize..];
        if expected[0].body == EntryBody::Lost {
            assert_eq!(wal.locate(after, Index::MAX, max_bytes), None, "after {after:?}");
            after = after.next();
            continue;
        }
        let extent = wal.locate(after, Index::MAX, max_bytes).unwrap_or_else(|| panic!("after {after:?}"));
        let bytes = extent.read().perform(disk).unwrap();
        let entries = wal.entries(&extent, &bytes).unwrap();
        assert!(!entries.is_empty() && *entries == expected[..entries.len()], "after {after:?}");
        after = after + entries.len() as u64;
    }
    assert_eq!(wal.locate(after, Index::MAX, max_bytes), None);
}

/// Carries operations out; false where the power fails meanwhile.
fn perform(operations: &[Operation], disk: &mut Fragile, choices: &mut Choices, fragile: bool) -> bool {
    operations.iter().all(|operation| {
        let fails = fragile && choices.once_in(40);
        // What is being done when the power fails may have been done or not.
        if !fails || choices.once_in(2) {
            operation.perform(disk).unwrap();
        }
        !fails
    })
}

/// One life after the other on a disk that loses what was not synced.
fn lives(choices: &mut Choices, options: Options) -> Fragile {
    let mut disk = Fragile::default();
    let (mut acknowledged, mut in_flight) = (group(), Vec::new());
    for life in 0.. {
        let recovery = Wal::recover(&mut disk, identity(), options, &group()).unwrap();
        let found = plain(recovery.durable);
        assert!(
            found == acknowledged || in_flight.contains(&found),
            "life {life}: {:?}\n{found:?}\nis neither\n{acknowledged:?}\nnor of\n{in_flight:?}",
            recovery.found
        );
        assert_eq!((recovery.found.rotten_batches, recovery.found.lost.len()), (0, 0));
        let mut wal = recovery.wal;
        if !perform(&recovery.first, &mut disk, choices, true) {
            acknowledged = found;
            in_flight.clear();
            disk.crash(choices);
            continue;
        }
        acknowledged = found.clone();
        in_flight.clear();
        check_places(&wal, &mut disk, &found, choices.below(100_000));
        let mut writer = Writer { state: found, seq: 0 };
        writer.state.starts += 1;
        let mut queued: Vec<Write> = Vec::new();
        let mut alive = true;
        while alive && !(choices.is_over() && wal.is_idle()) {
            match if choices.is_over() { 3 } else { choices.below(8) } {
                0..=2 => {
                    let write = writer.write(choices);
                    wal.submit(write.clone());
                    queued.push(write);
                }
                3..=5 => {
                    if let Some(operations) = wal.next_job() {
                        let mut sum = acknowledged.clone();
                        for write in &queued {
                            sum.write(write);
                            in_flight.push(sum.clone());
                        }
                        alive = perform(&operations, &mut disk, choices, true);
                        if alive {
                            let seq = wal.completed();
                            for write in queued.extract_if(.., |write| write.seq <= seq) {
                                acknowledged.write(&write);
                            }
                            in_flight.clear();
                            check_places(&wal, &mut disk, &acknowledged, choices.below(100_000));
                        }
                    } else if let Some(operations) = wal.upkeep() {
                        alive = perform(&operations, &mut disk, choices, true);
                        wal.upkeep_done(Ok(()));
                    }
                }
                6 => {
                    if let Some(operations) = wal.mark() {
                        alive = perform(&operations, &mut disk, choices, true);
                        wal.completed();
                    }
                }
                _ => {
                    if let Some(operations) = wal.upkeep() {
                        alive = perform(&operations, &mut disk, choices, true);
                        wal.upkeep_done(Ok(()));
                    }
                }
            }
        }
        if choices.is_over() && alive {
            return disk;
        }
        disk.crash(choices);
    }
    unreachable!("there are enough lives")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Exactly what was acknowledged is there after a crash, and all or nothing of what was being written.
    #[test]
    fn what_was_acknowledged_survives_every_crash(list in any_vec(any::<u16>(), 0..600)) {
        lives(&mut Choices::new(list), SMALL);
    }
}
