//! Recordings of members, lived again: what a flight recorder has kept of a real life, or
//! [`run_recorded`](crate::run_recorded) of a simulated one.

use crate::happened::Happened;
use crate::quiet::{quietly, text_of};
use crate::trace::{Commands, Traced};
use kontiki_core::raft::Raft;
use kontiki_core::record::{
    self, About, Difference, End, LIBRARY, NotARecording, PlayError, Player, Recording, Step,
};
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::time::Instant;
use kontiki_core::types::Identity;
use std::fmt;
use std::panic::AssertUnwindSafe;

/// What came of a recording that was lived again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// What it says of itself, where it could be read.
    pub about: Option<About>,
    /// Whose life it is, where it could be read.
    pub identity: Option<Identity>,
    /// How many steps came to the same as when they were recorded.
    pub same: u64,
    /// When the first step was taken, and the last, by the member's clock.
    pub time: Option<(Instant, Instant)>,
    /// What the member was: each term, and each role in it, in order.
    pub roles: Vec<(u64, RoleKind)>,
    /// What it was in the end.
    pub after: Option<Status>,
    /// How the recording ends.
    pub end: End,
    /// The last step of it did not end when it was recorded, and does now.
    pub broke_off: Option<u64>,
    /// The first thing that is not as it should be.
    pub wrong: Option<Wrong>,
}

/// Why a recorded life was not the same again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It could not be read.
    Unreadable(PlayError),
    /// It says that it goes on where the recording before it ended, and its kernel is another.
    Elsewhere,
    /// A step came to something else.
    Different {
        /// What then and what now.
        difference: Box<Difference>,
        /// The step as it was now, as a line of a trace.
        line: String,
    },
    /// The kernel panicked.
    Panicked {
        /// The number of the step.
        number: u64,
        /// Whether it did not survive this step when it was recorded either.
        again: bool,
        /// With what.
        message: String,
    },
    /// It is damaged.
    Damaged(End),
}

