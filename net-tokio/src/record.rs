//! The flight recorder: a member's inputs, in a file of bounded size.
//!
//! A [`FlightRecorder`] watches the kernel inside a [`Replica`](kontiki_core::replica::Replica) and writes
//! recordings ([`kontiki_core::record`]) to a file, which `kontiki-sim replay` runs again. It is meant to be
//! always on: after a failure, the last part of the member's run is available.
//!
//! ```text
//!   step ──► buffer (bounded) ──► a thread ──► FILE ──► when half of the bytes are used up: FILE.previous, and FILE anew
//! ```
//!
//! - **It never waits for the disk**, and nothing is synced: data handed to the operating system survives a
//!   crash of the process, but not of the machine. If the disk is too slow, the recording ends, and another
//!   begins when it has caught up: the gap is counted, and noted in the recording.
//! - **It never destroys what it finds.** A restarted member continues in the same file, with a recording of
//!   its own: the run that crashed is the one of interest. Only the ring drops an older half when a newer one
//!   is full.
//! - **It contains everything the member received**: every payload, and the entries that were in memory. The
//!   file is readable by its owner only (on Unix), and needs the same protection as the data itself.
//!
//! Each recording begins with a copy of the kernel, so a ring should be several times as large as the part of
//! the log that members keep in memory
//! ([`max_cached_bytes`](kontiki_core::config::Options::max_cached_bytes), plus uncommitted entries): while
//! that exceeds three tenths of the ring, nothing is recorded. The defaults fit into a ring of 256 MiB with
//! half of each file left for steps. A single step larger than a sixteenth of the ring, or 8 MiB, is a gap.

use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::raft::Raft;
use kontiki_core::record::{self, About, Steps, TooLarge};
use kontiki_core::replica::Watch;
use kontiki_core::status::Status;
use kontiki_core::time::{Instant, Nanos};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// The smallest ring.
pub const MIN_BYTES: u64 = 64 << 10;

/// The most bytes that may wait for the disk, if the ring is large.
const MAX_WAITING: usize = 8 << 20;

/// How long the writer waits for more steps after the first, so that not every step wakes it: what a kill can
/// lose, besides the current write.
const LINGER: Duration = Duration::from_millis(5);

/// After a gap, the kernel is copied no more often than this.
const PAUSE: Nanos = Nanos::new(1_000_000_000);

/// Records one member into a ring of two files; see the [module](self).
///
/// It is the [`Watch`] of one replica. Dropping it writes what is left, waiting for the disk, as
/// [`close`](Self::close) does: even the event during which a kernel panicked.
#[derive(Debug)]
pub struct FlightRecorder {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    limits: Limits,
    steps: Steps,
    /// The step that has just ended.
    frame: Vec<u8>,
    recording: bool,
    /// See [`About::missed`].
    missed: Option<u64>,
    /// When the last recording began.
    began: Option<Instant>,
    too_large: u64,
    missed_in_all: u64,
}

/// The counters of a recorder.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecorderCounters {
    /// Recordings started: one, and one more each time half of the ring is full, or after a gap.
    pub recordings: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Steps not recorded.
    pub missed: u64,
    /// Of these, the steps for which the ring is too small.
    pub too_large: u64,
    /// Failed writes.
    pub failures: u64,
    /// The last write error.
    pub failure: Option<String>,
}

/// The limits that follow from the size of a ring.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The size of one of its two files.
    file: u64,
    /// The largest kernel in memory.
    kernel: u64,
    /// The most bytes of steps that may wait for the disk.
    waiting: usize,
}

