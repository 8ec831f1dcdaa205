//! A small store that keeps every promise, and what becomes of it when one of its precautions is left out.

use super::*;
use kontiki_core::action::Write;
use kontiki_core::types::{Ballot, WriteSeq};
use kontiki_core::wal::{Disk, FileName};
use serde::{Deserialize, Serialize};

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sloppy {
    No,
    /// Acknowledges what is only written.
    NoSync,
    /// A new file is renamed, and its directory is not synced.
    NoDirectorySync,
    /// A new file is renamed before it is synced.
    RenamesFirst,
    /// A sync that fails is tried again.
    RetriesSync,
    /// What it finds when it starts it takes for durable.
    TrustsTheCache,
    /// The log ends at the first bad record, whatever comes after it.
    CutsAtDamage,
    /// Any bad record is damage.
    FearsTornTails,
    /// No checksum.
    Unchecked,
    /// A truncation is done in memory.
    ForgetsTruncation,
    /// The vote is written after the entries, each durable by itself.
    VoteLast,
    /// Acknowledges the write after the last.
    CountsOneMore,
    /// A file that cannot be opened is removed.
    StartsOver,
    /// A full disk is an error like any other.
    DiesOfFullDisk,
    /// A write that finds no room is acknowledged all the same.
    IgnoresFullDisk,
}

/// One file of records, each of whole sectors: the first sums up all before it, each other is a write or a
/// mark.
struct Records {
    disk: TestDisk,
    sloppy: Sloppy,
    end: u64,
    next: u64,
    synced: u64,
    waiting: Vec<Write>,
    last: WriteSeq,
    broken: bool,
}

const LOG: FileName = FileName::Segment(1);
const NEW: FileName = FileName::Spare(1);
const SECTOR: usize = 512;

/// What a record says.
#[derive(Serialize, Deserialize)]
enum Body {
    Sum(Durable),
    Write(Write),
    /// That all before it was synced.
    Mark,
}

/// A record: its sum, its length, its number, the last record that was synced before it, and what it says.
fn encode(at: u64, number: u64, synced: u64, body: &Body, sloppy: Sloppy) -> Vec<u8> {
    let body = postcard::to_allocvec(body).unwrap();
    let mut record = [0, body.len() as u64, number, synced].map(u64::to_le_bytes).concat();
    record.extend(body);
    let sum = sum(at, &record[8..], sloppy);
    record[..8].copy_from_slice(&sum.to_le_bytes());
    record.resize(record.len().next_multiple_of(SECTOR), 0);
    record
}

fn sum(at: u64, bytes: &[u8], sloppy: Sloppy) -> u64 {
    match sloppy {
        Sloppy::Unchecked => 7,
        _ => crate::hash::StableHasher::of(&(at, bytes)),
    }
}

struct Record<'a> {
    number: u64,
    synced: u64,
    body: &'a [u8],
    length: usize,
}

fn decode(bytes: &[u8], at: usize, sloppy: Sloppy) -> Option<Record<'_>> {
    let word = |position: usize| {
        let word = bytes.get(at + position * 8..at + position * 8 + 8)?;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    };
    let length = usize::try_from(word(1)?).ok().filter(|length| *length > 0 && *length < 1 << 24)?;
    let body = bytes.get(at + 8..at + 32 + length)?;
    if word(0)? != sum(at as u64, body, sloppy) {
        return None;
    }
    let length = (32 + length).next_multiple_of(SECTOR);
    Some(Record { number: word(2)?, synced: word(3)?, body: &body[24..], length })
}

