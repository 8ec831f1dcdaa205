use super::*;
use crate::stream::Stream;
use kontiki_core::wal::Slot;
use std::collections::BTreeSet;

const FILE: FileName = FileName::Segment(1);
const OTHER: FileName = FileName::Vote(Slot::A);

/// A disk with this file, durably so, of so many zeros.
fn disk_with(length: u64) -> SimDisk {
    let mut disk = SimDisk::default();
    disk.create(FILE, length).unwrap();
    disk.sync(FILE).unwrap();
    disk.sync_directory().unwrap();
    disk
}

fn content(disk: &mut SimDisk, file: FileName) -> Option<Vec<u8>> {
    let length = disk.list().unwrap().into_iter().find(|(name, _)| *name == file)?.1;
    let mut bytes = vec![0xee; length as usize + 7];
    let read = disk.read(file, 0, &mut bytes).unwrap();
    assert_eq!(read as u64, length);
    bytes.truncate(read);
    Some(bytes)
}

/// What a crash that follows this plan leaves of the file.
fn after(disk: &SimDisk, plan: Plan) -> Option<Vec<u8>> {
    let mut disk = disk.clone();
    disk.crash_at(plan);
    content(&mut disk, FILE)
}

fn names(disk: &mut SimDisk) -> Vec<FileName> {
    disk.list().unwrap().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn what_is_written_is_read_at_once_and_lost_without_a_sync() {
    let mut disk = disk_with(4);
    disk.write(FILE, 1, b"ab").unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"\0ab\0");
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"\0\0\0\0");
    assert_eq!(after(&disk, Plan::KeepAll).unwrap(), b"\0ab\0");
    disk.sync(FILE).unwrap();
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"\0ab\0");
    assert_eq!(disk.unsynced(), []);
}

#[test]
fn each_unsynced_write_survives_or_not_whatever_becomes_of_the_others() {
    let mut disk = disk_with(4);
    disk.write(FILE, 0, b"aaa").unwrap();
    disk.write(FILE, 1, b"bb").unwrap();
    disk.write(FILE, 2, b"cc").unwrap();
    assert_eq!(after(&disk, Plan::KeepOnly(0)).unwrap(), b"aaa\0");
    assert_eq!(after(&disk, Plan::KeepOnly(1)).unwrap(), b"\0bb\0");
    assert_eq!(after(&disk, Plan::LoseOnly(1)).unwrap(), b"aacc");
    assert_eq!(after(&disk, Plan::LoseOnly(2)).unwrap(), b"abb\0");
    assert_eq!(after(&disk, Plan::TearAfter(1, 1)).unwrap(), b"aba\0");
    assert_eq!(after(&disk, Plan::KeepOnlyPrefix(2, 1)).unwrap(), b"\0\0c\0");
    assert_eq!(after(&disk, Plan::LoseOnlyPrefix(0, 2)).unwrap(), b"\0bcc");
}

#[test]
fn a_write_that_loses_its_beginning_loses_whole_sectors_of_it() {
    let mut disk = disk_with(1024);
    disk.write(FILE, 500, &[1; 100]).unwrap();
    let left = |bytes| after(&disk, Plan::LoseOnlyPrefix(0, bytes)).unwrap();
    let lost = |bytes| left(bytes).iter().take_while(|byte| **byte == 0).count();
    assert_eq!((lost(0), lost(1), lost(12)), (512, 512, 512));
    assert_eq!(lost(13), 1024);
    assert_eq!(left(1)[512..600], [1; 88]);
}

