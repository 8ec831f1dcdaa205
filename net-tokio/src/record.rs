//! The flight recorder: what a member lives through, in a file that does not grow.
//!
//! A [`FlightRecorder`] watches the kernel inside a [`Replica`](kontiki_core::replica::Replica) and writes
//! recordings ([`kontiki_core::record`]) to a file, which `kontiki-sim replay` lives again. It is meant to
//! run always: when something has gone wrong, the last part of the member's life is there.
//!
//! ```text
//!   step ──► buffer (bounded) ──► a thread ──► FILE ──► when half of the bytes are used up: FILE.previous, and FILE anew
//! ```
//!
//! - **It never waits for the disk**, and nothing is synced: what the operating system has survives a crash
//!   of the process, not one of the machine. Where the disk cannot follow, the recording ends, and another
//!   begins when it can: the gap is counted, and is in the recording too.
//! - **It never destroys what it finds.** A member that starts again goes on in the same file, with a
//!   recording of its own: the life that crashed is the one of interest. Only the ring moves on, and an older
//!   half goes when a newer one is full.
//! - **It holds everything that the member was told**: every payload, and the entries that were in memory.
//!   The file is its owner's alone (on Unix), and to be guarded as the data itself.
//!
//! Each recording begins with a copy of the kernel, so a ring should be several times as large as what
//! members keep of the log in memory ([`max_cached_bytes`](kontiki_core::config::Options::max_cached_bytes),
//! and what is not yet committed): where that exceeds three tenths of the ring, nothing is recorded until it
//! does not. The defaults fit into a ring of 256 MiB with half of each file left for steps. A single step of
//! more than a sixteenth of the ring, or of 8 MiB, is a gap.

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

/// How much may wait for the disk, where the ring is large.
const MAX_WAITING: usize = 8 << 20;

/// How long what was recorded may wait for more, so that a step does not wake the writer: what a kill costs
/// at most, besides the write.
const LINGER: Duration = Duration::from_millis(5);

/// After a gap, copies of the kernel are taken no more often than this.
const PAUSE: Nanos = Nanos::new(1_000_000_000);

/// Records the life of one member into a ring of two files; see the [module](self).
///
/// It is the [`Watch`] of one replica. Dropping it writes what is left, waiting for the disk, as
/// [`close`](Self::close) does: even the event that a kernel panicked over.
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

/// What became of a recording so far.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecorderCounters {
    /// How many recordings were begun: one, and one each time that half of the ring was full, or after a gap.
    pub recordings: u64,
    /// How many bytes were written.
    pub bytes: u64,
    /// How many steps were not recorded.
    pub missed: u64,
    /// How many of them because the kernel or the step was too large for the ring.
    pub too_large: u64,
    /// How often writing failed.
    pub failures: u64,
    /// How it failed last.
    pub failure: Option<String>,
}

/// What a ring of some size allows.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The bytes of one of its two files.
    file: u64,
    /// Those of a kernel in memory.
    kernel: u64,
    /// How many bytes of steps may wait for the disk.
    waiting: usize,
}