impl Records {
    fn open(mut disk: TestDisk, sloppy: Sloppy) -> Result<(Self, Durable), StoreError> {
        let found = disk.list()?.into_iter().find(|(name, _)| *name == LOG);
        let mut log = Durable::default();
        let mut numbers = 0;
        if let Some((_, length)) = found {
            // The padding of the last record may be missing.
            let mut bytes = vec![0; (length as usize).next_multiple_of(SECTOR)];
            disk.read(LOG, 0, &mut bytes)?;
            match sum_up(&bytes, sloppy) {
                Ok((durable, last)) => (log, numbers) = (durable, last),
                Err(_) if sloppy == Sloppy::StartsOver => {}
                Err(why) => return Err(StoreError::Failed(why)),
            }
        }
        let mut store = Self {
            disk,
            sloppy,
            end: 0,
            next: numbers + 1,
            synced: numbers,
            waiting: Vec::new(),
            last: WriteSeq::ZERO,
            broken: false,
        };
        if found.is_none() || sloppy != Sloppy::TrustsTheCache {
            store.begin(&log)?;
        } else {
            store.end = found.map_or(0, |(_, length)| length.next_multiple_of(SECTOR as u64));
        }
        Ok((store, log))
    }

    /// Writes everything into a new file, which then takes the place of the old one.
    fn begin(&mut self, log: &Durable) -> Result<(), StoreError> {
        self.disk.create(NEW, 0)?;
        self.append(NEW, &Body::Sum(log.clone()))?;
        if self.sloppy == Sloppy::RenamesFirst {
            self.disk.rename(NEW, LOG)?;
            self.disk.sync_directory()?;
            self.disk.sync(LOG)?;
            self.synced = self.next - 1;
            return self.idle();
        }
        self.disk.sync(NEW)?;
        self.synced = self.next - 1;
        for _ in 0..2 {
            self.append(NEW, &Body::Mark)?;
            self.disk.sync(NEW)?;
            self.synced = self.next - 1;
        }
        self.disk.rename(NEW, LOG)?;
        if self.sloppy != Sloppy::NoDirectorySync {
            self.disk.sync_directory()?;
        }
        Ok(())
    }

    fn append(&mut self, file: FileName, body: &Body) -> Result<(), StoreError> {
        let record = encode(self.end, self.next, self.synced, body, self.sloppy);
        self.disk.write(file, self.end, &record)?;
        self.end += record.len() as u64;
        self.next += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        while let Some(write) = self.waiting.first().cloned() {
            let mut kept = write.clone();
            if self.sloppy == Sloppy::ForgetsTruncation {
                kept.truncate_after = None;
            }
            if self.sloppy == Sloppy::VoteLast && !kept.append.is_empty() {
                self.append(LOG, &Body::Write(Write { ballot: Ballot::default(), ..kept.clone() }))?;
                self.disk.sync(LOG)?;
                (kept.append, kept.truncate_after, kept.rebase) = Default::default();
            }
            self.append(LOG, &Body::Write(kept))?;
            self.last = write.seq;
            self.waiting.remove(0);
        }
        if self.sloppy == Sloppy::NoSync {
            return Ok(());
        }
        match self.disk.sync(LOG) {
            Err(_) if self.sloppy == Sloppy::RetriesSync => self.disk.sync(LOG)?,
            result => result?,
        }
        self.synced = self.next - 1;
        Ok(())
    }
}

/// What the records add up to, and the number of the last.
fn sum_up(bytes: &[u8], sloppy: Sloppy) -> Result<(Durable, u64), String> {
    let (mut at, mut expected) = (0, None);
    let mut log: Option<Durable> = None;
    while at < bytes.len() {
        let record = decode(bytes, at, sloppy);
        let Some(record) = record.filter(|record| expected.is_none_or(|number| number == record.number))
        else {
            break;
        };
        expected = Some(record.number + 1);
        at += record.length;
        let body = postcard::from_bytes(record.body).map_err(|error| error.to_string())?;
        match (body, &mut log) {
            (Body::Sum(sum), _) => log = Some(sum),
            (Body::Write(mut write), Some(log)) => {
                if sloppy == Sloppy::VoteLast && write.ballot == Ballot::default() {
                    write.ballot = log.ballot;
                }
                log.write(&write);
            }
            (Body::Mark | Body::Write(_), _) => {}
        }
    }
    let next = expected.unwrap_or(0);
    let later = (at..bytes.len()).step_by(SECTOR).filter_map(|at| decode(bytes, at, sloppy));
    let damaged = later.map(|record| record.synced).max().is_some_and(|synced| synced >= next);
    let blank = bytes[at..].iter().all(|byte| *byte == 0);
    match log {
        _ if damaged && sloppy != Sloppy::CutsAtDamage => Err(format!("record {next} is damaged")),
        _ if !blank && sloppy == Sloppy::FearsTornTails => Err(format!("record {next} is damaged")),
        Some(log) => Ok((log, next.saturating_sub(1))),
        None => Err("the first record is damaged".to_owned()),
    }
}

