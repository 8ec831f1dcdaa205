//! A machine's snapshot: how far it has applied, its sessions, and the state's own bytes.
//!
//! ```text
//!   4 bytes   "KMac"
//!   1 byte    version of this format: 1
//!   16 bytes  term and index of the last entry that was applied
//!   20 bytes  the limits of sessions: max_sessions (4), max_answers (4), max_answer_bytes (4), idle_entries (8)
//!   4 bytes   how many sessions follow; by rising id, each is:
//!     8 bytes   id
//!     8 bytes   index of the last entry that used it
//!     8 bytes   acknowledged
//!     4 bytes   how many answers follow; by rising sequence, each is:
//!       8 bytes   sequence
//!       1 byte    0: the answer follows, behind its length (4); 1: it was too long, its length follows (8)
//!   the rest  the state's own
//! ```
//!
//! All numbers are little-endian. Sessions come first, because only the state machine knows where its own
//! bytes end.

use super::applying::Machine;
use super::bytes::{Items, put_string};
use super::command::SessionId;
use super::sessions::{Kept, Limits, Session, Sessions};
use super::state::{BadSnapshot, Restore, SnapshotReader, StateMachine};
use crate::bytes::Reader;
use crate::types::{Index, LogId, Payload, Term};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::mem;

const MAGIC: [u8; 4] = *b"KMac";
const VERSION: u8 = 1;

/// A [`Machine`] at one moment, to be read as a snapshot: its state and its sessions. The machine goes on
/// while it is read.
#[derive(Debug)]
pub struct MachineSnapshot<P> {
    applied: LogId,
    limits: Limits,
    /// How many sessions there are in all, until that has been said.
    announce: Option<usize>,
    sessions: vec::IntoIter<(SessionId, Arc<Session>)>,
    state: P,
}

impl<P: SnapshotReader> MachineSnapshot<P> {
    pub(super) fn new(applied: LogId, sessions: &Sessions, state: P) -> Self {
        let frozen: Vec<_> = sessions.iter().map(|(id, session)| (id, session.clone())).collect();
        Self {
            applied,
            limits: sessions.limits(),
            announce: Some(frozen.len()),
            sessions: frozen.into_iter(),
            state,
        }
    }

    /// The last entry whose effects are in it.
    pub fn applied(&self) -> LogId {
        self.applied
    }

    fn header(&self, sessions: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        let Limits { max_sessions, max_answers, max_answer_bytes, idle_entries } = self.limits;
        put_u64(out, self.applied.term.get());
        put_u64(out, self.applied.index.get());
        put_u32(out, max_sessions);
        put_u32(out, max_answers);
        put_u32(out, max_answer_bytes);
        put_u64(out, idle_entries);
        put_u32(out, u32::try_from(sessions).expect("no more sessions than the limit allows"));
    }
}

