//! What a log does, sentence by sentence.

use super::*;
use crate::action::Write;
use crate::config::{self, Config};
use crate::durable::{Durable, RestoreError};
use crate::log::{Entry, EntryBody, Rebase, Snapshot};
use crate::membership::Membership;
use crate::raft::Raft;
use crate::time::Instant;
use crate::types::{
    Ballot, ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId, Payload, Term, WriteSeq,
};
use crate::wal::header::{CRC64, HEADER_BLOCKS, SegmentHeader};
use crate::wal::sector::{BLOCK, Kind, SECTOR, Seal, Sector};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use proptest::collection::vec as any_vec;
use proptest::prelude::*;

const OPTIONS: WalOptions = WalOptions { segment_bytes: 16 * BLOCK as u64, cached_bytes: u64::MAX };

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn identity() -> Identity {
    Identity::new(ClusterId(7), Member::new(node(1), Incarnation(9)))
}

fn group() -> Durable {
    Durable::bootstrap(Membership::of([1, 2, 3].map(node)).unwrap())
}

/// A log in use: what was submitted, and what its disk holds.
struct Used {
    disk: MemoryDisk,
    wal: Wal,
    state: Durable,
    seq: u64,
}

impl Used {
    fn new() -> Self {
        Self::on(MemoryDisk::default())
    }

    fn on(disk: MemoryDisk) -> Self {
        Self::on_with(disk, OPTIONS)
    }

    fn on_with(mut disk: MemoryDisk, options: WalOptions) -> Self {
        let Recovery { wal, durable, .. } = Wal::open(&mut disk, identity(), options, &group()).unwrap();
        Self { disk, wal, state: durable, seq: 0 }
    }

    fn perform(&mut self, operations: &[Operation]) {
        for operation in operations {
            operation.perform(&mut self.disk).unwrap();
        }
    }

    fn blank(&mut self) -> Write {
        self.seq += 1;
        Write {
            seq: WriteSeq::new(self.seq),
            ballot: self.state.ballot,
            starts: self.state.starts,
            truncate_after: None,
            rebase: None,
            repaired: Default::default(),
            append: Default::default(),
            committed: self.state.committed,
        }
    }

    fn submit(&mut self, write: Write) {
        self.state.write(&write);
        self.wal.submit(write);
    }

    /// Entries of these sizes, in term 1 as everything here.
    fn append(&mut self, sizes: &[usize]) {
        let mut write = self.blank();
        let last = self.state.last().index.get();
        write.ballot = Ballot::new(Term::new(1), Some(node(2)));
        write.append = entries(last, sizes).into_iter().collect();
        self.submit(write);
    }

    fn rebase(&mut self, through: u64) {
        let mut write = self.blank();
        let base = self.state.id(Index::new(through)).unwrap();
        let membership = group().snapshot.unwrap().membership;
        let snapshot = Snapshot { last: base, configured: LogId::ZERO, membership };
        write.rebase = Some(Box::new(Rebase { snapshot, base }));
        write.committed = base.index;
        self.submit(write);
    }

    /// Writes everything, with the upkeep that this needs. Returns how many jobs it took.
    fn write(&mut self) -> u64 {
        let mut jobs = 0;
        while !self.wal.is_idle() {
            if let Some(operations) = self.wal.next_job() {
                self.perform(&operations);
                self.wal.completed();
                jobs += 1;
            } else {
                self.keep_up();
            }
        }
        jobs
    }

    fn keep_up(&mut self) {
        while let Some(operations) = self.wal.upkeep() {
            self.perform(&operations);
            self.wal.upkeep_done(Ok(()));
        }
    }

    /// Marks what was written last. Returns how many jobs it took.
    fn mark(&mut self) -> u64 {
        let mut jobs = 0;
        while let Some(operations) = self.wal.mark() {
            assert_eq!(syncs(&operations), 1, "{operations:?}");
            self.perform(&operations);
            self.wal.completed();
            jobs += 1;
        }
        jobs
    }

    fn recover(&self) -> Result<Recovery, RecoverError> {
        Wal::recover(&mut self.disk.clone(), identity(), OPTIONS, &group())
    }

    fn file(&mut self, file: FileName) -> &mut Vec<u8> {
        self.disk.files.get_mut(&file).unwrap()
    }

    /// The sectors of the segment that is written to which hold something behind its header, by their
    /// numbers.
    fn used_sectors(&self) -> (FileName, Vec<usize>) {
        let mut segments = self.disk.files.iter().filter(|(file, _)| matches!(file, FileName::Segment(_)));
        let (file, bytes) = segments.next_back().unwrap();
        let used = |&sector: &usize| bytes[sector * SECTOR..][..SECTOR].iter().any(|&byte| byte != 0);
        let first = HEADER_BLOCKS as usize * BLOCK / SECTOR;
        (*file, (first..bytes.len() / SECTOR).filter(used).collect())
    }
}

/// A log of three batches whose entries have these lengths, and the sectors of the last two, eight each.
fn three_batches(sizes: [&[usize]; 3]) -> (Used, FileName, [Vec<usize>; 2]) {
    let mut used = Used::new();
    for sizes in sizes {
        used.append(sizes);
        used.write();
    }
    let (file, sectors) = used.used_sectors();
    let (last_but_one, last) = sectors[sectors.len() - 16..].split_at(8);
    let parts = [last_but_one.to_vec(), last.to_vec()];
    (used, file, parts)
}

/// How long each file of the vote is.
const VOTE: usize = 3 * BLOCK;

fn syncs(job: &[Operation]) -> usize {
    job.iter().filter(|operation| matches!(operation, Operation::Sync(_) | Operation::SyncDirectory)).count()
}

fn entries(last: u64, sizes: &[usize]) -> Vec<Entry> {
    let data = |(size, index): (&usize, u64)| Entry {
        id: LogId::new(1, index),
        body: EntryBody::Data(Payload::from(&vec![index as u8; *size][..])),
    };
    sizes.iter().zip(last + 1..).map(data).collect()
}

fn plain(mut durable: Durable) -> Durable {
    durable.snapshot_lost = false;
    durable
}

#[test]
fn writes_that_wait_share_a_sync() {
    let mut used = Used::new();
    used.append(&[10]);
    used.write();
    used.append(&[10]);
    used.append(&[20, 30]);
    let job = used.wal.next_job().unwrap();
    assert!(matches!(job[..], [Operation::Write { .. }, Operation::Sync(FileName::Segment(1))]), "{job:?}");
    assert_eq!(used.wal.next_job(), None);
    used.perform(&job);
    assert_eq!(used.wal.completed(), WriteSeq::new(3));
    assert_eq!(plain(used.recover().unwrap().durable), used.state);
}

/// Where a job writes, and what it syncs.
fn places(job: &[Operation]) -> Vec<(FileName, Option<u64>)> {
    let place = |operation: &Operation| match operation {
        Operation::Write { file, at, .. } => (*file, Some(*at / BLOCK as u64)),
        Operation::Sync(file) => (*file, None),
        other => panic!("{other:?}"),
    };
    job.iter().map(place).collect()
}

