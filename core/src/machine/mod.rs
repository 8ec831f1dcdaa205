//! What is replicated: a [`StateMachine`], and the client sessions that make a command count once.
//!
//! A [`Machine`] takes the committed entries of the log, in order, and gives the answers. It is plain code
//! without a clock or a disk, and may live on a thread of its own: a slow command then delays answers, and
//! nothing else.
//!
//! ```
//! use kontiki_core::log::{Entry, EntryBody};
//! use kontiki_core::machine::{Answer, BadSnapshot, Command, BufferedRestore, Machine, SnapshotReader, Restore, StateMachine, BufferedSnapshot};
//! use kontiki_core::types::LogId;
//!
//! /// Adds up what it is told.
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     type Snapshot = BufferedSnapshot;
//!     type Restore = BufferedRestore<Self>;
//!
//!     fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
//!         self.0 += command.len() as u64;
//!         self.0.to_le_bytes().to_vec()
//!     }
//!
//!     fn query(&self, _query: &[u8]) -> Vec<u8> {
//!         self.0.to_le_bytes().to_vec()
//!     }
//!
//!     fn snapshot(&self) -> BufferedSnapshot {
//!         BufferedSnapshot::new(self.0.to_le_bytes().to_vec())
//!     }
//!
//!     fn restore(&self) -> BufferedRestore<Self> {
//!         BufferedRestore::new(|bytes| match bytes.try_into() {
//!             Ok(bytes) => Ok(Sum(u64::from_le_bytes(bytes))),
//!             Err(_) => Err(BadSnapshot::new("a sum has eight bytes")),
//!         })
//!     }
//!
//!     fn digest(&self) -> u64 {
//!         self.0
//!     }
//! }
//!
//! // A client opens a session, and then sends the same command twice: it has had no answer to the first.
//! let entry = |index, command: Command<'_>| Entry {
//!     id: LogId::new(1, index),
//!     body: EntryBody::Data(command.encode()),
//! };
//! let mut machine = Machine::new(Sum::default());
//! let opened = machine.apply(&[entry(1, Command::Register)])?;
//! let Answer::Opened(session) = opened[0].1 else { panic!("not {opened:?}") };
//! let add = Command::InSession { session, sequence: 1, acknowledged: 1, command: b"four" };
//! let answers = machine.apply(&[entry(2, add), entry(3, add)])?;
//! assert_eq!(answers[0].1, answers[1].1);
//! assert_eq!(machine.state().0, 4);
//!
//! // Another member gets its snapshot, and knows the session too.
//! let (mut snapshot, mut bytes) = (machine.snapshot(), Vec::new());
//! snapshot.read(usize::MAX, &mut bytes);
//! let mut restore = Machine::new(Sum::default()).restore();
//! restore.write(&bytes)?;
//! let mut other = restore.finish()?;
//! assert_eq!(other.digest(), machine.digest());
//! assert_eq!(other.apply(&[entry(4, add)])?[0].1, answers[0].1);
//! assert_eq!(other.state().0, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sessions
//!
//! A client that has had no answer does not know whether its command was applied, and must try again; the
//! command then lies in the log twice. Within a session ([`Command::Register`] opens one) it is applied once,
//! and the later copies get the first one's answer. A client may have up to [`Limits::max_answers`] commands
//! under way at a time; they are applied in the order of the log, which may be another than that of their
//! numbers. [`Client`] keeps the books at the client's end. Sessions end by [`Command::Close`], or expire,
//! see [`Limits`]; a command of a session that there is not is never applied ([`Answer::SessionExpired`]),
//! for it might be the second time. They are part of the state and of its snapshots.

mod answer;
pub(crate) mod bytes;
mod client;
mod command;
mod sessions;
mod snapshot;
mod state;

pub use crate::digest::fingerprint;
pub use answer::Answer;
pub use client::{Client, TooMany};
pub use command::{Command, Garbled, SessionId};
pub use sessions::{Limits, LimitsError};
pub use snapshot::{MachineRestore, MachineSnapshot};
pub use state::{BadSnapshot, BufferedRestore, BufferedSnapshot, Restore, SnapshotReader, StateMachine};

use crate::log::{Discontinuity, Entry, EntryBody, LogSlice};
use crate::types::{Index, LogId, Payload};
use alloc::vec::Vec;
use core::fmt;
use sessions::Sessions;