impl Limits {
    fn of(max_bytes: u64) -> Self {
        let waiting = usize::try_from(max_bytes / 16).map_or(MAX_WAITING, |bytes| bytes.min(MAX_WAITING));
        // A file has room for a kernel, twice the waiting bytes, and further steps.
        Self { file: max_bytes / 2, kernel: max_bytes / 16 * 5, waiting }
    }
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The data queued for the disk.
#[derive(Debug, Default)]
struct Queue {
    pieces: Vec<Piece>,
    /// The number of bytes of steps in `pieces`.
    waiting: usize,
    /// The length of the file after all writes, as far as known: a checkpoint counts once it is written.
    file: u64,
    /// A recording is about to begin.
    begins: bool,
    /// The recording could not be written; until the next one begins.
    broken: bool,
    closed: bool,
    /// Whether the writer sleeps until there is anything to write.
    idle: bool,
    /// A buffer for reuse.
    spare: Vec<u8>,
    counters: RecorderCounters,
}

#[derive(Debug)]
enum Piece {
    /// A recording begins with this kernel.
    Begin(About, Box<Raft>),
    /// Encoded steps, and their number.
    Steps(Vec<u8>, u64),
}

impl FlightRecorder {
    /// Begins to record into the file at `path` and the one beside it with the suffix `.previous`, which take
    /// no more than `max_bytes` together.
    ///
    /// # Errors
    ///
    /// Fails if the ring would be smaller than [`MIN_BYTES`], if another process records into the file, if
    /// either file exists and is not a recording, and if the file cannot be opened. Later failures are
    /// [counted](Self::counters).
    pub fn create(path: impl Into<PathBuf>, max_bytes: u64) -> io::Result<Self> {
        if max_bytes < MIN_BYTES {
            let message = format!("a ring of {max_bytes} bytes is too small: give it at least {MIN_BYTES}");
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let limits = Limits::of(max_bytes);
        Self::over(Ring::open(path.into(), limits)?, limits)
    }

    /// The same, for any writer.
    fn over(tape: impl Tape, limits: Limits) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writing = shared.clone();
        let threshold = limits.waiting / 4;
        let writer = thread::Builder::new()
            .name("kontiki-recorder".to_owned())
            .spawn(move || write_all(tape, &writing, threshold))?;
        Ok(Self {
            shared,
            writer: Some(writer),
            limits,
            steps: Steps::default(),
            frame: Vec::new(),
            recording: false,
            missed: None,
            began: None,
            too_large: 0,
            missed_in_all: 0,
        })
    }

    /// Returns the counters.
    pub fn counters(&self) -> RecorderCounters {
        let counters = self.shared.lock().counters.clone();
        let missed = counters.missed + self.missed_in_all;
        RecorderCounters { missed, too_large: self.too_large, ..counters }
    }

    /// Writes what is left, waiting for the disk, and ends.
    pub fn close(mut self) -> RecorderCounters {
        self.end();
        self.counters()
    }

    fn end(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        // An unfinished step: the kernel has panicked in it.
        self.frame.clear();
        match self.steps.breaks_off(&mut self.frame) {
            Ok(()) if !self.frame.is_empty() => self.hand_over(),
            Ok(()) => {}
            Err(TooLarge { .. }) => self.miss(),
        }
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        // The writer handles its errors; if it panicked, nothing is left to do.
        let _ = writer.join();
    }

    /// Begins a recording with this kernel; returns whether it has begun.
    fn begin(&mut self, now: Instant, raft: &Raft) -> bool {
        if raft.log().cached_size() > self.limits.kernel {
            self.is_too_large();
            return false;
        }
        let gap = self.missed.is_some_and(|missed| missed > 0);
        if gap && self.began.is_some_and(|began| now - began < PAUSE) {
            return false;
        }
        let mut queue = self.shared.lock();
        if queue.begins || gap && !queue.pieces.is_empty() {
            return false;
        }
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        let about = About {
            unix_millis: since_1970.and_then(|since| u64::try_from(since.as_millis()).ok()),
            missed: self.missed,
            ..About::default()
        };
        queue.pieces.push(Piece::Begin(about, Box::new(raft.clone())));
        (queue.begins, queue.broken, queue.file) = (true, false, 0);
        self.shared.wake(queue);
        (self.missed, self.began) = (Some(0), Some(now));
        true
    }