impl<P: SnapshotReader> SnapshotReader for MachineSnapshot<P> {
    fn read(&mut self, enough: usize, out: &mut Vec<u8>) {
        let goal = out.len().saturating_add(enough.max(1));
        if let Some(sessions) = self.announce.take() {
            self.header(sessions, out);
        }
        while out.len() < goal
            && let Some((id, session)) = self.sessions.next()
        {
            put_session(id, &session, out);
        }
        if out.len() < goal {
            self.state.read(goal - out.len(), out);
        }
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_session(id: SessionId, session: &Session, out: &mut Vec<u8>) {
    put_u64(out, id.0);
    put_u64(out, session.last_used.get());
    put_u64(out, session.acknowledged);
    put_u32(out, u32::try_from(session.answers.len()).expect("no more answers than the limit allows"));
    for (sequence, kept) in &session.answers {
        put_u64(out, *sequence);
        match kept {
            Kept::Whole(answer) => {
                out.push(0);
                put_string(out, answer);
            }
            Kept::TooLong(length) => {
                out.push(1);
                put_u64(out, *length);
            }
        }
    }
}

/// A [`Machine`] that is being built from a snapshot, while the one whose place it is to take goes on.
///
/// Besides the state it holds at most one session that is not yet whole: it is bounded by the limits, and not
/// by what the bytes claim.
#[derive(Debug)]
pub struct MachineRestore<S: StateMachine> {
    items: Items,
    next: Next,
    applied: LogId,
    sessions: Sessions,
    state: S::Restore,
}

/// What comes next in the bytes.
#[derive(Debug)]
enum Next {
    Header,
    /// The beginning of a session, with that one as many as this; none: the state.
    Session {
        left: u32,
    },
    Answers {
        id: SessionId,
        session: Session,
        /// How many answers it lacks.
        left: u32,
        /// How many sessions follow it.
        sessions_left: u32,
    },
    State,
    /// Nothing more: something before was wrong.
    Refused,
}

impl<S: StateMachine> Machine<S> {
    /// The machine at this moment, to be read as a snapshot while the machine goes on.
    pub fn snapshot(&self) -> MachineSnapshot<S::Snapshot> {
        MachineSnapshot::new(self.applied, &self.sessions, self.state.snapshot())
    }

    /// Begins to build the machine of a snapshot. When that is finished it takes the place of this one, which
    /// stays as it is until then.
    pub fn restore(&self) -> MachineRestore<S> {
        MachineRestore::new(self.sessions.limits(), self.state.restore())
    }
}

impl<S: StateMachine> MachineRestore<S> {
    pub(super) fn new(limits: Limits, state: S::Restore) -> Self {
        let (items, sessions) = (Items::default(), Sessions::new(limits));
        Self { items, next: Next::Header, applied: LogId::ZERO, sessions, state }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        match self.next {
            Next::State => return self.state.write(bytes),
            Next::Refused => return Err(BadSnapshot::new("an earlier piece of it was refused")),
            Next::Header | Next::Session { .. } | Next::Answers { .. } => {}
        }
        let mut items = mem::take(&mut self.items);
        items.feed(bytes, |reader| self.item(reader))?;
        if matches!(self.next, Next::State) {
            // What lies behind the last session in this piece is the state's.
            return self.state.write(&items.leftover());
        }
        self.items = items;
        Ok(())
    }

    /// The next item before the state's bytes; `None` if it is not whole.
    fn item(&mut self, reader: &mut Reader<'_>) -> Result<Option<()>, BadSnapshot> {
        // Where reading fails it stays refused.
        let next = match mem::replace(&mut self.next, Next::Refused) {
            Next::Header => self.header(reader)?,
            Next::Session { left } => self.session(left, reader)?,
            Next::Answers { id, session, left, sessions_left } => {
                self.answer(id, session, left, sessions_left, reader)?
            }
            // The rest is not ours to read.
            done @ (Next::State | Next::Refused) => Step::Wait(done),
        };
        match next {
            Step::To(next) => {
                self.next = next;
                Ok(Some(()))
            }
            Step::Wait(same) => {
                self.next = same;
                Ok(None)
            }
        }
    }

    fn header(&mut self, reader: &mut Reader<'_>) -> Result<Step, BadSnapshot> {
        let Some((magic, version)) = reader.bytes(4).zip(reader.u8()) else {
            return Ok(Step::Wait(Next::Header));
        };
        if magic != MAGIC {
            return Err(BadSnapshot::new("it does not begin as one does"));
        }
        if version != VERSION {
            return Err(BadSnapshot::new(format!(
                "it is of format {version}, and this member reads {VERSION}: update the older of the two"
            )));
        }
        let Some((applied, limits, sessions)) = read_numbers(reader) else {
            return Ok(Step::Wait(Next::Header));
        };
        if limits != self.sessions.limits() {
            return Err(BadSnapshot::new(format!(
                "its sessions have {limits:?}, and this member's {:?}: all members of a group must have the same",
                self.sessions.limits()
            )));
        }
        if sessions > limits.max_sessions || applied.index > Index::MAX || applied.term > Term::MAX {
            return Err(BadSnapshot::new(
                "it has more sessions than its own limits allow, or an impossible last entry",
            ));
        }
        self.applied = applied;
        Ok(Step::to_session(sessions))
    }

    fn session(&mut self, left: u32, reader: &mut Reader<'_>) -> Result<Step, BadSnapshot> {
        let Some((id, session, answers)) = read_session(reader) else {
            return Ok(Step::Wait(Next::Session { left }));
        };
        let (newest, limits) = (self.applied.index, self.sessions.limits());
        let in_time = id.0 <= session.last_used.get()
            && session.last_used <= newest
            && newest - session.last_used <= limits.idle_entries;
        if !in_time || answers > limits.max_answers || !self.sessions.may_follow(id, session.last_used) {
            return Err(BadSnapshot::new(format!("session {id} cannot be")));
        }
        Ok(self.session_or_answers(id, session, answers, left - 1))
    }

    fn answer(
        &mut self,
        id: SessionId,
        mut session: Session,
        left: u32,
        sessions_left: u32,
        reader: &mut Reader<'_>,
    ) -> Result<Step, BadSnapshot> {
        let limit = self.sessions.limits().max_answer_bytes;
        let Some((sequence, kept)) = read_answer(limit, reader)? else {
            return Ok(Step::Wait(Next::Answers { id, session, left, sessions_left }));
        };
        let after_the_last = session.answers.last_key_value().is_none_or(|(last, _)| *last < sequence);
        if sequence < session.acknowledged || !after_the_last {
            return Err(BadSnapshot::new(format!("answer {sequence} of session {id} is out of order")));
        }
        session.answers.insert(sequence, kept);
        Ok(self.session_or_answers(id, session, left - 1, sessions_left))
    }

    /// Takes in a session that lacks no answer.
    fn session_or_answers(&mut self, id: SessionId, session: Session, left: u32, sessions_left: u32) -> Step {
        if left > 0 {
            return Step::To(Next::Answers { id, session, left, sessions_left });
        }
        self.sessions.insert(id, session);
        Step::to_session(sessions_left)
    }
}

/// Where reading an item leads.
enum Step {
    To(Next),
    /// The item is not whole: the same again, once there are more bytes.
    Wait(Next),
}

impl Step {
    fn to_session(left: u32) -> Self {
        Self::To(if left > 0 { Next::Session { left } } else { Next::State })
    }
}

fn read_numbers(reader: &mut Reader<'_>) -> Option<(LogId, Limits, u32)> {
    let applied = LogId { term: Term::new(reader.u64()?), index: Index::new(reader.u64()?) };
    let limits = Limits {
        max_sessions: reader.u32()?,
        max_answers: reader.u32()?,
        max_answer_bytes: reader.u32()?,
        idle_entries: reader.u64()?,
    };
    Some((applied, limits, reader.u32()?))
}

fn read_session(reader: &mut Reader<'_>) -> Option<(SessionId, Session, u32)> {
    let id = SessionId(reader.u64()?);
    let session = Session::new(Index::new(reader.u64()?), reader.u64()?);
    Some((id, session, reader.u32()?))
}

/// An answer of at most `limit` bytes; a longer one is refused before it is waited for.
fn read_answer(limit: u32, reader: &mut Reader<'_>) -> Result<Option<(u64, Kept)>, BadSnapshot> {
    let Some((sequence, kind)) = reader.u64().zip(reader.u8()) else {
        return Ok(None);
    };
    let kept = match kind {
        0 => {
            let mut ahead = *reader;
            if ahead.u32().is_some_and(|length| length > limit) {
                return Err(BadSnapshot::new("an answer is longer than its own limits allow"));
            }
            reader.string().map(|answer| Kept::Whole(Payload::from(answer)))
        }
        1 => match reader.u64() {
            Some(length) if length <= u64::from(limit) => {
                return Err(BadSnapshot::new("an answer was not kept that could have been"));
            }
            length => length.map(Kept::TooLong),
        },
        _ => return Err(BadSnapshot::new(format!("no answer is of kind {kind}"))),
    };
    Ok(kept.map(|kept| (sequence, kept)))
}

impl<S: StateMachine> Restore for MachineRestore<S> {
    type State = Machine<S>;

    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        let taken = self.take(bytes);
        if taken.is_err() {
            self.next = Next::Refused;
        }
        taken
    }

    fn finish(self) -> Result<Machine<S>, BadSnapshot> {
        if !matches!(self.next, Next::State) {
            return Err(BadSnapshot::new("it ends before the state begins, or was refused"));
        }
        let Self { applied, sessions, state, .. } = self;
        Ok(Machine { state: state.finish()?, sessions, applied })
    }
}