#[test]
fn a_crash_by_chance_leaves_every_subset_and_tears_at_any_byte() {
    let mut disk = disk_with(0);
    disk.write(FILE, 0, &[1; 1536]).unwrap();
    disk.write(FILE, 1536, &[2; 4]).unwrap();
    let mut left = BTreeSet::new();
    let mut chance = Stream::named(1, "crash", 0);
    for _ in 0..4000 {
        let mut disk = disk.clone();
        let lost = disk.crash(&mut chance);
        assert_eq!(lost.kept + lost.torn + lost.writes, 2);
        let mut bytes = content(&mut disk, FILE).unwrap();
        bytes.resize(1540, 0);
        left.insert(bytes);
    }
    let whole = |one: bool, two: bool| [vec![u8::from(one); 1536], vec![2 * u8::from(two); 4]].concat();
    for (one, two) in [(false, false), (false, true), (true, false), (true, true)] {
        assert!(left.contains(&whole(one, two)), "{one} {two}");
    }
    let first_sector_lost = |bytes: &&Vec<u8>| bytes[..512] == [0; 512] && bytes[512..1024] == [1; 512];
    assert!(left.iter().find(first_sector_lost).is_some(), "sectors survive without those before them");
    let tears: BTreeSet<_> =
        left.iter().map(|bytes| bytes.iter().take_while(|byte| **byte == 1).count()).collect();
    assert!(tears.len() > 300, "torn at {} places only", tears.len());
    assert!(tears.iter().any(|tear| tear % 512 != 0));
}

#[test]
fn equal_seeds_are_equal_crashes() {
    let mut disk = disk_with(0);
    for at in 0..20 {
        disk.write(FILE, at * 700, &[at as u8 + 1; 900]).unwrap();
    }
    let crashed = |seed| {
        let mut disk = disk.clone();
        disk.crash(&mut Stream::named(seed, "crash", 0));
        disk
    };
    assert_eq!(crashed(1), crashed(1));
    assert!((2..10).any(|seed| crashed(seed) != crashed(1)));
}

#[test]
fn a_file_grows_durably_by_a_sync_alone() {
    let mut disk = disk_with(2);
    disk.write(FILE, 4, b"x").unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"\0\0\0\0x");
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"\0\0");
    let grown = |_: usize, _: &Change| Fate::Torn { parts: Vec::new(), grown: true };
    let mut zeros = disk.clone();
    zeros.crash_with(grown);
    assert_eq!(content(&mut zeros, FILE).unwrap(), [0; 5], "grown, without what was written");
    disk.sync(FILE).unwrap();
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"\0\0\0\0x");
}

#[test]
fn a_new_file_needs_a_sync_of_its_length_and_one_of_its_name() {
    let mut disk = SimDisk::default();
    disk.create(FILE, 3).unwrap();
    assert_eq!(disk.unsynced().len(), 2);
    assert_eq!(after(&disk, Plan::KeepNone), None);
    assert_eq!(after(&disk, Plan::KeepContents), None);
    assert_eq!(after(&disk, Plan::KeepNames).unwrap(), b"");
    assert_eq!(after(&disk, Plan::KeepAll).unwrap(), [0; 3]);
    disk.sync(FILE).unwrap();
    assert_eq!(after(&disk, Plan::KeepNone), None, "no sync of a file covers its name");
    disk.sync_directory().unwrap();
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), [0; 3]);
}

#[test]
fn a_rename_is_never_half_done_and_its_target_is_one_file_or_the_other() {
    let mut disk = disk_with(1);
    disk.create(OTHER, 0).unwrap();
    disk.write(OTHER, 0, b"new").unwrap();
    disk.sync(OTHER).unwrap();
    disk.sync_directory().unwrap();
    disk.rename(OTHER, FILE).unwrap();
    assert_eq!(names(&mut disk), [FILE]);
    let mut lost = disk.clone();
    lost.crash_at(Plan::KeepNone);
    assert_eq!(names(&mut lost), [FILE, OTHER]);
    assert_eq!(content(&mut lost, FILE).unwrap(), b"\0");
    let mut kept = disk.clone();
    kept.crash_at(Plan::KeepOnly(0));
    assert_eq!(names(&mut kept), [FILE]);
    assert_eq!(content(&mut kept, FILE).unwrap(), b"new");
}

#[test]
fn changes_of_one_name_survive_in_their_order_and_those_of_others_regardless() {
    let (spare, vote) = (FileName::Spare(2), OTHER);
    let mut disk = SimDisk::default();
    disk.create(spare, 0).unwrap();
    disk.rename(spare, FILE).unwrap();
    disk.create(vote, 0).unwrap();
    let is = |wanted: Change| disk.unsynced().iter().position(|change| *change == wanted).unwrap();
    let (created, renamed) = (is(Change::Created(spare)), is(Change::Renamed { from: spare, to: FILE }));
    let left = |plan| {
        let mut disk = disk.clone();
        disk.crash_at(plan);
        names(&mut disk)
    };
    assert_eq!(left(Plan::LoseOnly(created)), [vote], "what was never created is not renamed");
    assert_eq!(left(Plan::KeepOnly(renamed)), [FILE], "what is renamed was created");
    assert_eq!(left(Plan::LoseOnly(renamed)), [spare, vote]);
    assert_eq!(left(Plan::KeepOnly(is(Change::Created(vote)))), [vote]);
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut disk = disk.clone();
        disk.crash(&mut Stream::named(seed, "crash", 0));
        seen.insert(names(&mut disk));
    }
    assert_eq!(seen.len(), 6, "nothing, created or renamed; each with the vote and without: {seen:?}");
}