    /// Queues the step that has just ended for the writer.
    fn hand_over(&mut self) {
        let (step, limits) = (&self.frame, self.limits);
        let mut queue = self.shared.lock();
        let fits = step.len() <= limits.waiting && queue.waiting + step.len() <= limits.waiting;
        if queue.broken || !fits {
            let too_large = step.len() > limits.waiting;
            drop(queue);
            if too_large {
                self.is_too_large();
            }
            return self.miss();
        }
        match queue.pieces.last_mut() {
            Some(Piece::Steps(steps, count)) => {
                steps.extend_from_slice(step);
                *count += 1;
            }
            _ => {
                let mut steps = mem::take(&mut queue.spare);
                steps.extend_from_slice(step);
                queue.pieces.push(Piece::Steps(steps, 1));
            }
        }
        queue.waiting += step.len();
        queue.file += step.len() as u64;
        // The next step may have any length, and this file may lack room for it: the next recording begins
        // with the next step.
        self.recording = queue.file + limits.waiting as u64 <= limits.file;
        if queue.idle || queue.waiting >= limits.waiting / 4 {
            self.shared.wake(queue);
        }
    }

    /// The ring has no room for a kernel or a step. Logged at powers of two, because it may happen at every
    /// step.
    fn is_too_large(&mut self) {
        self.too_large += 1;
        if self.too_large.is_power_of_two() {
            let (missed, ring) = (self.too_large, self.limits.file * 2);
            tracing::warn!(
                missed,
                ring,
                "not recorded: the ring is too small for this member: make it larger"
            );
        }
    }

    /// A step was not recorded: later steps need a new checkpoint.
    fn miss(&mut self) {
        self.recording = false;
        self.missed_in_all += 1;
        self.missed = Some(self.missed.unwrap_or_default().saturating_add(1));
    }
}

impl Watch for FlightRecorder {
    fn begins(&mut self, now: Instant, event: &Event, before: &Raft) {
        if !self.recording {
            self.recording = self.begin(now, before);
        }
        if self.recording {
            self.steps.begins(now, event);
        } else {
            self.miss();
        }
    }

