//! Applies the committed entries.

use super::answer::Answer;
use super::command::Command;
use super::sessions::{Limits, LimitsError, Sessions};
use super::state::StateMachine;
use crate::digest::fingerprint;
use crate::log::{Discontinuity, Entry, EntryBody, LogSlice};
use crate::types::{Index, LogId, Payload};
use alloc::vec::Vec;
use core::fmt;

/// A state machine with its clients' sessions, and how far in the log it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine<S> {
    pub(super) state: S,
    pub(super) sessions: Sessions,
    pub(super) applied: LogId,
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

    /// A number that machines have in common exactly when their states, their sessions and what they have
    /// applied are the same (but for one chance in 2^64).
    pub fn digest(&self) -> u64 {
        let LogId { term, index } = self.applied;
        let numbers = [term.get(), index.get(), self.sessions.digest(), self.state.digest()];
        let [term, index, sessions, state] = numbers.map(u64::to_le_bytes);
        fingerprint(&[&term, &index, &sessions, &state])
    }
}