#[test]
fn a_removed_file_comes_back_until_the_directory_is_synced() {
    let mut disk = disk_with(3);
    disk.remove(FILE).unwrap();
    assert_eq!(disk.read(FILE, 0, &mut [0]), Err(DiskError::Missing(FILE)));
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), [0; 3]);
    assert_eq!(after(&disk, Plan::KeepAll), None);
    disk.sync_directory().unwrap();
    assert_eq!(after(&disk, Plan::KeepNone), None);
    assert!(disk.files.is_empty(), "no name leads to the file any more");
}

#[test]
fn what_a_failed_sync_should_have_covered_is_shown_and_never_durable() {
    let mut disk = disk_with(4);
    disk.write(FILE, 0, b"aaa").unwrap();
    disk.fail_next_sync(Some(OTHER));
    disk.sync(FILE).unwrap();
    disk.disarm();
    disk.write(FILE, 1, b"bbb").unwrap();
    disk.fail_next_sync(Some(FILE));
    assert!(matches!(disk.sync(FILE), Err(DiskError::Failed(_))));
    assert_eq!(content(&mut disk, FILE).unwrap(), b"abbb");
    disk.sync(FILE).unwrap();
    disk.sync(FILE).unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"abbb", "the pages are clean");
    disk.write(FILE, 3, b"c").unwrap();
    disk.sync(FILE).unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"abbc");
    for plan in [Plan::KeepNone, Plan::KeepAll] {
        assert_eq!(after(&disk, plan).unwrap(), b"aaac", "{plan:?}");
    }
    assert_eq!(disk.counters().failed_syncs, 1);
}

#[test]
fn names_that_a_failed_sync_should_have_covered_are_never_durable() {
    let mut disk = SimDisk::default();
    disk.create(FILE, 1).unwrap();
    disk.sync(FILE).unwrap();
    disk.fail_next(Call::SyncDirectory, None);
    assert!(matches!(disk.sync_directory(), Err(DiskError::Failed(_))));
    disk.sync_directory().unwrap();
    assert_eq!(names(&mut disk), [FILE]);
    assert_eq!(after(&disk, Plan::KeepAll), None);
}

#[test]
fn a_lost_write_is_shown_until_the_crash() {
    let mut disk = disk_with(4);
    disk.lose_next_write(None);
    disk.write(FILE, 0, b"abc").unwrap();
    disk.write(FILE, 1, b"B").unwrap();
    disk.sync(FILE).unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"aBc\0");
    assert_eq!(after(&disk, Plan::KeepAll).unwrap(), b"\0B\0\0");
    assert_eq!(disk.counters().lost_writes, 1);
    disk.write(FILE, 0, b"xy").unwrap();
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"\0B\0\0");
    assert_eq!(after(&disk, Plan::KeepAll).unwrap(), b"xy\0\0", "later writes land as ever");
}

#[test]
fn lost_writes_that_overlap_leave_what_was_there_before_all_of_them() {
    let mut disk = disk_with(6);
    disk.write(FILE, 0, b"mmmmmm").unwrap();
    disk.sync(FILE).unwrap();
    for (at, bytes) in [(0, b"aaa"), (2, b"bbb"), (1, b"ccc")] {
        disk.lose_next_write(None);
        disk.write(FILE, at, bytes).unwrap();
        disk.sync(FILE).unwrap();
        disk.write(FILE, 3, b"d").unwrap();
    }
    assert_eq!(content(&mut disk, FILE).unwrap(), b"accdbm");
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"mmmdmm");
}