/// A state machine with its clients' sessions, and how far in the log it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine<S> {
    state: S,
    sessions: Sessions,
    applied: LogId,
}

/// These entries cannot be applied. None of them was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyError {
    /// They do not follow what was applied last, or one another: an entry would be applied twice, or left
    /// out.
    Discontinuity(Discontinuity),
    /// What is in this entry is not known here.
    Lost(LogId),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discontinuity(discontinuity) => {
                write!(f, "apply each entry once and in order: {discontinuity}")
            }
            Self::Lost(id) => {
                write!(f, "entry {id} is damaged here: apply it once another member has given it again")
            }
        }
    }
}

impl core::error::Error for ApplyError {}

impl<S: StateMachine> Machine<S> {
    /// A machine that has applied nothing yet: this is the state at the beginning of the log, the same on
    /// every member.
    pub fn new(state: S) -> Self {
        let sessions = Sessions::new(Limits::default());
        Self { state, sessions, applied: LogId::ZERO }
    }

    /// The same with other limits of sessions, which must be the same on every member for the whole life of a
    /// group.
    pub fn with_limits(state: S, limits: Limits) -> Result<Self, LimitsError> {
        limits.check()?;
        Ok(Self { state, sessions: Sessions::new(limits), applied: LogId::ZERO })
    }

    /// Applies committed entries. The first must be the one after [`applied`](Self::applied). Gives the
    /// answers to those that hold a payload; all others count as applied and change nothing but the age of
    /// sessions.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Vec<(Index, Answer)>, ApplyError> {
        LogSlice::check(self.applied, entries).map_err(ApplyError::Discontinuity)?;
        if let Some(entry) = entries.iter().find(|entry| entry.body == EntryBody::Lost) {
            return Err(ApplyError::Lost(entry.id));
        }
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            self.sessions.expire(entry.id.index);
            if let EntryBody::Data(payload) = &entry.body {
                answers.push((entry.id.index, self.execute(entry.id, payload)));
            }
            self.applied = entry.id;
        }
        Ok(answers)
    }

    fn execute(&mut self, at: LogId, payload: &[u8]) -> Answer {
        let Ok(command) = Command::decode(payload) else {
            return Answer::Garbled;
        };
        match command {
            Command::Plain(command) => Answer::Applied(self.carry_out(at, command)),
            Command::Register => Answer::Opened(self.sessions.open(at.index)),
            Command::InSession { session, sequence, acknowledged, command } => {
                self.sessions.touch(session, at.index, acknowledged);
                self.sessions.verdict(session, sequence).unwrap_or_else(|| {
                    let answer = self.carry_out(at, command);
                    self.sessions.keep(session, sequence, &answer);
                    Answer::Applied(answer)
                })
            }
            Command::KeepAlive { session, acknowledged } => {
                match self.sessions.touch(session, at.index, acknowledged) {
                    true => Answer::Alive,
                    false => Answer::SessionExpired,
                }
            }
            Command::Close { session } => match self.sessions.close(session) {
                true => Answer::Closed,
                false => Answer::SessionExpired,
            },
        }
    }

    fn carry_out(&mut self, at: LogId, command: &[u8]) -> Payload {
        Payload::from_shared(self.state.apply(at, command).into())
    }

    /// Asks the state. Nothing changes.
    pub fn query(&self, query: &[u8]) -> Vec<u8> {
        self.state.query(query)
    }

    /// The state, as it is now.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The last entry that was applied; [`LogId::ZERO`] before the first.
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The machine at this moment, to be read as a snapshot while the machine goes on.
    pub fn snapshot(&self) -> MachineSnapshot<S::Snapshot> {
        MachineSnapshot::new(self.applied, &self.sessions, self.state.snapshot())
    }

    /// Begins to build the machine of a snapshot. When that is finished it takes the place of this one, which
    /// stays as it is until then.
    pub fn restore(&self) -> MachineRestore<S> {
        MachineRestore::new(self.sessions.limits(), self.state.restore())
    }

    /// A number that machines have in common exactly when their states, their sessions and what they have
    /// applied are the same (but for one chance in 2^64).
    pub fn digest(&self) -> u64 {
        let LogId { term, index } = self.applied;
        let numbers = [term.get(), index.get(), self.sessions.digest(), self.state.digest()];
        let [term, index, sessions, state] = numbers.map(u64::to_le_bytes);
        fingerprint(&[&term, &index, &sessions, &state])
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
