//! Our own storage, and storage that is not to be trusted, under the conformance kit.

use kontiki_core::wal::{Disk, DiskError, FileName, Slot};
use kontiki_net_tokio::disk::{DiskOpenError, FileDisk, Syscalls};
use kontiki_sim::conformance::{self, Rule, TestDisk};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

#[test]
fn our_log_keeps_every_promise() {
    let passed = conformance::disk(Ok).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(passed.points > 3_000 && passed.operations > 150, "{passed:?}");
    assert!(passed.reported > 100, "damage is reported and not refused: {passed:?}");
}

#[test]
fn our_files_keep_every_promise() {
    let passed = conformance::disk(|disk| Ok(FileDisk::over(Calls::new(disk))));
    let passed = passed.unwrap_or_else(|violation| panic!("{violation}"));
    assert!(passed.points > 3_000 && passed.operations > 150, "{passed:?}");
}

/// The system calls of a [`FileDisk`], on the kit's disk.
struct Calls {
    disk: TestDisk,
    /// What each open file is called; nothing any more, where it was replaced or removed.
    called: RefCell<BTreeMap<u64, Option<FileName>>>,
}

impl Calls {
    fn new(disk: TestDisk) -> Self {
        Self { disk, called: RefCell::default() }
    }

    fn opened(&self, file: FileName) -> u64 {
        let mut called = self.called.borrow_mut();
        let handle = called.len() as u64;
        called.insert(handle, Some(file));
        handle
    }

    fn named(&self, handle: u64) -> io::Result<FileName> {
        self.called.borrow()[&handle].ok_or_else(|| io::Error::other("it has no name any more"))
    }

    fn forget(&self, file: FileName) {
        for called in self.called.borrow_mut().values_mut().filter(|called| **called == Some(file)) {
            *called = None;
        }
    }

    fn file(name: &str) -> FileName {
        FileName::parse(name).unwrap_or(FileName::Spare(u64::MAX))
    }
}

fn to_io(error: DiskError) -> io::Error {
    match error {
        DiskError::Full => ErrorKind::StorageFull.into(),
        DiskError::Missing(_) => ErrorKind::NotFound.into(),
        DiskError::Failed(why) => io::Error::other(why),
    }
}

impl Syscalls for Calls {
    type File = u64;

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.disk.list().map_err(to_io)?.into_iter().map(|(name, _)| name.to_string()).collect())
    }

    fn open(&mut self, name: &str) -> io::Result<u64> {
        let file = Self::file(name);
        let found = self.disk.list().map_err(to_io)?.into_iter().any(|(found, _)| found == file);
        if found { Ok(self.opened(file)) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn create(&mut self, name: &str) -> io::Result<u64> {
        let file = Self::file(name);
        self.disk.create(file, 0).map_err(to_io)?;
        self.forget(file);
        Ok(self.opened(file))
    }

    fn length(&mut self, handle: &u64) -> io::Result<u64> {
        let file = self.named(*handle)?;
        let found = self.disk.list().map_err(to_io)?.into_iter().find(|(found, _)| *found == file);
        Ok(found.ok_or(ErrorKind::NotFound)?.1)
    }

    fn set_length(&mut self, handle: &u64, length: u64) -> io::Result<()> {
        assert_eq!(self.length(handle)?, length, "the kit's disk writes all that fits or nothing");
        Ok(())
    }

    fn read_at(&mut self, handle: &u64, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.disk.read(self.named(*handle)?, at, into).map_err(to_io)
    }

    fn write_at(&mut self, handle: &u64, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.disk.write(self.named(*handle)?, at, bytes).map(|()| bytes.len()).map_err(to_io)
    }

    fn sync(&mut self, handle: &u64) -> io::Result<()> {
        self.disk.sync(self.named(*handle)?).map_err(to_io)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (Self::file(from), Self::file(to));
        self.disk.rename(from, to).map_err(to_io)?;
        self.forget(to);
        for called in self.called.borrow_mut().values_mut().filter(|called| **called == Some(from)) {
            *called = Some(to);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(Self::file(name)).map_err(to_io)?;
        self.forget(Self::file(name));
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.disk.sync_directory().map_err(to_io)
    }
}

/// A disk that does without something.
struct Naive {
    disk: TestDisk,
    without: Without,
    /// The file that was synced last.
    synced: FileName,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    /// A sync of a file does nothing.
    Sync,
    /// A sync of the directory does nothing.
    DirectorySync,
    /// A sync that has failed is tried again, and believed.
    Fear,
    /// A sync is of the file before.
    Care,
    /// A rename makes a new file, and removes the old one.
    Atomicity,
    /// A new file takes no space.
    Allocation,
    /// What cannot be read is taken for the end of the file.
    Errors,
}

impl Disk for Naive {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        self.disk.list()
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        self.disk.create(file, if self.without == Without::Allocation { 0 } else { length })
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        match self.disk.read(file, at, into) {
            Err(_) if self.without == Without::Errors => Ok(0),
            result => result,
        }
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write(file, at, bytes)
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        let before = std::mem::replace(&mut self.synced, file);
        match self.without {
            Without::Sync => Ok(()),
            Without::Fear => self.disk.sync(file).or_else(|_| self.disk.sync(file)),
            Without::Care => match self.disk.sync(before) {
                Err(DiskError::Missing(_)) => Ok(()),
                result => result,
            },
            _ => self.disk.sync(file),
        }
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        if self.without != Without::Atomicity {
            return self.disk.rename(from, to);
        }
        let length = self.disk.list()?.into_iter().find(|(name, _)| *name == from).map_or(0, |found| found.1);
        let mut bytes = vec![0; length as usize];
        self.disk.read(from, 0, &mut bytes)?;
        self.disk.create(to, length)?;
        self.disk.write(to, 0, &bytes)?;
        self.disk.sync(to)?;
        self.disk.remove(from)
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.disk.remove(file)
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        if self.without == Without::DirectorySync { Ok(()) } else { self.disk.sync_directory() }
    }
}

#[test]
fn naive_disks_are_found_out() {
    let broken = [
        (Without::Sync, Rule::Opens),
        (Without::DirectorySync, Rule::KeepsWhatIsAcknowledged),
        (Without::Fear, Rule::Opens),
        (Without::Care, Rule::Opens),
        (Without::Atomicity, Rule::Opens),
        (Without::Allocation, Rule::OutlivesAFullDisk),
        (Without::Errors, Rule::NoFalseAlarm),
    ];
    for (without, rule) in broken {
        let over = |disk| Ok(Naive { disk, without, synced: FileName::Vote(Slot::A) });
        let violation = conformance::disk(over).expect_err("it is not to be trusted");
        assert_eq!(violation.rule, rule, "without {without:?}: {violation}");
        assert_eq!(conformance::disk_at(violation.point, over), Err(violation), "replayed");
    }
}

#[test]
fn a_directory_is_one_member_s() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("of/member/1");
    let disk = FileDisk::open(&path).unwrap();
    assert!(matches!(FileDisk::open(&path), Err(DiskOpenError::Taken { .. })));
    drop(disk);
    FileDisk::open(&path).expect("no process holds it any more");
}

