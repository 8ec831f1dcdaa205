//! One operation of a client: what it asked, when, and what it was told.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// What a register holds, where it holds anything. That two values differ is all that matters of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Value(pub u64);

/// One operation on one register. Times are nanoseconds of one clock that all processes share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Who asked: a client under one name, which has one operation at a time. A client that was left without
    /// an answer goes on under a new name, since what it asked for may still be under way. It is for the
    /// reader; the checks do without.
    pub process: u64,
    /// Which register.
    pub key: u64,
    /// What was asked.
    pub call: Call,
    /// When it was asked.
    pub invoked: u64,
    /// What came of it.
    pub ended: End,
    /// Where in the cluster's log it took effect, for [`witness::check`](super::witness::check): of a write
    /// the index of its entry, of a read the index as of which it was served. It counts where the operation
    /// returned.
    #[serde(default)]
    pub index: Option<u64>,
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Call {
    /// Writes a value to the register. Each write to a key should have its own value: a history with equal
    /// values is much harder to check.
    Write(Value),
    /// Reads the register.
    Read,
}

/// What a client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum End {
    /// It took effect, at one moment between its invocation and this.
    Returned {
        /// When it returned.
        at: u64,
        /// What a read found, if there was something. A write finds nothing.
        read: Option<Value>,
    },
    /// It had no effect and never will.
    Refused {
        /// When it was refused.
        at: u64,
    },
    /// It may have taken effect at any time after its invocation, may yet, or never will.
    Unknown,
}

impl Operation {
    /// Whether it is a write, whatever came of it.
    pub fn is_write(&self) -> bool {
        matches!(self.call, Call::Write(_))
    }

    /// Whether it certainly had no effect.
    pub fn is_refused(&self) -> bool {
        matches!(self.ended, End::Refused { .. })
    }

    /// When it returned, if it did.
    pub fn returned(&self) -> Option<u64> {
        match self.ended {
            End::Returned { at, .. } => Some(at),
            End::Refused { .. } | End::Unknown => None,
        }
    }

    /// What the register held just after it, as far as this operation knows: what it wrote, or what it found.
    pub fn value(&self) -> Option<Value> {
        match (self.call, self.ended) {
            (Call::Write(value), _) => Some(value),
            (Call::Read, End::Returned { read, .. }) => read,
            (Call::Read, End::Refused { .. } | End::Unknown) => None,
        }
    }

    /// Whether it was over before the other began, so that every order must have it first.
    pub fn precedes(&self, other: &Self) -> bool {
        self.returned().is_some_and(|at| at < other.invoked)
    }

    pub(super) fn ends_too_early(&self) -> bool {
        match self.ended {
            End::Returned { at, .. } | End::Refused { at } => at < self.invoked,
            End::Unknown => false,
        }
    }
}

/// Names an operation of a history: how many were recorded before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId(pub(super) usize);

/// An operation and its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Its name in its history.
    pub id: OperationId,
    /// What was recorded.
    pub operation: Operation,
}

/// A write in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The index of its entry.
    pub index: u64,
    /// The register.
    pub key: u64,
    /// What it is to hold.
    pub value: Value,
}

/// Why operations make no history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The times are not of one clock.
    #[error("an operation ends before it is invoked, so there are two clocks: {0}")]
    EndsBeforeItIsInvoked(Recorded),
    /// A write returned what only a read can.
    #[error("a write is said to have read something: {0}")]
    WriteThatReads(Recorded),
}

impl Malformed {
    pub(super) fn of(recorded: &Recorded) -> Option<Self> {
        let operation = &recorded.operation;
        if operation.ends_too_early() {
            return Some(Self::EndsBeforeItIsInvoked(*recorded));
        }
        let reads = matches!(operation.ended, End::Returned { read: Some(_), .. });
        (operation.is_write() && reads).then_some(Self::WriteThatReads(*recorded))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, key, invoked, index, .. } = self;
        match (self.call, self.ended) {
            (Call::Write(value), _) => write!(f, "process {process} writes {value} to key {key}")?,
            (Call::Read, End::Returned { read: Some(value), .. }) => {
                write!(f, "process {process} reads {value} from key {key}")?;
            }
            (Call::Read, End::Returned { read: None, .. }) => {
                write!(f, "process {process} reads nothing from key {key}")?;
            }
            (Call::Read, _) => write!(f, "process {process} reads key {key}")?,
        }
        match self.ended {
            End::Returned { at, .. } => write!(f, " [{invoked}..{at}]")?,
            End::Refused { at } => write!(f, " [{invoked}..{at} refused]")?,
            End::Unknown => write!(f, " [{invoked}..?]")?,
        }
        index.map_or(Ok(()), |index| write!(f, " at index {index}"))
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.operation)
    }
}
