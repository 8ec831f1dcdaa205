//! The log against the sum of its writes, over a disk that loses, tears and damages.

use super::*;
use crate::action::Write;
use crate::durable::Durable;
use crate::log::{Entry, EntryBody, Rebase, Skipped, Snapshot};
use crate::membership::Membership;
use crate::types::{Ballot, ClusterId, Identity, Index, LogId, NodeId, Payload, Term, WriteSeq};
use crate::wal::sector::{BLOCK, SECTOR};
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

/// A file as it is read, and as it is durable, with the writes since.
#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    writes: Vec<(u64, Vec<u8>)>,
}

/// A disk of which a crash keeps any part of what was not synced.
#[derive(Default)]
struct Fragile {
    files: BTreeMap<u64, File>,
    names: BTreeMap<FileName, u64>,
    durable_names: BTreeMap<FileName, u64>,
    /// What was done to the names since they were synced: which is of this file now, if any, and which is of
    /// none.
    renamed: Vec<(FileName, Option<u64>, Option<FileName>)>,
    next: u64,
}

impl Fragile {
    fn id(&self, file: FileName) -> Result<u64, DiskError> {
        self.names.get(&file).copied().ok_or(DiskError::Missing(file))
    }

    /// The power fails; or only the member ends, and the disk still holds back what was not synced.
    fn crash(&mut self, choices: &mut Choices) {
        if choices.once_in(3) {
            return;
        }
        choices.seed = choices.below(1 << 16);
        // Any of it may be so, and any of it not.
        for (name, id, gone) in core::mem::take(&mut self.renamed) {
            if choices.cheap(2) == 0 {
                match id {
                    Some(id) => drop(self.durable_names.insert(name, id)),
                    None => drop(self.durable_names.remove(&name)),
                }
                gone.map(|gone| self.durable_names.remove(&gone));
            }
        }
        self.names = self.durable_names.clone();
        let patience = [1, 2, 100][choices.below(3) as usize];
        for File { now, durable, writes } in self.files.values_mut() {
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

    /// Damages one sector of those that were ever written, or all of its block; of the vote alone where that
    /// is asked. Says which.
    fn damage(&mut self, choices: &mut Choices, vote_alone: bool) -> (FileName, usize) {
        let written = |(name, id): (&FileName, &u64)| {
            let (name, bytes) = (*name, &self.files[id].durable);
            let sectors = bytes.chunks(SECTOR).enumerate();
            let used = sectors.filter(|(_, sector)| sector.iter().any(|&byte| byte != 0));
            used.map(move |(sector, _)| (name, sector)).collect::<Vec<_>>()
        };
        let logs = self.names.iter().filter(|(name, _)| match name {
            FileName::Vote(_) => true,
            FileName::Spare(_) => false,
            _ => !vote_alone,
        });
        let all: Vec<_> = logs.flat_map(written).collect();
        let (name, sector) = all[choices.below(all.len() as u64) as usize];
        let other = all[choices.below(all.len() as u64) as usize];
        let other = self.files[&self.names[&other.0]].durable[other.1 * SECTOR..][..SECTOR].to_vec();
        let file = self.files.get_mut(&self.names[&name]).unwrap();
        let block = sector * SECTOR / BLOCK * BLOCK;
        let block = block..(block + BLOCK).min(file.durable.len());
        match choices.below(5) {
            3 => file.durable[block].fill(0),
            4 => file.durable[block].fill(0xa5),
            0 => {
                let bit = choices.below(SECTOR as u64 * 8) as usize;
                file.durable[sector * SECTOR + bit / 8] ^= 1 << (bit % 8);
            }
            1 => file.durable[sector * SECTOR..][..SECTOR].fill(0),
            _ => file.durable[sector * SECTOR..][..SECTOR].copy_from_slice(&other),
        }
        file.now.clone_from(&file.durable);
        (name, sector)
    }
}

impl Disk for Fragile {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.names.iter().map(|(name, id)| (*name, self.files[id].now.len() as u64)).collect())
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        self.next += 1;
        let zeros = vec![0; length as usize];
        self.files.insert(self.next, File { now: zeros.clone(), durable: zeros, writes: Vec::new() });
        self.names.insert(file, self.next);
        self.renamed.push((file, Some(self.next), None));
        Ok(())
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let now = &self.files[&self.id(file)?].now;
        let rest = now.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let id = self.id(file)?;
        let File { now, writes, .. } = self.files.get_mut(&id).unwrap();
        let end = at as usize + bytes.len();
        now.resize(now.len().max(end), 0);
        now[at as usize..end].copy_from_slice(bytes);
        writes.push((at, bytes.to_vec()));
        Ok(())
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        let id = self.id(file)?;
        let File { now, durable, writes } = self.files.get_mut(&id).unwrap();
        durable.clone_from(now);
        writes.clear();
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        let id = self.names.remove(&from).ok_or(DiskError::Missing(from))?;
        self.names.insert(to, id);
        self.renamed.push((to, Some(id), Some(from)));
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.names.remove(&file).ok_or(DiskError::Missing(file))?;
        self.renamed.push((file, None, None));
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

const SMALL: WalOptions = WalOptions { segment_bytes: 16 * 4096, cached_bytes: u64::MAX };

/// What a kernel could write, and the log that this makes.
struct Writer {
    state: Durable,
    seq: u64,
    /// The latest term of any life, also of those that were forgotten: no two leaders have the same.
    terms: u64,
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
            repaired: Default::default(),
            append: Default::default(),
            committed: state.committed,
        };
        let mut last = state.last();
        let uncommitted = last.index - state.committed.max(state.base.index);
        let truncates = uncommitted > 0 && choices.once_in(6);
        if self.seq == 0 || truncates || choices.once_in(8) {
            self.terms += 1;
            write.ballot = Ballot::new(Term::new(self.terms), NodeId::new(choices.below(4)));
        }
        if truncates {
            let after = last.index.get() - 1 - choices.below(uncommitted);
            write.truncate_after = Some(Index::new(after));
            last = self.id(after);
        }
        let known = self.state.entries.iter().filter(|entry| entry.id.index <= last.index);
        let lost = known.filter(|entry| entry.body == EntryBody::Lost).map(|entry| entry.id);
        write.repaired = lost.map(|id| Entry { id, body: body(id) }).collect();
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
                write.repaired = Default::default();
            }
            _ => {}
        }
        let count = choices.below(6);
        let term = write.ballot.term();
        let entries = (1..=count).map(|more| {
            let id = LogId { term, index: last.index + more };
            Entry { id, body: body(id) }
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
fn body(id: LogId) -> EntryBody {
    match (id.index.get() + id.term.get()) % 9 {
        0 => EntryBody::Blank,
        1 => EntryBody::Config(membership(1 + id.index.get() % 4)),
        _ => {
            let salt = id.index.get() * 31 + id.term.get();
            let size = [0, 10, 30, 700, 3000, 20_000, 600][salt as usize / 3 % 7];
            let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + salt) as u8).collect();
            EntryBody::Data(Payload::from(&bytes[..]))
        }
    }
}