impl Limits {
    fn of(max_bytes: u64) -> Self {
        let waiting = usize::try_from(max_bytes / 16).map_or(MAX_WAITING, |bytes| bytes.min(MAX_WAITING));
        // A kernel, and twice what may wait, leave room for steps in a file.
        Self { file: max_bytes / 2, kernel: max_bytes / 16 * 5, waiting }
    }
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What is on its way to the disk.
#[derive(Debug, Default)]
struct Queue {
    pieces: Vec<Piece>,
    /// How many bytes of steps are in `pieces`.
    waiting: usize,
    /// How long the file is or will be, as far as is known: a checkpoint counts once it is written.
    file: u64,
    /// A recording is to be begun.
    begins: bool,
    /// The recording could not be written; until the next one begins.
    broken: bool,
    closed: bool,
    /// Whether the writer sleeps until there is anything at all.
    idle: bool,
    /// A buffer to be used again.
    spare: Vec<u8>,
    counters: RecorderCounters,
}

#[derive(Debug)]
enum Piece {
    /// A recording begins with this kernel.
    Begin(About, Box<Raft>),
    /// So many steps.
    Steps(Vec<u8>, u64),
}

impl FlightRecorder {
    /// Begins to record into the file at `path` and the one beside it whose name has `.previous` at its end,
    /// which take no more than `max_bytes` together.
    ///
    /// Fails where the ring would be smaller than [`MIN_BYTES`], where another process records into the file,
    /// where there is something that is no recording at either place, and where the file cannot be opened.
    /// What goes wrong later is [counted](Self::counters).
    pub fn create(path: impl Into<PathBuf>, max_bytes: u64) -> io::Result<Self> {
        if max_bytes < MIN_BYTES {
            let message = format!("a ring of {max_bytes} bytes is too small: give it at least {MIN_BYTES}");
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let limits = Limits::of(max_bytes);
        Self::over(Ring::open(path.into(), limits)?, limits)
    }

    /// The same, to anything that takes the bytes.
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

    /// What became of it so far.
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
        // A step that did not end: the kernel has panicked in it.
        self.frame.clear();
        match self.steps.breaks_off(&mut self.frame) {
            Ok(()) if !self.frame.is_empty() => self.hand_over(),
            Ok(()) => {}
            Err(TooLarge { .. }) => self.miss(),
        }
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        // The writer catches its errors; were it to panic, there would be nothing left to be done.
        let _ = writer.join();
    }

    /// Whether a recording has begun with this kernel.
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

    /// Gives the writer the step that has just ended.
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
        // The next one may be as long as any, and this file has no room for it: the next recording begins
        // with the next step.
        self.recording = queue.file + limits.waiting as u64 <= limits.file;
        if queue.idle || queue.waiting >= limits.waiting / 4 {
            self.shared.wake(queue);
        }
    }

    /// The ring has no room for a kernel or a step. Told once, and then more and more seldom: it may be so
    /// for every step.
    fn is_too_large(&mut self) {
        self.too_large += 1;
        if self.too_large.is_power_of_two() {
            let (missed, ring) = (self.too_large, self.limits.file * 2);
            tracing::warn!(
                missed,
                ring,
                "not recorded: the ring is too small for this member, make it larger"
            );
        }
    }

    /// A step is not recorded: whatever comes after it needs a checkpoint of its own.
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
        // Nothing panics while it holds the lock; and what is in the queue is whole between any two
        // statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something for the writer to do.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.idle = false;
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits until there is something to write. None once there will never be anything more.
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

/// Where recordings are written.
trait Tape: Send + 'static {
    /// The beginning of a recording. Returns how long the file is with it.
    fn begin(&mut self, bytes: &[u8]) -> io::Result<u64>;
    /// What follows.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The writer: writes until there is nothing left to be written and never will be.
fn write_all(mut tape: impl Tape, shared: &Shared, threshold: usize) {
    // Between a failure and the next beginning nothing is written: it would belong to nothing.
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
                        // How many of them are there nobody knows: those that are will be found.
                        shared.lock().counters.missed += count;
                        lost += count;
                    }
                    appended
                }
            };
            if let Err(error) = written {
                whole = false;
                let mut queue = shared.lock();
                // Unless another has been begun already, which may go better.
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
    // Dropped before anything waits for the disk: it shares the entries of the log.
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

/// Two files, of which the older makes room.
#[derive(Debug)]
struct Ring {
    path: PathBuf,
    previous: PathBuf,
    limits: Limits,
    /// None where it could not be made anew.
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

    /// The file becomes the previous one.
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
        // Part of it may be there.
        self.length = file.metadata()?.len();
        written
    }
}

impl Tape for Ring {
    fn begin(&mut self, bytes: &[u8]) -> io::Result<u64> {
        // What is on its way was let through before the length of this was known.
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

/// What is there must be empty, or a recording: a ring takes the place of what it finds.
fn check_is_ours(path: &Path) -> io::Result<()> {
    let mut begin = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(record::MAGIC.len() as u64).read_to_end(&mut begin)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // One that was torn off at once is a recording too.
    if record::MAGIC.starts_with(&begin) {
        return Ok(());
    }
    let message = format!("{} is no recording and is left alone: record into another file", path.display());
    Err(io::Error::new(ErrorKind::AlreadyExists, message))
}

fn open_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message =
                format!("{} is being recorded into already: name a file for each member", path.display());
            Err(io::Error::new(ErrorKind::ResourceBusy, message))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