/// An election waits for it on both sides.
#[test]
fn a_ballot_alone_takes_one_sync() {
    let mut used = Used::new();
    let [a, b] = [Slot::A, Slot::B].map(FileName::Vote);
    for (term, file) in (1..).zip([a, b, a, b]) {
        used.replace(term, 0, 0);
        let job = used.wal.next_job().unwrap();
        assert_eq!(places(&job), [(file, Some(0)), (file, Some(2)), (file, None)], "the other one stands");
        used.perform(&job);
        assert_eq!(used.wal.completed(), WriteSeq::new(used.seq));
        assert_eq!(plain(used.recover().unwrap().durable), used.state);
    }
    // What follows it waits for the next job, and does not make it wait.
    used.replace(7, 0, 0);
    used.append(&[10]);
    assert_eq!(
        (used.wal.next_job().map(|job| syncs(&job)), used.wal.completed()),
        (Some(1), WriteSeq::new(5))
    );
    let job = used.wal.next_job().unwrap();
    let log = FileName::Segment(1);
    assert_eq!(places(&job)[..2], [(log, Some(3)), (log, None)], "the ballots took no room");
}

/// The vote of a write with entries stands beside their batch as well.
#[test]
fn a_ballot_with_entries_is_written_behind_them() {
    let mut used = Used::new();
    used.append(&[10]);
    let job = used.wal.next_job().unwrap();
    let (log, vote) = (FileName::Segment(1), FileName::Vote(Slot::A));
    let expected = [(log, Some(3)), (log, None), (vote, Some(0)), (vote, Some(2)), (vote, None)];
    assert_eq!(places(&job), expected);
}

/// Without any mark.
#[test]
fn no_bad_block_takes_a_vote() {
    for ballots in 1..4 {
        let mut used = Used::new();
        used.append(&[10]);
        used.write();
        for term in 2..2 + ballots {
            used.replace(term, 1, 0);
            used.write();
        }
        assert!(!used.wal.is_marked());
        let files: Vec<_> = used.disk.files.keys().copied().collect();
        for file in files {
            let blank = |block: &usize| used.disk.files[&file][block * BLOCK..][..BLOCK] == [0; BLOCK];
            for block in (0..used.disk.files[&file].len() / BLOCK).filter(|block| !blank(block)) {
                for rot in [0, 7, 0xa5] {
                    let mut damaged = used.fork();
                    damaged.file(file)[block * BLOCK..][..BLOCK].fill(rot);
                    match damaged.recover() {
                        Ok(recovery) => {
                            assert_eq!(recovery.durable.ballot, used.state.ballot, "{file} {block}");
                        }
                        Err(error) => panic!("{file} {block}: {error}"),
                    }
                }
            }
        }
    }
}

#[test]
fn an_unfinished_ballot_leaves_the_one_before() {
    let mut used = Used::new();
    for term in 1..6 {
        let before = used.state.ballot;
        used.replace(term, 0, 0);
        let job = used.wal.next_job().unwrap();
        for torn in 0..3 {
            let mut cut = used.fork();
            for operation in &job[..2] {
                let Operation::Write { file, at, bytes } = operation else { panic!("{operation:?}") };
                let place = &mut cut.file(*file)[usize::try_from(*at).unwrap()..][..BLOCK];
                for (sector, new) in place.chunks_mut(SECTOR).zip(bytes.chunks(SECTOR)) {
                    let kept = [0, 100, 500][torn];
                    sector[..kept].copy_from_slice(&new[..kept]);
                }
            }
            let recovery = cut.recover().unwrap();
            assert_eq!((recovery.durable.ballot, recovery.found.bad_votes), (before, u64::from(torn > 0)));
        }
        used.perform(&job);
        used.wal.completed();
    }
}

/// Earlier libraries wrote one block, and both copies.
#[test]
fn a_copy_of_one_block_is_read_and_written_in_full() {
    let mut used = Used::new();
    used.append(&[10]);
    used.write();
    for slot in [Slot::A, Slot::B] {
        used.file(FileName::Vote(slot)).truncate(BLOCK);
    }
    assert_eq!(used.recover().unwrap().found.bad_votes, 0);
    let used = Used::on(used.disk);
    for slot in [Slot::A, Slot::B] {
        assert_eq!(used.disk.files[&FileName::Vote(slot)].len(), VOTE);
    }
}

/// What was read of a copy may be in the memory of a machine whose process was killed. So the other one
/// stands until it is durable.
#[test]
fn a_start_writes_the_latest_copy_of_the_vote_first() {
    for ballots in 1..4 {
        let mut used = Used::new();
        for term in 1..=ballots {
            used.replace(term, 0, 0);
            used.write();
        }
        let [latest, other] = if ballots % 2 == 1 { [Slot::A, Slot::B] } else { [Slot::B, Slot::A] };
        let order = |used: &Used| -> Vec<FileName> {
            let first = used.recover().unwrap().first;
            let synced = first.iter().filter_map(|operation| match operation {
                Operation::Sync(file @ FileName::Vote(_)) => Some(*file),
                _ => None,
            });
            synced.collect()
        };
        assert_eq!(order(&used), [latest, other].map(FileName::Vote));
        // The only one that can be read stands until there is another.
        used.file(FileName::Vote(other)).fill(7);
        assert_eq!(order(&used), [other, latest].map(FileName::Vote));
    }
}

/// A ballot alone stands in no other file; but a start that was cut short has written none.
#[test]
fn without_any_copy_of_the_vote_a_member_that_ran_does_not_start() {
    let recovery = Wal::recover(&mut MemoryDisk::default(), identity(), OPTIONS, &group()).unwrap();
    let mut disk = MemoryDisk::default();
    let mut is_torn = false;
    for operation in &recovery.first {
        operation.perform(&mut disk).unwrap();
        if let Operation::Write { file: FileName::Vote(Slot::A), .. } = operation {
            let mut torn = disk.clone();
            torn.files.get_mut(&FileName::Vote(Slot::A)).unwrap()[50..].fill(0);
            Wal::open(&mut torn, identity(), OPTIONS, &group()).unwrap();
            is_torn = true;
        }
    }
    assert!(is_torn);
    let (mut bare, mut entries) = (Used::on(disk.clone()), Used::on(disk));
    bare.replace(1, 0, 0);
    entries.state.starts += 1;
    entries.append(&[10]);
    bare.write();
    entries.write();
    for (used, rot) in [(&bare, 7), (&entries, 7), (&entries, 0)] {
        let mut used = used.fork();
        for slot in [Slot::A, Slot::B] {
            used.file(FileName::Vote(slot)).fill(rot);
        }
        assert_eq!(used.recover().unwrap_err(), RecoverError::VoteLost);
    }
}

#[test]
fn entries_that_a_later_write_takes_back_are_never_written() {
    let mut used = Used::new();
    used.append(&[10, 20_000]);
    let mut write = used.blank();
    write.truncate_after = Some(Index::new(1));
    write.ballot = Ballot::new(Term::new(2), None);
    write.append = [Entry { id: LogId::new(2, 2), body: EntryBody::Blank }].into_iter().collect();
    used.submit(write);
    let job = used.wal.next_job().unwrap();
    assert!(matches!(&job[0], Operation::Write { bytes, .. } if bytes.len() == BLOCK));
    used.perform(&job);
    assert_eq!(plain(used.recover().unwrap().durable), used.state);
}