#[test]
fn real_files_are_what_a_disk_should_be() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (spare, log, vote) = (FileName::Spare(1), FileName::Segment(1), FileName::Vote(Slot::A));
    let mut disk = FileDisk::open(path).unwrap();
    assert_eq!(disk.list(), Ok(Vec::new()), "the lock is none of its files");
    disk.create(spare, 600_000).unwrap();
    disk.write(spare, 599_999, b"ab").unwrap();
    disk.sync(spare).unwrap();
    disk.rename(spare, log).unwrap();
    disk.sync_directory().unwrap();
    disk.write(log, 0, b"x").expect("it is open under its new name");
    disk.create(vote, 3).unwrap();
    disk.write(vote, 0, b"old").unwrap();
    disk.create(vote, 2).unwrap();
    drop(disk);

    std::fs::write(path.join("something else"), b"left alone").unwrap();
    let mut disk = FileDisk::open(path).unwrap();
    let mut files = disk.list().unwrap();
    files.sort_unstable();
    assert_eq!(files, [(log, 600_001), (vote, 2)]);
    let mut bytes = [9; 4];
    assert_eq!(disk.read(log, 599_998, &mut bytes), Ok(3));
    assert_eq!(bytes, *b"\0ab\x09");
    assert_eq!(disk.read(log, 0, &mut bytes[..1]), Ok(1));
    assert_eq!(bytes[0], b'x');
    assert_eq!(disk.read(log, 700_000, &mut bytes), Ok(0));
    assert_eq!((disk.read(vote, 0, &mut bytes[..2]), bytes[0]), (Ok(2), 0));
    disk.remove(vote).unwrap();
    assert_eq!(disk.sync(vote), Err(DiskError::Missing(vote)));
    assert_eq!(disk.read(spare, 0, &mut bytes), Err(DiskError::Missing(spare)));
    assert!(path.join("something else").exists());
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, outside) = (directory.path().join("member"), directory.path().join("outside"));
    std::fs::write(&outside, b"precious").unwrap();
    let mut disk = FileDisk::open(&path).unwrap();
    let log = FileName::Segment(1);
    std::os::unix::fs::symlink(&outside, path.join(log.to_string())).unwrap();
    std::os::unix::fs::symlink(&outside, path.join("new")).unwrap();
    let refused = |result: Result<(), DiskError>| assert!(matches!(result, Err(DiskError::Failed(_))));
    refused(disk.write(log, 0, b"gone"));
    refused(disk.list().map(|_| ()));
    refused(disk.rename(log, FileName::Segment(2)));
    assert_eq!(std::fs::read(&outside).unwrap(), b"precious");
}
