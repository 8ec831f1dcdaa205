//! Errors of a client, with what to do about them.

use super::connection::Broken;
use crate::protocol::Refused;
use kontiki_core::types::{LogId, NodeId};
use std::time::Duration;
use std::{error, fmt};

/// The failure of one attempt. Temporary failures are retried until the deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The connection could not be made.
    Unreachable {
        /// The address.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The connection broke.
    Broken {
        /// The address.
        address: String,
        /// The reason.
        reason: Broken,
        /// Whether the member may have received the request before.
        sent: bool,
    },
    /// No reply in time.
    NoReply {
        /// The address.
        address: String,
        /// The time limit.
        after: Duration,
    },
    /// The member refused the request: it had no effect.
    Refused(Refused),
    /// The member cannot tell the outcome.
    Unknown,
    /// The command was applied, but its answer is lost.
    Unanswered(LogId),
    /// Too many commands of this session are in flight.
    TooManyPending,
}

impl Failure {
    /// Returns whether the request may have taken effect, or may still.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Broken { sent, .. } => *sent,
            Self::NoReply { .. } | Self::Unknown | Self::Unanswered(_) => true,
            Self::Unreachable { .. } | Self::Refused(_) | Self::TooManyPending => false,
        }
    }

    /// Returns the reason as one word; for a refusal, the member's code.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Broken { .. } => "connection_broken",
            Self::NoReply { .. } => "no_reply",
            Self::Refused(refused) => &refused.code,
            Self::Unknown => "unknown",
            Self::Unanswered(_) => "unanswered",
            Self::TooManyPending => "too_many_pending",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, reason } => write!(f, "{address} cannot be reached: {reason}"),
            Self::Broken { address, reason, .. } => write!(f, "{address}: {reason}"),
            Self::NoReply { address, after } => {
                write!(f, "{address} gave no reply within {} ms", after.as_millis())
            }
            Self::Refused(refused) => write!(f, "refused ({}): {}", refused.code, refused.text),
            Self::Unknown => f.write_str("the leader was lost while the request was in flight"),
            Self::Unanswered(id) => write!(f, "committed as entry {id}, but the answer was lost"),
            Self::TooManyPending => f.write_str("too many commands of this session are in flight"),
        }
    }
}

/// The reason a request of a client failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The client was given no address.
    NoAddress,
    /// The request had no effect, and a retry would not help.
    Refused(Refused),
    /// The deadline has passed.
    Deadline {
        /// The time limit.
        after: Duration,
        /// The failure of the last attempt; `None` if the first was still in progress.
        last: Option<Failure>,
        /// Whether the request may have taken effect, or may still.
        may_be_done: bool,
    },
    /// The request may have taken effect, or may still; a retry could apply it twice.
    Unknown(Failure),
    /// The command was applied as this entry, but its answer is lost.
    Unanswered(LogId),
    /// The command was applied once; its answer was too long to be stored for a retry.
    NotKept {
        /// The length of the answer in bytes.
        length: u64,
    },
    /// The session has expired while the command was in flight: the outcome is unknown.
    SessionExpired,
    /// The new member did not catch up in time: it stays a learner.
    NotCaughtUp(NodeId),
    /// The membership change was cancelled while it waited for new members: they stay learners.
    Cancelled,
    /// No member took over in time: the leader still leads.
    NotTransferred,
    /// The reply does not belong to the request.
    Unexpected(String),
    /// A key or a value is longer than the store accepts. Nothing was sent.
    TooLong {
        /// The part that is too long.
        part: Part,
        /// Its length in bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

/// A part of a command of the key-value store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

impl Error {
    /// Returns the reason as one word; for a refusal, the member's code.
    pub fn code(&self) -> &str {
        match self {
            Self::NoAddress => "no_address",
            Self::Refused(refused) => &refused.code,
            Self::Deadline { .. } => "deadline",
            Self::Unknown(_) => "unknown",
            Self::Unanswered(_) => "unanswered",
            Self::NotKept { .. } => "answer_not_kept",
            Self::SessionExpired => "session_expired",
            Self::NotCaughtUp(_) => "not_caught_up",
            Self::Cancelled => "cancelled",
            Self::NotTransferred => "not_transferred",
            Self::Unexpected(_) => "unexpected_reply",
            Self::TooLong { .. } => "too_long",
        }
    }

    /// Returns whether the request may have taken effect, or may still: its outcome is unknown.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Deadline { may_be_done, .. } => *may_be_done,
            Self::Unknown(_) | Self::Unanswered(_) | Self::NotKept { .. } | Self::SessionExpired => true,
            _ => false,
        }
    }

    /// Returns whether the same request may succeed later. The client has already retried until its deadline.
    /// This does not mean that a retry is safe: if [`may_be_done`](Self::may_be_done) holds too, a write
    /// outside a session may be applied twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Deadline { .. } | Self::Unknown(_) | Self::SessionExpired | Self::NotTransferred => true,
            Self::Refused(refused) => refused.retry,
            Self::NoAddress
            | Self::Unanswered(_)
            | Self::NotKept { .. }
            | Self::NotCaughtUp(_)
            | Self::Cancelled
            | Self::Unexpected(_)
            | Self::TooLong { .. } => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no member's address was given: give at least one"),
            Self::Refused(refused) => f.write_str(&refused.text),
            Self::Deadline { after, last, may_be_done } => {
                write!(f, "not done within {} ms", after.as_millis())?;
                if let Some(last) = last {
                    write!(f, "; the last failure: {last}")?;
                }
                f.write_str(match may_be_done {
                    true => ". The outcome is unknown: check the state before you try again",
                    false => ". Nothing was done: try again when the group has a leader that can be reached",
                })
            }
            Self::Unknown(failure) => write!(
                f,
                "{failure}. The outcome is unknown: check the state before you try again, or use a session"
            ),
            Self::Unanswered(id) => write!(f, "done, as entry {id}, but the answer is lost: check the state"),
            Self::NotKept { length } => {
                write!(f, "done once, but its answer of {length} bytes was not kept: check the state")
            }
            Self::SessionExpired => f.write_str(
                "the session has expired while the command was in flight, and its outcome is unknown: check the state before you try again",
            ),
            Self::NotCaughtUp(id) => write!(
                f,
                "member {id} did not catch up in time and stays a learner: promote it when it has, or remove it"
            ),
            Self::Cancelled => f.write_str(
                "the change was cancelled while it waited for newcomers, which stay learners: promote them when they have caught up, or remove them",
            ),
            Self::NotTransferred => {
                f.write_str("no member took over in time, and the leader still leads: try again, or name another member")
            }
            Self::Unexpected(what) => write!(
                f,
                "the reply does not belong to the request ({what}): does the member run the same version as this client?"
            ),
            Self::TooLong { part, length, limit } => {
                write!(f, "the {part} has {length} bytes, and the store takes at most {limit}: shorten it, or split it up")
            }
        }
    }
}

impl error::Error for Error {}
impl error::Error for Failure {}