#[test]
fn a_write_larger_than_a_segment_gets_one_of_its_own() {
    let mut used = Used::new();
    used.append(&[10]);
    used.append(&[500_000]);
    used.append(&[10]);
    // The first goes into what there is, and the second waits for space that is large enough.
    assert_eq!(used.write(), 2);
    assert_eq!(plain(used.recover().unwrap().durable), used.state);
    let largest = used.disk.files.values().map(Vec::len).max().unwrap();
    assert!((500_000..530_000).contains(&largest), "{largest}");
}

#[test]
fn what_lies_before_the_base_is_removed_and_nothing_else() {
    let mut used = Used::new();
    for _ in 0..40 {
        used.append(&[3000, 3000]);
        used.write();
        used.keep_up();
    }
    let segments =
        |used: &Used| used.disk.files.keys().filter(|file| matches!(file, FileName::Segment(_))).count();
    let before = segments(&used);
    assert!(before > 5, "{before}");
    used.rebase(70);
    used.write();
    used.keep_up();
    assert!(segments(&used) <= 2, "{}", segments(&used));
    assert_eq!(plain(used.recover().unwrap().durable), used.state);
    assert_eq!(used.recover().unwrap().found.lost, []);
}

#[test]
fn a_member_that_starts_again_and_again_takes_no_more_space() {
    let mut used = Used::new();
    used.append(&[3000]);
    used.write();
    let mut files = 0;
    for start in 0..10 {
        let state = used.state.clone();
        let life = used.wal.life();
        used = Used::on(used.disk);
        assert!(used.wal.life() > life);
        assert_eq!(plain(used.state.clone()), state);
        used.keep_up();
        if start == 1 {
            files = used.disk.files.len();
        }
    }
    assert_eq!(used.disk.files.len(), files);
}

#[test]
fn on_a_full_disk_writes_wait_and_nothing_is_lost() {
    let mut used = Used::new();
    let full = Err(&DiskError::Full);
    let mut refused = 0;
    while used.wal.has_room() {
        used.append(&[3000]);
        if let Some(operations) = used.wal.next_job() {
            used.perform(&operations);
            used.wal.completed();
        }
        if used.wal.upkeep().is_some() {
            used.wal.upkeep_done(full);
            refused += 1;
        }
    }
    assert!(refused > 0);
    // What was handed out before that was known still finds room; and then what there is waits.
    used.append(&[3000]);
    while used.wal.next_job().is_some() {
        used.wal.completed();
        used.append(&[3000]);
    }
    assert!(!used.wal.is_idle() && !used.wal.has_room());
    // It still has no room while it tries again.
    let operations = used.wal.upkeep().unwrap();
    assert!(!used.wal.has_room());
    used.perform(&operations);
    used.wal.upkeep_done(Ok(()));
    assert!(used.wal.has_room() && used.wal.next_job().is_some());
}

#[test]
fn only_entries_that_touch_a_damaged_sector_are_lost() {
    let mut used = Used::new();
    used.append(&[400; 20]);
    used.write();
    used.append(&[400; 20]);
    used.write();
    let (file, sectors) = used.used_sectors();
    let mut lost = 0;
    for sector in sectors {
        let mut damaged = Used { disk: used.disk.clone(), wal: used.wal.clone(), state: group(), seq: 0 };
        damaged.file(file)[sector * SECTOR + 100] ^= 4;
        let Recovery { durable, found, .. } = damaged.recover().unwrap();
        let gone = durable.entries.iter().filter(|entry| entry.body == EntryBody::Lost).count();
        assert!(gone <= 3, "{gone} are lost with sector {sector}");
        assert_eq!((durable.last(), durable.ballot), (used.state.last(), used.state.ballot));
        assert_eq!(gone == 0, found.lost.is_empty());
        assert_eq!((found.rotten_batches, found.rotten_sectors), (1, 1));
        lost += gone;
    }
    assert!(lost >= 40, "{lost}");
}

/// A log with a hole near its beginning takes no more memory than one without.
#[test]
fn a_log_larger_than_memory_is_left_out_of_it_past_what_is_lost() {
    let mut used = Used::new();
    for _ in 0..300 {
        let mut write = used.blank();
        write.ballot = Ballot::new(Term::new(1), Some(node(2)));
        let last = used.state.last().index;
        (write.append, write.committed) = (entries(last.get(), &[400, 400]).into_iter().collect(), last);
        used.submit(write);
        used.write();
    }
    let hole = 3 * BLOCK + SECTOR;
    used.file(FileName::Segment(1))[hole] ^= 1;
    let options = WalOptions { cached_bytes: 5_000, ..OPTIONS };
    let Recovery { durable, found, wal, .. } =
        Wal::recover(&mut used.disk.clone(), identity(), options, &group()).unwrap();
    assert_eq!(found.lost, [(LogId::ZERO, LogId::new(1, 2))]);
    assert!(durable.entries.len() < 12, "{} entries are in memory", durable.entries.len());
    assert_eq!(durable.last(), used.state.last());
    assert!(
        wal.locate(Index::ZERO, Index::MAX, 1).is_none()
            && wal.locate(Index::new(2), Index::MAX, 1).is_some()
    );

    // What has come back is there after the next start, in its place.
    used = Used::on_with(used.disk, options);
    let mut write = used.blank();
    write.repaired = entries(0, &[400, 400]).into_iter().collect();
    used.submit(write);
    used.write();
    let expected = used.state;
    used = Used::on_with(used.disk, options);
    assert_eq!((used.state.lost(), used.state.last()), (vec![], expected.last()));
    let extent = used.wal.locate(Index::ZERO, Index::MAX, 1).unwrap();
    let bytes = extent.read().perform(&mut used.disk).unwrap();
    assert_eq!(*used.wal.entries(&extent, &bytes).unwrap(), entries(0, &[400])[..]);
}

/// Where all of a long piece is lost, the ids of that are not all in memory either.
#[test]
fn what_is_lost_takes_no_memory_for_each_entry() {
    let mut used = Used::new();
    used.keep_up();
    let segments =
        |used: &Used| used.disk.files.keys().filter(|it| matches!(it, FileName::Segment(_))).count();
    while segments(&used) < 4 {
        let mut write = used.blank();
        write.ballot = Ballot::new(Term::new(1), Some(node(2)));
        let last = used.state.last().index;
        (write.append, write.committed) = (entries(last.get(), &[1; 100]).into_iter().collect(), last);
        used.submit(write);
        used.write();
        used.keep_up();
    }
    used.file(FileName::Segment(2)).fill(7);
    let options = WalOptions { cached_bytes: 2_000, ..OPTIONS };
    let Recovery { durable, found, .. } =
        Wal::recover(&mut used.disk.clone(), identity(), options, &group()).unwrap();
    let [(after, through)] = found.lost[..] else { panic!("{:?}", found.lost) };
    assert!(through.index - after.index > 500);
    let in_memory = durable.entries.len();
    assert!(in_memory < 250, "{in_memory} entries, of which the last 100 are not committed");
}

