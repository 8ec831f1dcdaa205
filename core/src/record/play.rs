//! Reading recordings, and living them again.

use crate::action::Action;
use crate::event::Event;
use crate::raft::Raft;
use crate::record::recorder::{About, FORMAT, Footprint, LIBRARY, MAGIC, MAX_FRAME, Steps};
use crate::time::Instant;
use crate::wire::{self, Frame, FrameError};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Bytes that are no recording at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARecording;

/// One recording among the bytes it was found in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recording<'a> {
    at: usize,
    frames: &'a [u8],
    end: End,
}

/// How a recording ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With a whole step, or with its beginning.
    Whole,
    /// In the middle of a record: the writer stopped there.
    Torn {
        /// How many bytes there are of it.
        bytes: usize,
    },
    /// With a record that is not what was written. What follows it cannot be told from what is wrong.
    Damaged {
        /// Where that record begins, from the beginning of all the bytes.
        at: usize,
        /// How many bytes are lost with it.
        bytes: usize,
    },
}

/// Why a recording cannot be played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlayError {
    /// It ends before its checkpoint does: there is nothing to go on from.
    NoCheckpoint,
    /// It is of a format that this version of the library does not read.
    Format {
        /// Its format.
        found: u8,
    },
    /// What it begins with says nothing of what it is.
    About,
    /// Its kernel is not one of this version of the library.
    Checkpoint {
        /// The version that wrote it.
        library: String,
    },
    /// What a step was told is nothing that this version of the library knows.
    Step {
        /// The number of the step, from 1.
        number: u64,
    },
}

/// Whether bytes begin like a recording.
pub fn is_recording(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Every recording in `bytes`, in order. After a torn or damaged one, the next is looked for by how it
/// begins.
pub fn recordings(bytes: &[u8]) -> Result<Vec<Recording<'_>>, NotARecording> {
    if !is_recording(bytes) {
        return Err(NotARecording);
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let recording = Recording::at(bytes, at);
        at += recording.bytes() + recording.end.bytes();
        found.push(recording);
    }
    Ok(found)
}

impl End {
    /// How many bytes could not be used.
    pub fn bytes(self) -> usize {
        match self {
            Self::Whole => 0,
            Self::Torn { bytes } | Self::Damaged { bytes, .. } => bytes,
        }
    }
}

impl<'a> Recording<'a> {
    /// The recording that begins at `at`, through its last whole frame.
    fn at(bytes: &'a [u8], at: usize) -> Self {
        let first = at + MAGIC.len();
        let mut end = first;
        let end_of = |end, how| Self { at, frames: &bytes[first..end], end: how };
        loop {
            let rest = &bytes[end..];
            if rest.is_empty() || is_recording(rest) {
                return end_of(end, End::Whole);
            }
            match wire::open(rest, MAX_FRAME) {
                Ok(frame) => end += frame.length,
                Err(_) => {
                    let next = rest.windows(MAGIC.len()).position(|window| window == MAGIC);
                    let lost = next.unwrap_or(rest.len());
                    return end_of(end, how_it_ended(&rest[..lost], end));
                }
            }
        }
    }

    /// Where it begins among all the bytes.
    pub fn at_byte(&self) -> usize {
        self.at
    }

    /// How many bytes of it can be used.
    pub fn bytes(&self) -> usize {
        MAGIC.len() + self.frames.len()
    }

    /// How it ends.
    pub fn end(&self) -> End {
        self.end
    }

    /// Reads its beginning, to play what follows.
    pub fn play(&self) -> Result<Player<'a>, PlayError> {
        let mut rest = self.frames;
        let Frame { version, body, .. } = take_frame(&mut rest).ok_or(PlayError::NoCheckpoint)?;
        if version != FORMAT {
            return Err(PlayError::Format { found: version });
        }
        let about: About = wire::from_postcard(body).map_err(|_| PlayError::About)?;
        let Frame { body, .. } = take_frame(&mut rest).ok_or(PlayError::NoCheckpoint)?;
        let raft = wire::from_postcard(body)
            .map_err(|_| PlayError::Checkpoint { library: about.library.clone() })?;
        Ok(Player { about, raft, rest, number: 0, steps: Steps::default() })
    }
}

/// A crash leaves the beginning of a record, or, where even that had not reached the disk, zeros in its
/// place. Anything else is damage.
fn how_it_ended(lost: &[u8], at: usize) -> End {
    let bytes = lost.len();
    let incomplete = matches!(wire::open(lost, MAX_FRAME), Err(FrameError::Incomplete { .. }));
    let torn = incomplete || lost.iter().all(|&byte| byte == 0);
    if torn { End::Torn { bytes } } else { End::Damaged { at, bytes } }
}

