//! Errors of a node's requests.

use kontiki_core::machine;
use kontiki_core::replica::ReplicaRefusal;
use kontiki_core::types::{LogId, NodeId};
use std::time::Duration;
use std::{error, fmt};

/// The reason a request did not succeed. `Display` says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The request had no effect, and will have none.
    Refused(ReplicaRefusal),
    /// The outcome is unknown: the request may take effect or not.
    Unknown,
    /// The command is committed and applied, but this member does not have its answer.
    Unanswered(LogId),
    /// The command is committed but was not applied: its session has ended, or its payload is not a command.
    NotApplied(machine::Answer),
    /// The new member did not catch up in time: it stays a learner.
    NotCaughtUp(NodeId),
    /// The membership change was cancelled while it waited for new members to catch up: they stay learners.
    Cancelled,
    /// No member took over in time: this member still leads.
    NotTransferred,
    /// The member is not in a group yet. The text says what it waits for.
    Starting(String),
    /// The node is stopped.
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unknown => {
                f.write_str("unknown: it may commit or not; in a session, send it again: it is applied once")
            }
            Self::Unanswered(id) => {
                write!(f, "committed as {id}, but its answer is not known here: in a session, send it again")
            }
            Self::NotApplied(answer) => answer.fmt(f),
            Self::NotCaughtUp(id) => {
                write!(f, "member {id} did not catch up: it stays a learner, remove it or promote it later")
            }
            Self::Cancelled => {
                f.write_str("cancelled: newcomers stay learners, remove them or promote them later")
            }
            Self::NotTransferred => f.write_str("not transferred: no member took over in time"),
            Self::Starting(waiting) => write!(f, "not in a group yet: {waiting}"),
            Self::Stopped => f.write_str("the node is stopped: start it again"),
        }
    }
}

impl error::Error for Error {}

/// A node did not stop in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShutdownError {
    /// The time limit.
    pub after: Duration,
    /// What the node still waits for.
    pub waits_for: Unended,
}

/// What a stopping node waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unended {
    /// The disk has not finished its jobs.
    Disk,
    /// The state machine has not finished its jobs.
    StateMachine,
    /// Another call is stopping or starting the node.
    OtherShutdown,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.waits_for {
            Unended::Disk => "its disk has not finished writing: look for a disk that hangs",
            Unended::StateMachine => "its state machine has not finished applying: give it more time",
            Unended::OtherShutdown => "it is being started or stopped by another call: wait for that",
        };
        write!(f, "the node has not stopped within {:?}, {what}; nothing acknowledged is lost", self.after)
    }
}

impl error::Error for ShutdownError {}