#[test]
fn without_a_mark_the_last_batch_may_be_unfinished_and_with_one_it_is_damaged() {
    for marked in [false, true] {
        let mut used = Used::new();
        used.append(&[400]);
        used.write();
        used.append(&[400; 5]);
        used.write();
        let (file, sectors) = used.used_sectors();
        assert!(!marked || used.mark() == 2);
        assert!(!marked || used.mark() == 0, "once is enough");
        // The last sector is what would be written last.
        used.file(file)[sectors[sectors.len() - 1] * SECTOR..][..SECTOR].fill(0);
        let Recovery { durable, found, .. } = used.recover().unwrap();
        let expected = if marked { (0, 1, 6) } else { (1, 0, 1) };
        assert_eq!((found.torn, found.rotten_batches, durable.last().index.get()), expected);
        assert_eq!(found.lost, [], "there is no entry in that sector");
    }
}

#[test]
fn the_end_of_the_log_is_not_cut_where_it_was_damaged() {
    let mut used = Used::new();
    used.append(&[400]);
    used.write();
    used.append(&[400; 7]);
    used.write();
    let (file, sectors) = used.used_sectors();
    let batch = &sectors[sectors.len() - 8..];
    for sector in [batch[0], batch[7]] {
        used.file(file)[sector * SECTOR + 7] ^= 1;
    }
    let error = used.recover().unwrap_err();
    assert_eq!(error, RecoverError::TooMuch(Missing::EndAfter(LogId::new(1, 1))));
    // And without the copies of the vote its later votes are unknown.
    for slot in [Slot::A, Slot::B] {
        used.file(FileName::Vote(slot)).fill(7);
    }
    assert_eq!(used.recover().unwrap_err(), RecoverError::VoteLost);
}

/// A mark stands elsewhere: the end of the log may be gone altogether, and what there was is known.
#[test]
fn after_a_mark_the_last_block_may_be_gone_and_its_entries_are_known() {
    for rot in [0, 0xa5] {
        let mut used = Used::new();
        used.append(&[400]);
        used.write();
        used.append(&[100; 5]);
        used.write();
        assert_eq!(used.mark(), 2);
        let (file, sectors) = used.used_sectors();
        let last = sectors[sectors.len() - 8] * SECTOR;
        used.file(file)[last..last + BLOCK].fill(rot);
        let Recovery { durable, found, .. } = used.recover().unwrap();
        assert_eq!((durable.last(), durable.ballot), (used.state.last(), used.state.ballot));
        assert_eq!(found.lost, [(LogId::new(1, 1), LogId::new(1, 6))]);
    }
}

/// Either copy of the vote tells of the last batch, also where the other is damaged with it. Simulation,
/// Durable Log.
#[test]
fn a_mark_is_known_from_either_copy() {
    for slot in [Slot::A, Slot::B] {
        let mut used = Used::new();
        used.append(&[400]);
        used.write();
        used.append(&[100; 5]);
        used.write();
        assert_eq!(used.mark(), 2);
        let (file, sectors) = used.used_sectors();
        used.file(file)[sectors[sectors.len() - 8] * SECTOR..].fill(0);
        used.file(FileName::Vote(slot)).fill(0);
        let Recovery { durable, found, .. } = used.recover().unwrap();
        assert_eq!(durable.last(), used.state.last());
        assert_eq!(found.lost, [(LogId::new(1, 1), LogId::new(1, 6))]);
    }
}

/// Batches after the mark may be lost together with batches before it: recovery then does not know them, and
/// must not claim that there were none.
#[test]
fn what_a_mark_does_not_name_is_not_taken_for_what_it_names() {
    // The last batch that is named has one block, or three of which only the headers are gone.
    for (size, unnamed, expected) in [(100, true, false), (100, false, true), (9_000, false, true)] {
        let mut used = Used::new();
        used.append(&[400]);
        used.write();
        let before = used.state.last();
        used.append(&[size]);
        used.write();
        assert_eq!(used.mark(), 2);
        let named = used.state.last();
        if unnamed {
            used.append(&[100]);
            used.write();
        }
        let (file, mut sectors) = used.used_sectors();
        // Behind the header of the segment, and the batches of the start and of the first entry.
        let mut gone = sectors.split_off(16);
        if size > 4_000 {
            assert_eq!(gone.len(), 24);
            gone.drain(1..23);
        }
        for sector in gone {
            used.file(file)[sector * SECTOR..][..SECTOR].fill(0xa5);
        }
        match used.recover() {
            Ok(recovery) => assert_eq!((recovery.durable.last(), expected), (named, true)),
            Err(error) => {
                assert_eq!((error, expected), (RecoverError::TooMuch(Missing::EndAfter(before)), false));
            }
        }
    }
}

/// The name of a segment shows that its first batch was durable, and not what it held. Proptest.
#[test]
fn the_first_batch_of_a_segment_is_marked_as_well() {
    for rot in [0, 0xa5] {
        let mut used = Used::new();
        let (begun, _) = used.used_sectors();
        while used.used_sectors().0 == begun {
            used.append(&[10]);
            used.write();
        }
        assert_eq!(used.mark(), 2, "only the segment's name tells of it");
        let (file, sectors) = used.used_sectors();
        assert_eq!(sectors.len(), 8, "one block, with both headers");
        used.file(file)[sectors[0] * SECTOR..][..BLOCK].fill(rot);
        let Recovery { durable, found, .. } = used.recover().unwrap();
        assert_eq!((durable.last(), durable.ballot), (used.state.last(), used.state.ballot));
        assert_eq!(found.lost.len(), 1);
    }
}

/// The last batch is known to be durable where the segment ends with it, and where the disk has no space for
/// another.
#[test]
fn a_mark_needs_no_room() {
    let mut used = Used::new();
    used.append(&[400]);
    used.write();
    // Sixteen blocks, of which the header takes two, the start one and the first entry one.
    for _ in 0..12 {
        used.append(&[10]);
        used.write();
    }
    let (_, sectors) = used.used_sectors();
    assert_eq!(sectors.len(), 14 * 8, "the segment is full");
    assert!(!used.wal.is_marked() && used.mark() == 2 && used.wal.is_marked());
    assert_eq!(plain(used.recover().unwrap().durable), used.state);
}

/// Nothing in it can be read, and where all that it can have held lies before the base, nothing in it is
/// needed.
#[test]
fn a_segment_without_a_header_goes_when_the_log_begins_behind_it() {
    let segments = |used: &Used| {
        let numbers = used.disk.files.keys().filter_map(|file| match file {
            FileName::Segment(number) => Some(*number),
            _ => None,
        });
        numbers.collect::<Vec<_>>()
    };
    let mut used = Used::new();
    let mut ends = vec![];
    while segments(&used).len() < 5 {
        let (last, count) = (used.state.last().index.get(), segments(&used).len());
        used.keep_up();
        used.append(&[3000]);
        used.write();
        if segments(&used).len() > count {
            ends.push(last);
        }
    }
    used.file(FileName::Segment(2))[..2 * BLOCK].fill(0xa5);
    used = Used::on(used.disk);
    assert_eq!(used.state.lost(), [(LogId::new(1, ends[0]), LogId::new(1, ends[1]))]);
    used.keep_up();
    assert_eq!(segments(&used), [1, 2, 3, 4, 6], "what was alone in its segment was written again");
    used.rebase(ends[1] - 1);
    used.write();
    used.keep_up();
    assert_eq!(segments(&used), [1, 2, 3, 4, 6], "entries before it are not known to be needless yet");
    used.rebase(ends[1]);
    used.write();
    used.keep_up();
    assert_eq!(segments(&used), [3, 4, 6]);
    let Recovery { durable, found, .. } = used.recover().unwrap();
    assert_eq!((plain(durable), found.bad_segments), (used.state, 0));
}

