//! A member's directory as real files.
//!
//! [`FileDisk`] implements the [`Disk`] of `kontiki_core::wal` on a file system: system calls in the right
//! order, and their errors classified. It passes the conformance kit of `kontiki-sim`, which runs this code
//! over simulated system calls.
//!
//! ```
//! use kontiki_core::wal::{Disk as _, FileName};
//! use kontiki_net_tokio::disk::FileDisk;
//!
//! # let directory = std::env::temp_dir().join(format!("kontiki-doc-{}", std::process::id()));
//! let mut disk = FileDisk::open(&directory)?;
//! disk.create(FileName::Segment(1), 4096)?;
//! disk.write(FileName::Segment(1), 0, b"hello")?;
//! disk.sync(FileName::Segment(1))?;
//! disk.sync_directory()?;
//! // One directory is one member's, in one process.
//! assert!(FileDisk::open(&directory).is_err());
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use kontiki_core::wal::{Disk, DiskError, FileName};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One directory of a file system. While there is one of these, no other opens the directory, in this process
/// or another.
///
/// Files are opened once and kept open, so that a sync reports the errors of the writes before it.
#[derive(Debug)]
pub struct FileDisk<S: Syscalls = Os> {
    os: S,
    open: Open<S::File>,
    /// What a file is called while it is made here.
    new: &'static str,
}

/// What is open, for all lanes of one directory: a file that one of them removes must not stay open in
/// another, or its room stays taken.
type Open<F> = Arc<Mutex<BTreeMap<FileName, Arc<F>>>>;

