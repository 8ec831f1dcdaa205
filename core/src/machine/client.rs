//! The client's side of a session.

use super::command::{Command, SessionId};
use super::sessions::Limits;
use crate::types::Payload;
use alloc::collections::BTreeMap;
use core::fmt;

/// What a client knows of its session: numbers its commands, keeps them until they are answered, and tells
/// the group which answers it has. With it no command is applied twice, however often and in whatever order
/// the payloads that it makes are proposed.
///
/// ```
/// use kontiki_core::machine::{Client, Limits, SessionId};
///
/// // `Command::Register` was answered with `Answer::Opened`, which names the session.
/// let mut client = Client::new(SessionId(7), &Limits::default());
/// let (first, payload) = client.begin(b"command")?;
/// // No answer came, so it is proposed again. One answer is enough.
/// assert_eq!(client.again(first), Some(payload));
/// assert!(client.answered(first));
/// assert_eq!(client.again(first), None);
/// # Ok::<(), kontiki_core::machine::TooMany>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    session: SessionId,
    /// How far the numbers of commands under way may lie apart, so that none is answered with
    /// [`TooManyPending`](super::Answer::TooManyPending).
    window: u64,
    next: u64,
    waiting: BTreeMap<u64, Payload>,
}

/// Nothing more can be begun before the oldest command that is under way is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany {
    /// The number of that command.
    pub oldest: u64,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "command {} of this session must be answered before another is begun (Limits::max_answers)",
            self.oldest
        )
    }
}

impl core::error::Error for TooMany {}

impl Client {
    /// The client of a session that was just opened. The limits are those of the group.
    pub fn new(session: SessionId, limits: &Limits) -> Self {
        Self { session, window: u64::from(limits.max_answers), next: 1, waiting: BTreeMap::new() }
    }

    /// The session's name.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Begins a command: the number that it gets, and the payload to propose.
    pub fn begin(&mut self, command: &[u8]) -> Result<(u64, Payload), TooMany> {
        let (sequence, oldest) = (self.next, self.acknowledged());
        if sequence - oldest >= self.window {
            return Err(TooMany { oldest });
        }
        self.next += 1;
        self.waiting.insert(sequence, Payload::from(command));
        let payload = self.payload(sequence, command);
        Ok((sequence, payload))
    }

    /// The payload to propose again where no answer has come; `None` where one has.
    pub fn again(&self, sequence: u64) -> Option<Payload> {
        self.waiting.get(&sequence).map(|command| self.payload(sequence, command))
    }

    /// A command was answered, and its client has the answer. Whether that is news.
    pub fn answered(&mut self, sequence: u64) -> bool {
        self.waiting.remove(&sequence).is_some()
    }

    /// The commands that are not answered yet, by rising number.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        self.waiting.keys().copied()
    }

    /// What to propose when there has been no command for long, see [`Limits::idle_entries`].
    pub fn keep_alive(&self) -> Payload {
        Command::KeepAlive { session: self.session, acknowledged: self.acknowledged() }.encode()
    }

    /// What to propose at the end.
    pub fn close(&self) -> Payload {
        Command::Close { session: self.session }.encode()
    }

    fn payload(&self, sequence: u64, command: &[u8]) -> Payload {
        let (session, acknowledged) = (self.session, self.acknowledged());
        Command::InSession { session, sequence, acknowledged, command }.encode()
    }

    /// The lowest number without an answer.
    fn acknowledged(&self) -> u64 {
        self.waiting.first_key_value().map_or(self.next, |(oldest, _)| *oldest)
    }
}