#[test]
fn the_end_of_the_log_is_not_cut_behind_what_the_vote_tells_of() {
    let mut used = Used::new();
    for _ in 0..2 {
        used.append(&[10]);
        used.write();
    }
    // The vote was written with the first of the two, and nothing after the second.
    used.file(FileName::Segment(1))[3 * BLOCK..5 * BLOCK].iter_mut().for_each(|byte| *byte ^= 1);
    let error = used.recover().unwrap_err();
    assert_eq!(error, RecoverError::TooMuch(Missing::EndAfter(LogId::ZERO)));
    // What is known to end where it was written is known by its entries, as before.
    used.file(FileName::Segment(1))[4 * BLOCK..].fill(0);
    assert_eq!(used.recover().unwrap().found.lost, [(LogId::ZERO, LogId::new(1, 1))]);
}

/// Nothing is written behind a batch before that is durable, whether or not it can still be read.
#[test]
fn what_something_damaged_stands_behind_was_not_left_unfinished() {
    let (mut used, file, [batch, behind]) = three_batches([&[400], &[400; 5], &[400]]);
    used.file(file)[batch[3] * SECTOR..][..SECTOR].fill(0);
    assert_eq!(used.recover().unwrap().found.torn, 0, "the batch behind it can be read");
    for sector in behind {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0xa5);
    }
    let error = used.recover().unwrap_err();
    assert_eq!(error, RecoverError::TooMuch(Missing::EndAfter(LogId::new(1, 6))));
    // What is unfinished itself shows that something was there before.
    let mut unfinished = used.fork();
    unfinished.append(&[400; 5]);
    unfinished.write();
    let (_, sectors) = unfinished.used_sectors();
    unfinished.file(file)[sectors[sectors.len() - 4] * SECTOR..][..SECTOR].fill(0);
    let Recovery { durable, found, .. } = unfinished.recover().unwrap();
    assert_eq!((found.torn, durable.last().index.get()), (0, 12));
    assert!(found.lost.contains(&(LogId::new(1, 6), LogId::new(1, 7))), "{:?}", found.lost);
    // And where all of it is blank, because its write was lost.
    for sector in batch {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0);
    }
    let error = used.recover().unwrap_err();
    assert_eq!(error, RecoverError::TooMuch(Missing::EndAfter(LogId::new(1, 1))));
}

/// One sector that is not blank is enough: a write that was cut short begins when the one before is durable.
#[test]
fn what_something_unfinished_stands_behind_was_not_left_unfinished() {
    let (mut used, file, [batch, behind]) = three_batches([&[400], &[400; 5], &[400]]);
    used.file(file)[batch[3] * SECTOR..][..SECTOR].fill(0);
    for left in [0, 1, 4, 6] {
        let mut used = used.fork();
        for (at, sector) in behind.iter().enumerate() {
            let kept = if at == left { SECTOR - 1 } else { 0 };
            used.file(file)[sector * SECTOR + kept..][..SECTOR - kept].fill(0);
        }
        let Recovery { durable, found, .. } = used.recover().unwrap();
        assert_eq!((found.torn, durable.last().index.get()), (1, 6), "sector {left}");
        assert!(!found.lost.is_empty(), "sector {left}");
    }
}

/// Nothing else tells of a batch that is gone whole.
#[test]
fn what_a_torn_header_says_was_durable_was() {
    let (mut used, file, [gone, behind]) = three_batches([&[400], &[400; 5], &[400]]);
    for sector in &gone {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0);
    }
    let first = behind[0];
    for sector in &behind[1..] {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0);
    }
    for (kept, tells) in [(SECTOR - 1, true), (26, true), (18, false), (0, false)] {
        let mut used = used.fork();
        used.file(file)[first * SECTOR + kept..][..SECTOR - kept].fill(0);
        let recovered = used.recover().map(|recovery| recovery.durable.last());
        let before = LogId::new(1, 1);
        let expected = if tells { Err(RecoverError::TooMuch(Missing::EndAfter(before))) } else { Ok(before) };
        assert_eq!(recovered, expected, "{kept} bytes");
    }
}

/// A payload may look like a header. Where that is in the midst of a write, or says what cannot be, it is
/// none.
#[test]
fn what_only_looks_like_a_torn_header_says_nothing() {
    let (mut used, file, [gone, behind]) = three_batches([&[400], &[400; 5], &[400]]);
    for sector in gone.iter().chain(&behind) {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0);
    }
    let header = |number: u64, synced: u64| {
        let mut bytes = vec![0; 2];
        [number, 7, synced].into_iter().for_each(|field| bytes.extend(field.to_le_bytes()));
        bytes
    };
    let begins = used.recover().unwrap().found.batches;
    let told = |sector: usize, bytes: Vec<u8>| {
        let mut used = used.fork();
        used.file(file)[sector * SECTOR..][..bytes.len()].copy_from_slice(&bytes);
        used.recover().is_err()
    };
    let (first, last) = (behind[0], behind[behind.len() - 1]);
    let next = begins + 1;
    assert!(told(first, header(next + 1, next)) && told(last, header(next + 1, next)), "{begins}");
    assert!(!told(first + 1, header(next + 1, next)), "in the midst");
    assert!(!told(first, header(next + 1, next - 1)) && !told(first, header(next, next - 1)));
    assert!(!told(first, header(next + 40, next + 39)), "so many have no room");
    assert!(!told(gone[0], header(next + 1, next)), "where the batch itself would be");
}

/// What was read need not be durable: it may be in the memory of a machine whose process was killed.
#[test]
fn what_stands_behind_something_that_is_gone_is_written_again() {
    let (mut used, file, [gone, last]) = three_batches([&[400], &[400; 2], &[400; 3]]);
    for sector in gone {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0);
    }
    let Recovery { durable, found, first, .. } = used.recover().unwrap();
    assert_eq!((durable.last().index.get(), found.rewritten), (6, 3));
    assert_eq!(found.lost, [(LogId::new(1, 1), LogId::new(1, 3))]);
    used.perform(&first);
    for sector in last {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0);
    }
    let again = used.recover().unwrap();
    assert_eq!((again.durable.entries, again.found.lost), (durable.entries, found.lost));
}

#[test]
fn damage_where_nothing_was_written_is_none() {
    let mut used = Used::new();
    used.append(&[10]);
    used.write();
    let (file, sectors) = used.used_sectors();
    for sector in 1..9 {
        let mut damaged = used.fork();
        damaged.file(file)[(sectors[sectors.len() - 1] + sector) * SECTOR + SECTOR - 1] ^= 1;
        let Recovery { durable, found, .. } = damaged.recover().unwrap();
        assert_eq!((plain(durable), found.rotten_batches), (used.state.clone(), 0));
    }
}

