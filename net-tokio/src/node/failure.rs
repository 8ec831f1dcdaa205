//! What a node's requests come to where they do not succeed.

use kontiki_core::machine;
use kontiki_core::replica::ReplicaRefusal;
use kontiki_core::types::{LogId, NodeId};
use std::time::Duration;
use std::{error, fmt};

/// Why a request did not succeed. Its `Display` says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// Nothing was done, and nothing will be.
    Refused(ReplicaRefusal),
    /// It may come to pass, or not.
    Unknown,
    /// The command is committed and applied, and its answer is not to be had here.
    Unanswered(LogId),
    /// The command is committed, and was not applied: its session has ended, or it is no command.
    NotApplied(machine::Answer),
    /// The newcomer did not catch up in time: it stays a learner.
    NotCaughtUp(NodeId),
    /// The change of the membership was given up while it waited for newcomers: they stay learners.
    Cancelled,
    /// Nobody took over in time: the member leads on.
    NotTransferred,
    /// The member is not in a group yet: this is what it waits for.
    Starting(String),
    /// The node is stopped.
    Stopped,
}

impl Error {
    /// The reason as one word: the same in logs and metrics.
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

    /// Whether the same request may succeed a little later, or at another member. For a command outside a
    /// session that is not the same as safe: after [`Error::Unknown`] it may be applied twice.
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
            Self::Unknown => f.write_str(
                "unknown: it may commit or not; in a session, the same command again is applied once and brings the answer",
            ),
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
            Self::NotTransferred => f.write_str("not transferred: nobody took over in time"),
            Self::Starting(waiting) => write!(f, "not in a group yet: {waiting}"),
            Self::Stopped => f.write_str("the node is stopped: start it again"),
        }
    }
}

impl error::Error for Error {}

/// A node that was to stop has not ended in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShutdownError {
    /// How long it was waited for.
    pub after: Duration,
    /// What it was waiting for.
    pub waits_for: Unended,
}

/// What a node that is to stop waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unended {
    /// The disk has not done what it was given.
    Disk,
    /// The state machine has not applied what it was given.
    StateMachine,
    /// Another call stops the node, or starts it.
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
