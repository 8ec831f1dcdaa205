//! What makes a command that comes twice count once (thesis 6.3): part of the replicated state, and of its
//! snapshots.

use super::answer::Answer;
use super::command::SessionId;
use crate::digest::fingerprint;
use crate::types::{Index, Payload};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::mem;

/// How much is remembered of sessions: at most `max_sessions * max_answers * max_answer_bytes` bytes, and a
/// little for each.
///
/// Which commands are applied depends on these numbers, so they are part of the replicated state: **they must
/// be the same on every member for the whole life of a group**, or the members' states part. A snapshot holds
/// them, and is refused where they differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many sessions there are at most. One more, and the one that was not used for longest expires.
    pub max_sessions: u32,
    /// How many answers a session keeps that its client has not acknowledged: how many commands it can have
    /// under way.
    pub max_answers: u32,
    /// The longest answer that is kept, in bytes. Of a longer one only its length is.
    pub max_answer_bytes: u32,
    /// After how many entries of the log a session expires that was not used. There is no clock in it:
    /// members whose clocks differ would expire a session at different entries.
    pub idle_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_sessions: 1024, max_answers: 32, max_answer_bytes: 4096, idle_entries: 1_000_000 }
    }
}

/// These [`Limits`] allow nothing: the field that is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitsError {
    /// Which field.
    pub field: &'static str,
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no session could do anything with {} = 0: make it at least 1", self.field)
    }
}

impl core::error::Error for LimitsError {}

impl Limits {
    /// Refuses what would leave no room for a single command.
    pub fn check(&self) -> Result<(), LimitsError> {
        let zero = [
            ("max_sessions", self.max_sessions == 0),
            ("max_answers", self.max_answers == 0),
            ("idle_entries", self.idle_entries == 0),
        ];
        match zero.iter().find(|(_, is_zero)| *is_zero) {
            Some(&(field, _)) => Err(LimitsError { field }),
            None => Ok(()),
        }
    }
}

/// All sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sessions {
    limits: Limits,
    /// Shared with snapshots: a session is copied when it changes while a snapshot holds it.
    by_id: BTreeMap<SessionId, Arc<Session>>,
    /// The same sessions by the entry that used them last. An entry uses one session at most, so this finds
    /// each.
    by_use: BTreeMap<Index, SessionId>,
    /// The sum of the fingerprints of all that is in them.
    digest: u64,
}

/// One client's session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Session {
    /// The last entry that named it.
    pub(super) last_used: Index,
    /// The client has the answers to all lower sequences.
    pub(super) acknowledged: u64,
    /// What was answered, by sequence; none below `acknowledged`.
    pub(super) answers: BTreeMap<u64, Kept>,
}

/// An answer, for the case that it has to be given again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    Whole(Payload),
    TooLong(u64),
}

impl Kept {
    fn answer(&self) -> Answer {
        match self {
            Self::Whole(answer) => Answer::Applied(answer.clone()),
            Self::TooLong(length) => Answer::NotKept { length: *length },
        }
    }

    fn fingerprint(&self, id: SessionId, sequence: u64) -> u64 {
        let (id, sequence) = (id.0.to_le_bytes(), sequence.to_le_bytes());
        match self {
            Self::Whole(answer) => fingerprint(&[&id, &sequence, b"whole", answer]),
            Self::TooLong(length) => fingerprint(&[&id, &sequence, b"too long", &length.to_le_bytes()]),
        }
    }
}

impl Session {
    pub(super) fn new(last_used: Index, acknowledged: u64) -> Self {
        Self { last_used, acknowledged, answers: BTreeMap::new() }
    }

    /// The fingerprint of everything but the answers.
    fn fingerprint(&self, id: SessionId) -> u64 {
        let numbers = [id.0, self.last_used.get(), self.acknowledged].map(u64::to_le_bytes);
        fingerprint(&[&numbers[0], &numbers[1], &numbers[2]])
    }

    /// The fingerprint of all of it.
    fn digest(&self, id: SessionId) -> u64 {
        let answers = self.answers.iter().map(|(sequence, kept)| kept.fingerprint(id, *sequence));
        answers.fold(self.fingerprint(id), u64::wrapping_add)
    }
}