impl LogStore for Records {
    fn write(&mut self, write: &Write) -> Result<(), StoreError> {
        self.waiting.push(write.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<WriteSeq, StoreError> {
        if self.broken {
            return Err(StoreError::Failed("it has failed before".to_owned()));
        }
        match self.flush() {
            Err(StoreError::Full) if self.sloppy == Sloppy::DiesOfFullDisk => {
                self.broken = true;
                Err(StoreError::Failed("no space".to_owned()))
            }
            Err(StoreError::Full) if self.sloppy == Sloppy::IgnoresFullDisk => {
                self.last = self.waiting.last().map_or(self.last, |write| write.seq);
                self.waiting.clear();
                Ok(self.last)
            }
            Err(StoreError::Full) => Err(StoreError::Full),
            Err(error) => {
                self.broken = true;
                Err(error)
            }
            Ok(()) if self.sloppy == Sloppy::CountsOneMore => Ok(WriteSeq::new(self.last.get() + 1)),
            Ok(()) => Ok(self.last),
        }
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        for _ in 0..2 {
            self.append(LOG, &Body::Mark)?;
            self.disk.sync(LOG)?;
            self.synced = self.next - 1;
        }
        Ok(())
    }
}

fn verdict(sloppy: Sloppy) -> Result<Passed, Box<Violation>> {
    store(|disk| Records::open(disk, sloppy))
}

#[test]
fn a_store_that_keeps_every_promise_passes() {
    let passed = verdict(Sloppy::No).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(passed.points > 1_500 && passed.operations > 80, "{passed:?}");
    assert!(passed.refused > 100, "damage makes it refuse: {passed:?}");
}

#[test]
fn each_precaution_that_is_left_out_is_missed_at_its_rule() {
    use Rule::*;
    let sloppies = [
        (Sloppy::NoSync, KeepsWhatIsAcknowledged),
        (Sloppy::NoDirectorySync, KeepsWhatIsAcknowledged),
        (Sloppy::RenamesFirst, Opens),
        (Sloppy::RetriesSync, KeepsTheVote),
        (Sloppy::TrustsTheCache, KeepsWhatWasFound),
        (Sloppy::CutsAtDamage, ReportsDamage),
        (Sloppy::FearsTornTails, Opens),
        (Sloppy::Unchecked, NothingButWhatWasWritten),
        (Sloppy::ForgetsTruncation, NothingButWhatWasWritten),
        (Sloppy::VoteLast, TermBeforeEntries),
        (Sloppy::CountsOneMore, AcknowledgesWhatIsWritten),
        (Sloppy::StartsOver, ReportsDamage),
        (Sloppy::DiesOfFullDisk, OutlivesAFullDisk),
        (Sloppy::IgnoresFullDisk, KeepsTheVote),
    ];
    for (sloppy, rule) in sloppies {
        let violation = verdict(sloppy).expect_err("it breaks a promise");
        assert_eq!(violation.rule, rule, "{sloppy:?}: {violation}");
        let again = store_at(violation.point, |disk| Records::open(disk, sloppy));
        assert_eq!(again, Err(violation), "{sloppy:?}: replayed");
    }
}
