//! What a client gets for a command.

use super::command::SessionId;
use crate::types::Payload;
use core::fmt;

/// What became of a command that was committed. Its `Display` says what to do about it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    /// It was applied, and this is what the state machine answered; to the same command of a session again
    /// the same.
    Applied(Payload),
    /// A session is open under this name.
    Opened(SessionId),
    /// The session is alive.
    Alive,
    /// The session is closed.
    Closed,
    /// It was applied, once. Its answer was too long to be kept for whom it did not reach at first.
    NotKept {
        /// How long it was, in bytes.
        length: u64,
    },
    /// Not applied now: the client has said that it has the answer already.
    Superseded,
    /// Not applied: there is no such session. Whether an earlier copy of the same command was applied is not
    /// known any more.
    SessionExpired,
    /// Not applied: too many answers of this session are not acknowledged.
    TooManyPending,
    /// Not applied: the payload is no [`Command`](super::Command).
    Garbled,
}

impl Answer {
    /// Whether the command was applied, by this copy of it or by an earlier one.
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_) | Self::NotKept { .. })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(answer) => write!(f, "applied: {answer:?}"),
            Self::Opened(session) => write!(f, "session {session} is open: number its commands from 1"),
            Self::Alive => f.write_str("the session is alive"),
            Self::Closed => f.write_str("the session is closed"),
            Self::NotKept { length } => write!(
                f,
                "applied once, but its answer of {length} bytes is longer than what is kept (Limits::max_answer_bytes): query the state instead"
            ),
            Self::Superseded => f.write_str(
                "not applied: all commands with this number were acknowledged before; a late copy, to be ignored",
            ),
            Self::SessionExpired => f.write_str(
                "not applied: there is no such session (any more); open another, and look in the state whether earlier copies of unanswered commands were applied",
            ),
            Self::TooManyPending => f.write_str(
                "not applied: too many answers of this session wait to be acknowledged (Limits::max_answers); acknowledge some and send it again under the same number",
            ),
            Self::Garbled => f.write_str("not applied: the payload is no command; make it with Command::encode"),
        }
    }
}