/// A mark brings both copies up to date, and so does whatever else is written often enough.
#[test]
fn after_a_mark_the_vote_survives_in_any_of_its_copies() {
    let mut used = Used::new();
    used.append(&[]);
    used.write();
    assert_eq!(used.mark(), 1, "one copy says so already");
    let ballot = Ballot::new(Term::new(1), Some(node(2)));
    for slot in [Slot::A, Slot::B] {
        let mut damaged = used.disk.clone();
        damaged.files.get_mut(&FileName::Vote(slot)).unwrap().fill(7);
        // What the log has goes too.
        let segment = damaged.files.get_mut(&FileName::Segment(1)).unwrap();
        segment[3 * BLOCK..].fill(0);
        let recovery = Wal::open(&mut damaged, identity(), OPTIONS, &group()).unwrap();
        assert_eq!((recovery.durable.ballot, recovery.found.bad_votes), (ballot, 1));
        let again = Wal::recover(&mut damaged, identity(), OPTIONS, &group()).unwrap();
        assert_eq!(again.found.bad_votes, 0);
    }
}

#[test]
fn what_a_lost_batch_held_is_known_from_the_copies_of_the_vote() {
    let mut used = Used::new();
    used.append(&[10, 20]);
    used.write();
    // The write was acknowledged by the disk, and is not there.
    used.file(FileName::Segment(1))[3 * BLOCK..].fill(0);
    let Recovery { durable, found, .. } = used.recover().unwrap();
    assert_eq!(durable.last(), LogId::new(1, 2));
    assert_eq!((found.lost, found.rotten_batches), (vec![(LogId::ZERO, LogId::new(1, 2))], 1));
}

#[test]
fn a_membership_that_only_a_lost_batch_held_is_known_from_the_copies_of_the_vote() {
    for half in [0, 1] {
        let mut used = Used::new();
        used.append(&[10, 20]);
        used.write();
        used.rebase(2);
        used.write();
        used.file(FileName::Segment(1))[4 * BLOCK..].fill(0);
        for slot in [Slot::A, Slot::B] {
            used.file(FileName::Vote(slot))[half * BLOCK / 2 + 700] ^= 1;
        }
        let Recovery { durable, found, .. } = used.recover().unwrap();
        assert_eq!((plain(durable), found.bad_votes), (used.state, 0));
    }
}

#[test]
fn a_lost_segment_is_told_by_its_entries() {
    let mut used = Used::new();
    for _ in 0..20 {
        used.append(&[3000, 3000]);
        used.write();
    }
    used.disk.files.remove(&FileName::Segment(2));
    let Recovery { durable, found, .. } = used.recover().unwrap();
    assert_eq!(durable.last(), used.state.last());
    let [(after, through)] = found.lost[..] else { panic!("{:?}", found.lost) };
    assert!(after > LogId::ZERO && through < durable.last());
    // Without the log there is nothing to go on from.
    used.disk.files.retain(|file, _| !matches!(file, FileName::Segment(_)));
    assert_eq!(used.recover().unwrap_err(), RecoverError::TooMuch(Missing::Log));
}

#[test]
fn a_snapshot_that_is_damaged_or_gone_is_lost_and_the_log_is_not() {
    let mut used = Used::new();
    used.append(&[10, 10]);
    used.write();
    used.rebase(1);
    let snapshot = used.state.snapshot.clone().unwrap();
    let mut writer = SnapshotWriter::new(snapshot.clone(), 8);
    let operations = [writer.push(b"everything until here"), writer.finish()].concat();
    used.perform(&operations);
    used.write();
    let recovery = used.recover().unwrap();
    assert!(!recovery.durable.snapshot_lost);
    assert_eq!((recovery.found.snapshots, recovery.found.bad_snapshots), (vec![snapshot.last], vec![]));
    let file = FileName::Snapshot { term: 1, index: 1 };
    *used.file(file).last_mut().unwrap() ^= 1;
    let recovery = used.recover().unwrap();
    assert!(recovery.durable.snapshot_lost);
    assert_eq!((recovery.found.snapshots, recovery.found.bad_snapshots), (vec![], vec![snapshot.last]));
    used.disk.files.remove(&file);
    let recovery = used.recover().unwrap();
    assert_eq!((plain(recovery.durable.clone()), recovery.durable.snapshot_lost), (used.state.clone(), true));
}

#[test]
fn a_directory_is_opened_by_no_other_member_and_by_no_older_library() {
    let mut used = Used::new();
    used.append(&[]);
    used.write();
    let open = |identity| Wal::recover(&mut used.disk.clone(), identity, OPTIONS, &group()).unwrap_err();
    let other = Member::new(node(1), Incarnation(10));
    let error = RecoverError::OtherMember { found: identity().member, expected: other };
    assert_eq!(open(Identity { member: other, ..identity() }), error);
    let error = RecoverError::OtherCluster { found: ClusterId(7), expected: ClusterId(8) };
    assert_eq!(open(Identity { cluster: ClusterId(8), ..identity() }), error);
    let segment = (FileName::Segment(1), Seal { salt: 0, file: 1 }, Kind::Segment, [0, 8].as_slice());
    let vote = (FileName::Vote(Slot::A), Slot::A.seal(), Kind::Vote, [0, 4, 16, 20].as_slice());
    for (file, seal, kind, firsts) in [segment, vote] {
        let mut later = Used { disk: used.disk.clone(), wal: used.wal.clone(), state: group(), seq: 0 };
        for &first in firsts {
            let sector = &mut later.file(file)[first as usize * SECTOR..][..SECTOR];
            sector[10] = 2;
            seal.close(sector, first, kind);
        }
        assert_eq!(later.recover().unwrap_err(), RecoverError::Version { file, found: 2 });
    }
}

#[test]
fn a_damaged_version_is_damage_and_not_a_later_format() {
    let mut used = Used::new();
    used.append(&[]);
    used.write();
    for sector in [0, 4, 16, 20] {
        used.file(FileName::Vote(Slot::B))[sector * SECTOR + 11] ^= 4;
    }
    let recovery = used.recover().unwrap();
    assert_eq!(plain(recovery.durable), used.state, "the other copy of the vote is good");
}

#[test]
fn a_new_log_begins_with_what_it_is_given() {
    let ballot = Ballot::new(Term::new(3), None);
    let begin = Durable { ballot, entries: entries(0, &[10, 20]), committed: Index::new(1), ..group() };
    let mut disk = MemoryDisk::default();
    let recovery = Wal::open(&mut disk, identity(), OPTIONS, &begin).unwrap();
    assert_eq!(recovery.durable, begin);
    let again = Wal::recover(&mut disk, identity(), OPTIONS, &group()).unwrap();
    assert_eq!(again.durable, begin);
    let lost = Entry { id: LogId::new(1, 1), body: EntryBody::Lost };
    let begin = Durable { entries: vec![lost], ballot, ..group() };
    let error = Wal::recover(&mut MemoryDisk::default(), identity(), OPTIONS, &begin).unwrap_err();
    assert_eq!(error, RecoverError::Beginning);
}