#[test]
fn a_misdirected_write_is_shown_where_it_belongs_and_lands_elsewhere() {
    let mut disk = disk_with(4);
    disk.create(OTHER, 4).unwrap();
    disk.sync(OTHER).unwrap();
    disk.sync_directory().unwrap();
    disk.misdirect_next_write(Some(FILE), OTHER, 2);
    disk.write(FILE, 0, b"abc").unwrap();
    disk.sync(FILE).unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"abc\0");
    disk.crash_at(Plan::KeepAll);
    assert_eq!(content(&mut disk, FILE).unwrap(), [0; 4]);
    assert_eq!(content(&mut disk, OTHER).unwrap(), b"\0\0ab");
    assert_eq!(disk.counters().misdirected_writes, 1);
}

#[test]
fn rot_changes_the_medium_and_is_hidden_by_what_waits_to_be_written() {
    let mut disk = disk_with(4);
    disk.write(FILE, 0, b"aaaa").unwrap();
    disk.sync(FILE).unwrap();
    disk.write(FILE, 1, b"b").unwrap();
    disk.rot(FILE, 0..3, Rot::Zero).unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"\0b\0a");
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"\0\0\0a");
    disk.sync(FILE).unwrap();
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"\0b\0a", "written over");
}

#[test]
fn rot_flips_one_bit_or_makes_noise_within_its_range() {
    let mut disk = disk_with(1024);
    disk.rot(FILE, 100..102, Rot::FlipBit(9)).unwrap();
    let bytes = content(&mut disk, FILE).unwrap();
    assert_eq!((bytes[101], bytes.iter().filter(|byte| **byte != 0).count()), (2, 1));
    disk.rot(FILE, 512..2048, Rot::Noise(7)).unwrap();
    let bytes = content(&mut disk, FILE).unwrap();
    assert_eq!(bytes.len(), 1024);
    assert!(bytes[512..].iter().filter(|byte| **byte != 0).count() > 400);
    assert!(bytes[102..512].iter().all(|byte| *byte == 0));
    assert_eq!(disk.counters().rotten, 2);
}

#[test]
fn a_full_disk_refuses_what_takes_room_and_does_nothing() {
    let mut disk = disk_with(10);
    disk.set_space(Some(5));
    let before = disk.clone();
    assert_eq!(disk.create(OTHER, 6), Err(DiskError::Full));
    assert_eq!(disk.write(FILE, 8, &[1; 8]), Err(DiskError::Full));
    assert_eq!((disk.files.clone(), names(&mut disk)), (before.files, vec![FILE]));
    assert_eq!(disk.counters().refused_full, 2);
    disk.write(FILE, 0, &[1; 10]).expect("its blocks are there");
    disk.create(OTHER, 5).expect("it fits");
    assert_eq!(disk.write(FILE, 10, &[1]), Err(DiskError::Full));
    disk.remove(OTHER).unwrap();
    disk.write(FILE, 10, &[1; 5]).expect("there is room again");
    disk.set_space(None);
    disk.create(OTHER, 1 << 20).expect("there is room for anything");
}

#[test]
fn a_call_that_was_made_to_fail_fails_once_and_does_nothing() {
    let calls = [Call::List, Call::Create, Call::Read, Call::Rename, Call::Remove];
    for call in calls {
        let mut disk = disk_with(2);
        disk.fail_next(call, None);
        let before = (disk.files.clone(), disk.shown.clone());
        let perform = |disk: &mut SimDisk| match call {
            Call::List => disk.list().map(|_| ()),
            Call::Create => disk.create(OTHER, 1),
            Call::Read => disk.read(FILE, 0, &mut [0]).map(|_| ()),
            Call::Rename => disk.rename(FILE, OTHER),
            _ => disk.remove(FILE),
        };
        assert!(matches!(perform(&mut disk), Err(DiskError::Failed(_))), "{call:?}");
        assert_eq!((disk.files.clone(), disk.shown.clone()), before, "{call:?}");
        assert_eq!(disk.counters().failed_calls, 1);
        perform(&mut disk).expect("once is enough");
    }
}

#[test]
fn of_a_write_that_fails_a_part_is_there() {
    let mut disk = disk_with(4);
    disk.fail_next(Call::Write, Some(FILE));
    assert!(matches!(disk.write(FILE, 0, b"abcd"), Err(DiskError::Failed(_))));
    assert_eq!(content(&mut disk, FILE).unwrap(), b"ab\0\0");
    assert!(!disk.is_armed());
}