/// A log without what is left out of another, as if that had been left out of it too.
fn skipped_like(found: &Durable, state: &Durable) -> Durable {
    let count = found.skipped.last.map_or(0, |last| last.index.get().saturating_sub(state.base.index.get()));
    let count = usize::try_from(count).unwrap().min(state.entries.len());
    let mut state = state.clone();
    for entry in state.entries.drain(..count).map(|entry| seen(found, entry)) {
        state.skipped.push(&entry);
    }
    state
}

/// An entry that is left out of a log, as that log has it.
fn seen(found: &Durable, entry: Entry) -> Entry {
    if found.skipped.lost.contains(entry.id.index) { Entry { body: EntryBody::Lost, ..entry } } else { entry }
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

/// Whether a log is what it was but for the bodies of entries that it says are lost.
fn survives(found: &Durable, lost: &[(LogId, LogId)], expected: &Durable) -> bool {
    let expected = &skipped_like(found, expected);
    let is_lost = |id: LogId| lost.iter().any(|(after, through)| *after < id && id <= *through);
    let bodies = found.entries.iter().zip(&expected.entries).all(|(found, expected)| {
        found.id == expected.id
            && (found.body == body(found.id) || found.body == EntryBody::Lost && is_lost(found.id))
    });
    let blank = |durable: &Durable| Durable { entries: Vec::new(), ..durable.clone() };
    bodies && found.last() == expected.last() && blank(found) == blank(expected)
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

/// A log that is opened again and again, on a disk that loses what was not synced; and, where it rots,
/// damages a sector now and then, of what is known to be durable.
struct Lives<'a> {
    choices: &'a mut Choices,
    disk: Fragile,
    rots: bool,
    damages: Vec<(FileName, usize)>,
    terms: u64,
    acknowledged: Durable,
    /// The states that a crash may leave instead: one for each write on its way to the disk.
    in_flight: Vec<Durable>,
}

fn lives(choices: &mut Choices, options: WalOptions, rots: bool) {
    let (disk, damages, in_flight) = (Fragile::default(), Vec::new(), Vec::new());
    let mut lives = Lives { choices, disk, rots, damages, terms: 0, acknowledged: group(), in_flight };
    for life in 0.. {
        let Some(recovery) = lives.recover(life, options) else { return };
        let Recovery { wal, first, durable, found } = recovery;
        if lives.perform(&first) {
            lives.begin(&wal, plain(durable), &found.lost);
            if lives.live(wal) {
                return;
            }
        }
        lives.disk.crash(lives.choices);
    }
}

impl Lives<'_> {
    fn perform(&mut self, operations: &[Operation]) -> bool {
        perform(operations, &mut self.disk, self.choices, true)
    }

    /// Recovers one of the states that may be on the disk. None where too much is damaged.
    fn recover(&mut self, life: u64, options: WalOptions) -> Option<Recovery> {
        let Self { disk, damages, acknowledged, in_flight, .. } = self;
        let recovery = match Wal::recover(disk, identity(), options, &group()) {
            Ok(recovery) => recovery,
            Err(RecoverError::TooMuch(_) | RecoverError::VoteLost) if damages.len() > 1 => return None,
            Err(error) => panic!("life {life}, damaged {damages:?}: {error}"),
        };
        let (durable, lost) = (plain(recovery.durable.clone()), &recovery.found.lost);
        assert!(
            survives(&durable, lost, acknowledged) || in_flight.iter().any(|it| survives(&durable, lost, it)),
            "life {life}, damaged {damages:?}: {:?}\n{durable:?}\nis neither\n{acknowledged:?}\nnor of\n{in_flight:?}",
            recovery.found
        );
        if damages.is_empty() {
            assert_eq!((recovery.found.rotten_batches, recovery.found.lost.len()), (0, 0));
        }
        Some(recovery)
    }

    /// What was found is durable from now on. What was left out of memory comes back from whichever of the
    /// states it was.
    fn begin(&mut self, wal: &Wal, found: Durable, lost: &[(LogId, LogId)]) {
        let whole = |state: &&Durable| survives(&found, lost, state);
        let state = core::iter::once(&self.acknowledged).chain(&self.in_flight).find(whole);
        let entries = &state.expect("one was found").entries;
        let (left_out, _) = entries.split_at(entries.len() - found.entries.len());
        let left_out = left_out.iter().cloned().map(|entry| seen(&found, entry));
        let entries = left_out.chain(found.entries.iter().cloned()).collect();
        self.acknowledged = Durable { skipped: Skipped::default(), entries, ..found };
        self.in_flight.clear();
        self.check_places(wal);
    }

    fn check_places(&mut self, wal: &Wal) {
        let max_bytes = self.choices.below(100_000);
        check_places(wal, &mut self.disk, &self.acknowledged, max_bytes);
    }

    /// Writes until the power fails. Returns whether chance is used up before.
    fn live(&mut self, mut wal: Wal) -> bool {
        let mut writer = Writer { state: self.acknowledged.clone(), seq: 0, terms: self.terms };
        writer.state.starts += 1;
        let (mut queued, mut alive) = (Vec::new(), true);
        while alive && !(self.choices.is_over() && wal.is_idle()) {
            alive = match if self.choices.is_over() { 3 } else { self.choices.below(8) } {
                0..=2 => {
                    let write = writer.write(self.choices);
                    wal.submit(write.clone());
                    queued.push(write);
                    true
                }
                3..=5 => self.write_batch(&mut wal, &mut queued),
                6 => self.mark(&mut wal),
                _ => self.keep_up(&mut wal),
            };
        }
        self.terms = writer.terms;
        self.choices.is_over() && alive
    }

    /// Writes what is queued, if anything is; false where the power fails meanwhile.
    fn write_batch(&mut self, wal: &mut Wal, queued: &mut Vec<Write>) -> bool {
        let Some(operations) = wal.next_job() else {
            return self.keep_up(wal);
        };
        let mut sum = self.acknowledged.clone();
        for write in &*queued {
            sum.write(write);
            self.in_flight.push(sum.clone());
        }
        // Beside that, and possibly sooner.
        let beside = self.choices.once_in(3);
        if (beside && !self.keep_up(wal)) || !self.perform(&operations) {
            return false;
        }
        let seq = wal.completed();
        for write in queued.extract_if(.., |write| write.seq <= seq) {
            self.acknowledged.write(&write);
        }
        self.in_flight.clear();
        self.check_places(wal);
        true
    }

    fn mark(&mut self, wal: &mut Wal) -> bool {
        let mut alive = true;
        if let Some(operations) = wal.mark() {
            alive = self.perform(&operations);
            wal.completed();
        }
        // A vote needs no mark: no bad block takes it.
        if self.rots && alive && wal.is_idle() && self.choices.once_in(2) {
            alive = false;
            self.damages.push(self.disk.damage(self.choices, !wal.is_marked()));
        }
        alive
    }

    fn keep_up(&mut self, wal: &mut Wal) -> bool {
        let Some(operations) = wal.upkeep() else {
            return true;
        };
        let alive = self.perform(&operations);
        wal.upkeep_done(Ok(()));
        alive
    }
}

proptest! {
    /// Exactly what was acknowledged is there after a crash, and all or nothing of what was being written.
    #[test]
    fn what_was_acknowledged_survives_every_crash(list in any_vec(any::<u16>(), 0..600)) {
        lives(&mut Choices::new(list), SMALL, false);
    }

    /// What is left out of memory is left out of nothing else.
    #[test]
    fn a_log_larger_than_memory_survives_as_well(list in any_vec(any::<u16>(), 0..600), rots: bool) {
        let options = WalOptions { cached_bytes: 20_000, ..SMALL };
        lives(&mut Choices::new(list), options, rots);
    }

    /// What rots is told by its ids, and nothing else is lost; what is had from others again is there after
    /// the next crash.
    #[test]
    fn damage_is_never_silent(list in any_vec(any::<u16>(), 0..600)) {
        lives(&mut Choices::new(list), SMALL, true);
    }
}