#[test]
fn what_is_read_back_damaged_is_never_given_out() {
    let mut used = Used::new();
    used.append(&[400; 20]);
    used.write();
    let extent = used.wal.locate(Index::ZERO, Index::MAX, u64::MAX).unwrap();
    let bytes = extent.read().perform(&mut used.disk).unwrap();
    assert_eq!(used.wal.entries(&extent, &bytes).unwrap().len(), 20);
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        match used.wal.entries(&extent, &damaged) {
            Ok(read) => assert!(!read.is_empty() && *read == used.state.entries[..read.len()]),
            Err(damage) => assert_eq!(damage, Damage(FileName::Segment(1))),
        }
    }
    assert_eq!(used.wal.entries(&extent, &[]), Err(Damage(FileName::Segment(1))));
    // Little is read where little is asked for; and of entries that have left the log, nothing.
    let small = used.wal.locate(Index::new(3), Index::MAX, 1).unwrap();
    let bytes = small.read().perform(&mut used.disk).unwrap();
    assert_eq!(*used.wal.entries(&small, &bytes).unwrap(), used.state.entries[3..4]);
    let mut write = used.blank();
    write.truncate_after = Some(Index::new(2));
    used.submit(write);
    used.write();
    assert_eq!(used.wal.entries(&small, &bytes).unwrap().len(), 0);
    assert_eq!(used.wal.locate(Index::new(2), Index::MAX, 1), None);
}

/// Two logs that were one until here: what the one wrote then, in the place of what the other did.
fn transplant(from: &Used, to: &mut Used, file: FileName, bytes: core::ops::Range<usize>) {
    let taken = from.disk.files[&file][bytes.clone()].to_vec();
    to.file(file)[bytes].copy_from_slice(&taken);
}

impl Used {
    fn fork(&self) -> Self {
        Self { disk: self.disk.clone(), wal: self.wal.clone(), state: self.state.clone(), seq: self.seq }
    }

    /// Writes what says nothing new until this segment is begun.
    fn fill(&mut self, segment: u64) {
        while !self.disk.files.contains_key(&FileName::Segment(segment)) {
            let write = self.blank();
            self.submit(write);
            self.write();
        }
    }

    /// A new leader, in this term, puts blank entries in the place of everything after this index.
    fn replace(&mut self, term: u64, after: u64, count: u64) {
        let mut write = self.blank();
        write.ballot = Ballot::new(Term::new(term), None);
        write.truncate_after = Some(Index::new(after)).filter(|after| *after < self.state.last().index);
        let blank = |index| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
        write.append = (after + 1..=after + count).map(blank).collect();
        self.submit(write);
    }
}

#[test]
fn a_batch_of_another_past_is_not_taken_for_the_next() {
    let mut used = Used::new();
    used.append(&[10; 3]);
    used.write();
    let mut other = used.fork();
    used.replace(1, 3, 1);
    other.replace(2, 3, 1);
    for log in [&mut used, &mut other] {
        log.write();
        log.replace(2, 4, 1);
        log.write();
    }
    // Entry 5 of term 2 follows entry 4 of term 2, and here there was one of term 1.
    transplant(&other, &mut used, FileName::Segment(1), 5 * BLOCK..7 * BLOCK);
    let Recovery { durable, found, .. } = used.recover().unwrap();
    assert_eq!(durable.last(), LogId::new(2, 5));
    assert_eq!(found.lost, [(LogId::new(1, 3), LogId::new(2, 4))]);
}

#[test]
fn a_sector_of_another_past_is_not_read_with_those_around_it() {
    let mut used = Used::new();
    used.append(&[10]);
    used.write();
    let mut other = used.fork();
    used.append(&[400; 3]);
    used.write();
    // The same places, with other bytes.
    let mut write = other.blank();
    write.append = (2..=4)
        .map(|index| Entry { id: LogId::new(1, index), body: EntryBody::Data(Payload::from(&[9; 400][..])) })
        .collect();
    other.submit(write);
    other.write();
    transplant(&other, &mut used, FileName::Segment(1), 4 * BLOCK + 2 * SECTOR..4 * BLOCK + 3 * SECTOR);
    let Recovery { durable, found, .. } = used.recover().unwrap();
    assert_eq!(found.lost, [(LogId::new(1, 1), LogId::new(1, 4))]);
    assert_eq!(durable.entries[..1], used.state.entries[..1]);
}

#[test]
fn what_a_lost_segment_took_back_does_not_return() {
    let mut used = Used::new();
    used.append(&[10; 5]);
    used.write();
    used.fill(2);
    used.replace(2, 3, 2);
    used.write();
    used.fill(3);
    used.replace(2, 5, 1);
    used.write();
    used.disk.files.remove(&FileName::Segment(2));
    let Recovery { durable, found, .. } = used.recover().unwrap();
    assert_eq!(durable.last(), LogId::new(2, 6));
    assert_eq!(found.lost, [(LogId::new(1, 3), LogId::new(2, 5))]);
}

/// The log rests on a later snapshot, and what came before its first segment was left behind.
#[test]
fn what_was_left_behind_may_have_been_taken_back() {
    let mut used = Used::new();
    used.append(&[10; 5]);
    used.write();
    used.replace(2, 5, 1);
    used.write();
    used.fill(2);
    let before = used.used_sectors().1.len();
    // The next leader's entries are of an earlier term than the one that it takes back.
    let mut write = used.blank();
    write.truncate_after = Some(Index::new(5));
    write.append = entries(5, &[10; 3]).into_iter().collect();
    used.submit(write);
    used.write();
    let (file, sectors) = used.used_sectors();
    used.replace(3, 8, 1);
    used.write();
    used.rebase(8);
    used.write();
    used.keep_up();
    assert!(!used.disk.files.contains_key(&FileName::Segment(1)), "it is not needed any more");
    for sector in &sectors[before..] {
        used.file(file)[sector * SECTOR..][..SECTOR].fill(0);
    }
    let Recovery { durable, found, .. } = used.recover().unwrap();
    assert_eq!((durable.base, durable.last()), (LogId::new(1, 8), LogId::new(3, 9)));
    assert_eq!((found.lost, found.rotten_batches), (vec![], 1));
}

#[test]
fn the_end_of_an_earlier_segment_is_not_torn() {
    let mut used = Used::new();
    while !used.disk.files.contains_key(&FileName::Segment(2)) {
        used.append(&[400; 10]);
        used.write();
    }
    let (file, bytes) = (FileName::Segment(1), used.disk.files[&FileName::Segment(1)].clone());
    let blank = bytes.chunks(BLOCK).rposition(|block| block.iter().any(|&byte| byte != 0)).unwrap();
    used.file(file)[blank * BLOCK..][..SECTOR].fill(0);
    let Recovery { durable, found, .. } = used.recover().unwrap();
    let lost = durable.entries.iter().filter(|entry| entry.body == EntryBody::Lost).count();
    assert!((1..=3).contains(&lost), "{lost}");
    assert_eq!((found.torn, found.rotten_batches, durable.last()), (0, 1, used.state.last()));
}