fn take_frame<'a>(rest: &mut &'a [u8]) -> Option<Frame<'a>> {
    let frame = wire::open(rest, MAX_FRAME).ok()?;
    *rest = &rest[frame.length..];
    Some(frame)
}

/// Lives a recorded life again: as an iterator over its steps, or, where a step may panic, with
/// [`next_recorded`](Self::next_recorded) and [`replay`](Self::replay).
///
/// A recording whose checksums hold is taken for what a recorder wrote. A kernel that was made up by hand may
/// panic, as may one that did.
#[derive(Clone, Debug)]
pub struct Player<'a> {
    about: About,
    raft: Raft,
    rest: &'a [u8],
    number: u64,
    steps: Steps,
}

/// One step of a recording: what happened, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedStep {
    /// The number of the step in its recording, from 1.
    pub number: u64,
    /// The time.
    pub now: Instant,
    /// What happened.
    pub event: Event,
    /// What came of it then; none where the step did not end.
    pub footprint: Option<Footprint>,
}

/// A step that was taken again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The step as it was recorded.
    pub recorded: RecordedStep,
    /// What came of it now.
    pub actions: Vec<Action>,
    /// The same in short.
    pub replayed: Footprint,
}

/// A step came to something else than it did when it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The number of the step in its recording, from 1.
    pub number: u64,
    /// What came of it then.
    pub recorded: Footprint,
    /// What came of it now.
    pub replayed: Footprint,
}

impl Player<'_> {
    /// What the recording is of.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The kernel, as it is after the steps that were taken so far.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Returns the next recorded step; none after the last.
    pub fn next_recorded(&mut self) -> Option<Result<RecordedStep, PlayError>> {
        let frame = take_frame(&mut self.rest)?;
        self.number += 1;
        let number = self.number;
        let step = |(now, event, footprint)| RecordedStep { number, now, event, footprint };
        Some(wire::from_postcard(frame.body).map(step).map_err(|_| {
            self.rest = &[];
            PlayError::Step { number }
        }))
    }

    /// Has the kernel take a recorded step again.
    pub fn replay(&mut self, recorded: RecordedStep) -> Step {
        let actions = self.raft.step(recorded.now, recorded.event.clone());
        let replayed = self.steps.footprint(&actions, &self.raft);
        Step { recorded, actions, replayed }
    }
}

impl Iterator for Player<'_> {
    type Item = Result<Step, PlayError>;

    fn next(&mut self) -> Option<Self::Item> {
        let recorded = self.next_recorded()?;
        Some(recorded.map(|recorded| self.replay(recorded)))
    }
}

impl Step {
    /// How it differs from the one that was recorded; none where it is the same, or where that did not end.
    pub fn difference(&self) -> Option<Difference> {
        let (number, replayed) = (self.recorded.number, self.replayed);
        let recorded = self.recorded.footprint.filter(|recorded| *recorded != replayed)?;
        Some(Difference { number, recorded, replayed })
    }
}

impl fmt::Display for NotARecording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no recording: name a file that a flight recorder has written")
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("it ends with a whole step"),
            Self::Torn { bytes } => write!(
                f,
                "its end is torn: {bytes} bytes are left of a step that was being written when the member stopped"
            ),
            Self::Damaged { at, bytes } => write!(
                f,
                "it is damaged at byte {at}: {bytes} bytes from there are not what was written; look for another copy"
            ),
        }
    }
}

impl fmt::Display for PlayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCheckpoint => {
                f.write_str("it ends before its checkpoint does, so there is nothing to go on from")
            }
            Self::Format { found } => write!(
                f,
                "it is of format {found}, and kontiki {LIBRARY} reads {FORMAT}: replay it with the version that wrote it"
            ),
            Self::About => {
                f.write_str("it does not say what it is of: its writer was no kontiki of this format")
            }
            Self::Checkpoint { library } => write!(
                f,
                "kontiki {LIBRARY} cannot read its kernel: replay it with the build of kontiki {library} that wrote it"
            ),
            Self::Step { number } => write!(
                f,
                "what step {number} was told is nothing that kontiki {LIBRARY} knows: replay it with the build that wrote it"
            ),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, recorded, replayed } = self;
        write!(f, "step {number} differs\n  recorded: {recorded}\n  replayed: {replayed}")
    }
}

impl core::error::Error for NotARecording {}
impl core::error::Error for PlayError {}
impl core::error::Error for Difference {}