    fn step(&mut self, _now: Instant, _event: &Event, actions: &[Action], _before: &Status, raft: &Raft) {
        if !self.steps.is_under_way() {
            return;
        }
        self.frame.clear();
        match self.steps.ends(actions, raft, &mut self.frame) {
            Ok(()) => self.hand_over(),
            Err(TooLarge { .. }) => {
                self.is_too_large();
                self.miss();
            }
        }
    }
}

impl Drop for FlightRecorder {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code panics under the lock, and the queue is consistent between any two statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.idle = false;
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits until there is something to write. Returns `None` once the queue is closed and empty.
    fn next_pieces(&self, threshold: usize) -> Option<Vec<Piece>> {
        let mut queue = self.lock();
        while queue.pieces.is_empty() && !queue.closed {
            queue.idle = true;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        let more_may_come = |queue: &mut Queue| !queue.closed && queue.waiting < threshold;
        (queue, _) = self
            .changed
            .wait_timeout_while(queue, LINGER, more_may_come)
            .unwrap_or_else(PoisonError::into_inner);
        queue.waiting = 0;
        let pieces = mem::take(&mut queue.pieces);
        queue.begins = false;
        if pieces.is_empty() { None } else { Some(pieces) }
    }
}

/// The destination of recordings.
trait Tape: Send + 'static {
    /// Writes the beginning of a recording. Returns the length of the file with it.
    fn begin(&mut self, bytes: &[u8]) -> io::Result<u64>;
    /// Appends to the recording.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The writer thread: writes until the queue is closed and empty.
fn write_all(mut tape: impl Tape, shared: &Shared, threshold: usize) {
    // Between a failure and the next beginning nothing is written: it would belong to no recording.
    let (mut whole, mut lost) = (false, 0);
    while let Some(pieces) = shared.next_pieces(threshold) {
        for piece in pieces {
            let written = match piece {
                Piece::Begin(about, raft) => {
                    let missed = about.missed.map(|missed| missed.saturating_add(lost));
                    lost = missed.unwrap_or_default();
                    begin(&mut tape, shared, &About { missed, ..about }, raft)
                        .map(|()| (whole, lost) = (true, 0))
                }
                Piece::Steps(steps, count) => {
                    let appended = if whole { append(&mut tape, shared, steps) } else { Ok(()) };
                    if !whole || appended.is_err() {
                        // Some of these steps may have been written; the reader finds them.
                        shared.lock().counters.missed += count;
                        lost += count;
                    }
                    appended
                }
            };
            if let Err(error) = written {
                whole = false;
                let mut queue = shared.lock();
                // Unless another recording is about to begin, which may succeed.
                queue.broken = !queue.begins;
                queue.counters.failures += 1;
                let failures = queue.counters.failures;
                queue.counters.failure = Some(error.to_string());
                drop(queue);
                if failures.is_power_of_two() {
                    tracing::warn!(failures, %error, "the recording cannot be written");
                }
            }
        }
    }
}

fn begin(tape: &mut impl Tape, shared: &Shared, about: &About, raft: Box<Raft>) -> io::Result<()> {
    let mut bytes = Vec::new();
    record::begin(about, &raft, &mut bytes).map_err(io::Error::other)?;
    // Dropped before waiting for the disk: it shares the entries of the log.
    drop(raft);
    let length = tape.begin(&bytes)?;
    let mut queue = shared.lock();
    queue.file += length;
    queue.counters.recordings += 1;
    queue.counters.bytes += bytes.len() as u64;
    Ok(())
}

fn append(tape: &mut impl Tape, shared: &Shared, mut steps: Vec<u8>) -> io::Result<()> {
    let appended = tape.append(&steps);
    let length = steps.len() as u64;
    steps.clear();
    let mut queue = shared.lock();
    queue.spare = steps;
    queue.counters.bytes += if appended.is_ok() { length } else { 0 };
    appended
}

/// Two files; the older one is dropped for the newer.
#[derive(Debug)]
struct Ring {
    path: PathBuf,
    previous: PathBuf,
    limits: Limits,
    /// `None` if it could not be created.
    file: Option<File>,
    length: u64,
}

impl Ring {
    fn open(path: PathBuf, limits: Limits) -> io::Result<Self> {
        let mut previous = path.clone().into_os_string();
        previous.push(".previous");
        let previous = PathBuf::from(previous);
        for path in [&path, &previous] {
            check_is_ours(path)?;
        }
        let file = open_locked(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, previous, limits, file: Some(file), length })
    }

    /// Makes the current file the previous one.
    fn turn(&mut self) -> io::Result<()> {
        self.file = None;
        fs::rename(&self.path, &self.previous)?;
        self.length = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open_locked(&self.path)?),
        };
        let written = file.write_all(bytes);
        // Part of it may have been written.
        self.length = file.metadata()?.len();
        written
    }
}

impl Tape for Ring {
    fn begin(&mut self, bytes: &[u8]) -> io::Result<u64> {
        // The queued steps were accepted before the length of this was known.
        let room = bytes.len() as u64 + 2 * self.limits.waiting as u64;
        if room > self.limits.file {
            let message = format!("a kernel of {} bytes is too large: make the ring larger", bytes.len());
            return Err(io::Error::new(ErrorKind::FileTooLarge, message));
        }
        if self.length > 0 && self.length + room > self.limits.file {
            self.turn()?;
        }
        self.write(bytes)?;
        Ok(self.length)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)
    }
}

/// Checks that the file is empty or a recording: a ring replaces what it finds.
fn check_is_ours(path: &Path) -> io::Result<()> {
    let mut begin = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(record::MAGIC.len() as u64).read_to_end(&mut begin)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // A recording that was cut off at once counts too.
    if record::MAGIC.starts_with(&begin) {
        return Ok(());
    }
    let message =
        format!("{} is not a recording and is left alone: record into another file", path.display());
    Err(io::Error::new(ErrorKind::AlreadyExists, message))
}

fn open_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message =
                format!("{} is already being recorded into: use one file for each member", path.display());
            Err(io::Error::new(ErrorKind::ResourceBusy, message))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