/// Lives every recording in `bytes` again, in order, each until it is over or something is not the same, and
/// shows every step to `tracer`.
pub fn replay(bytes: &[u8], tracer: &mut dyn FnMut(&Traced<'_>)) -> Result<Vec<Replayed>, NotARecording> {
    let mut replayed = Vec::new();
    let mut before = None;
    for recording in record::recordings(bytes)? {
        let (one, raft) = replay_one(&recording, before.as_ref(), tracer);
        replayed.push(one);
        before = raft;
    }
    Ok(replayed)
}

/// Lives one recording again. Returns the kernel at its end too, where that was reached.
fn replay_one(
    recording: &Recording<'_>,
    before: Option<&Raft>,
    tracer: &mut dyn FnMut(&Traced<'_>),
) -> (Replayed, Option<Raft>) {
    let mut replayed = Replayed {
        about: None,
        identity: None,
        same: 0,
        time: None,
        roles: Vec::new(),
        after: None,
        end: recording.end(),
        broke_off: None,
        wrong: None,
    };
    let mut player = match recording.play() {
        Ok(player) => player,
        Err(error) => {
            // A member that was stopped while it wrote the checkpoint has done nothing wrong.
            let torn = error == PlayError::NoCheckpoint && matches!(recording.end(), End::Torn { .. });
            replayed.wrong = if torn { None } else { Some(Wrong::Unreadable(error)) };
            return (replayed, None);
        }
    };
    replayed.about = Some(player.about().clone());
    replayed.identity = Some(player.raft().config().identity());
    let goes_on = player.about().missed == Some(0);
    let elsewhere = goes_on && before.is_some_and(|before| before != player.raft());
    replayed.wrong = elsewhere.then_some(Wrong::Elsewhere);
    while replayed.wrong.is_none() {
        match next_step(&mut player) {
            None => break,
            Some(Ok(step)) => replayed.note(&step, tracer),
            Some(Err(wrong)) => replayed.wrong = Some(wrong),
        }
    }
    if replayed.wrong.is_some() {
        return (replayed, None);
    }
    if let End::Damaged { .. } = recording.end() {
        replayed.wrong = Some(Wrong::Damaged(recording.end()));
    }
    let whole = recording.end() == End::Whole && replayed.broke_off.is_none();
    (replayed, whole.then(|| player.raft().clone()))
}

/// The next step, if the kernel survives it.
fn next_step(player: &mut Player<'_>) -> Option<Result<Step, Wrong>> {
    let recorded = match player.next_recorded()? {
        Ok(recorded) => recorded,
        Err(error) => return Some(Err(Wrong::Unreadable(error))),
    };
    let (number, again) = (recorded.number, recorded.footprint.is_none());
    let mut taken = None;
    let ran = quietly(AssertUnwindSafe(|| taken = Some(player.replay(recorded))));
    let panicked = |message| Wrong::Panicked { number, again, message };
    ran.map_err(|panic| panicked(text_of(&*panic))).map(|()| taken).transpose()
}

impl Replayed {
    /// Whether the life was the same again, as far as it was recorded.
    pub fn held(&self) -> bool {
        self.wrong.is_none()
    }

    fn note(&mut self, step: &Step, tracer: &mut dyn FnMut(&Traced<'_>)) {
        let (recorded, after) = (&step.recorded, &step.replayed.after);
        if self.time.is_none() {
            let what = self.about.as_ref().map(ToString::to_string).unwrap_or_default();
            let what = Happened::Other { member: Some(after.id), what };
            tracer(&Traced::World { at: recorded.now.as_nanos(), what: &what });
        }
        let traced = Traced::Step {
            step: recorded.number,
            at: recorded.now.as_nanos(),
            event: &recorded.event,
            actions: &step.actions,
            left_out: &[],
            after,
            show: Commands::AS_BYTES,
        };
        tracer(&traced);
        let from = self.time.map_or(recorded.now, |(from, _)| from);
        self.time = Some((from, recorded.now));
        self.after = Some(*after);
        let role = (after.term.get(), after.role);
        if self.roles.last() != Some(&role) {
            self.roles.push(role);
        }
        match (step.difference(), recorded.footprint) {
            (Some(difference), _) => {
                self.wrong = Some(Wrong::Different { difference: Box::new(difference), line: traced.line() });
            }
            (None, None) => self.broke_off = Some(recorded.number),
            (None, Some(_)) => self.same += 1,
        }
    }
}

/// How many changes of role are told of, the last ones.
const TOLD: usize = 16;

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identity {
            Some(identity) => write!(f, "member {} of {:?}", identity.member, identity.cluster)?,
            None => f.write_str("a member that is not known")?,
        }
        if let Some(about) = &self.about {
            write!(f, ": {about}")?;
            if about.library != LIBRARY {
                write!(f, "; this is kontiki {LIBRARY}")?;
            }
        }
        if let Some((from, to)) = self.time {
            write!(f, "\n  from {from:?} to {to:?} by its clock")?;
        }
        if !self.roles.is_empty() {
            f.write_str("\n  roles:")?;
            let left_out = self.roles.len().saturating_sub(TOLD);
            if left_out > 0 {
                write!(f, " {left_out} others,")?;
            }
            for (position, (term, role)) in self.roles[left_out..].iter().enumerate() {
                write!(f, "{} {role} in t{term}", if position > 0 { "," } else { "" })?;
            }
        }
        if let Some(after) = self.after {
            let Status { last, durable, committed, applied, snapshot, .. } = after;
            write!(
                f,
                "\n  in the end: log through {last}, on disk through {durable}, committed {committed}, applied {applied}, snapshot {snapshot}"
            )?;
        }
        if let End::Torn { .. } = self.end {
            write!(f, "\n  {}", self.end)?;
        }
        if let Some(number) = self.broke_off {
            write!(f, "\n  step {number} did not end when it was recorded; now it does")?;
        }
        match &self.wrong {
            None => write!(f, "\n  {} steps, all the same", self.same),
            Some(wrong) => write!(f, "\n  {} steps the same, then FAILED: {wrong}", self.same),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::Elsewhere => f.write_str(
                "it should go on where the recording before it ended, and begins with another kernel: the two are of different builds, or one is not whole",
            ),
            Self::Different { difference, line } => write!(f, "{difference}\n{line}"),
            Self::Panicked { number, again: true, message } => {
                write!(f, "the kernel panicked in step {number}, which it did not survive before either: {message}")
            }
            Self::Panicked { number, again: false, message } => {
                write!(f, "the kernel panicked in step {number}, which it survived when it was recorded: {message}")
            }
            Self::Damaged(end) => end.fmt(f),
        }
    }
}