#[test]
fn the_later_copy_of_the_vote_counts_and_the_later_ballot() {
    let mut used = Used::new();
    used.append(&[]);
    used.write();
    let mut log = used.fork();
    used.replace(9, 0, 0);
    let job = used.wal.next_job().unwrap();
    assert!(matches!(job[0], Operation::Write { file: FileName::Vote(Slot::B), .. }));
    used.perform(&job);
    let ballot = Ballot::new(Term::new(9), None);
    assert_eq!(used.recover().unwrap().durable.ballot, ballot);
    // In a log that has gone on otherwise it counts too.
    for _ in 0..3 {
        log.append(&[10]);
        log.write();
    }
    let copy = used.disk.files[&FileName::Vote(Slot::B)].clone();
    *log.file(FileName::Vote(Slot::B)) = copy;
    let durable = log.recover().unwrap().durable;
    assert_eq!((durable.ballot, durable.last()), (ballot, LogId::new(1, 3)));
}

/// The bytes of format 1. If this fails, an older library cannot read what this one writes: see
/// docs/log-format.md.
#[test]
fn the_format_stays() {
    let mut used = Used::new();
    used.append(&[5, 600]);
    let mut write = used.blank();
    write.truncate_after = Some(Index::new(1));
    write.ballot = Ballot::new(Term::new(2), None);
    let body = EntryBody::Config(group().snapshot.unwrap().membership);
    write.append = [Entry { id: LogId::new(2, 2), body }].into_iter().collect();
    used.write();
    used.submit(write);
    used.write();
    used.rebase(1);
    used.write();
    let digests: Vec<_> =
        used.disk.files.iter().map(|(file, bytes)| (*file, bytes.len(), CRC64.checksum(bytes))).collect();
    let golden = [
        (FileName::Segment(1), 16 * BLOCK, 18113474028284829811),
        (FileName::Vote(Slot::A), VOTE, 2033907137215641295),
        (FileName::Vote(Slot::B), VOTE, 13082556266047610780),
    ];
    assert_eq!(digests, golden, "{digests:#x?}");
    // Its first record, by hand: entry 1 of term 1, five bytes.
    let batch = &used.disk.files[&FileName::Segment(1)][3 * BLOCK..];
    let mut expected = vec![1, 0, 4, 22, 0, 0, 0];
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend([1; 5]);
    assert_eq!(batch[SECTOR..][..expected.len()], expected);
}

proptest! {
    /// Bytes that no library wrote are refused or read, and never make it panic: not even where their
    /// checksums are right. And what was made of damage once is made of it again.
    #[test]
    fn no_bytes_make_recovery_panic(
        writes in any_vec((0..3_usize, 0..900_usize, 0..6_u64), 0..12),
        changes in any_vec((any::<u16>(), any::<u16>(), any::<u8>(), any::<bool>()), 0..12),
    ) {
        let mut used = Used::new();
        for (count, size, rebase) in writes {
            used.append(&vec![size; count]);
            used.write();
            if rebase == 5 && used.state.last().index > used.state.base.index {
                let last = used.state.last().index.get();
                used.rebase(last);
            }
        }
        used.write();
        let forged = changes.iter().any(|(.., sealed)| *sealed);
        for (sector, at, byte, sealed) in changes {
            forge(&mut used.disk, usize::from(sector), usize::from(at), byte, sealed);
        }
        if let Ok(recovery) = Wal::open(&mut used.disk, identity(), OPTIONS, &group()) {
            let state = plain(recovery.durable);
            let config = Config::new(identity(), config::Options::default()).unwrap();
            if let Err(error) = Raft::restore(config, state.clone(), Instant::ZERO) {
                prop_assert!(matches!(error, RestoreError::LastCopyLost { .. }), "{error}");
            }
            let again = Wal::recover(&mut used.disk, identity(), OPTIONS, &group());
            prop_assert!(forged || again.map(|it| plain(it.durable)) == Ok(state));
        }
    }
}

/// Changes a byte of some sector that is in use, and its checksum so that it is right again where `sealed`.
fn forge(disk: &mut MemoryDisk, sector: usize, at: usize, byte: u8, sealed: bool) {
    let used = |(file, bytes): (&FileName, &Vec<u8>)| {
        let sectors = bytes.chunks(SECTOR).enumerate();
        let used = sectors.filter(|(_, sector)| sector.iter().any(|&byte| byte != 0));
        used.map(|(number, _)| (*file, number)).collect::<Vec<_>>()
    };
    let all: Vec<_> = disk.files.iter().flat_map(used).collect();
    let (file, number) = all[sector % all.len()];
    let seal = match file {
        FileName::Segment(of) if number >= 16 => {
            let Ok(header) = SegmentHeader::decode(&disk.files[&file][..2 * BLOCK], of) else { return };
            header.seal()
        }
        FileName::Segment(of) => Seal { salt: 0, file: of },
        FileName::Vote(slot) => Seal { salt: 0, file: u64::from(slot == Slot::B) },
        _ => return,
    };
    let number = u32::try_from(number).unwrap();
    let bytes = &mut disk.files.get_mut(&file).unwrap()[number as usize * SECTOR..][..SECTOR];
    let Sector::Valid { kind, .. } = seal.open(bytes, number) else { return };
    bytes[at % SECTOR] = byte;
    if sealed {
        seal.close(bytes, number, kind);
    }
}

/// A segment gets its name only when its first batch is durable: where that cannot be found, it is lost.
#[test]
fn a_segment_whose_first_batch_is_gone_is_damaged() {
    let mut used = Used::new();
    used.keep_up();
    while used.disk.files.keys().filter(|file| matches!(file, FileName::Segment(_))).count() < 2 {
        used.append(&[3000]);
        used.write();
        used.keep_up();
    }
    let (file, sectors) = used.used_sectors();
    let before = used.state.last().index.get() - 1;
    let whole = used.disk.clone();
    used.file(file)[sectors[0] * SECTOR..].fill(0);
    let error = used.recover().unwrap_err();
    assert_eq!(error, RecoverError::TooMuch(Missing::EndAfter(LogId::new(1, before))));
    // It is as bad where the file ends before it.
    used.disk = whole;
    used.file(file).truncate(sectors[0] * SECTOR);
    assert_eq!(used.recover().unwrap_err(), error);
}

/// What an earlier start has made ready, or left behind, must not keep the next one from the space that it
/// needs.
#[test]
fn a_start_gives_back_space_before_it_takes_any() {
    let mut used = Used::new();
    used.append(&[10]);
    used.write();
    used.keep_up();
    let mut most = 0;
    for _ in 0..10 {
        // Each start is cut short before any upkeep.
        let recovery = used.recover().unwrap();
        let create = |operation: &Operation| matches!(operation, Operation::Create { .. });
        let create = recovery.first.iter().position(create).unwrap();
        used.perform(&recovery.first[..create]);
        let files =
            |used: &Used| used.disk.files.keys().filter(|file| !matches!(file, FileName::Vote(_))).count();
        most = most.max(files(&used));
        assert!(!used.disk.files.keys().any(|file| matches!(file, FileName::Spare(_))));
        used.perform(&recovery.first[create..]);
        used.state = recovery.durable;
    }
    assert!(most <= 2, "{most} segments");
}
