//! Errors of a client, with what to do about them.

use super::connection::Broken;
use crate::protocol::Refused;
use kontiki_core::types::{LogId, NodeId};
use std::fmt;
use std::time::Duration;

/// The failure of one attempt. Temporary failures are retried until the deadline.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The connection could not be made.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The connection broke.
    #[error("{address}: {reason}")]
    Broken {
        /// The address.
        address: String,
        /// The reason.
        reason: Broken,
        /// Whether the member may have received the request before.
        sent: bool,
    },
    /// No reply in time.
    #[error("{address} gave no reply within {} ms", .after.as_millis())]
    NoReply {
        /// The address.
        address: String,
        /// The time limit.
        after: Duration,
    },
    /// The member refused the request: it had no effect.
    #[error("refused ({}): {}", .0.code, .0.text)]
    Refused(Refused),
    /// The member cannot tell the outcome.
    #[error("the leader was lost while the request was in flight")]
    Unknown,
    /// The command was applied, but its answer is lost.
    #[error("committed as entry {0}, but the answer was lost")]
    Unanswered(LogId),
    /// Too many commands of this session are in flight.
    #[error("too many commands of this session are in flight")]
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

/// The reason a request of a client failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client was given no address.
    #[error("no member's address was given: give at least one")]
    NoAddress,
    /// The request had no effect, and a retry would not help.
    #[error("{}", .0.text)]
    Refused(Refused),
    /// The deadline has passed.
    #[error("{}", deadline(*.after, .last.as_ref(), *.may_be_done))]
    Deadline {
        /// The time limit.
        after: Duration,
        /// The failure of the last attempt; `None` if the first was still in progress.
        last: Option<Failure>,
        /// Whether the request may have taken effect, or may still.
        may_be_done: bool,
    },
    /// The request may have taken effect, or may still; a retry could apply it twice.
    #[error("{0}. The outcome is unknown: check the state before you try again, or use a session")]
    Unknown(#[source] Failure),
    /// The command was applied as this entry, but its answer is lost.
    #[error("done, as entry {0}, but the answer is lost: check the state")]
    Unanswered(LogId),
    /// The command was applied once; its answer was too long to be stored for a retry.
    #[error("done once, but its answer of {length} bytes was not kept: check the state")]
    NotKept {
        /// The length of the answer in bytes.
        length: u64,
    },
    /// The session has expired while the command was in flight: the outcome is unknown.
    #[error(
        "the session has expired while the command was in flight, and its outcome is unknown: check the state before you try again"
    )]
    SessionExpired,
    /// The new member did not catch up in time: it stays a learner.
    #[error("member {0} did not catch up in time and stays a learner: promote it when it has, or remove it")]
    NotCaughtUp(NodeId),
    /// The membership change was cancelled while it waited for new members: they stay learners.
    #[error(
        "the change was cancelled while it waited for new members, which stay learners: promote them when they have caught up, or remove them"
    )]
    Cancelled,
    /// No member took over in time: the leader still leads.
    #[error("no member took over in time, and the leader still leads: try again, or name another member")]
    NotTransferred,
    /// The reply does not belong to the request.
    #[error(
        "the reply does not belong to the request ({0}): does the member run the same version as this client?"
    )]
    Unexpected(String),
    /// A key or a value is longer than the store accepts. Nothing was sent.
    #[error("the {part} has {length} bytes, and the store takes at most {limit}: shorten it, or split it up")]
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

/// The text of [`Error::Deadline`].
fn deadline(after: Duration, last: Option<&Failure>, may_be_done: bool) -> String {
    let last = last.map(|last| format!("; the last failure: {last}")).unwrap_or_default();
    let outcome = match may_be_done {
        true => "The outcome is unknown: check the state before you try again",
        false => "Nothing was done: try again when the group has a leader that can be reached",
    };
    format!("not done within {} ms{last}. {outcome}", after.as_millis())
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
            Self::NoAddress
            | Self::Refused(_)
            | Self::NotCaughtUp(_)
            | Self::Cancelled
            | Self::NotTransferred
            | Self::Unexpected(_)
            | Self::TooLong { .. } => false,
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