#[test]
fn what_cannot_be_read_can_be_once_it_is_written_again() {
    let mut disk = disk_with(1024);
    disk.make_unreadable(FILE, 512..600).unwrap();
    disk.read(FILE, 0, &mut [0; 512]).expect("before it");
    disk.read(FILE, 600, &mut [0; 512]).expect("after it");
    assert!(matches!(disk.read(FILE, 511, &mut [0; 2]), Err(DiskError::Failed(_))));
    disk.write(FILE, 512, &[1; 50]).unwrap();
    assert!(disk.read(FILE, 512, &mut [0; 2]).is_err(), "a part of it was written, and not all");
    disk.write(FILE, 512, &[1; 100]).unwrap();
    disk.read(FILE, 0, &mut [0; 1024]).expect("all of it was written");
    assert_eq!(disk.counters().unreadable_reads, 2);
}

#[test]
fn what_cannot_be_read_is_there_as_it_was_once_it_can() {
    let mut disk = disk_with(1024);
    disk.write(FILE, 512, b"abcd").unwrap();
    assert!(!disk.make_readable(), "all of it could be read");
    disk.make_unreadable(FILE, 512..516).unwrap();
    disk.read(FILE, 512, &mut [0; 4]).expect_err("it cannot be read");
    assert!(disk.make_readable());
    let mut bytes = [0; 4];
    disk.read(FILE, 512, &mut bytes).expect("it can be read again");
    assert_eq!(&bytes, b"abcd");
}

#[test]
fn who_asks_for_a_file_that_is_not_there_is_told_so() {
    let mut disk = SimDisk::default();
    let missing = Err(DiskError::Missing(FILE));
    assert_eq!(disk.write(FILE, 0, b"a"), missing);
    assert_eq!(disk.sync(FILE), missing);
    assert_eq!(disk.rename(FILE, OTHER), missing);
    assert_eq!(disk.remove(FILE), missing);
    assert_eq!(disk.rot(FILE, 0..1, Rot::Zero), missing);
    assert_eq!(disk.write(FILE, u64::MAX, b"a"), missing);
    disk.create(FILE, 0).unwrap();
    assert_eq!(disk.write(FILE, u64::MAX - 1, b"a"), Err(DiskError::Full));
    assert_eq!(disk.create(OTHER, u64::MAX), Err(DiskError::Full));
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut disk = disk_with(2);
    let mut other = disk.clone();
    other.write(FILE, 0, b"x").unwrap();
    assert_eq!(content(&mut disk, FILE).unwrap(), b"\0\0");
    assert_ne!(disk, other);
}

#[test]
fn a_file_that_is_made_again_comes_back_as_it_was_until_the_directory_is_synced() {
    let mut disk = disk_with(1);
    disk.write(FILE, 0, b"a").unwrap();
    disk.sync(FILE).unwrap();
    disk.create(FILE, 2).unwrap();
    disk.write(FILE, 0, b"bb").unwrap();
    disk.sync(FILE).unwrap();
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"a");
    assert_eq!(after(&disk, Plan::KeepAll).unwrap(), b"bb");
    disk.sync_directory().unwrap();
    assert_eq!(after(&disk, Plan::KeepNone).unwrap(), b"bb");
}

/// What a disk with one file should be, the plain way: everything kept twice and nothing undone.
#[derive(Default)]
struct Model {
    shown: Vec<u8>,
    medium: Vec<u8>,
    waiting: Vec<(usize, Vec<u8>, bool)>,
    /// Where reads show something that the medium does not have.
    masked: Vec<std::ops::Range<usize>>,
}