impl Sessions {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, by_id: BTreeMap::new(), by_use: BTreeMap::new(), digest: 0 }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Follows every change at the cost of the change.
    pub(super) fn digest(&self) -> u64 {
        let numbers = [self.limits.max_sessions, self.limits.max_answers, self.limits.max_answer_bytes];
        let [sessions, answers, bytes] = numbers.map(u32::to_le_bytes);
        let limits = fingerprint(&[&sessions, &answers, &bytes, &self.limits.idle_entries.to_le_bytes()]);
        limits.wrapping_add(self.digest)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Arc<Session>)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    /// Ends every session that has not been used for too many entries before `now`. To be called at each
    /// entry.
    pub(super) fn expire(&mut self, now: Index) {
        while let Some((&last_used, &id)) = self.by_use.first_key_value()
            && now - last_used > self.limits.idle_entries
        {
            self.close(id);
        }
    }

    /// Opens the session of the entry `now`. Where there is no room, the one that was not used for longest
    /// expires.
    pub(super) fn open(&mut self, now: Index) -> SessionId {
        if self.is_full()
            && let Some((_, &id)) = self.by_use.first_key_value()
        {
            self.close(id);
        }
        let id = SessionId::from(now);
        self.insert(id, Session::new(now, 0));
        id
    }

    fn is_full(&self) -> bool {
        self.by_id.len() as u64 >= u64::from(self.limits.max_sessions)
    }

    /// Takes in a session that is not there yet.
    pub(super) fn insert(&mut self, id: SessionId, session: Session) {
        self.digest = self.digest.wrapping_add(session.digest(id));
        let same_use = self.by_use.insert(session.last_used, id);
        let same_id = self.by_id.insert(id, Arc::new(session));
        assert!(same_use.is_none() && same_id.is_none(), "an entry opens one session, and uses one");
    }

    /// Whether this session is later than all that are there, and no other was used last by the same entry.
    pub(super) fn may_follow(&self, id: SessionId, last_used: Index) -> bool {
        let is_later = self.by_id.last_key_value().is_none_or(|(last, _)| *last < id);
        is_later && !self.by_use.contains_key(&last_used)
    }

    /// Whether there was such a session.
    pub(super) fn close(&mut self, id: SessionId) -> bool {
        let Some(session) = self.by_id.remove(&id) else {
            return false;
        };
        self.by_use.remove(&session.last_used);
        self.digest = self.digest.wrapping_sub(session.digest(id));
        true
    }

    /// Entry `now` uses a session, and drops the answers that its client has. Whether there is such a
    /// session.
    pub(super) fn touch(&mut self, id: SessionId, now: Index, acknowledged: u64) -> bool {
        let Some(session) = self.by_id.get_mut(&id).map(Arc::make_mut) else {
            return false;
        };
        self.digest = self.digest.wrapping_sub(session.fingerprint(id));
        self.by_use.remove(&session.last_used);
        self.by_use.insert(now, id);
        session.last_used = now;
        if acknowledged > session.acknowledged {
            session.acknowledged = acknowledged;
            let kept = session.answers.split_off(&acknowledged);
            for (sequence, dropped) in mem::replace(&mut session.answers, kept) {
                self.digest = self.digest.wrapping_sub(dropped.fingerprint(id, sequence));
            }
        }
        self.digest = self.digest.wrapping_add(session.fingerprint(id));
        true
    }

    /// What to answer instead of applying the command of this number; `None`: apply it, and then
    /// [`keep`](Self::keep) the answer.
    pub(super) fn verdict(&self, id: SessionId, sequence: u64) -> Option<Answer> {
        let Some(session) = self.by_id.get(&id) else {
            return Some(Answer::SessionExpired);
        };
        if sequence < session.acknowledged {
            return Some(Answer::Superseded);
        }
        if let Some(kept) = session.answers.get(&sequence) {
            return Some(kept.answer());
        }
        if session.answers.len() as u64 >= u64::from(self.limits.max_answers) {
            return Some(Answer::TooManyPending);
        }
        None
    }

    /// Remembers the answer to a command for which there was no [`verdict`](Self::verdict).
    pub(super) fn keep(&mut self, id: SessionId, sequence: u64, answer: &Payload) {
        let session =
            self.by_id.get_mut(&id).map(Arc::make_mut).expect("a session for which there was no verdict");
        let kept = match answer.len() as u64 {
            length if length > u64::from(self.limits.max_answer_bytes) => Kept::TooLong(length),
            _ => Kept::Whole(answer.clone()),
        };
        self.digest = self.digest.wrapping_add(kept.fingerprint(id, sequence));
        let twice = session.answers.insert(sequence, kept);
        assert!(twice.is_none(), "command {sequence} of session {id} was applied twice");
    }
}

#[cfg(test)]
impl Sessions {
    /// The digest, from nothing.
    pub(super) fn recomputed(&self) -> u64 {
        let mut again = Self::new(self.limits);
        self.iter().for_each(|(id, session)| again.insert(id, (**session).clone()));
        assert_eq!((&again.by_id, &again.by_use), (&self.by_id, &self.by_use));
        again.digest()
    }
}
