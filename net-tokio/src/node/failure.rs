//! Errors of a node's requests.

use kontiki_core::machine;
use kontiki_core::replica::ReplicaRefusal;
use kontiki_core::types::{LogId, NodeId};
use std::time::Duration;

/// The reason a request did not succeed. `Display` says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request had no effect, and will have none.
    #[error(transparent)]
    Refused(ReplicaRefusal),
    /// The outcome is unknown: the request may take effect or not.
    #[error("unknown: it may commit or not; in a session, send it again: it is applied once")]
    Unknown,
    /// The command is committed and applied, but this member does not have its answer.
    #[error("committed as {0}, but its answer is not known here: in a session, send it again")]
    Unanswered(LogId),
    /// The command is committed but was not applied: its session has ended, or its payload is not a command.
    #[error("{0}")]
    NotApplied(machine::Answer),
    /// The new member did not catch up in time: it stays a learner.
    #[error("member {0} did not catch up: it stays a learner, remove it or promote it later")]
    NotCaughtUp(NodeId),
    /// The membership change was cancelled while it waited for new members to catch up: they stay learners.
    #[error("cancelled: new members stay learners, remove them or promote them later")]
    Cancelled,
    /// No member took over in time: this member still leads.
    #[error("not transferred: no member took over in time")]
    NotTransferred,
    /// The member is not in a group yet. The text says what it waits for.
    #[error("not in a group yet: {0}")]
    Starting(String),
    /// The node is stopped.
    #[error("the node is stopped: start it again")]
    Stopped,
}

impl Error {
    /// Returns the reason as one word, the same in logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unknown => "unknown",
            Self::Unanswered(_) => "unanswered",
            Self::NotApplied(_) => "not_applied",
            Self::NotCaughtUp(_) => "not_caught_up",
            Self::Cancelled => "cancelled",
            Self::NotTransferred => "not_transferred",
            Self::Starting(_) => "starting",
            Self::Stopped => "stopped",
        }
    }

    /// Returns whether the same request may succeed later, or at another member. For a command outside a
    /// session this does not mean that a retry is safe: after [`Error::Unknown`] it may be applied twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Unknown | Self::Unanswered(_) | Self::NotTransferred | Self::Starting(_) => true,
            Self::NotApplied(_) | Self::NotCaughtUp(_) | Self::Cancelled | Self::Stopped => false,
        }
    }
}

/// A node did not stop in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the node has not stopped within {after:?}, {waits_for}; nothing acknowledged is lost")]
pub struct ShutdownError {
    /// The time limit.
    pub after: Duration,
    /// What the node still waits for.
    pub waits_for: Unended,
}

/// What a stopping node waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unended {
    /// The disk has not finished its jobs.
    #[error("its disk has not finished writing: look for a disk that hangs")]
    Disk,
    /// The state machine has not finished its jobs.
    #[error("its state machine has not finished applying: give it more time")]
    StateMachine,
    /// Another call is stopping or starting the node.
    #[error("it is being started or stopped by another call: wait for that")]
    OtherShutdown,
}