impl Model {
    fn put(into: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        into.resize(into.len().max(at + bytes.len()), 0);
        into[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn write(&mut self, at: usize, bytes: &[u8], lost: bool) {
        Self::put(&mut self.shown, at, bytes);
        self.waiting.push((at, bytes.to_vec(), lost));
    }

    fn sync(&mut self, fails: bool) {
        for (at, bytes, lost) in std::mem::take(&mut self.waiting) {
            let end = at + bytes.len();
            if lost || fails {
                self.masked.push(at..end);
            }
            if lost && !fails {
                self.medium.resize(self.medium.len().max(end), 0);
            } else if !lost && !fails {
                Self::put(&mut self.medium, at, &bytes);
            }
        }
    }

    fn rot(&mut self, range: std::ops::Range<usize>) {
        for at in range.start..range.end.min(self.shown.len()) {
            let waits =
                self.waiting.iter().any(|(start, bytes, _)| (*start..start + bytes.len()).contains(&at));
            if !waits && !self.masked.iter().any(|masked| masked.contains(&at)) {
                self.shown[at] = 0;
            }
            if let Some(byte) = self.medium.get_mut(at) {
                *byte = 0;
            }
        }
    }
}

#[test]
fn a_file_is_what_it_would_be_if_everything_were_kept_twice() {
    for seed in 0..400 {
        let mut chance = Stream::named(seed, "model", 0);
        let (mut disk, mut model) = (disk_with(0), Model::default());
        for step in 1..40_u8 {
            let (at, length) = (chance.below(40) as usize, chance.between(1, 20) as usize);
            match chance.below(10) {
                0 | 1 => {
                    let fails = chance.chance(3_000);
                    if fails {
                        disk.fail_next_sync(None);
                    }
                    assert_eq!(disk.sync(FILE).is_err(), fails);
                    model.sync(fails);
                }
                2 => {
                    disk.rot(FILE, at as u64..(at + length) as u64, Rot::Zero).unwrap();
                    model.rot(at..at + length);
                }
                _ => {
                    let lost = chance.chance(2_000);
                    if lost {
                        disk.lose_next_write(None);
                    }
                    disk.write(FILE, at as u64, &vec![step; length]).unwrap();
                    model.write(at, &vec![step; length], lost);
                }
            }
            assert_eq!(content(&mut disk, FILE).unwrap(), model.shown, "seed {seed}, step {step}");
            assert_eq!(after(&disk, Plan::KeepNone).unwrap(), model.medium, "seed {seed}, step {step}");
        }
    }
}

/// How many files the disk keeps, with a name or without.
fn kept(disk: &SimDisk) -> [usize; 2] {
    [disk.files.len(), disk.called.len()]
}

#[test]
fn a_file_is_kept_for_as_long_as_a_crash_may_give_it_its_name_back() {
    let mut disk = disk_with(4);
    disk.remove(FILE).unwrap();
    assert_eq!(kept(&disk), [1; 2]);
    disk.sync_directory().unwrap();
    assert_eq!(kept(&disk), [0; 2]);
    for file in [FILE, OTHER] {
        disk.create(file, 4).unwrap();
    }
    disk.rename(FILE, OTHER).unwrap();
    assert_eq!(kept(&disk), [2; 2], "the one that is gone may come back");
    disk.sync_directory().unwrap();
    assert_eq!((kept(&disk), names(&mut disk)), ([1; 2], vec![OTHER]));
    disk.create(FILE, 4).unwrap();
    disk.crash_at(Plan::KeepNone);
    assert_eq!((kept(&disk), names(&mut disk)), ([1; 2], vec![OTHER]), "it never got a name");
    disk.create(FILE, 4).unwrap();
    disk.remove(FILE).unwrap();
    disk.fail_next(Call::SyncDirectory, None);
    disk.sync_directory().unwrap_err();
    disk.sync_directory().unwrap();
    assert_eq!(kept(&disk), [1; 2], "no sync gives it one");
    disk.create(FILE, 4).unwrap();
    disk.fail_next(Call::SyncDirectory, None);
    disk.sync_directory().unwrap_err();
    disk.sync_directory().unwrap();
    assert_eq!(kept(&disk), [2; 2], "it has a name until a crash");
    disk.remove(FILE).unwrap();
    disk.sync_directory().unwrap();
    assert_eq!(kept(&disk), [1; 2], "the medium never had it");
    disk.remove(OTHER).unwrap();
    disk.fail_next(Call::SyncDirectory, None);
    disk.sync_directory().unwrap_err();
    disk.sync_directory().unwrap();
    assert_eq!(kept(&disk), [1; 2], "the medium has it still");
    disk.create(OTHER, 4).unwrap();
    disk.sync_directory().unwrap();
    assert_eq!(kept(&disk), [1; 2], "another has its name");
}
