//! Writes recordings.

use crate::action::Action;
use crate::digest::fingerprint;
use crate::event::Event;
use crate::raft::Raft;
use crate::status::Status;
use crate::time::Instant;
use crate::wire;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// How every recording begins. No frame does: read as a length it is longer than any.
pub const MAGIC: [u8; 8] = *b"kontrec\n";

/// The format of recordings that this version of the library writes, and the only one that it reads.
pub const FORMAT: u8 = 4;

/// The version of this library.
pub const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// The longest frame: a kernel or an event that takes more is not recorded.
pub(super) const MAX_FRAME: usize = 1 << 30;

const _: () = assert!(u32::from_le_bytes([MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3]]) as u64 > MAX_FRAME as u64);

/// What a recording is of, besides the kernel.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The version of the library whose kernel it is.
    pub library: String,
    /// When it began, in milliseconds since 1970 (UTC), where the host said so.
    pub unix_millis: Option<u64>,
    /// How many steps of the same life were not recorded since the recording before this one; none in the
    /// first of a life.
    pub missed: Option<u64>,
}

impl Default for About {
    /// The first recording of a life, at a time that is not known.
    fn default() -> Self {
        Self { library: LIBRARY.into(), unix_millis: None, missed: None }
    }
}

/// What a step leaves behind, in short: enough to tell whether another came to the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Footprint {
    /// How many actions came of it.
    pub actions: u64,
    /// The [`fingerprint`] of the actions, in postcard; the same on every platform.
    pub digest: u64,
    /// The member after it.
    pub after: Status,
}

/// A kernel or a step is too large to be recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge {
    /// How many bytes it takes.
    pub bytes: usize,
}

/// Appends the beginning of a recording to `out`: what it is of, and the kernel as it is before the first
/// step.
///
/// It takes time in proportion to the log in memory. A host that must not wait clones the kernel, which is
/// cheaper, and calls this on another thread.
pub fn begin(about: &About, raft: &Raft, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let mut kernel = Vec::new();
    wire::postcard(raft, &mut kernel);
    checked(&kernel)?;
    out.extend_from_slice(&MAGIC);
    wire::seal(FORMAT, out, |out| wire::postcard(about, out));
    wire::seal(FORMAT, out, |out| out.extend_from_slice(&kernel));
    Ok(())
}

fn checked(body: &[u8]) -> Result<(), TooLarge> {
    if body.len() > MAX_FRAME { Err(TooLarge { bytes: body.len() }) } else { Ok(()) }
}

/// Writes steps down, one after the other. It keeps the buffers, and no more than one step.
#[derive(Clone, Default, Debug)]
pub struct Steps {
    /// Time and event of the step that has begun.
    told: Vec<u8>,
    actions: Vec<u8>,
    begun: bool,
}

impl Steps {
    /// A step begins.
    pub fn begins(&mut self, now: Instant, event: &Event) {
        self.told.clear();
        wire::postcard(&(now, event), &mut self.told);
        self.begun = true;
    }

    /// Whether a step has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        self.begun
    }

    /// The step that has begun ended with these actions, and left the kernel like this: appends it to `out`.
    /// Where none has begun, nothing.
    pub fn ends(&mut self, actions: &[Action], after: &Raft, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        if !self.begun {
            return Ok(());
        }
        let footprint = self.footprint(actions, after);
        self.append(Some(footprint), out)
    }

    /// The step that has begun never ended, as where the kernel panicked in it: appends what it was told to
    /// `out`.
    pub fn breaks_off(&mut self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        if self.begun { self.append(None, out) } else { Ok(()) }
    }

    fn append(&mut self, footprint: Option<Footprint>, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        self.begun = false;
        checked(&self.told)?;
        wire::seal(FORMAT, out, |out| {
            out.extend_from_slice(&self.told);
            wire::postcard(&footprint, out);
        });
        Ok(())
    }

    pub(super) fn footprint(&mut self, actions: &[Action], after: &Raft) -> Footprint {
        self.actions.clear();
        wire::postcard(&actions, &mut self.actions);
        Footprint {
            actions: actions.len() as u64,
            digest: fingerprint(&[&self.actions]),
            after: after.status(),
        }
    }
}

/// Records a life in memory: [`take`](Self::take) what there is so far, as often as it gets too much.
#[derive(Clone, Default, Debug)]
pub struct Recorder {
    steps: Steps,
    out: Vec<u8>,
    recording: bool,
    /// See [`About::missed`].
    missed: Option<u64>,
}

impl Recorder {
    /// A step begins. Where there is no recording yet, one begins with the kernel `before` it.
    pub fn begins(&mut self, now: Instant, event: &Event, before: &Raft) {
        if !self.recording {
            let about = About { missed: self.missed, ..About::default() };
            self.recording = begin(&about, before, &mut self.out).is_ok();
        }
        if self.recording {
            self.steps.begins(now, event);
        } else {
            self.miss();
        }
    }

    /// The step that has begun ended with these actions, and left the kernel like this.
    pub fn ends(&mut self, actions: &[Action], after: &Raft) {
        if self.steps.ends(actions, after, &mut self.out).is_err() {
            self.miss();
        }
    }

    /// The bytes since the last time. A step that has begun and not ended is in them as one that never will.
    pub fn take(&mut self) -> Vec<u8> {
        if self.steps.breaks_off(&mut self.out).is_err() {
            self.miss();
        }
        core::mem::take(&mut self.out)
    }

    /// The recording is over; the next step begins another, of another life.
    pub fn stop(&mut self) {
        // What is too large is left out here as anywhere.
        let _ = self.steps.breaks_off(&mut self.out);
        (self.recording, self.missed) = (false, None);
    }

    /// A step is not in the recording, which is over by that.
    fn miss(&mut self) {
        self.recording = false;
        self.missed = Some(self.missed.unwrap_or_default().saturating_add(1));
    }
}

#[cfg(feature = "replica")]
impl crate::replica::Watch for Recorder {
    fn begins(&mut self, now: Instant, event: &Event, before: &Raft) {
        self.begins(now, event, before);
    }

    fn step(&mut self, _now: Instant, _event: &Event, actions: &[Action], _before: &Status, raft: &Raft) {
        self.ends(actions, raft);
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recorded by kontiki {}", self.library)?;
        if let Some(millis) = self.unix_millis {
            write!(f, " from {}.{:03} s after 1970", millis / 1_000, millis % 1_000)?;
        }
        match self.missed {
            None => f.write_str(", a life from its beginning"),
            Some(0) => f.write_str(", going on where the one before ended"),
            Some(missed) => write!(f, ", {missed} steps after the one before ended"),
        }
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { role, term, last, durable, committed, applied, snapshot, configured, .. } = self.after;
        write!(f, "{} actions of digest {:016x}, then {role} t{term}", self.actions, self.digest)?;
        if let Some(vote) = self.after.vote {
            write!(f, " vote={vote}")?;
        }
        if let Some(leader) = self.after.leader {
            write!(f, " leader={leader}")?;
        }
        write!(
            f,
            " last={last} durable={durable} committed={committed} applied={applied} snapshot={snapshot} members of {configured}"
        )
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes are too much to be recorded at once, at most {MAX_FRAME} are: keep less of the log in memory",
            self.bytes
        )
    }
}

impl core::error::Error for TooLarge {}