impl FileDisk {
    /// Takes possession of a directory, which is made where there is none.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, DiskOpenError> {
        let directory = directory.as_ref();
        let failed = |error| DiskOpenError::Failed { directory: directory.to_owned(), error };
        let made: Vec<_> = directory.ancestors().take_while(|path| !path.exists()).collect();
        fs::create_dir_all(directory).map_err(failed)?;
        // The names of the directories that were made must be durable as well.
        for parent in made.iter().filter_map(|path| path.parent()) {
            let here = parent.as_os_str().is_empty();
            sync_directory(if here { Path::new(".") } else { parent }).map_err(failed)?;
        }
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(directory.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self::over(Os { directory: directory.to_owned(), _lock: Arc::new(lock) })),
            Err(TryLockError::WouldBlock) => Err(DiskOpenError::Taken { directory: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl FileDisk {
    /// The same directory for a second thread: for the second [`Lane`](kontiki_core::replica::Lane) of a
    /// replica, whose jobs may overtake those of the first. There must be no third.
    pub fn for_another_lane(&self) -> Self {
        let os = Os { directory: self.os.directory.clone(), _lock: Arc::clone(&self.os._lock) };
        Self { os, open: Arc::clone(&self.open), new: NEW_TOO }
    }
}

impl<S: Syscalls> FileDisk<S> {
    /// The same over other system calls: for tests.
    #[doc(hidden)]
    pub fn over(os: S) -> Self {
        Self { os, open: Open::default(), new: NEW }
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<FileName, Arc<S::File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&mut self, file: FileName) -> Result<Arc<S::File>, DiskError> {
        if let Some(opened) = self.opened().get(&file) {
            return Ok(Arc::clone(opened));
        }
        let opened = self.os.open(&file.to_string()).map_err(|error| told(file, "open", &error))?;
        let opened = Arc::new(opened);
        self.opened().insert(file, Arc::clone(&opened));
        Ok(opened)
    }

    /// Makes a file of zeros. On a file system that puts off finding room until it must, it is the sync that
    /// finds it.
    fn fill(&mut self, length: u64) -> io::Result<S::File> {
        let made = self.os.create(self.new)?;
        let zeros = vec![0; ZEROS];
        let mut at = 0;
        while at < length {
            let count = usize::try_from(length - at).unwrap_or(ZEROS).min(ZEROS);
            write_all(&mut self.os, &made, &zeros[..count], at)?;
            at += count as u64;
        }
        self.os.sync(&made)?;
        Ok(made)
    }
}

impl<S: Syscalls> Disk for FileDisk<S> {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let names =
            self.os.list().map_err(|error| DiskError::Failed(format!("listing the files: {error}")))?;
        let ours = names.into_iter().filter_map(|name| FileName::parse(&name));
        let mut files = Vec::new();
        for name in ours {
            let file = self.os.open(&name.to_string()).map_err(|error| told(name, "open", &error))?;
            let length = self.os.length(&file).map_err(|error| told(name, "measure", &error))?;
            files.push((name, length));
        }
        Ok(files)
    }

    fn create(&mut self, file: FileName, length: u64) -> Result<(), DiskError> {
        // Under another name first: a file that it replaces is there until the new one is whole.
        let made = match self.fill(length) {
            Ok(made) => made,
            Err(error) => {
                // What is half made takes room. Where it cannot be removed, the next one takes its place.
                let _ = self.os.remove(self.new);
                let full = error.kind() == ErrorKind::StorageFull;
                return Err(if full { DiskError::Full } else { told(file, "create", &error) });
            }
        };
        self.os.rename(self.new, &file.to_string()).map_err(|error| told(file, "create", &error))?;
        self.opened().insert(file, Arc::new(made));
        Ok(())
    }

    fn read(&mut self, file: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let opened = self.file(file)?;
        let mut read = 0;
        while read < into.len() {
            match self.os.read_at(&opened, &mut into[read..], at.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(told(file, "read", &error)),
            }
        }
        Ok(read)
    }

    fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let opened = self.file(file)?;
        let length = self.os.length(&opened).map_err(|error| told(file, "measure", &error))?;
        match write_all(&mut self.os, &opened, bytes, at) {
            Ok(()) => Ok(()),
            // Only what was added can be taken back.
            Err(error) if error.kind() == ErrorKind::StorageFull && at >= length => {
                self.os.set_length(&opened, length).map_err(|error| told(file, "shorten", &error))?;
                Err(DiskError::Full)
            }
            Err(error) => Err(told(file, "write", &error)),
        }
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        let opened = self.file(file)?;
        // Whatever the error is, a full disk too: what should have been durable is perhaps not, and never
        // will be.
        self.os.sync(&opened).map_err(|error| told(file, "sync", &error))
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        let renamed = self.os.rename(&from.to_string(), &to.to_string());
        renamed.map_err(|error| told(from, "rename", &error))?;
        if from != to {
            // What is open stays the file that it was, under whichever name.
            let mut open = self.opened();
            open.remove(&to);
            if let Some(opened) = open.remove(&from) {
                open.insert(to, opened);
            }
        }
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.os.remove(&file.to_string()).map_err(|error| told(file, "remove", &error))?;
        self.opened().remove(&file);
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        let synced = self.os.sync_directory();
        synced.map_err(|error| DiskError::Failed(format!("syncing the directory: {error}")))
    }
}

fn write_all<S: Syscalls>(os: &mut S, file: &S::File, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match os.write_at(file, &bytes[written..], at.saturating_add(written as u64)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An error as the log understands it.
fn told(file: FileName, what: &str, error: &io::Error) -> DiskError {
    match error.kind() {
        ErrorKind::NotFound => DiskError::Missing(file),
        _ => DiskError::Failed(format!("cannot {what} {file}: {error}")),
    }
}

/// What a file is called while it is made.
const NEW: &str = "new";
/// The same in the second lane.
const NEW_TOO: &str = "new-too";
/// What keeps others out.
const LOCK: &str = "lock";
/// How many zeros are written at once.
const ZEROS: usize = 1 << 18;

/// The system calls that a [`FileDisk`] makes, in one directory: as they are in Linux. Names are plain file
/// names, never paths.
#[doc(hidden)]
pub trait Syscalls {
    /// An open file: the file, whatever it is called by then.
    type File;
    /// The names of all files.
    fn list(&mut self) -> io::Result<Vec<String>>;
    /// Opens a file that there is, for reading and writing.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;
    /// Makes an empty file; one of this name becomes empty.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;
    /// How long a file is.
    fn length(&mut self, file: &Self::File) -> io::Result<u64>;
    /// Makes a file so long.
    fn set_length(&mut self, file: &Self::File, length: u64) -> io::Result<()>;
    /// `pread`.
    fn read_at(&mut self, file: &Self::File, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// `pwrite`.
    fn write_at(&mut self, file: &Self::File, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// `fdatasync`.
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;
    /// `rename`.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// `unlink`.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// `fsync` of the directory.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// The operating system.
#[derive(Debug)]
pub struct Os {
    directory: PathBuf,
    /// Held as long as this is: it is the open file that has the lock.
    _lock: Arc<File>,
}

impl Os {
    /// Returns the path of a plain file: a symbolic link must not lead outside the directory.
    fn plain(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.directory.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => {
                Err(io::Error::new(ErrorKind::InvalidInput, "it is no plain file: take it away"))
            }
            Ok(_) => Ok(path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(path),
            Err(error) => Err(error),
        }
    }
}

impl Syscalls for Os {
    type File = File;

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // What is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.plain(name)?)
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        let path = self.plain(name)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn length(&mut self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn set_length(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn read_at(&mut self, file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
        file.read_at(into, at)
    }

    fn write_at(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
        file.write_at(bytes, at)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.plain(from)?, self.plain(to)?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        sync_directory(&self.directory)
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskOpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{directory} is in use: stop the member that runs there, or give this one its own")]
    Taken {
        /// Which directory.
        directory: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot use {directory}: {error}")]
    Failed {
        /// Which directory.
        directory: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}
