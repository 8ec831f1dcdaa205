//! Why a client has not got what it asked for, and what to do about it.

use super::connection::Broken;
use crate::protocol::Refused;
use kontiki_core::types::{LogId, NodeId};
use std::time::Duration;
use std::{error, fmt};

/// What one attempt has come to. Where it can be tried again, it is, until the deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// There is no connection to be had.
    Unreachable {
        /// To which address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The connection broke.
    Broken {
        /// To which address.
        address: String,
        /// Why.
        reason: Broken,
        /// Whether the member may have got the request before.
        sent: bool,
    },
    /// No reply came in time.
    NoReply {
        /// From which address.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The member has refused it: nothing was done.
    Refused(Refused),
    /// The member cannot say whether it will be done.
    Unknown,
    /// It was done, and the answer is lost.
    Unanswered(LogId),
    /// Too many commands of this session are under way.
    TooManyPending,
}

impl Failure {
    /// Whether the request may have been carried out, or may yet be.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Broken { sent, .. } => *sent,
            Self::NoReply { .. } | Self::Unknown | Self::Unanswered(_) => true,
            Self::Unreachable { .. } | Self::Refused(_) | Self::TooManyPending => false,
        }
    }

    /// The reason in one word: the member's own where it refused.
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
            Self::Unknown => f.write_str("the leader was lost while the request was on its way"),
            Self::Unanswered(id) => write!(f, "it was committed as entry {id}, and the answer was lost"),
            Self::TooManyPending => f.write_str("too many commands of this session are under way"),
        }
    }
}

/// Why a client has not got what it asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// No address was given to begin with.
    NoAddress,
    /// Nothing was done, and trying again would not help.
    Refused(Refused),
    /// The time was up.
    Deadline {
        /// How long it was tried.
        after: Duration,
        /// What the last attempt came to; none where the first was still under way.
        last: Option<Failure>,
        /// Whether it may have been done, or may yet be.
        may_be_done: bool,
    },
    /// It may have been done, or may yet be; and to ask again could do it twice.
    Unknown(Failure),
    /// It was done, as this entry; the answer is lost.
    Unanswered(LogId),
    /// The command was done, once; its answer of so many bytes was too long to be kept for the second time of
    /// asking.
    NotKept {
        /// How long the answer was.
        length: u64,
    },
    /// The session has expired while the command was under way: whether it was done is not known any more.
    SessionExpired,
    /// The newcomer did not catch up in time: it stays a learner.
    NotCaughtUp(NodeId),
    /// The change of the membership was given up while it waited for newcomers: they stay learners.
    Cancelled,
    /// Nobody took over in time: the leader leads on.
    NotTransferred,
    /// The reply does not belong to the request.
    Unexpected(String),
    /// A key or a value is longer than the store takes. Nothing was sent.
    TooLong {
        /// Which of the two.
        part: Part,
        /// How many bytes it has.
        length: usize,
        /// How many it may have.
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
    /// The reason in one word; the member's own where it refused.
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

    /// Whether the request may have been carried out, or may yet be: its outcome is unknown.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Deadline { may_be_done, .. } => *may_be_done,
            Self::Unknown(_) | Self::Unanswered(_) | Self::NotKept { .. } | Self::SessionExpired => true,
            _ => false,
        }
    }

    /// Returns whether the same request may succeed a little later. The client has tried until its deadline
    /// already. It is not the same as safe: where [`may_be_done`](Self::may_be_done) holds too, a write
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
            Self::NoAddress => f.write_str("no address of a member was given: name at least one"),
            Self::Refused(refused) => f.write_str(&refused.text),
            Self::Deadline { after, last, may_be_done } => {
                write!(f, "not done within {} ms", after.as_millis())?;
                if let Some(last) = last {
                    write!(f, "; the last thing that went wrong: {last}")?;
                }
                f.write_str(match may_be_done {
                    true => ". The outcome is unknown: look at the state before you ask again",
                    false => ". Nothing was done: ask again when the group has a leader that can be reached",
                })
            }
            Self::Unknown(failure) => write!(
                f,
                "{failure}. The outcome is unknown: look at the state before you ask again, or use a session"
            ),
            Self::Unanswered(id) => write!(f, "done, as entry {id}, but the answer is lost: look at the state"),
            Self::NotKept { length } => {
                write!(f, "done once, but its answer of {length} bytes was not kept: look at the state")
            }
            Self::SessionExpired => f.write_str(
                "the session has expired while the command was under way, and its outcome is unknown: look at the state before you ask again",
            ),
            Self::NotCaughtUp(id) => write!(
                f,
                "member {id} did not catch up in time and stays a learner: promote it when it has, or remove it"
            ),
            Self::Cancelled => f.write_str(
                "the change was cancelled while it waited for newcomers, which stay learners: promote them when they have caught up, or remove them",
            ),
            Self::NotTransferred => {
                f.write_str("nobody took over in time and the leader leads on: try again, or name another member")
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
